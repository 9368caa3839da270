"""The lowest tier, whatever the prompt: the least that the fleet can spend, whatever the answers are worth.

When: to compare with, or where any answer will do.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel

from policies import cheapest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

REASON = "lowest tier first"


class AlwaysSmall(BaseModel, frozen=True, extra="forbid"):
    """By tier, the lowest first, and by quote within a tier; higher tiers are there for failover."""

    needs: ClassVar[frozenset[str]] = frozenset({"price"})
    reasons: ClassVar[tuple[str, ...]] = (REASON,)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Of equal tier and quote the least busy first."""
        ranked = cheapest_first(candidates)
        ranked.sort(key=_by_tier)  # stable: within a tier the order of the quotes stays
        return [Choice(candidate, REASON) for candidate in ranked]


def _by_tier(candidate: Candidate) -> int:
    return candidate.tier_level
