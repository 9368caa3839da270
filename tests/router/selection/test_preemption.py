"""How often spot replicas are taken away: what is declared, what is seen, and what it adds to a quote."""

from typing import Any

import pytest

from router.domain.decision import Choice, Decision
from router.domain.fleet import UP, Health, HealthState, Preemption
from router.selection.explain import explain
from router.selection.lessons import Lessons
from router.selection.preemption import AWAY_PRIOR, Preempted

DECLARED = Preemption(per_hour=0.1, prior_hours=50.0, away_seconds=300.0)
LEAVING = Health(False, "is leaving", 0.0, HealthState.LEAVING)
DOWN = Health(False, "health check fails", 0.0, HealthState.DOWN)
HOUR = 3600.0


def test_before_anything_was_seen_it_is_as_declared() -> None:
    one = Preempted(DECLARED)
    assert (one.per_hour, one.away_seconds) == (0.1, 300.0)
    assert one.loss_ratio(20.0) == pytest.approx(0.1 / HOUR * 310.0)


def test_the_rate_is_that_of_all_hours_declared_and_seen() -> None:
    one = Preempted(DECLARED)
    one.watched(("a", "b"), 25 * HOUR)
    assert (one.hours, one.per_hour) == (50.0, pytest.approx(5 / 100))
    one.became("a", HealthState.LEAVING, 0.0)
    assert one.per_hour == pytest.approx(6 / 100)
    for _ in range(100):
        one.watched(("b",), 100 * HOUR)
    assert one.per_hour == pytest.approx(6 / 10_100)


def test_one_that_is_told_to_leave_and_then_goes_down_was_taken_once_and_is_not_watched_meanwhile() -> None:
    one = Preempted(DECLARED)
    one.became("a", HealthState.LEAVING, 100.0)
    one.became("a", HealthState.DOWN, 200.0)
    assert one.count == 1
    one.watched(("a", "b"), HOUR)
    assert one.hours == 1.0
    one.became("a", HealthState.UP, 1000.0)
    assert one.away_seconds == pytest.approx((AWAY_PRIOR * 300.0 + 900.0) / (AWAY_PRIOR + 1))
    one.watched(("a", "b"), HOUR)
    assert one.hours == 3.0


def test_one_that_is_gone_for_good_says_nothing_of_how_long_others_are_away() -> None:
    one = Preempted(DECLARED)
    one.became("a", HealthState.DOWN, 100.0)
    one.watched(("b",), HOUR)
    one.became("a", HealthState.UP, 9000.0)
    assert (one.count, one.away_seconds) == (1, 300.0)


def test_what_limits_or_fails_was_not_taken() -> None:
    one = Preempted(DECLARED)
    for state in (HealthState.LIMITED, HealthState.EJECTED, HealthState.LOCKED_OUT, HealthState.UP):
        one.became("a", state, 100.0)
    assert one.count == 0


def test_what_was_seen_of_a_fleet_outlives_its_configuration(fleet: Any) -> None:
    fleet.change("edge-small", preemption=DECLARED)
    fleet.preemptions.follow(fleet.backends)
    fleet.preemptions.advance(0.0)
    fleet.preemptions.advance(HOUR)
    fleet.preemptions.became("edge-small", "edge-small/1", LEAVING, HOUR)
    fleet.preemptions.became("edge-large", "edge-large/1", DOWN, HOUR)
    fleet.preemptions.follow(fleet.backends)
    one = fleet.preemptions.of("edge-small")
    assert (one.hours, one.count) == (2.0, 1)
    fleet.preemptions.became("edge-small", "edge-small/1", UP, HOUR + 60.0)
    assert one.away_seconds < 300.0
    assert fleet.preemptions.of("edge-large") is None


def test_what_is_lost_is_in_the_marginal_quote_and_in_no_other(fleet: Any, ask: Any) -> None:
    def quote() -> Any:
        candidates, _ = fleet.find(ask(2000))
        return next(one for one in candidates if one.replica.id == "edge-small/2").quote

    before = quote()
    fleet.change("edge-small", preemption=Preemption(1.0, 50.0, 900.0))
    fleet.preemptions.follow(fleet.backends)
    after = quote()
    assert after.marginal_nanousd == pytest.approx(before.marginal_nanousd * 1.25, rel=0.005)
    assert (after.standard_nanousd, after.allocated_nanousd) == (before.standard_nanousd, before.allocated_nanousd)
    for _ in range(50):
        fleet.preemptions.became("edge-small", "edge-small/1", DOWN, 0.0)
        fleet.preemptions.became("edge-small", "edge-small/1", UP, 900.0)
    assert quote().marginal_nanousd == pytest.approx(before.marginal_nanousd * 1.5, rel=0.005)


def test_it_is_explained(fleet: Any, ask: Any) -> None:
    fleet.change("edge-small", preemption=DECLARED)
    fleet.preemptions.follow(fleet.backends)
    candidates, _ = fleet.find(ask())
    decision = Decision("slo", [Choice(one, "") for one in candidates], [], None, "edge-large")
    told = {
        one["backend"]: one["preemption"]
        for one in explain(ask(), decision, Lessons(preemptions=fleet.preemptions))["ranking"]
    }
    assert told["edge-small"] == {"per_hour": 0.1, "away_seconds": 300.0, "seen": 0, "hours": 0.0}
    assert told["edge-large"] is None
