"""What routing saved, told two ways that are never mixed.

**Counterfactual** (modelled): every attempt carries, decided with its cost, what the same tokens would have cost at the
baseline's backend, at its own price basis. Against it stands all that was really paid: served attempts, failed ones (the
baseline would not have made them), shadows, attempts lost in a crash, and idle time. Attempts whose baseline has no price are
left out on both sides and counted. It assumes that the baseline's model needs the same tokens, for nothing here knows better:
the classifier predicts one length of answer, whichever model writes it.

**Hold-out** (measured): chance (a hash of the request's id) sends a share of the requests for `auto` to the baseline. The
saving per request is the mean of what held-out requests cost less the mean of what routed ones cost, failed attempts included,
with Welch's confidence interval for two means of unequal variance. Nothing is assumed about tokens. Requests that could not be
served by the baseline stay in the arm that chance put them in (intention to treat), or the arms would differ. Two bases:

- `priced`: held-out requests at the baseline's own price basis (tokens × standard price on a lease), routed ones at what they
  really cost. That is what the counterfactual compares, too.
- `allocated`: what each really cost, on both sides. A leased baseline that serves nothing but the hold-out runs in thin
  batches, which flatters routing. On a metered baseline the two are one.

Idle time belongs to no request, so it is in no mean; the report takes it off the sum.
"""

from collections.abc import Iterable
from math import expm1, pi, sqrt
from statistics import NormalDist
from typing import NamedTuple

from router.domain.attempt import Outcome
from router.domain.periods import ARM_REQUESTS_MIN, Arm, ArmSums, Spent

CONFIDENCE = 0.95


class Counterfactual(NamedTuple):
    """Nano-dollars. uncompared: attempts that have no cost at the baseline. died_uncompared: those of them that were lost when a
    process died, whose tokens are not known whatever the baseline's price; the others have a price missing."""

    baseline: int
    compared: int
    compared_attempts: int
    uncompared_attempts: int
    idle: int
    lost_uncompared: int
    died_uncompared_attempts: int = 0

    @property
    def gross(self) -> int:
        """Net of failed attempts."""
        return self.baseline - self.compared

    @property
    def net(self) -> int:
        """Net of failed and lost attempts, and of idle time."""
        return self.gross - self.lost_uncompared - self.idle


class Measured(NamedTuple):
    """Nano-dollars per request; None where there are too few requests to say."""

    basis: str
    held_out: int
    routed: int
    unpriced: int
    held_out_mean: float
    routed_mean: float
    saving: float | None
    low: float | None
    high: float | None

    @property
    def total(self) -> float | None:
        """Over the requests that were routed."""
        return None if self.saving is None else self.saving * self.routed


def counterfactual(spent: Iterable[Spent], idle_nanousd: int) -> Counterfactual:
    """spent: at least by outcome."""
    baseline = compared = compared_attempts = attempts = lost_uncompared = died_uncompared = 0
    for row in spent:
        baseline += row.baseline_nanousd
        compared += row.compared_nanousd
        compared_attempts += row.compared_attempts
        attempts += row.attempts
        if row.is_lost:
            lost_uncompared += row.cost_nanousd - row.compared_nanousd
        if row.outcome == Outcome.ROUTER_DIED:
            died_uncompared += row.attempts - row.compared_attempts
    return Counterfactual(
        baseline,
        compared,
        compared_attempts,
        attempts - compared_attempts,
        idle_nanousd,
        lost_uncompared,
        died_uncompared,
    )


def measured(arms: Iterable[ArmSums], basis: str, confidence: float = CONFIDENCE) -> Measured:
    """basis: `priced` or `allocated`."""
    sums = {Arm.ROUTED: [0, 0, 0, 0.0], Arm.HOLDOUT: [0, 0, 0, 0.0]}
    for one in arms:
        entry = sums[Arm(one.arm)]
        own = basis == "priced" and one.arm == Arm.HOLDOUT
        entry[0] += one.requests
        entry[1] += one.unpriced
        entry[2] += one.own_nanousd if own else one.allocated_nanousd
        entry[3] += one.own_squares if own else one.allocated_squares
    (n1, unpriced1, sum1, squares1), (n2, unpriced2, sum2, squares2) = sums[Arm.HOLDOUT], sums[Arm.ROUTED]
    mean1, mean2 = (sum1 / n1 if n1 else 0.0), (sum2 / n2 if n2 else 0.0)
    base = (basis, int(n1), int(n2), int(unpriced1 + unpriced2), mean1, mean2)
    if min(n1, n2) < ARM_REQUESTS_MIN:
        return Measured(*base, None, None, None)
    low, high = welch(
        (int(n1), mean1, _variance(n1, sum1, squares1)), (int(n2), mean2, _variance(n2, sum2, squares2)), confidence
    )
    return Measured(*base, mean1 - mean2, low, high)


def welch(one: tuple[int, float, float], two: tuple[int, float, float], confidence: float) -> tuple[float, float]:
    """The confidence interval of the difference of two means, each with (number, mean, variance). (Welch 1947.)"""
    (n1, mean1, variance1), (n2, mean2, variance2) = one, two
    part1, part2 = variance1 / n1, variance2 / n2
    error = part1 + part2
    difference = mean1 - mean2
    if error == 0:
        return difference, difference
    freedom = error**2 / (part1**2 / (n1 - 1) + part2**2 / (n2 - 1))
    reach = t_quantile((1 + confidence) / 2, freedom) * sqrt(error)
    return difference - reach, difference + reach


def t_quantile(probability: float, freedom: float) -> float:
    """Of Student's t, for probabilities above one half and 5 or more degrees of freedom, to five digits.

    Hill's algorithm 396 (CACM 13, 1970), whose expansion starts from the normal quantile.
    """
    two_tailed = 2 * (1 - probability)
    a = 1 / (freedom - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * sqrt(a * pi / 2) * freedom
    y = (d * two_tailed) ** (2 / freedom)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(two_tailed / 2)
        y = x**2
        if freedom < 5:
            c += 0.3 * (freedom - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = a * y**2
        y = y + y**2 / 2 if y <= 0.002 else expm1(y)
    else:
        y = (
            (1 / (((freedom + 6) / (freedom * y) - 0.089 * d - 0.822) * (freedom + 2) * 3) + 0.5 / (freedom + 4)) * y
            - 1
        ) * (freedom + 1) / (freedom + 2) + 1 / y
    return sqrt(freedom * y)


def _variance(number: float, total: float, squares: float) -> float:
    """Of a sample. Not below zero, which rounding could make of costs that are all alike."""
    return max(squares - total * total / number, 0.0) / (number - 1)
