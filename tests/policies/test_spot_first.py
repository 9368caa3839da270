"""Spot first, and the share that is kept elsewhere."""

from dataclasses import replace

import pytest

from policies.spot_first import BELOW, FLOOR, LATE, SPOT, STEADY, SpotFirst


def order(ranking) -> list[tuple[str, str]]:
    return [(choice.candidate.replica.id, choice.reason) for choice in ranking]


@pytest.fixture
def fleet(candidate):
    return [
        candidate("owned/0", quote=1),
        candidate("spot/0", quote=9, is_spot=True),
        candidate("spot/1", quote=8, is_spot=True),
        candidate("spot/2", quote=7, is_spot=True, ttft=3.0),
    ]


def test_spot_is_first_whatever_the_others_cost(fleet, request_) -> None:
    expected = [("spot/1", SPOT), ("spot/0", SPOT), ("owned/0", STEADY), ("spot/2", LATE)]
    assert order(SpotFirst(on_demand_ratio=0).rank(request_, fleet)) == expected


def test_what_is_kept_on_on_demand_fails_over_to_spot(fleet, request_) -> None:
    expected = [("owned/0", FLOOR), ("spot/1", SPOT), ("spot/0", SPOT), ("spot/2", LATE)]
    assert order(SpotFirst(on_demand_ratio=1).rank(request_, fleet)) == expected


def test_the_share_is_kept_and_a_request_is_always_on_the_same_side(fleet, request_) -> None:
    policy = SpotFirst(on_demand_ratio=0.25)
    requests = [replace(request_, request_id=f"req_{number:032x}") for number in range(2000)]
    kept = [policy.rank(one, fleet)[0].reason == FLOOR for one in requests]
    assert 0.2 < sum(kept) / len(kept) < 0.3
    assert kept == [policy.rank(one, fleet)[0].reason == FLOOR for one in requests]


def test_below_the_floor_spot_is_no_bargain(candidate, request_) -> None:
    candidates = [candidate("spot/0", is_spot=True, quality=0.5), candidate("owned/0", quote=10**9)]
    ranking = SpotFirst(on_demand_ratio=0, quality_min=0.7).rank(request_, candidates)
    assert order(ranking) == [("owned/0", STEADY), ("spot/0", BELOW)]
