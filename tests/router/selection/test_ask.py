"""What of an answer that nobody has seen is likely to have been made."""

from dataclasses import fields

import pytest

from router.domain.decision import Candidate
from router.domain.fleet import IDLE
from router.domain.request import Endpoint
from router.selection.ask import completion_tokens_due


@pytest.fixture
def candidate(fleet) -> Candidate:
    """Forecast: the first token after 0.5 s, then 50 a second, 300 in all."""
    backend = fleet.backends[0]
    return Candidate(
        backend,
        backend.replicas[0],
        IDLE,
        ttft_seconds=0.5,
        tpot_seconds=0.02,
        completion_tokens=300.0,
        quality=1.0,
        allocated_nanousd=1,
        standard_nanousd=1,
        marginal_nanousd=1,
    )


@pytest.mark.parametrize(
    ("choices", "tokens_max", "elapsed_seconds", "tokens"),
    [
        (1, None, 0.0, 0),  # it has hardly been sent
        (1, None, 0.5, 0),
        (1, None, 2.5, 100),
        (3, None, 2.5, 300),  # all choices at once
        (1, None, 20.5, 1000),  # longer than expected, for it is not there yet
        (1, 64, 20.5, 64),  # and never longer than it may be
        (2, 64, 20.5, 128),
        (1, None, 1e9, 8192),
    ],
)
def test_as_much_was_made_as_its_time_was_enough_for(
    candidate, ask, choices, tokens_max, elapsed_seconds, tokens
) -> None:
    request = ask(is_streaming=False, choices=choices, completion_tokens_max=tokens_max)
    assert completion_tokens_due(request, candidate, elapsed_seconds) == tokens


def test_of_a_stream_it_would_have_been_seen(candidate, ask) -> None:
    assert completion_tokens_due(ask(is_streaming=True), candidate, 60.0) == 0


def test_where_nothing_is_generated_there_is_nothing(candidate, ask) -> None:
    assert completion_tokens_due(ask(is_streaming=False, endpoint=Endpoint.EMBEDDINGS), candidate, 60.0) == 0


def test_where_nobody_knows_how_fast_it_is_it_is_what_was_expected(candidate, ask) -> None:
    unknown = Candidate(
        **{field.name: getattr(candidate, field.name) for field in fields(Candidate)} | {"tpot_seconds": 0.0}
    )
    assert completion_tokens_due(ask(is_streaming=False), unknown, 60.0) == 300
