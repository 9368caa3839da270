"""The baselines: one tier, in turn, by chance, by load, by list price, by marginal cost, by a threshold."""

from collections import Counter
from dataclasses import replace

import pytest

from policies.always_large import AlwaysLarge
from policies.always_small import AlwaysSmall
from policies.fixed_threshold import LARGE, SMALL, FixedThreshold
from policies.least_busy import LeastBusy
from policies.lowest_list_price import LowestListPrice
from policies.marginal_cost import MarginalCost
from policies.power_of_two import PowerOfTwo
from policies.round_robin import RoundRobin
from policies.uniform_random import UniformRandom


def order(ranking) -> list[str]:
    return [choice.candidate.replica.id for choice in ranking]


@pytest.fixture
def tiers(candidate):
    return [
        candidate("small/0", level=0, quote=10),
        candidate("large/0", level=2, quote=900),
        candidate("large/1", level=2, quote=900, attempts=0),
        candidate("cloud/0", level=2, quote=300),
        candidate("middle/0", level=1, quote=5),
    ]


def test_always_large_goes_down_the_tiers_and_by_quote_within_one(tiers, request_) -> None:
    assert order(AlwaysLarge().rank(request_, tiers)) == ["cloud/0", "large/0", "large/1", "middle/0", "small/0"]


def test_always_small_goes_up_the_tiers_and_by_quote_within_one(tiers, request_) -> None:
    assert order(AlwaysSmall().rank(request_, tiers)) == ["small/0", "middle/0", "cloud/0", "large/0", "large/1"]


@pytest.mark.parametrize("policy", [AlwaysLarge(), AlwaysSmall()])
def test_equal_replicas_of_a_tier_share_the_work(policy, candidate, request_) -> None:
    equals = [candidate("a/0", attempts=3), candidate("a/1", attempts=1), candidate("a/2", attempts=2)]
    assert order(policy.rank(request_, equals)) == ["a/1", "a/2", "a/0"]


def test_least_busy_counts_attempts_then_waiting_prompt_then_the_quote(candidate, request_) -> None:
    candidates = [
        candidate("a/0", attempts=2),
        candidate("b/0", attempts=1, prefill=500),
        candidate("c/0", attempts=1, prefill=20, quote=9),
        candidate("d/0", attempts=1, prefill=20, quote=8),
        candidate("e/0", attempts=0, quote=10**9),
    ]
    assert order(LeastBusy().rank(request_, candidates)) == ["e/0", "d/0", "c/0", "b/0", "a/0"]


def test_round_robin_gives_every_replica_its_turn(candidate, request_) -> None:
    policy = RoundRobin()
    candidates = [candidate("b/0"), candidate("a/0"), candidate("a/1")]
    assert [order(policy.rank(request_, candidates))[0] for _ in range(6)] == ["a/0", "a/1", "b/0"] * 2


def test_round_robin_fails_over_in_turn(candidate, request_) -> None:
    policy = RoundRobin()
    candidates = [candidate("a/0"), candidate("a/1"), candidate("a/2")]
    policy.rank(request_, candidates)
    assert order(policy.rank(request_, candidates)) == ["a/1", "a/2", "a/0"]


def test_round_robin_is_fair_to_two_kinds_of_requests_that_alternate(candidate, request_) -> None:
    policy = RoundRobin()
    chats = [candidate("a/0"), candidate("a/1")]
    embeddings = [candidate("e/0"), candidate("e/1")]
    first = [order(policy.rank(request_, kind))[0] for _ in range(4) for kind in (chats, embeddings)]
    assert sorted(first) == ["a/0", "a/0", "a/1", "a/1", "e/0", "e/0", "e/1", "e/1"]


def test_round_robin_lets_a_replica_that_comes_back_have_its_turn_and_no_more(candidate, request_) -> None:
    policy = RoundRobin()
    both = [candidate("a/0"), candidate("a/1")]
    for _ in range(10):
        policy.rank(request_, both[1:])
    assert [order(policy.rank(request_, both))[0] for _ in range(4)] == ["a/0", "a/1", "a/0", "a/1"]


def test_two_routers_do_not_share_a_turn(candidate, request_) -> None:
    candidates = [candidate("a/0"), candidate("a/1")]
    assert order(RoundRobin().rank(request_, candidates)) == order(RoundRobin().rank(request_, candidates))


def test_marginal_cost_looks_at_nothing_but_the_quote(candidate, request_) -> None:
    candidates = [
        candidate("good/0", quote=3),
        candidate("bad/0", quote=1, quality=0.0, ttft=99.0),
        candidate("free/0", quote=0, ttft=100.0),
    ]
    assert order(MarginalCost().rank(request_, candidates)) == ["free/0", "bad/0", "good/0"]


def test_the_lowest_list_price_is_a_sum_of_rates_whatever_the_request_costs(candidate, request_) -> None:
    candidates = [
        candidate("a/0", quote=1, list_nanousd_per_million=900),
        candidate("b/0", quote=900, list_nanousd_per_million=100, attempts=2),
        candidate("b/1", quote=900, list_nanousd_per_million=100, attempts=1),
        candidate("free/0", quote=900, list_nanousd_per_million=0),
    ]
    assert order(LowestListPrice().rank(request_, candidates)) == ["free/0", "b/1", "b/0", "a/0"]


@pytest.mark.parametrize(
    ("quality", "expected", "reason"),
    [
        (0.75, ["small/0", "large/0", "large/1"], SMALL),
        (0.74, ["large/0", "large/1", "small/0"], LARGE),
    ],
)
def test_a_fixed_threshold_looks_at_the_prompt_and_never_at_load_or_price_now(
    candidate, request_, quality, expected, reason
) -> None:
    candidates = [
        candidate("small/0", level=0, quality=quality, quote=10**9, ttft=99.0, list_nanousd_per_million=5),
        candidate("large/0", list_nanousd_per_million=10),
        candidate("large/1", list_nanousd_per_million=20, quote=1),
    ]
    ranking = FixedThreshold().rank(request_, candidates)
    assert order(ranking) == expected
    assert {choice.reason for choice in ranking} == {reason}


def chosen(policy, candidates, request_, count: int) -> Counter[str]:
    requests = (replace(request_, request_id=f"req_{number:032x}") for number in range(count))
    return Counter(order(policy.rank(one, candidates))[0] for one in requests)


def test_random_gives_every_replica_an_equal_chance(candidate, request_) -> None:
    found = chosen(UniformRandom(), [candidate(f"a/{number}") for number in range(4)], request_, 4000)
    assert all(900 < count < 1100 for count in found.values())
    assert len(found) == 4


def test_power_of_two_never_takes_the_busiest_and_takes_the_idlest_half_of_the_time(candidate, request_) -> None:
    found = chosen(PowerOfTwo(), [candidate(f"a/{number}", attempts=number) for number in range(4)], request_, 4000)
    assert set(found) == {"a/0", "a/1", "a/2"}
    assert 1800 < found["a/0"] < 2200  # 3 of 6 pairs
