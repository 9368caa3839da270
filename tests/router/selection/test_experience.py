"""What is learned of metered backends, how fast, how it fades, and what it changes in a decision."""

from dataclasses import replace
from typing import Any

import pytest
from bookkeeping import LARGE, facts

from router.domain.attempt import AttemptStatus, Charge, CostStatus
from router.domain.decision import Choice, Decision
from router.domain.fleet import Health, HealthState
from router.domain.usage import Usage
from router.errors import RateLimited
from router.selection.experience import (
    ANSWERS_HALVED_SECONDS,
    ATTEMPTS_HALVED_SECONDS,
    PRIOR_ATTEMPTS,
    TPOT_SECONDS,
    Experience,
    Experiences,
)
from router.selection.explain import explain
from router.selection.first_token import GROWTH_PER_TOKEN, LEVEL_SECONDS
from router.selection.lessons import Lessons

START = 1_795_000_000_000_000_000
SECOND = 1_000_000_000


def ended(
    at_seconds: float = 0.0,
    *,
    ttft_seconds: float | None = 0.5,
    tpot_seconds: float = 0.01,
    tokens: int = 101,
    status: AttemptStatus = AttemptStatus.OK,
    fault: str = "",
    backend: str = LARGE.name,
    prompt_tokens: int = 0,
) -> Charge:
    """An attempt that has ended then. ttft_seconds: None: it was not streamed, or never began, and took a second."""
    ended_ns = START + round(at_seconds * SECOND)
    first_ns = None if ttft_seconds is None else ended_ns - round(tpot_seconds * (tokens - 1) * SECOND)
    opened_ns = (
        ended_ns - SECOND if first_ns is None or ttft_seconds is None else first_ns - round(ttft_seconds * SECOND)
    )
    return Charge(
        facts("r1", LARGE, backend=backend), "metered", "", opened_ns, first_ns, ended_ns, status, fault, 200,
        Usage(prompt_tokens, tokens), CostStatus.UNPRICED, None, None, None,
    )  # fmt: skip


def failed(at_seconds: float = 0.0, fault: str = "http_500") -> Charge:
    return ended(at_seconds, ttft_seconds=None, status=AttemptStatus.FAILED, fault=fault)


def test_before_anything_was_seen_it_is_forecast_like_the_trace_and_taken_to_answer() -> None:
    one = Experience(availability_min=0.9)
    assert (one.availability_ratio, one.is_shunned) == (1.0, False)
    assert one.ttft_seconds == pytest.approx(LEVEL_SECONDS)
    assert one.tpot_seconds == pytest.approx(TPOT_SECONDS)


def test_answers_take_the_place_of_the_prior_little_by_little() -> None:
    one = Experience(rtt_seconds=0.1)
    seen = []
    for _ in range(100):
        one.observe(ended(ttft_seconds=0.1 + 0.5 * (1 + GROWTH_PER_TOKEN * 10_000), prompt_tokens=10_000))
        seen.append((one.ttft_seconds, one.tpot_seconds))
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == (
        pytest.approx(1.8 ** (5 / 6) * 0.5 ** (1 / 6)),
        pytest.approx(0.017 ** (5 / 6) * 0.01 ** (1 / 6)),
    )
    assert seen[-1] == (pytest.approx(0.5, rel=0.07), pytest.approx(0.01, rel=0.03))


def test_one_answer_in_twenty_that_took_ten_times_as_long_moves_little() -> None:
    one = Experience()
    for number in range(200):
        one.observe(ended(ttft_seconds=5.0 if number % 20 == 0 else 0.5))
    assert one.ttft_seconds == pytest.approx(0.5, rel=0.2)


def test_a_short_answer_tells_no_pace_and_one_that_was_not_streamed_no_time_at_all() -> None:
    one = Experience()
    one.observe(ended(tokens=15))
    assert one.tpot_seconds == pytest.approx(TPOT_SECONDS)
    before = one.ttft_seconds
    one.observe(ended(ttft_seconds=None))
    assert (one.ttft_seconds, one.attempts) == (pytest.approx(before), 2.0)


def test_failures_lower_its_availability_and_what_they_took_is_in_the_forecast() -> None:
    one = Experience(availability_min=0.8)
    for _ in range(2):
        one.observe(failed())
    assert (one.availability_ratio, one.is_shunned) == (PRIOR_ATTEMPTS / 12, False)
    assert one.ttft_seconds == pytest.approx(LEVEL_SECONDS + 2 * 1.0 / PRIOR_ATTEMPTS)
    one.observe(failed())
    assert one.is_shunned


def test_what_is_not_its_fault_is_not_counted() -> None:
    one = Experience()
    for fault in ("refused", "untranslatable", "credentials", "no_credit", "leaving"):
        one.observe(failed(fault=fault))
    one.observe(ended(ttft_seconds=None, status=AttemptStatus.CANCELLED, fault="client_gone"))
    assert one.attempts == 0.0


def test_who_says_for_how_long_to_be_left_alone_is_available_but_time_was_lost() -> None:
    one = Experience(availability_min=0.8)
    for fault in ("limited", "overloaded") * 10:
        one.observe(failed(fault=fault))
    assert (one.availability_ratio, one.is_shunned) == (1.0, False)
    assert one.ttft_seconds == pytest.approx(LEVEL_SECONDS + 20 * 1.0 / PRIOR_ATTEMPTS)


def test_an_answer_that_was_cut_short_had_begun() -> None:
    one = Experience()
    one.observe(ended(status=AttemptStatus.CANCELLED, fault="client_gone"))
    assert (one.attempts, one.answers) == (1.0, 0.0)


