"""Spends a daily budget where quality gains most per dollar.

When: there is a sum to spend and not a floor to keep: the cheapest answer is always affordable, and better ones are bought for
the prompts that gain most by them. It needs to know how many requests a day brings; what it learns is the exchange rate.
"""

from collections.abc import Sequence
from math import exp
from typing import ClassVar

from pydantic import BaseModel, Field, PrivateAttr

from policies import on_time_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

CHEAPEST = "cheapest, the gain is too dear"
BOUGHT = "gains enough for its price"
OTHER = "next by gain"

NANOUSD_PER_USD = 10**9
# How far the rate moves (of its logarithm) for a request that costs once more than the mean: it follows hours, not prompts.
STEP = 0.02
OVER_MAX = 50.0
# It stays where an answer's whole quality is worth between a millionth of a dollar and a thousand.
RATE_MIN, RATE_MAX = 1e-3, 1e6


class DailyBudget(BaseModel, frozen=True, extra="forbid"):
    """usd_per_day over requests_per_day is what a request may cost on average (by its standard quote). What is forecast to begin
    later than ttft_seconds_max comes last, whatever it is worth.

    It buys an upgrade where quality rises by at least λ per dollar. Whenever a choice costs more than the average, λ rises, and
    falls when it costs less: a controller without a clock, which holds the mean wherever the prompts of the day allow it.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"price", "quality", "ttft"})
    reasons: ClassVar[tuple[str, ...]] = (BOUGHT, CHEAPEST, OTHER)

    usd_per_day: float = Field(default=100.0, gt=0)
    requests_per_day: int = Field(default=100_000, gt=0)
    ttft_seconds_max: float = Field(default=2.0, gt=0)

    _rates: list[float] = PrivateAttr(default_factory=lambda: [1.0])  # λ, quality per dollar

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """By quality less λ × price, so that the order is the failover order too."""
        if not candidates:
            return []
        rate = self._rates[0]
        cheapest = min(candidate.standard_nanousd for candidate in candidates)
        worth = [
            (
                candidate.ttft_seconds > self.ttft_seconds_max,
                rate * candidate.standard_nanousd / NANOUSD_PER_USD - candidate.quality,
                candidate,
            )
            for candidate in on_time_first(candidates, self.ttft_seconds_max)
        ]
        worth.sort(key=_loss)
        first = worth[0][2]
        mean_nanousd = self.usd_per_day / self.requests_per_day * NANOUSD_PER_USD
        over = min(first.standard_nanousd / mean_nanousd - 1, OVER_MAX)
        self._rates[0] = min(max(rate * exp(STEP * over), RATE_MIN), RATE_MAX)
        reason = BOUGHT if first.standard_nanousd > cheapest else CHEAPEST
        return [Choice(first, reason), *(Choice(candidate, OTHER) for *_, candidate in worth[1:])]


def _loss(worth: tuple[bool, float, Candidate]) -> tuple[bool, float]:
    return worth[0], worth[1]
