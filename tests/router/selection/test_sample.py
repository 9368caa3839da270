"""Of a large backend a request looks at a few replicas: its prefix's holders, and others by chance that all may be."""

from collections import Counter

import pytest

from router.domain.fleet import (
    Backend,
    Billing,
    EngineKind,
    Health,
    HealthState,
    Load,
    Pool,
    PoolKind,
    Replica,
    Snapshot,
)
from router.domain.request import Capability, Endpoint, InferenceRequest, PrefixMark, Prompt
from router.errors import Unavailable
from router.pricing.price import LeasedPrice, Purchase
from router.profiles import shipped
from router.selection.candidates import Finder
from router.selection.sample import in_order_of_chance
from router.selection.scope import Scope
from router.selection.site import Site

COUNT, CONSIDERED = 90, 12
PROFILE = "llama-3.1-70b-fp8-h200"
NEEDS = frozenset({Capability.CHAT})
REPLICAS = tuple(Replica(f"b/{number}", "b", f"http://b-{number}") for number in range(COUNT))
BACKEND = Backend(
    "b", Pool("p", PoolKind.CENTRAL, Billing.LEASED), "m", "m", "large", "fp8", EngineKind.VLLM, 65_536, NEEDS, "gpu",
    PROFILE, REPLICAS,
)  # fmt: skip
PRICE = LeasedPrice("gpu@2026-01-01#0", 3_780_000_000, Purchase.ON_DEMAND)
DOWN = Health(False, "down", 0.0, HealthState.DOWN)


def request(number: int, prefix: tuple[PrefixMark, ...] = ()) -> InferenceRequest:
    return InferenceRequest(
        f"r{number}", "t", "k", Endpoint.CHAT, "m", True, Prompt("hello", tokens_estimate=900), NEEDS, prefix=prefix
    )


def considered(
    finder: Finder, number: int = 0, *, down: frozenset[str] = frozenset(), prefix: tuple[PrefixMark, ...] = ()
) -> list[str]:
    snapshot = Snapshot({"b": BACKEND}, dict.fromkeys(down, DOWN), {}, ("small", "large"))
    found, _ = finder.find(request(number, prefix), Scope("m", (BACKEND,)), snapshot, {}, None, 1.0)
    return [candidate.replica.id for candidate in found]


@pytest.fixture
def finder() -> Finder:
    return Finder(
        tiers=("small", "large"), prices={"b": PRICE}, profiles={PROFILE: shipped().named(PROFILE)}, stale_seconds=10,
        seats_max=CONSIDERED,
    )  # fmt: skip


def test_a_request_looks_at_so_many_and_again_at_the_same(finder: Finder) -> None:
    first = considered(finder)
    assert len(first) == len(set(first)) == CONSIDERED
    assert considered(finder) == first
    assert considered(finder, 1) != first


def test_over_many_requests_every_replica_has_about_the_same_chance(finder: Finder) -> None:
    seen = Counter(one for number in range(600) for one in considered(finder, number))
    mean = 600 * CONSIDERED / COUNT
    assert len(seen) == COUNT
    assert 0.5 * mean < min(seen.values()) <= max(seen.values()) < 1.6 * mean


def test_who_holds_the_prefix_is_looked_at_but_leaves_room_for_others(finder: Finder) -> None:
    prefix = (PrefixMark(1, 400), PrefixMark(2, 800))
    finder.lessons.prefixes.follow({replica.id: 100_000 for replica in REPLICAS})
    for number in range(40):
        finder.lessons.prefixes.sent(f"b/{number}", prefix[:1])
    finder.lessons.prefixes.sent("b/77", prefix)
    found = considered(finder, prefix=prefix)
    assert found[0] == "b/77"
    assert len(found) == CONSIDERED
    assert CONSIDERED // 2 <= sum(int(one.partition("/")[2]) < 40 or one == "b/77" for one in found) < CONSIDERED


def test_replicas_that_are_down_do_not_use_up_the_look(finder: Finder) -> None:
    down = frozenset(replica.id for replica in REPLICAS[5:])
    assert sorted(considered(finder, down=down)) == sorted(replica.id for replica in REPLICAS[:5])
    with pytest.raises(Unavailable):
        considered(finder, down=frozenset(replica.id for replica in REPLICAS))


@pytest.mark.parametrize("count", [1, 2, 3, 12, 97, 1000])
def test_chance_comes_by_every_seat_once(count: int) -> None:
    replicas = tuple(Replica(f"b/{number}", "b", "http://b") for number in range(count))
    backend = Backend("b", BACKEND.pool, "m", "m", "large", "fp8", EngineKind.VLLM, 1, NEEDS, "gpu", PROFILE, replicas)
    site = Site(backend, 1, PRICE)
    for number in range(20):
        seats = [seat.id for seat in in_order_of_chance(site, f"r{number}", {}, 4)]
        assert sorted(seats) == sorted(replica.id for replica in replicas)


def test_the_least_busy_of_a_few_is_nearly_as_idle_as_of_all() -> None:
    """Balls into bins: with a dozen to look at, the fullest is hardly fuller than the mean."""
    finder = Finder(
        tiers=("small", "large"), prices={"b": PRICE}, profiles={PROFILE: shipped().named(PROFILE)}, stale_seconds=10,
        seats_max=CONSIDERED,
    )  # fmt: skip
    loads = {replica.id: Load() for replica in REPLICAS}
    snapshot = Snapshot({"b": BACKEND}, {}, {}, ("small", "large"))
    for number in range(COUNT * 5):
        found, _ = finder.find(request(number), Scope("m", (BACKEND,)), snapshot, loads, None, 1.0)
        chosen = min(found, key=lambda one: (one.load.attempts, one.replica.id)).replica.id
        loads[chosen] = Load(loads[chosen].attempts + 1)
    assert max(load.attempts for load in loads.values()) <= 7
