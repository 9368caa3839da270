"""What was learned of drafts is in the forecasts and quotes of the kind of answer that it was learned of, and explained."""

from dataclasses import replace
from typing import Any

import pytest

from policies.marginal_cost import MarginalCost
from router.domain.decision import Candidate, Decision, Prediction
from router.domain.fleet import Load
from router.domain.request import Capability
from router.pricing.profile import Speculation
from router.selection.explain import explain
from router.selection.lessons import Lessons, speculations

SPECULATION = Speculation(draft_tokens=3, acceptance_ratio=0.8, draft_seconds=0.002)
CODE, CHAT = Prediction(0.9, 200.0, "code", 0.1), Prediction(0.9, 200.0, "chat", 0.1)
BUSY = Load(attempts=6, prefill_tokens=600, decoding=5, context_tokens=4000, endings=25_000, renewed_tokens=12_500_000)


@pytest.fixture
def drafts(fleet: Any) -> Any:
    """The fleet, whose edge-small drafts."""
    small = next(one for one in fleet.backends if one.name == "edge-small")
    fleet.profiles[small.profile] = fleet.profiles[small.profile].model_copy(update={"speculation": SPECULATION})
    fleet.yields.follow({"edge-small": SPECULATION})
    return fleet


def learned(drafts: Any, kind: str, tokens_per_step: float) -> float:
    """What it amounts to, as a factor on the steps of an answer of that kind."""
    one = drafts.yields.of("edge-small")
    for _ in range(30):
        one.observe(kind, 257, 256 / tokens_per_step, 1.0)
    ratio = one.steps_ratio(kind)
    assert isinstance(ratio, float)
    return ratio


def small(drafts: Any, ask: Any, prediction: Prediction = CHAT, **told: Any) -> Candidate:
    candidates, _ = drafts.find(ask(**told), prediction)
    found = next(one for one in candidates if one.backend.name == "edge-small")
    assert isinstance(found, Candidate)
    return found


def test_an_answer_whose_drafts_are_rejected_takes_longer_and_more_of_the_engine_there(drafts: Any, ask: Any) -> None:
    before = small(drafts, ask)
    quote, tpot_seconds = before.quote, before.tpot_seconds
    ratio = learned(drafts, "chat", 1.25)
    after, code = small(drafts, ask), small(drafts, ask, CODE)
    assert after.tpot_seconds == pytest.approx(tpot_seconds * ratio)
    assert after.step_seconds == before.step_seconds == pytest.approx(tpot_seconds * SPECULATION.tokens_per_step)
    assert after.ttft_seconds == before.ttft_seconds
    for now, then in (
        (after.marginal_nanousd, quote.marginal_nanousd),
        (after.allocated_nanousd, quote.allocated_nanousd),
    ):
        assert then < now < ratio * then  # the prompt takes what it took
    assert after.standard_nanousd == quote.standard_nanousd  # a list of prices
    assert (code.quote, code.tpot_seconds) == (quote, tpot_seconds)


def test_where_the_others_go_on_more_slowly_fewer_prompts_come_in_a_step(drafts: Any, ask: Any) -> None:
    drafts.loads["edge-small/1"] = BUSY
    before = small(drafts, ask, CODE)
    before_seconds = before.tpot_seconds, before.step_seconds
    ratio = learned(drafts, "chat", 1.25)
    code, chat = small(drafts, ask, CODE), small(drafts, ask)
    assert code.tpot_seconds < before_seconds[0] < chat.tpot_seconds < ratio * before_seconds[0]
    assert chat.step_seconds == code.step_seconds < before_seconds[1]
    assert chat.allocated_nanousd > code.allocated_nanousd
    assert chat.marginal_nanousd > code.marginal_nanousd


def test_a_candidate_is_what_it_was_when_it_was_made(drafts: Any, ask: Any) -> None:
    candidate, once_read = small(drafts, ask), small(drafts, ask)
    before = once_read.tpot_seconds, once_read.allocated_nanousd
    learned(drafts, "chat", 1.25)
    assert (candidate.tpot_seconds, candidate.allocated_nanousd) == before


def test_structured_answers_are_a_kind_of_their_own(drafts: Any, ask: Any) -> None:
    for name in ("edge-small", "edge-large"):
        drafts.change(name, capabilities=frozenset({Capability.CHAT, Capability.JSON_OBJECT}))
    before = small(drafts, ask).marginal_nanousd
    learned(drafts, "structured", 3.9)
    request = replace(ask(), needs=frozenset({Capability.CHAT, Capability.JSON_OBJECT}))
    candidates, _ = drafts.find(request, CHAT)
    assert next(one for one in candidates if one.backend.name == "edge-small").marginal_nanousd < before
    assert small(drafts, ask).marginal_nanousd == before


def test_it_is_explained_with_the_kind_and_what_it_rests_on(drafts: Any, ask: Any) -> None:
    learned(drafts, "chat", 1.25)
    request = ask()
    candidates, exclusions = drafts.find(request, CHAT)
    choices = MarginalCost().rank(request, candidates)
    lessons = Lessons(yields=drafts.yields)
    told = explain(request, Decision("marginal_cost", choices, exclusions, CHAT, "edge-large"), lessons)
    by_backend = {one["backend"]: one["drafting"] for one in told["ranking"]}
    assert by_backend["edge-small"] == {
        "kind": "chat",
        "tokens_per_step": drafts.yields.of("edge-small").tokens_per_step("chat"),
        "profile_tokens_per_step": SPECULATION.tokens_per_step,
        "answers": 30.0,
    }
    assert by_backend["edge-large"] is None


def test_only_leased_backends_whose_profiles_draft_are_followed(drafts: Any) -> None:
    backends = [one for one in drafts.backends if one.name in ("edge-small", "cloud-large")]
    by_backend = {one.name: drafts.profiles["l4"] for one in backends}
    assert speculations(backends, by_backend) == {"edge-small": SPECULATION}
    assert speculations(backends, {}) == {}
    lessons = Lessons()
    lessons.follow(backends, by_backend, 0.5)
    assert lessons.yields.of("edge-small") is not None
    assert lessons.yields.of("cloud-large") is None
