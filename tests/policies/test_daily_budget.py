"""What a mean is spent on."""

from policies.daily_budget import BOUGHT, CHEAPEST, DailyBudget

NANOUSD = 10**9


def spent(policy, candidate, request_, gains) -> float:
    """The mean of what is chosen, nano-dollars: a small one for 100, a large one for 1,100, which is better by each gain."""
    costs = []
    for gain in gains:
        candidates = [
            candidate("small/0", level=0, quote=100, quality=1 - gain),
            candidate("large/0", quote=1100, quality=1.0),
        ]
        costs.append(policy.rank(request_, candidates)[0].candidate.standard_nanousd)
    return sum(costs[len(costs) // 2 :]) / (len(costs) - len(costs) // 2)


def gains(count: int) -> list[float]:
    return [(number * 37 % 100) / 100 for number in range(count)]


def test_the_mean_is_what_the_budget_allows(candidate, request_) -> None:
    for mean in (300, 600, 900):
        policy = DailyBudget(usd_per_day=mean * 1000 / NANOUSD, requests_per_day=1000)
        assert abs(spent(policy, candidate, request_, gains(6000)) - mean) < 0.12 * mean


def test_it_goes_to_those_that_gain_most(candidate, request_) -> None:
    policy = DailyBudget(usd_per_day=600 * 1000 / NANOUSD, requests_per_day=1000)
    spent(policy, candidate, request_, gains(4000))
    for gain, reason in ((0.95, BOUGHT), (0.05, CHEAPEST)):
        pair = [candidate("small/0", level=0, quote=100, quality=1 - gain), candidate("large/0", quote=1100)]
        assert policy.rank(request_, pair)[0].reason == reason


def test_nothing_is_saved_that_the_budget_would_have_paid(candidate, request_) -> None:
    policy = DailyBudget(usd_per_day=10_000, requests_per_day=1000)
    assert spent(policy, candidate, request_, gains(2000)) > 1050


def test_what_would_come_late_comes_last(candidate, request_) -> None:
    pair = [candidate("full/0", quote=1, ttft=9.0), candidate("cloud/0", quote=10**9)]
    assert DailyBudget().rank(request_, pair)[0].candidate.replica.id == "cloud/0"


def test_at_equal_quality_the_cheapest_is_taken_at_any_budget(candidate, request_) -> None:
    pair = [candidate("dear/0", quote=900), candidate("cheap/0", quote=1)]
    assert DailyBudget(usd_per_day=1e6).rank(request_, pair)[0].candidate.replica.id == "cheap/0"
