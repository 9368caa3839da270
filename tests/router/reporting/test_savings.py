"""Modelled and measured savings are told apart, and the interval is Welch's."""

import random
import statistics

import pytest
from scipy import stats

from router.domain.periods import ArmSums, Outcome, Spent
from router.reporting.savings import counterfactual, measured, t_quantile, welch


def arm(name: str, costs: list[int], own: list[int] | None = None) -> ArmSums:
    own = own or costs
    return ArmSums(
        name,
        "acme",
        len(costs),
        0,
        sum(costs),
        float(sum(cost * cost for cost in costs)),
        sum(own),
        float(sum(cost * cost for cost in own)),
    )


@pytest.mark.parametrize("freedom", [5, 8.3, 30, 100, 1e4, 1e7])
@pytest.mark.parametrize("probability", [0.9, 0.95, 0.975, 0.995])
def test_students_quantile_is_scipys(probability: float, freedom: float) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-5)


def test_the_interval_is_welchs() -> None:
    chance = random.Random(1)
    one, two = [chance.gauss(50, 9) for _ in range(40)], [chance.gauss(30, 3) for _ in range(900)]
    low, high = welch(
        (len(one), statistics.mean(one), statistics.variance(one)),
        (len(two), statistics.mean(two), statistics.variance(two)),
        0.95,
    )
    expected = stats.ttest_ind(one, two, equal_var=False).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-5)


def test_the_measured_saving_is_the_difference_of_means_and_covers_the_truth() -> None:
    chance = random.Random(2)
    covered = 0
    for _ in range(200):
        held = [round(chance.expovariate(1 / 5e6)) for _ in range(200)]
        routed = [round(chance.expovariate(1 / 2e6)) for _ in range(3000)]
        found = measured([arm("holdout", held), arm("routed", routed)], "allocated")
        assert found.saving == pytest.approx(statistics.mean(held) - statistics.mean(routed))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 3e6 <= found.high
    assert covered >= 180  # 95 %, and chance


def test_priced_takes_the_baseline_at_its_price_and_what_was_routed_at_its_cost() -> None:
    held, routed = arm("holdout", [9] * 40, own=[5] * 40), arm("routed", [3] * 40, own=[1] * 40)
    assert measured([held, routed], "priced").saving == 2
    assert measured([held, routed], "allocated").saving == 6


def test_too_few_say_nothing() -> None:
    found = measured([arm("holdout", [5] * 29), arm("routed", [3] * 4000)], "priced")
    assert (found.saving, found.low, found.total, found.held_out) == (None, None, None, 29)


def test_costs_that_are_all_alike_have_an_interval_without_width() -> None:
    found = measured([arm("holdout", [5] * 30), arm("routed", [3] * 30)], "priced")
    assert (found.saving, found.low, found.high) == (2, 2, 2)


def test_a22_the_counterfactual_is_net_of_failed_attempts_lost_ones_and_idle_time() -> None:
    rows = [
        Spent(
            0,
            outcome=Outcome.SERVED,
            attempts=3,
            cost_nanousd=50,
            baseline_nanousd=90,
            compared_nanousd=40,
            compared_attempts=2,
        ),
        Spent(
            0,
            outcome=Outcome.FAILED,
            attempts=1,
            cost_nanousd=7,
            baseline_nanousd=0,
            compared_nanousd=7,
            compared_attempts=1,
        ),
        Spent(0, outcome=Outcome.ROUTER_DIED, attempts=1, cost_nanousd=4),
    ]
    found = counterfactual(rows, idle_nanousd=11)
    assert found.gross == 90 - 47
    assert found.net == 90 - 47 - 4 - 11
    assert (found.compared_attempts, found.uncompared_attempts, found.died_uncompared_attempts) == (3, 2, 1)
