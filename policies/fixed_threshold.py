"""The lowest tier where it is predicted to do, else the highest: a baseline, and how two-model routers decide.

When: to compare with (RouteLLM and its kind). It looks at the prompt alone: neither at what a tier costs at this moment nor at
how long it would take.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import cheapest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

SMALL = "small, above the threshold"
LARGE = "large, below the threshold"


class FixedThreshold(BaseModel, frozen=True, extra="forbid"):
    """threshold: the predicted quality of the lowest tier from which on it is asked, 0–1."""

    needs: ClassVar[frozenset[str]] = frozenset({"price", "tiers"})
    reasons: ClassVar[tuple[str, ...]] = (SMALL, LARGE)

    threshold: float = Field(default=0.75, ge=0, le=1)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Tier by tier, upwards or downwards; within a tier by list price, of equals the least busy."""
        if not candidates:
            return []
        lowest = min(map(_tier, candidates))
        is_small = max(one.quality for one in candidates if one.tier_level == lowest) >= self.threshold
        ranked = sorted(cheapest_first(candidates), key=_busy)
        ranked.sort(key=_list_price)
        ranked.sort(key=_tier, reverse=not is_small)
        return [Choice(candidate, SMALL if is_small else LARGE) for candidate in ranked]


def _tier(candidate: Candidate) -> int:
    return candidate.tier_level


def _list_price(candidate: Candidate) -> int:
    return candidate.list_nanousd_per_million


def _busy(candidate: Candidate) -> int:
    return candidate.load.attempts
