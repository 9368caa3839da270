"""The cheapest fleet: by hand where a case is simple enough, against the engine where it is not."""

import dataclasses
import sys

import pytest

from load.drive.result import Objectives
from load.plan.break_even import break_evens
from load.plan.capacity import rate_max, settled_rate, try_out
from load.plan.demand import Demand
from load.plan.fleet import Build, Settled, cheapest, leased, settle
from load.plan.purchase import GpuOffer, TokenOffer, Way
from router.pricing.profile import EngineProfile

# A step takes 10 ms whatever is in it, up to 10 sequences: the arithmetic of a plan can be done by hand.
PLAIN = EngineProfile(
    step_overhead_seconds=0.009,
    weight_read_seconds=0.001,
    kv_read_seconds_per_token=0.0,
    compute_seconds_per_token=1e-9,
    kv_capacity_tokens=100_000,
    sequences_max=10,
)
LENGTHS = [(100, 100)]
LOOSE = Objectives(ttft_seconds_max=60.0, tpot_seconds_max=0.05)
DEMAND = Demand(1.0, 100, 100)


def build(**changes: object) -> Build:
    return dataclasses.replace(Build("m", "g", 1, "bf16", PLAIN, quality=1.0), **changes)  # type: ignore[arg-type]


def test_a_replica_of_ten_places_takes_ten_requests_of_one_second_each_second() -> None:
    # 100 tokens at 10 ms: a request holds a place for a second
    assert rate_max(PLAIN, DEMAND, LOOSE) == pytest.approx(10.0, rel=0.02)


def test_a_replica_takes_nothing_of_what_does_not_fit_its_cache_or_is_always_too_slow() -> None:
    assert rate_max(PLAIN, Demand(1.0, 200_000, 10), LOOSE) == 0.0
    assert rate_max(PLAIN, DEMAND, Objectives(60.0, 0.009)) == 0.0


def test_in_a_trial_the_settled_rate_meets_the_objectives_and_one_a_tenth_above_does_not() -> None:
    objectives = Objectives(0.5, 0.05)
    rate = settled_rate(PLAIN, DEMAND, objectives, LENGTHS)
    assert 0 < rate < 10
    assert try_out(PLAIN, DEMAND, objectives, LENGTHS, rate, 1).attainment_ratio >= 0.99
    assert try_out(PLAIN, DEMAND, objectives, LENGTHS, rate * 1.1, 1).attainment_ratio < 0.99


