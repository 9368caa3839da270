"""How often spot replicas are taken away: what is declared, what is seen, and what it adds to a quote."""

from types import SimpleNamespace
from typing import Any

import pytest

from router.domain.decision import Choice, Decision
from router.domain.fleet import UP, Health, HealthState, Preemption
from router.domain.preemption import Move, Remembered, Sighting, Watch
from router.selection.explain import explain
from router.selection.lessons import Lessons
from router.selection.preemption import AWAY_PRIOR, UNSEEN_SECONDS, UNTOLD_MAX, Preempted

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
    one.watched(("a", "b"), 0.0, 25 * HOUR)
    assert (one.hours, one.per_hour) == (50.0, pytest.approx(5 / 100))
    one.became("a", HealthState.LEAVING, 0.0)
    assert one.per_hour == pytest.approx(6 / 100)
    for number in range(100):
        one.watched(("b",), number * 100 * HOUR, (number + 1) * 100 * HOUR)
    assert one.per_hour == pytest.approx(6 / 10_100)


def test_one_that_is_told_to_leave_and_then_goes_down_was_taken_once_and_is_not_watched_meanwhile() -> None:
    one = Preempted(DECLARED)
    one.became("a", HealthState.LEAVING, 100.0)
    one.became("a", HealthState.DOWN, 200.0)
    assert one.count == 1
    one.watched(("a", "b"), 0.0, HOUR)
    assert one.hours == 1.0
    one.became("a", HealthState.UP, 1000.0)
    assert one.away_seconds == pytest.approx((AWAY_PRIOR * 300.0 + 900.0) / (AWAY_PRIOR + 1))
    one.watched(("a", "b"), HOUR, 2 * HOUR)
    assert one.hours == 3.0


def test_one_that_is_gone_for_good_says_nothing_of_how_long_others_are_away() -> None:
    one = Preempted(DECLARED)
    one.became("a", HealthState.DOWN, 100.0)
    one.watched(("b",), 0.0, HOUR)
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


def as_ns(seconds: float) -> int:
    return round((seconds + 5000.0) * 1e9)


def in_seconds(ns: int) -> float:
    return ns / 1e9 - 5000.0


def test_what_was_seen_is_told_once_and_known_all_the_time(fleet: Any) -> None:
    fleet.change("edge-small", preemption=DECLARED)
    preemptions = fleet.preemptions
    preemptions.follow(fleet.backends)
    for now_seconds in (0.0, HOUR, 2 * HOUR):
        preemptions.advance(now_seconds)
    assert not preemptions.has_news
    preemptions.became("edge-small", "edge-small/1", LEAVING, 2 * HOUR)
    assert preemptions.has_news
    seen = preemptions.take(as_ns)
    assert seen.sightings == (Sighting("edge-small", "edge", "edge-small/1", Move.TAKEN, as_ns(2 * HOUR), "leaving"),)
    assert seen.watches == (Watch("edge-small", as_ns(0.0), as_ns(2 * HOUR), 2),)
    assert not preemptions.has_news
    preemptions.keep()
    assert preemptions.has_news
    assert preemptions.take(as_ns) == seen
    preemptions.advance(3 * HOUR)  # while it is told
    preemptions.became("edge-small", "edge-small/1", UP, 3 * HOUR)
    told = Remembered(7, 100 * 3600 * 10**9, 3, 900 * 10**9, {"edge-small/1": as_ns(2 * HOUR)})
    preemptions.remember({"edge-small": told}, in_seconds, 3 * HOUR)
    one = preemptions.of("edge-small")
    assert (one.count, one.hours) == (7, 101.0)
    assert one.away_seconds == pytest.approx((AWAY_PRIOR * 300.0 + 900.0 + HOUR) / (AWAY_PRIOR + 4))
    assert preemptions.take(as_ns).sightings == (
        Sighting("edge-small", "edge", "edge-small/1", Move.BACK, as_ns(3 * HOUR)),
    )
    assert preemptions.take(as_ns).watches == (Watch("edge-small", as_ns(2 * HOUR), as_ns(3 * HOUR), 1),)


