"""Fills replicas that are at work to their target batch, fullest first, so that the others can be switched off.

When: leases can be given back within minutes (scale to zero, spot, on-demand by the second), so that what an idle replica costs
is not sunk. Where they are paid whatever happens, packing saves nothing and `quality_floor` is quicker.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import cheapest_first
from router.domain.decision import Candidate, Choice
from router.domain.fleet import Billing
from router.domain.request import InferenceRequest

WARM = "fullest below its target"
COLD = "idle, the warm ones are full"
METERED = "metered, no lease has room"
OVERFULL = "least overfull"
BELOW = "below the floor"


class Pack(BaseModel, frozen=True, extra="forbid"):
    """fill_ratio_max: up to which a replica is filled before the next, of the batch that it should have.

    ttft_seconds_max: one forecast to answer later counts as overfull. quality_min: the floor, as `quality_floor` has it; 0 packs
    over all tiers.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"price", "ttft"})
    reasons: ClassVar[tuple[str, ...]] = (WARM, COLD, METERED, OVERFULL, BELOW)

    fill_ratio_max: float = Field(default=1.0, gt=0, le=8)
    ttft_seconds_max: float = Field(default=2.0, gt=0)
    quality_min: float = Field(default=0.0, ge=0, le=1)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Idle ones in the order of their standard price and name, so that it is always the same ones that stay idle."""
        groups: dict[str, list[Candidate]] = {reason: [] for reason in self.reasons}
        for candidate in cheapest_first(candidates):
            groups[self._group(candidate)].append(candidate)
        groups[WARM].sort(key=_fullest)
        groups[COLD].sort(key=_always_alike)
        groups[OVERFULL].sort(key=_fill)
        groups[BELOW].sort(key=_worst)
        return [Choice(candidate, reason) for reason, group in groups.items() for candidate in group]

    def _group(self, candidate: Candidate) -> str:
        if candidate.quality < self.quality_min:
            return BELOW
        if candidate.backend.pool.billing is Billing.METERED:
            return METERED
        if candidate.fill_ratio >= self.fill_ratio_max or candidate.ttft_seconds > self.ttft_seconds_max:
            return OVERFULL
        return WARM if candidate.fill_ratio > 0 else COLD


def _fullest(candidate: Candidate) -> tuple[float, str]:
    return -candidate.fill_ratio, candidate.replica.id


def _always_alike(candidate: Candidate) -> tuple[int, str]:
    return candidate.standard_nanousd, candidate.replica.id


def _fill(candidate: Candidate) -> float:
    return candidate.fill_ratio


def _worst(candidate: Candidate) -> float:
    return -candidate.quality
