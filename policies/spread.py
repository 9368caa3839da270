"""Keeps all leased replicas equally full, measured by the batch that each should have; buys tokens when all are overfull.

When: the leases are paid whatever happens and latency matters more than the last cent: every request decodes in the thinnest
batch there is. Unlike `least_busy` it knows that an H100 at ten sequences is idler than an L4 at five.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import cheapest_first
from router.domain.decision import Candidate, Choice
from router.domain.fleet import Billing
from router.domain.request import InferenceRequest

LEASED = "least full"
METERED = "metered, all leases are overfull"
OVERFULL = "least overfull"


class Spread(BaseModel, frozen=True, extra="forbid"):
    """fill_ratio_max: above it a leased replica comes behind what is bought by the token."""

    needs: ClassVar[frozenset[str]] = frozenset({"price"})
    reasons: ClassVar[tuple[str, ...]] = (LEASED, METERED, OVERFULL)

    fill_ratio_max: float = Field(default=1.5, gt=0, le=8)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """By fill; of equally full ones the cheapest, the least busy, by name."""
        groups: dict[str, list[Candidate]] = {reason: [] for reason in self.reasons}
        for candidate in cheapest_first(candidates):
            if candidate.backend.pool.billing is Billing.METERED:
                groups[METERED].append(candidate)
            else:
                groups[LEASED if candidate.fill_ratio < self.fill_ratio_max else OVERFULL].append(candidate)
        groups[LEASED].sort(key=_fill)
        groups[OVERFULL].sort(key=_fill)
        return [Choice(candidate, reason) for reason, group in groups.items() for candidate in group]


def _fill(candidate: Candidate) -> float:
    return candidate.fill_ratio
