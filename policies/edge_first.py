"""The edge as long as it has room and answers in time, then the central pools, then the cloud.

When: traffic should stay near its users (latency, transit, data that should not travel), and the edge is paid anyway. Each ring
is by quote within itself; what is below the quality floor comes last, nearest first.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import cheapest_first
from router.domain.decision import Candidate, Choice
from router.domain.fleet import PoolKind
from router.domain.request import InferenceRequest

NEAR = "at the edge, with room"
CENTRAL = "central, the edge is full"
CLOUD = "cloud, our own is full"
FULL = "late or overfull, nearest first"
BELOW = "below the floor, nearest first"
RINGS = {PoolKind.EDGE: NEAR, PoolKind.CENTRAL: CENTRAL, PoolKind.CLOUD: CLOUD}
DISTANCES = {PoolKind.EDGE: 0, PoolKind.CENTRAL: 1, PoolKind.CLOUD: 2}


class EdgeFirst(BaseModel, frozen=True, extra="forbid"):
    """A ring is left when its replicas are fuller than fill_ratio_max (of the batch that they should have) or forecast to answer
    later than ttft_seconds_max. quality_min: the floor, as `quality_floor` has it; 0 asks nothing of the answer."""

    needs: ClassVar[frozenset[str]] = frozenset({"edge", "price", "ttft"})
    reasons: ClassVar[tuple[str, ...]] = (NEAR, CENTRAL, CLOUD, FULL, BELOW)

    ttft_seconds_max: float = Field(default=2.0, gt=0)
    fill_ratio_max: float = Field(default=1.0, gt=0, le=8)
    quality_min: float = Field(default=0.0, ge=0, le=1)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Ring by ring, each by quote."""
        groups: dict[str, list[Candidate]] = {reason: [] for reason in self.reasons}
        for candidate in cheapest_first(candidates):
            if candidate.quality < self.quality_min:
                groups[BELOW].append(candidate)
            elif candidate.ttft_seconds > self.ttft_seconds_max or candidate.fill_ratio > self.fill_ratio_max:
                groups[FULL].append(candidate)
            else:
                groups[RINGS[candidate.backend.pool.kind]].append(candidate)
        groups[FULL].sort(key=_distance)
        groups[BELOW].sort(key=_distance)
        return [Choice(candidate, reason) for reason, group in groups.items() for candidate in group]


def _distance(candidate: Candidate) -> int:
    return DISTANCES[candidate.backend.pool.kind]
