"""The cheapest candidate forecast to meet the objectives for both times; when none is, the one that misses them least.

When: latency is what was promised, and every backend in scope answers well enough (restrict the alias to one tier). Where tiers
differ in quality, `quality_floor` keeps the promise of quality as well.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import cheapest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

WITHIN = "cheapest within the objectives"
BEYOND = "least violation, none within"


class Slo(BaseModel, frozen=True, extra="forbid"):
    """ttft_seconds_max, tpot_seconds_max: the objectives for the time to the first token and the mean time per token after it.

    A violation is measured in multiples of its objective, the worse of the two.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"price", "ttft"})
    reasons: ClassVar[tuple[str, ...]] = (WITHIN, BEYOND)

    ttft_seconds_max: float = Field(default=2.0, gt=0)
    tpot_seconds_max: float = Field(default=0.1, gt=0)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Within the objectives by quote, then the others by their violation."""
        within: list[Candidate] = []
        beyond: list[tuple[float, Candidate]] = []
        for candidate in cheapest_first(candidates):
            violation = max(
                candidate.ttft_seconds / self.ttft_seconds_max, candidate.tpot_seconds / self.tpot_seconds_max
            )
            if violation <= 1:
                within.append(candidate)
            else:
                beyond.append((violation, candidate))
        beyond.sort(key=_violation)
        return [*map(Choice, within, repeat(WITHIN)), *(Choice(candidate, BEYOND) for _, candidate in beyond)]


def _violation(pair: tuple[float, Candidate]) -> float:
    return pair[0]
