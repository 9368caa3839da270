"""The highest tier, whatever the prompt: quality at any price, and the usual baseline of savings.

When: to compare with, or where nothing but the best will do and somebody else pays.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel

from policies import cheapest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

REASON = "highest tier first"


class AlwaysLarge(BaseModel, frozen=True, extra="forbid"):
    """By tier, the highest first, and by quote within a tier; lower tiers are there for failover."""

    needs: ClassVar[frozenset[str]] = frozenset({"price"})
    reasons: ClassVar[tuple[str, ...]] = (REASON,)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Of equal tier and quote the least busy first."""
        ranked = cheapest_first(candidates)
        ranked.sort(key=_by_tier)  # stable: within a tier the order of the quotes stays
        return [Choice(candidate, REASON) for candidate in ranked]


def _by_tier(candidate: Candidate) -> int:
    return -candidate.tier_level
