"""The fleet's snapshot: swapped by reports, kept across reloads."""

from dataclasses import replace

from router.domain.fleet import (
    UP,
    Backend,
    Billing,
    EngineKind,
    Health,
    HealthState,
    Load,
    Pool,
    PoolKind,
    Replica,
    Scrape,
)
from router.domain.request import Capability
from router.fleet.health import HealthRules
from router.fleet.state import Fleet

POOL = Pool("central", PoolKind.CENTRAL, Billing.LEASED)
TIERS = ("small", "large")


def backend(*urls: str) -> Backend:
    replicas = tuple(Replica(f"a/{number}", "a", url) for number, url in enumerate(urls))
    needs = frozenset({Capability.CHAT})
    return Backend("a", POOL, "m", "m", "small", "fp8", EngineKind.VLLM, 8192, needs, "p", "h", replicas)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def fleet_of(*urls: str) -> tuple[Fleet, Clock, list[tuple[str, HealthState, HealthState]]]:
    clock = Clock()
    changes: list[tuple[str, HealthState, HealthState]] = []

    def listen(replica: Replica, before: Health, after: Health) -> None:
        changes.append((replica.id, before.state, after.state))

    return Fleet([backend(*urls)], TIERS, HealthRules(), clock=clock, on_health=listen), clock, changes


def test_a_snapshot_that_a_reader_holds_does_not_change() -> None:
    fleet, _, _ = fleet_of("http://h:1")
    held = fleet.snapshot
    fleet.limited("a/0", 5.0)
    assert held.health["a/0"] == UP
    assert fleet.snapshot.health["a/0"].until_seconds == 1005.0


def test_a_report_that_changes_nothing_swaps_nothing() -> None:
    fleet, _, changes = fleet_of("http://h:1")
    held = fleet.snapshot
    fleet.succeeded("a/0")
    fleet.check_passed("a/0")
    fleet.failed("a/0", "connect")
    assert fleet.snapshot is held
    assert changes == []


def test_a_change_of_state_is_told_once() -> None:
    fleet, _, changes = fleet_of("http://h:1")
    for _ in range(9):
        fleet.failed("a/0", "connect")
    fleet.refused_credentials("a/0")
    assert changes == [
        ("a/0", HealthState.UP, HealthState.EJECTED),
        ("a/0", HealthState.EJECTED, HealthState.LOCKED_OUT),
    ]


def test_f14_the_first_attempt_after_an_ejection_is_its_trial_and_the_only_one() -> None:
    fleet, clock, _ = fleet_of("http://h:1")
    for _ in range(5):
        fleet.failed("a/0", "stall")
    clock.now += 30.0
    assert fleet.snapshot.health["a/0"].admits(clock.now)
    with fleet.enter("a/0", 10):
        assert not fleet.snapshot.health["a/0"].admits(clock.now)
        fleet.succeeded("a/0")
    assert fleet.snapshot.health["a/0"] == UP


def test_an_attempt_in_panic_is_no_trial() -> None:
    fleet, clock, _ = fleet_of("http://h:1")
    for _ in range(5):
        fleet.failed("a/0", "stall")
    held = fleet.snapshot
    clock.now += 10.0
    with fleet.enter("a/0", 10):
        assert fleet.snapshot is held


def test_f09_a_key_that_one_replica_refuses_takes_out_all_of_its_backend_that_share_it() -> None:
    fleet, _, changes = fleet_of("http://h:1", "http://h:2", "http://h:3")
    ours = fleet.snapshot.backends["a"]
    keys = ("shared", "shared", "another")
    replicas = tuple(replace(replica, api_key=key) for replica, key in zip(ours.replicas, keys, strict=True))
    fleet.configure([replace(ours, replicas=replicas)], TIERS, HealthRules())
    fleet.refused_credentials("a/1")
    assert [replica for replica, _, _ in changes] == ["a/0", "a/1"]
    assert fleet.snapshot.health["a/2"] == UP
    fleet.accepted_credentials("a/0")
    assert fleet.snapshot.health["a/0"] == UP
    assert fleet.snapshot.health["a/1"].state is HealthState.LOCKED_OUT


def test_a_time_that_is_over_shows_when_the_snapshot_is_refreshed() -> None:
    fleet, clock, changes = fleet_of("http://h:1")
    fleet.limited("a/0", 5.0)
    clock.now += 5.0
    assert not fleet.snapshot.health["a/0"].is_usable
    fleet.refresh("a/0")
    assert fleet.snapshot.health["a/0"] == UP
    assert changes[-1] == ("a/0", HealthState.LIMITED, HealthState.UP)


def test_a_reload_keeps_health_scrape_and_load_of_what_stays() -> None:
    fleet, _, _ = fleet_of("http://h:1", "http://h:2")
    fleet.scraped("a/0", Scrape(1.0, running=3))
    fleet.scraped("a/1", Scrape(1.0, running=4))
    fleet.limited("a/0", 5.0)
    fleet.limited("a/1", 5.0)
    ticket = fleet.enter("a/0", 7)
    fleet.configure([backend("http://h:1", "http://h:9", "http://h:3")], TIERS, HealthRules())
    assert fleet.snapshot.health["a/0"].state is HealthState.LIMITED
    assert fleet.snapshot.health["a/1"] == fleet.snapshot.health["a/2"] == UP
    assert dict(fleet.snapshot.scrapes) == {"a/0": Scrape(1.0, running=3)}
    assert fleet.loads["a/0"] == Load(attempts=1, prefill_tokens=7)
    ticket.leave()


def test_what_is_in_flight_at_a_replica_that_a_reload_removed_ends_undisturbed() -> None:
    fleet, _, _ = fleet_of("http://h:1", "http://h:2")
    with fleet.enter("a/1", 7) as ticket:
        fleet.configure([backend("http://h:1")], TIERS, HealthRules())
        ticket.first_token(8)
        fleet.failed("a/1", "reset")
        fleet.refused_credentials("a/1")
        fleet.limited("a/1", 1.0)
        fleet.scraped("a/1", Scrape(1.0))
    assert not fleet.loads
    assert set(fleet.snapshot.health) == {"a/0"}
    assert not fleet.snapshot.scrapes
