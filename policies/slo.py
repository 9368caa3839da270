"""The cheapest candidate forecast to meet the objectives for both times; when none is, the one that misses them least.

When: latency is what was promised, and every backend in scope answers well enough (restrict the alias to one tier). Where tiers
differ in quality, `quality_floor` keeps the promise of quality as well.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import ALIKE_RATIO, TPOT_SCATTER_RATIO, cheapest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

WITHIN = "cheapest within the objectives"
NEARLY = "cheapest near the least violation"
BEYOND = "least violation, none within"


class Slo(BaseModel, frozen=True, extra="forbid"):
    """ttft_seconds_max, tpot_seconds_max: the objectives for the time to the first token and the mean time per token after it.

    A violation is measured in multiples of its objective, the worse of the two; of the time per token with what is asked in hand
    so that nine answers in ten keep it (TPOT_SCATTER_RATIO). One that hardly exceeds the least (ALIKE_RATIO)
    is no worse: the forecasts do not tell them apart, the prices do.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"price", "ttft"})
    reasons: ClassVar[tuple[str, ...]] = (WITHIN, NEARLY, BEYOND)

    ttft_seconds_max: float = Field(default=2.0, gt=0)
    tpot_seconds_max: float = Field(default=0.1, gt=0)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Within the objectives, or nearly, by quote, then the others by their violation."""
        ranked = cheapest_first(candidates)
        ttft_seconds_max, tpot_seconds_max = self.ttft_seconds_max, self.tpot_seconds_max / TPOT_SCATTER_RATIO
        violations = [max(one.ttft_seconds / ttft_seconds_max, one.tpot_seconds / tpot_seconds_max) for one in ranked]
        alike = max(1.0, ALIKE_RATIO * min(violations, default=1.0))
        within: list[Choice] = []
        beyond: list[tuple[float, Candidate]] = []
        for violation, candidate in zip(violations, ranked, strict=True):
            if violation <= alike:
                within.append(Choice(candidate, WITHIN if violation <= 1 else NEARLY))
            else:
                beyond.append((violation, candidate))
        beyond.sort(key=_violation)
        return [*within, *(Choice(candidate, BEYOND) for _, candidate in beyond)]


def _violation(pair: tuple[float, Candidate]) -> float:
    return pair[0]
