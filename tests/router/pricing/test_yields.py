"""What drafts yield by the kind of answer: begins at the profile, follows what came, stays within what drafting can do, fades."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bookkeeping import LARGE, facts
from hypothesis import given
from hypothesis import strategies as st

from router.domain.attempt import AttemptStatus, Charge, CostStatus
from router.domain.decision import Candidate
from router.domain.request import Capability, Endpoint, InferenceRequest, Prompt
from router.domain.usage import Usage
from router.pricing.profile import Speculation
from router.pricing.yields import (
    ANSWER_TOKENS_MAX,
    BEYOND,
    COMPLETION_TOKENS_MIN,
    HALVED_SECONDS,
    PRIOR_TOKENS,
    STRUCTURED,
    Yield,
    Yields,
    answer_kind,
)

SPECULATION = Speculation(draft_tokens=3, acceptance_ratio=0.8, draft_seconds=0.002)
PRIOR = SPECULATION.tokens_per_step
STEP_SECONDS = 0.02
SECOND = 10**9


def answered(subject: Yield, kind: str, tokens_per_step: float, answers: int, tokens: int = 257) -> Yield:
    """So many answers that came at that pace."""
    for _ in range(answers):
        subject.observe(kind, tokens, (tokens - 1) / tokens_per_step * STEP_SECONDS, STEP_SECONDS)
    return subject


def request(*needs: Capability, choices: int = 1) -> InferenceRequest:
    return InferenceRequest(
        "r1", "t", "k", Endpoint.CHAT, "auto", True, Prompt("hello"), frozenset({Capability.CHAT, *needs}), choices=choices
    )  # fmt: skip


@pytest.mark.parametrize(
    ("needs", "category", "kind"),
    [
        ((), "code", "code"),
        ((), "", "other"),
        ((Capability.TOOLS,), "tools", "tools"),
        ((Capability.JSON_SCHEMA,), "code", STRUCTURED),
        ((Capability.JSON_OBJECT,), "", STRUCTURED),
    ],
)
def test_an_answer_is_of_its_category_unless_its_shape_is_laid_down(
    needs: tuple[Capability, ...], category: str, kind: str
) -> None:
    assert answer_kind(request(*needs), category) == kind


def test_what_was_not_seen_is_the_profiles() -> None:
    subject = answered(Yield(SPECULATION), "chat", 1.1, 50)
    assert (subject.tokens_per_step("code"), subject.steps_ratio("code"), subject.answers("code")) == (PRIOR, 1.0, 0.0)
    assert subject.steps_ratio("chat") > 2


def test_a_few_answers_change_little_and_many_nearly_all() -> None:
    table = {
        answers: answered(Yield(SPECULATION), "chat", 1.25, answers).tokens_per_step("chat") for answers in (1, 4, 40)
    }
    assert table[1] == pytest.approx(1280 / (1024 / PRIOR + 256 / 1.25))
    assert table[1] > 0.75 * PRIOR
    assert table[4] == pytest.approx(2 / (1 / PRIOR + 1 / 1.25))  # as much as was believed before
    assert table[40] == pytest.approx(1.25, rel=0.06)


def test_a_long_answer_says_no_more_than_one_of_a_few_hundred_tokens() -> None:
    long = answered(Yield(SPECULATION), "chat", 1.25, 1, tokens=16_001)
    assert long.tokens_per_step("chat") == pytest.approx(
        answered(Yield(SPECULATION), "chat", 1.25, 1).tokens_per_step("chat")
    )
    assert ANSWER_TOKENS_MAX == 256


@pytest.mark.parametrize("tokens", [0, 1, COMPLETION_TOKENS_MIN - 1])
def test_short_answers_say_nothing(tokens: int) -> None:
    subject = Yield(SPECULATION)
    subject.observe("chat", tokens, 1.0, STEP_SECONDS)
    assert subject.tokens_per_step("chat") == PRIOR


@pytest.mark.parametrize(("seconds", "step_seconds"), [(0.0, STEP_SECONDS), (-1.0, STEP_SECONDS), (1.0, 0.0)])
def test_times_that_cannot_be_say_nothing(seconds: float, step_seconds: float) -> None:
    subject = Yield(SPECULATION)
    subject.observe("chat", 100, seconds, step_seconds)
    assert subject.answers("chat") == 0.0


@pytest.mark.parametrize(("pace", "bound"), [(1e-6, 1.0), (1e9, 4.0)])
def test_it_never_leaves_what_drafting_can_do(pace: float, bound: float) -> None:
    assert answered(Yield(SPECULATION), "chat", pace, 1000).tokens_per_step("chat") == bound


def test_a_client_that_reads_slowly_counts_as_no_more_than_twice_as_slow_as_no_drafts_at_all() -> None:
    subject = answered(Yield(SPECULATION), "chat", 0.01, 1)
    assert subject.tokens_per_step("chat") == pytest.approx(1280 / (1024 / PRIOR + 256 * BEYOND))
    answered(subject, "chat", PRIOR, 40)
    assert subject.tokens_per_step("chat") == pytest.approx(PRIOR, rel=0.15)


def test_what_was_seen_fades_until_the_profile_is_believed_again() -> None:
    subject = Yield(SPECULATION)
    subject.advance(SECOND)
    answered(subject, "chat", 1.25, 4)
    learned = subject.tokens_per_step("chat")
    subject.advance(SECOND)
    assert subject.tokens_per_step("chat") == learned
    subject.advance(SECOND + round(HALVED_SECONDS * SECOND))
    assert subject.answers("chat") == pytest.approx(2.0)
    assert learned < subject.tokens_per_step("chat") < PRIOR
    subject.advance(0)  # a clock that was set back
    assert subject.answers("chat") == pytest.approx(2.0)
    subject.advance(SECOND + round(20 * HALVED_SECONDS * SECOND))
    assert subject.tokens_per_step("chat") == pytest.approx(PRIOR, rel=1e-4)


def test_what_was_seen_before_the_first_second_was_over_is_not_taken_for_old() -> None:
    subject = answered(Yield(SPECULATION), "chat", 1.25, 4)
    subject.advance(1_795_000_000 * SECOND)
    assert subject.answers("chat") == 4.0


OBSERVATIONS = st.lists(
    st.tuples(
        st.sampled_from(["code", "chat"]),
        st.integers(0, 20_000),
        st.floats(0, 1e5),
        st.floats(0, 10),
        st.floats(0, 1e5),
    ),
    max_size=30,
)


@given(
    OBSERVATIONS,
    st.builds(
        Speculation, draft_tokens=st.integers(1, 32), acceptance_ratio=st.floats(0, 1), draft_seconds=st.just(0.0)
    ),
)
def test_whatever_comes_it_is_within_bounds_and_one_kind_tells_nothing_of_another(
    observations: list[tuple[str, int, float, float, float]], speculation: Speculation
) -> None:
    subject, alone, now = Yield(speculation), Yield(speculation), 0.0
    for kind, tokens, seconds, step_seconds, later in observations:
        now += later
        for one in (subject, alone):
            one.advance(round(now * SECOND))
        subject.observe(kind, tokens, seconds, step_seconds)
        if kind == "code":
            alone.observe(kind, tokens, seconds, step_seconds)
        assert 1.0 <= subject.tokens_per_step(kind) <= 1 + speculation.draft_tokens
        assert subject.steps_ratio(kind) * subject.tokens_per_step(kind) == pytest.approx(speculation.tokens_per_step)
    assert subject.tokens_per_step("code") == alone.tokens_per_step("code")


@given(st.floats(1, 4), st.floats(1, 4), st.integers(1, 60))
def test_who_came_faster_is_taken_to_be_faster(one: float, other: float, answers: int) -> None:
    paces = [answered(Yield(SPECULATION), "x", pace, answers).tokens_per_step("x") for pace in sorted((one, other))]
    assert paces[0] <= paces[1] * (1 + 1e-12)
    assert min(one, PRIOR) * (1 - 1e-9) <= answered(Yield(SPECULATION), "x", one, answers).tokens_per_step("x")


CHARGE = Charge(
    facts("r1", LARGE), "leased", "", SECOND, 2 * SECOND, 4 * SECOND, AttemptStatus.OK, "", 200, Usage(100, 257),
    CostStatus.UNPRICED, None, None, None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "choices", "answers"),
    [
        ({}, 1, 1.0),
        ({"first_token_ns": None}, 1, 0.0),
        ({"status": AttemptStatus.CANCELLED}, 1, 0.0),
        ({"status": AttemptStatus.FAILED}, 1, 0.0),
        ({}, 2, 0.0),  # two answers at once come twice as fast
        ({"facts": facts("r1", LARGE, backend="elsewhere")}, 1, 0.0),
    ],
)
def test_only_one_whole_streamed_answer_of_a_backend_that_drafts_is_learned_from(
    change: dict[str, Any], choices: int, answers: float
) -> None:
    yields = Yields()
    yields.follow({LARGE.name: SPECULATION})
    candidate = cast(Candidate, SimpleNamespace(step_seconds=STEP_SECONDS))
    yields.observe(candidate, replace(CHARGE, **change), request(Capability.JSON_SCHEMA, choices=choices))
    one = yields.of(LARGE.name)
    assert one is not None
    assert one.answers(STRUCTURED) == answers
    assert list(yields.figures()) == ([(LARGE.name, STRUCTURED, one.tokens_per_step(STRUCTURED))] if answers else [])
    if answers:  # a hundred steps in two seconds
        assert one.tokens_per_step(STRUCTURED) == pytest.approx((PRIOR_TOKENS + 256) / (PRIOR_TOKENS / PRIOR + 100))


def test_a_configuration_goes_and_what_was_learned_stays_unless_it_drafts_otherwise() -> None:
    yields = Yields()
    yields.follow({"a": SPECULATION, "b": SPECULATION})
    before = yields.of("a"), yields.of("b")
    yields.follow({"a": SPECULATION, "b": SPECULATION.model_copy(update={"draft_tokens": 5})})
    assert yields.of("a") is before[0]
    assert yields.of("b") is not before[1]
    yields.follow({})
    assert yields.of("a") is None
