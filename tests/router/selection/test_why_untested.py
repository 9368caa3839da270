"""Whether an answer is tested follows from the request and from who is ranked behind it, and is told as it will be."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from router.domain.decision import Acceptance, Candidate, Choice, Decision
from router.domain.money import NANOUSD_PER_USD
from router.domain.request import Endpoint, InferenceRequest, Terms
from router.selection.acceptance import why_untested
from router.selection.explain import explain

TEST = Acceptance(-0.7, 24)


def held(candidates: Sequence[Candidate], **holds_nanousd: int) -> list[Choice]:
    """One replica of each backend, in this order; the first is to be tested."""
    by_name = {candidate.backend.name.replace("-", "_"): candidate for candidate in candidates}
    chosen = [replace_hold(by_name[name], nanousd) for name, nanousd in holds_nanousd.items()]
    return [Choice(one, "next", None if place else TEST) for place, one in enumerate(chosen)]


def replace_hold(candidate: Candidate, nanousd: int) -> Candidate:
    names = [name for name in Candidate.__dataclass_fields__ if name != "hold_nanousd"]
    return Candidate(**{name: getattr(candidate, name) for name in names}, hold_nanousd=nanousd)


def under(request: InferenceRequest, ceiling_nanousd: int) -> InferenceRequest:
    return replace(request, terms=Terms(cost_nanousd_max=ceiling_nanousd))


@pytest.mark.parametrize(
    ("ceiling_nanousd", "spent_nanousd", "is_tested"),
    [(1000, 0, True), (999, 0, False), (1010, 10, True), (1010, 11, False)],
)
def test_under_a_ceiling_there_must_be_room_for_both(
    fleet, ask, ceiling_nanousd: int, spent_nanousd: int, is_tested: bool
) -> None:
    candidates, _ = fleet.find(ask())
    choices = held(candidates, edge_small=300, cloud_large=700)
    why = why_untested(under(ask(), ceiling_nanousd), choices, 0, spent_nanousd)
    assert (not why) == is_tested
    assert is_tested or why.endswith(" has no room for another answer beside it")


def test_another_replica_of_the_same_backend_is_nobody_else_under_a_ceiling(fleet, ask) -> None:
    candidates, _ = fleet.find(ask())
    small = [one for one in candidates if one.backend.name == "edge-small"]
    choices = [Choice(small[0], "first", TEST), Choice(small[1], "next")]
    assert "no room" in why_untested(under(ask(), NANOUSD_PER_USD), choices, 0)
    assert why_untested(ask(), choices, 0) == ""


def test_the_last_is_not_tested_and_what_asks_for_no_test_neither(fleet, ask) -> None:
    candidates, _ = fleet.find(ask())
    (choice,) = held(candidates, edge_small=1)
    assert why_untested(ask(), [choice], 0) == "there is nobody else to ask"
    choices = held(candidates, edge_small=1, cloud_large=1)
    assert why_untested(ask(), choices, 1) == "its policy asks for no test"


def test_what_an_api_does_not_tell_is_not_tested(fleet, ask) -> None:
    candidates, _ = fleet.find(ask())
    choices = held(candidates, edge_small=1, cloud_large=1)
    request = replace(ask(), endpoint=Endpoint.MESSAGES)
    assert why_untested(request, choices, 0) == "answers of messages say nothing that could be tested"
    fleet.change("edge-small", provider="bedrock")
    candidates, _ = fleet.find(ask())
    assert "its provider's own API" in why_untested(ask(), held(candidates, edge_small=1, cloud_large=1), 0)


def test_a_test_that_will_not_be_is_not_explained_as_one(fleet, ask) -> None:
    candidates, exclusions = fleet.find(ask())
    choices = held(candidates, edge_small=300, cloud_large=700)
    decision = Decision("cascade", choices, exclusions, None, "edge-large")
    tested, kept = explain(under(ask(), 1000), decision), explain(under(ask(), 999), decision)
    assert tested["ranking"][0]["acceptance"] == {
        "logprob_mean_min": -0.7,
        "stream_tokens": 24,
        "must_parse": False,
    }
    assert tested["ranking"][0]["untested_because"] is None
    assert "If it fails, or its answer does not pass its test, cloud-large/1 is next: next (" in tested["summary"]
    first, second = kept["ranking"]
    assert first["acceptance"] is None
    why = "the request's ceiling of $0.000000999 has no room for another answer beside it"
    assert first["untested_because"] == why
    assert f"Its answer would be kept without a test: {why}. If it fails, cloud-large/1 is next" in kept["summary"]
    assert (second["acceptance"], second["untested_because"]) == (None, None)
