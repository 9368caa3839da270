"""Who is asleep, what it costs to wake one, and when that is worth it."""

from dataclasses import replace
from typing import Any

import pytest

from policies.marginal_cost import MarginalCost
from router.domain.decision import Candidate
from router.domain.fleet import Load, ScaleToZero
from router.domain.request import InferenceRequest
from router.selection.sleep import Sleeper

TERMS = ScaleToZero(20.0, 60.0)
NOW = 1000.0
PER_SECOND = 800_000_000 / 3600  # the fleet's lease

Fleet = AskFor = Any


@pytest.fixture
def napping(fleet: Fleet) -> Fleet:
    """`edge-large` scales to zero; it and `cloud-large` are asked."""
    fleet.change("edge-large", scale_to_zero=TERMS)
    fleet.scope = ("edge-large", "cloud-large")
    fleet.sleepers.follow(fleet.backends)
    return fleet


def at_edge(fleet: Fleet, request: InferenceRequest, now_seconds: float = NOW) -> Candidate:
    candidates, _ = fleet.find(request, now_seconds=now_seconds)
    return next(one for one in candidates if one.backend.name == "edge-large")


def awake(fleet: Fleet, request: InferenceRequest) -> Candidate:
    always_there = replace(fleet, backends=[replace(one, scale_to_zero=None) for one in fleet.backends])
    return at_edge(always_there, request)


def test_whoever_wakes_it_waits_for_the_start_and_is_quoted_all_that_it_will_cost(napping: Fleet, ask: AskFor) -> None:
    request = ask()
    cold, warm = at_edge(napping, request), awake(napping, request)
    assert cold.cold_start_seconds == TERMS.cold_start_seconds
    assert cold.ttft_seconds == pytest.approx(warm.ttft_seconds + TERMS.cold_start_seconds)
    seconds = TERMS.cold_start_seconds + warm.end_seconds + TERMS.idle_seconds
    assert cold.waking_nanousd == pytest.approx(seconds * PER_SECOND, abs=1)
    assert (cold.awake_nanousd, cold.tpot_seconds) == (warm.marginal_nanousd, warm.tpot_seconds)
    assert cold.allocated_nanousd == pytest.approx(
        warm.allocated_nanousd + TERMS.cold_start_seconds * PER_SECOND, abs=1
    )
    assert cold.standard_nanousd == warm.standard_nanousd
    assert (warm.cold_start_seconds, warm.waking_nanousd) == (0.0, 0)


def test_a_start_that_is_billed_for_longer_is_quoted_so(napping: Fleet, ask: AskFor) -> None:
    napping.change("edge-large", scale_to_zero=replace(TERMS, billed_seconds_min=600.0))
    assert at_edge(napping, ask()).waking_nanousd == pytest.approx(600 * PER_SECOND, abs=1)


def test_a_hold_covers_the_start(napping: Fleet, ask: AskFor) -> None:
    held = [
        one.find(ask(), are_holds_wanted=True)[0][0].hold_nanousd
        for one in (napping, replace(napping, backends=[replace(one, scale_to_zero=None) for one in napping.backends]))
    ]
    assert held[0] - held[1] >= TERMS.cold_start_seconds * PER_SECOND


def test_while_it_starts_others_wait_for_the_rest_and_pay_nothing_for_it(napping: Fleet, ask: AskFor) -> None:
    napping.sleepers.opened(at_edge(napping, ask()), NOW)
    napping.loads["edge-large/1"] = Load(attempts=1, prefill_tokens=300)
    starting = at_edge(napping, ask(), NOW + 5)
    assert starting.cold_start_seconds == 15.0
    assert starting.waking_nanousd == 0
    assert at_edge(napping, ask(), NOW + 20).cold_start_seconds == 0.0


def test_what_another_worker_keeps_busy_is_awake(napping: Fleet, ask: AskFor) -> None:
    napping.loads["edge-large/1"] = Load(attempts=1, prefill_tokens=300)
    assert at_edge(napping, ask()).cold_start_seconds == 0.0


def test_it_is_awake_from_its_first_answer_until_its_idle_time_after_the_last() -> None:
    sleeper = Sleeper(TERMS)
    assert sleeper.is_asleep(0.0)
    sleeper.opened(100.0)
    sleeper.opened(101.0)
    assert (sleeper.wakes, sleeper.starting_seconds(105.0)) == (1, 15.0)
    sleeper.ended(110.0, has_answered=True)  # quicker than it was said to be
    assert sleeper.starting_seconds(110.0) == 0.0
    assert not sleeper.is_asleep(500.0)  # the other one still runs
    sleeper.ended(500.0, has_answered=False)
    assert not sleeper.is_asleep(559.0)
    assert sleeper.is_asleep(560.0)
    sleeper.opened(560.0)
    assert (sleeper.wakes, sleeper.starting_seconds(560.0)) == (2, 20.0)


def test_one_that_fails_while_it_starts_is_still_starting() -> None:
    sleeper = Sleeper(TERMS)
    sleeper.opened(100.0)
    sleeper.ended(101.0, has_answered=False)
    assert sleeper.starting_seconds(101.0) == 19.0


def test_requests_that_went_elsewhere_wake_it_once_they_have_paid_as_much_more_there(
    napping: Fleet, ask: AskFor
) -> None:
    """At 100 requests a second for whom nothing is urgent: in all they never pay elsewhere more than waking would have been."""
    finder, policy, request = napping.finder(), MarginalCost(), ask(1000)
    waking_nanousd = at_edge(napping, request).waking_nanousd
    lost_nanousd, now_seconds = 0, NOW
    for _ in range(10_000):
        candidates, _ = napping.find(request, now_seconds=now_seconds, finder=finder)
        choices = policy.rank(request, candidates)
        napping.sleepers.passed(choices, now_seconds)
        chosen = choices[0].candidate
        if chosen.backend.name == "edge-large":
            break
        asleep = choices[1].candidate
        lost_nanousd += chosen.marginal_nanousd - asleep.awake_nanousd
        now_seconds += 0.01
    else:
        pytest.fail("it was never woken")
    assert 0.9 * waking_nanousd <= lost_nanousd <= 1.1 * waking_nanousd
    napping.sleepers.opened(chosen, now_seconds)
    sleeper = napping.sleepers.of("edge-large/1")
    assert sleeper is not None
    assert sleeper.missed_nanousd(now_seconds) == 0.0


def test_a_request_now_and_then_never_wakes_it(napping: Fleet, ask: AskFor) -> None:
    finder, policy, request = napping.finder(), MarginalCost(), ask(1000)
    for number in range(1000):
        candidates, _ = napping.find(request, now_seconds=NOW + 60.0 * number, finder=finder)
        choices = policy.rank(request, candidates)
        napping.sleepers.passed(choices, NOW + 60.0 * number)
        assert choices[0].candidate.backend.name == "cloud-large"


def test_terms_change_with_the_configuration_and_who_is_awake_stays_so(napping: Fleet) -> None:
    sleeper = napping.sleepers.of("edge-large/1")
    assert sleeper is not None
    sleeper.opened(NOW)
    napping.change("edge-large", scale_to_zero=ScaleToZero(5.0, 10.0))
    napping.sleepers.follow(napping.backends)
    assert napping.sleepers.of("edge-large/1") is sleeper
    assert sleeper.terms.idle_seconds == 10.0
    assert not sleeper.is_asleep(NOW)
    napping.sleepers.follow([])
    assert not napping.sleepers
