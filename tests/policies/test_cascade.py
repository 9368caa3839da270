"""When the small model is tried, with which test, and what it must be cheaper than."""

from dataclasses import replace

import pytest

from policies.cascade import LARGE, NEXT, SURE, TRIED, Cascade
from router.domain.decision import Acceptance
from router.domain.request import Capability

LOGPROBS = frozenset({Capability.LOGPROBS})


@pytest.fixture
def pair(candidate):
    """A small and a large one; the small one's answers come with log-probabilities."""

    def make(quality: float, small: int, large: int, capabilities=LOGPROBS):
        little = candidate("small/0", level=0, quote=small, quality=quality)
        return [
            replace(little, backend=replace(little.backend, capabilities=capabilities)),
            candidate("large/0", quote=large),
        ]

    return make


@pytest.mark.parametrize(
    ("quality", "small", "large", "first", "reason"),
    [
        (0.6, 100, 1000, "small/0", TRIED),
        (0.6, 599, 1000, "small/0", TRIED),  # 599 + 0.4 × 1000 < 1000
        (0.6, 600, 1000, "large/0", LARGE),  # 600 + 0.4 × 1000 = 1000: the discarded attempts eat the saving
        (0.29, 1, 1000, "large/0", LARGE),  # hardly ever accepted
        (0.95, 900, 1000, "small/0", SURE),
        (0.95, 1100, 1000, "large/0", LARGE),  # the large one is idle, and cheaper
    ],
)
def test_the_small_one_is_tried_where_it_pays(pair, request_, quality, small, large, first, reason) -> None:
    ranking = Cascade().rank(request_, pair(quality, small, large))
    assert (ranking[0].candidate.replica.id, ranking[0].reason) == (first, reason)
    assert [choice.reason for choice in ranking[1:]] == [NEXT]


def test_what_is_tried_carries_its_test_and_nothing_else_does(pair, request_) -> None:
    ranking = Cascade(logprob_mean_min=-0.5, stream_tokens=16).rank(request_, pair(0.6, 1, 1000))
    assert [choice.acceptance for choice in ranking] == [Acceptance(-0.5, 16), None]
    sure = Cascade().rank(request_, pair(0.95, 1, 1000))
    assert [choice.acceptance for choice in sure] == [None, None]


def test_an_answer_for_a_schema_must_be_json(pair, request_) -> None:
    schema = replace(request_, prompt=replace(request_.prompt, has_json_schema=True))
    assert Cascade().rank(schema, pair(0.6, 1, 1000))[0].acceptance == Acceptance(-0.7, 24, must_parse=True)


def test_a_late_one_is_asked_after_those_on_time(candidate, request_) -> None:
    candidates = [
        candidate("central/0", quote=100, ttft=9.0),
        candidate("cloud/0", quote=1000),
        candidate("small/0", level=0, quote=1, quality=0.95, ttft=9.0),
    ]
    ranking = Cascade().rank(request_, candidates)
    assert [choice.candidate.replica.id for choice in ranking] == ["cloud/0", "central/0", "small/0"]
    assert ranking[0].reason == LARGE


def test_a_backend_that_cannot_say_how_sure_it_is_is_not_tried(pair, request_) -> None:
    assert Cascade().rank(request_, pair(0.6, 1, 1000, frozenset()))[0].reason == LARGE