def test_replicas_are_the_peak_over_what_one_takes_rounded_up() -> None:
    demand = Demand(8.0, 100, 100, peak_ratio=2.0)
    settled = settle(build(), demand, LOOSE, LENGTHS)
    assert settled is not None
    assert settled.replicas == -(-16 // settled.rate) == 2


def test_a_lease_is_paid_all_day_for_every_gpu_of_every_replica() -> None:
    demand = Demand(8.0, 100, 100, peak_ratio=2.0)
    settled = settle(build(gpus=4), demand, LOOSE, LENGTHS)
    assert settled is not None
    plan = leased(settled, GpuOffer("o", "g", Way.ON_DEMAND, 1.5), demand)
    assert plan.usd_per_day == pytest.approx(2 * 4 * 1.5 * 24)
    assert plan.usd_per_million_tokens == pytest.approx(plan.usd_per_day / (8 * 200 * 86_400) * 1e6)
    assert plan.utilization_ratio == pytest.approx(8 / (2 * settled.rate))


def test_a_serverless_replica_is_paid_for_what_the_mean_fills_and_not_for_the_peak() -> None:
    demand = Demand(8.0, 100, 100, peak_ratio=2.0)
    settled = settle(build(), demand, LOOSE, LENGTHS)
    assert settled is not None
    plan = leased(settled, GpuOffer("o", "g", Way.SERVERLESS, 1.0), demand)
    assert plan.usd_per_day == pytest.approx(24 * max(8 / settled.rate, 1.0), rel=1e-3)


def test_the_cheapest_comes_first_and_every_way_of_paying_is_there() -> None:
    offers = [
        GpuOffer("on", "g", Way.ON_DEMAND, 3.0),
        GpuOffer("committed", "g", Way.RESERVED, 1.0),
        GpuOffer("dear", "g", Way.ON_DEMAND, 9.0),
    ]
    tokens = [TokenOffer("a/m", "m", 1.0, 1.0, 1.0)]
    plans = cheapest(DEMAND, LOOSE, [build()], offers, tokens, {"m": 1.0}, LENGTHS, wanted=1)
    # 17.28 M tokens a day: $17.28 bought, $24 and $72 leased
    assert [(plan.way, plan.offer) for plan in plans] == [
        (Way.METERED, "a/m"),
        (Way.RESERVED, "committed"),
        (Way.ON_DEMAND, "on"),
    ]
    assert [plan.usd_per_day for plan in plans] == pytest.approx([17.28, 24.0, 72.0])


def test_of_every_other_way_it_is_the_cheapest_and_not_the_one_whose_bound_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The formula looks at means: what it holds to be cheap may take more replicas once it is tried out."""
    fleet = sys.modules["load.plan.fleet"]
    pairs, fours = build(gpus=2), build(model="m4", gpus=4)
    tried = {2: Settled(pairs, 5, 0.2, 0.1, 0.01, 1.0), 4: Settled(fours, 2, 0.5, 0.1, 0.01, 1.0)}
    monkeypatch.setattr(fleet, "settle", lambda one, *_, **__: tried[one.gpus])
    tokens = [TokenOffer("a/m", "m", 0.01, 0.01, 0.01)]
    offers = [GpuOffer("on", "g", Way.ON_DEMAND, 3.0)]
    plans = cheapest(DEMAND, LOOSE, [pairs, fours], offers, tokens, {"m": 1.0}, LENGTHS, wanted=1)
    assert [(plan.way, plan.usd_per_day) for plan in plans[1:]] == [(Way.ON_DEMAND, 2 * 4 * 3.0 * 24)]


def test_a_quality_floor_leaves_out_what_is_worse_and_what_nobody_measured() -> None:
    demand = Demand(1.0, 100, 100, quality_min=0.9)
    offers = [GpuOffer("on", "g", Way.ON_DEMAND, 3.0)]
    good, bad, unknown = build(), build(model="w", quality=0.8), build(model="u", quality=None)
    tokens = [TokenOffer("a/w", "w", 0.01, 0.01, 0.01), TokenOffer("a/u", "u", 0.01, 0.01, 0.01)]
    plans = cheapest(demand, LOOSE, [bad, unknown, good], offers, tokens, {"w": 0.8}, LENGTHS)
    assert [plan.model for plan in plans] == ["m"]


def test_breaking_even_with_tokens_takes_as_much_as_the_lease_buys_of_them() -> None:
    offers = [GpuOffer("on", "g", Way.ON_DEMAND, 3.0), GpuOffer("committed", "g", Way.RESERVED, 1.0)]
    plans = cheapest(DEMAND, LOOSE, [build()], offers, [TokenOffer("a/m", "m", 1.0, 1.0, 1.0)], {}, LENGTHS)
    by_pair = {(one.cheaper.rpartition(", ")[2], one.other): one for one in break_evens(plans, offers, DEMAND)}
    assert by_pair["committed", "a/m"].value == pytest.approx(24e6)
    assert by_pair["committed", "on"].value == pytest.approx(8.0)


def test_tokens_that_cost_less_than_a_full_replica_are_never_broken_even_with() -> None:
    offers = [GpuOffer("on", "g", Way.ON_DEMAND, 300.0)]
    plans = cheapest(DEMAND, LOOSE, [build()], offers, [TokenOffer("a/m", "m", 1.0, 1.0, 1.0)], {}, LENGTHS)
    [crossing] = break_evens(plans, offers, DEMAND)
    assert crossing.value is None
    assert "any volume" in crossing.note