def test_what_was_seen_fades_failures_within_minutes_and_times_within_hours() -> None:
    one = Experience(availability_min=0.8)
    one.advance(START)
    for _ in range(100):
        one.observe(failed())
        one.observe(ended(ttft_seconds=0.5))
    assert one.is_shunned
    learned = one.ttft_seconds
    one.advance(START + round(ATTEMPTS_HALVED_SECONDS * SECOND))
    assert one.attempts == pytest.approx(100.0)
    assert one.is_shunned
    one.advance(START + round(12 * ATTEMPTS_HALVED_SECONDS * SECOND))
    assert not one.is_shunned
    assert one.ttft_seconds < learned
    one.advance(START + round(30 * ANSWERS_HALVED_SECONDS * SECOND))
    assert one.ttft_seconds == pytest.approx(LEVEL_SECONDS)
    assert one.availability_ratio == pytest.approx(1.0)


def test_what_ended_before_another_is_told_after_it() -> None:
    one = Experience()
    one.observe(ended(10.0))
    one.observe(ended(9.0))
    assert one.attempts == 2.0


def test_a_configuration_goes_and_what_was_learned_stays() -> None:
    experiences = Experiences()
    experiences.follow([LARGE], 0.5)
    experiences.observe(failed())
    experiences.observe(ended(backend="elsewhere"))
    one = experiences.of(LARGE.name)
    assert one is not None
    experiences.follow([LARGE], 0.95)
    assert experiences.of(LARGE.name) is one
    assert one.attempts == 1.0
    experiences.observe(failed())
    assert one.is_shunned
    experiences.follow([], 0.95)
    assert experiences.of(LARGE.name) is None


def learned(fleet: Any, *charges: Charge) -> Any:
    fleet.experiences.follow(fleet.backends, 0.8)
    for charge in charges:
        fleet.experiences.observe(charge)
    return fleet


def in_the_cloud(fleet: Any, ask: Any) -> Any:
    candidates, _ = fleet.find(ask(1000))
    return next(one for one in candidates if one.backend.name == "cloud-large")


def test_forecasts_of_a_metered_backend_are_what_was_learned(fleet: Any, ask: Any) -> None:
    before = in_the_cloud(fleet, ask)
    after = in_the_cloud(learned(fleet, *[ended(backend="cloud-large", ttft_seconds=0.4)] * 50), ask)
    one = fleet.experiences.of("cloud-large")
    assert before.ttft_seconds == pytest.approx(0.08 + LEVEL_SECONDS * (1 + GROWTH_PER_TOKEN * 1000))
    assert after.ttft_seconds == pytest.approx(0.08 + one.ttft_seconds + one.ttft_seconds_per_token * 1000)
    assert after.ttft_seconds < 0.5
    assert (before.tpot_seconds, after.tpot_seconds) == (pytest.approx(TPOT_SECONDS), one.tpot_seconds)
    assert before.marginal_nanousd == after.marginal_nanousd


def test_what_its_cache_holds_is_not_read_again() -> None:
    one = Experience()
    for tokens in (200, 2_000, 20_000) * 50:  # 16,000 of the longest are cached, and so it is as quick as one of 4,000
        uncached = tokens if tokens < 20_000 else 4_000
        charge = ended(ttft_seconds=0.2 + 1e-4 * uncached, prompt_tokens=tokens)
        one.observe(replace(charge, usage=replace(charge.usage, cached_tokens=tokens - uncached)))
    one.advance(START)
    assert one.ttft_seconds + one.ttft_seconds_per_token * 4_000 == pytest.approx(0.6, rel=0.35)
    assert one.ttft_seconds_per_token > 4e-5


def test_who_answers_too_seldom_is_out_with_the_reason_while_others_can(fleet: Any, ask: Any) -> None:
    learned(
        fleet, *[ended(ttft_seconds=None, status=AttemptStatus.FAILED, fault="http_500", backend="cloud-large")] * 10
    )
    candidates, exclusions = fleet.find(ask())
    assert "cloud-large" not in {one.backend.name for one in candidates}
    (told,) = exclusions
    assert (told.replica, told.why) == ("cloud-large/1", "answers 50% of what it is asked, less than 80%")
    candidates, exclusions = fleet.find(ask(), takes_doubtful=True)
    assert ("cloud-large" in {one.backend.name for one in candidates}, exclusions) == (True, [])
    fleet.scope = ("cloud-large",)
    candidates, exclusions = fleet.find(ask())
    assert [one.backend.name for one in candidates] == ["cloud-large"]
    assert exclusions == []


def test_who_must_be_left_alone_is_left_alone_though_nobody_else_can(fleet: Any, ask: Any) -> None:
    learned(
        fleet, *[ended(ttft_seconds=None, status=AttemptStatus.FAILED, fault="http_500", backend="cloud-large")] * 10
    )
    fleet.scope = ("cloud-large",)
    fleet.health["cloud-large/1"] = Health(False, "rate limited by the backend", 1099.0, HealthState.LIMITED)
    with pytest.raises(RateLimited):
        fleet.find(ask())


def test_what_was_learned_is_explained(fleet: Any, ask: Any) -> None:
    learned(fleet, ended(backend="cloud-large"))
    candidates, exclusions = fleet.find(ask())
    decision = Decision("slo", [Choice(one, "") for one in candidates], exclusions, None, "edge-large")
    told = {
        one["backend"]: one["experience"]
        for one in explain(ask(), decision, Lessons(experiences=fleet.experiences))["ranking"]
    }
    assert told["edge-large"] is None
    assert told["cloud-large"]["attempts"] == told["cloud-large"]["answers"] == 1.0
    assert told["cloud-large"]["availability_ratio"] == 1.0
    assert told["cloud-large"]["ttft_seconds"] < LEVEL_SECONDS