def test_one_that_was_away_before_a_restart_and_still_is_was_taken_once() -> None:
    one = Preempted(DECLARED)
    one.remember(Remembered(1, away={"a": as_ns(-1000.0)}), ("a", "b"), in_seconds, 0.0)
    one.became("a", HealthState.DOWN, 5.0)
    assert (one.count, one.has_news) == (1, False)
    one.became("a", HealthState.UP, 200.0)
    assert one.has_news
    assert one.away_seconds == pytest.approx((AWAY_PRIOR * 300.0 + 1200.0) / (AWAY_PRIOR + 1))


def test_one_that_was_seen_to_go_before_the_ledger_was_heard_was_taken_once() -> None:
    one = Preempted(DECLARED)
    one.became("a", HealthState.DOWN, 5.0)
    told = Remembered(1, away={"a": as_ns(-1000.0)})
    one.remember(told, ("a",), in_seconds, 5.5)
    assert one.count == 2  # what is not told yet is thought to be another, for a moment
    backend: Any = SimpleNamespace(name="spot", pool=SimpleNamespace(name="cheap"))
    assert len(one.take(backend, as_ns).sightings) == 1
    one.remember(told, ("a",), in_seconds, 6.0)
    one.became("a", HealthState.UP, 200.0)
    assert one.count == 1
    assert one.away_seconds == pytest.approx((AWAY_PRIOR * 300.0 + 1200.0) / (AWAY_PRIOR + 1))


@pytest.mark.parametrize("replicas", [("a",), ("b",)])
def test_one_that_came_back_while_nobody_looked_or_never_did_says_nothing_of_how_long(
    replicas: tuple[str, ...],
) -> None:
    one = Preempted(DECLARED)
    one.remember(Remembered(1, away={"a": as_ns(-1000.0)}), ("a",), in_seconds, 0.0)
    one.watched(replicas, 0.0, UNSEEN_SECONDS - 1.0 if replicas == ("b",) else UNSEEN_SECONDS + 1.0)
    assert one.has_news
    backend: Any = SimpleNamespace(name="spot", pool=SimpleNamespace(name="cheap"))
    assert [sighting.move for sighting in one.take(backend, as_ns).sightings] == [Move.GONE]
    assert (one.count, one.away_seconds) == (1, 300.0)


def test_one_that_others_saw_go_and_come_back_is_no_news_here() -> None:
    one = Preempted(DECLARED)
    one.remember(Remembered(1, away={"a": as_ns(-10.0)}), ("a",), in_seconds, 0.0)
    one.remember(Remembered(1, returned=1, away_ns=20 * 10**9), ("a",), in_seconds, 60.0)
    one.watched(("a",), 60.0, 61.0 + UNSEEN_SECONDS)
    assert not one.has_news
    one.became("a", HealthState.DOWN, 400.0)
    assert one.count == 2


def test_what_waits_for_the_ledger_is_bounded_and_known_nevertheless() -> None:
    one = Preempted(DECLARED)
    for number in range(2 * UNTOLD_MAX):
        one.became("a", HealthState.DOWN, 100.0 * number)
        one.watched(("a", "b"), 100.0 * number, 100.0 * number + 50.0)
        one.became("a", HealthState.UP, 100.0 * number + 50.0)
        one.watched(("a", "b"), 100.0 * number + 50.0, 100.0 * (number + 1))
    backend: Any = SimpleNamespace(name="spot", pool=SimpleNamespace(name="cheap"))
    seen = one.take(backend, as_ns)
    assert (len(seen.sightings), len(seen.watches)) == (UNTOLD_MAX, UNTOLD_MAX)
    assert one.count == 2 * UNTOLD_MAX
    assert one.hours == pytest.approx(2 * UNTOLD_MAX * 150.0 / HOUR)
