"""Spot capacity first, with a share of the traffic kept on what cannot be taken away.

When: spot replicas are there and cheap, and a preemption costs no more than a failover. The share on on-demand keeps replicas
warm that take over when a spot pool goes (SkyServe's SpotHedge keeps a like reserve).
"""

from collections.abc import Sequence
from typing import ClassVar
from zlib import crc32

from pydantic import BaseModel, Field

from policies import cheapest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

SPOT = "cheapest on spot"
STEADY = "cheapest, not on spot"
FLOOR = "kept on on-demand"
LATE = "late, cheapest first"
BELOW = "below the floor, best first"


class SpotFirst(BaseModel, frozen=True, extra="forbid"):
    """on_demand_ratio: the share of requests that goes to capacity that is not spot, chosen by a hash of the request's id.

    ttft_seconds_max: later is late. quality_min: the floor, as `quality_floor` has it; 0 asks nothing of the answer.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"price", "spot", "ttft"})
    reasons: ClassVar[tuple[str, ...]] = (SPOT, STEADY, FLOOR, LATE, BELOW)

    on_demand_ratio: float = Field(default=0.1, ge=0, le=1)
    ttft_seconds_max: float = Field(default=2.0, gt=0)
    quality_min: float = Field(default=0.0, ge=0, le=1)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Spot and then the others, or the other way round; each by quote."""
        spot: list[Candidate] = []
        steady: list[Candidate] = []
        late: list[Candidate] = []
        below: list[Candidate] = []
        for candidate in cheapest_first(candidates):
            if candidate.quality < self.quality_min:
                below.append(candidate)
            elif candidate.ttft_seconds > self.ttft_seconds_max:
                late.append(candidate)
            else:
                (spot if candidate.is_spot else steady).append(candidate)
        below.sort(key=_by_quality)
        rest = [*(Choice(one, LATE) for one in late), *(Choice(one, BELOW) for one in below)]
        on_spot = [Choice(one, SPOT) for one in spot]
        if crc32(request.request_id.encode()) < self.on_demand_ratio * 2**32:
            return [*(Choice(one, FLOOR) for one in steady), *on_spot, *rest]
        return [*on_spot, *(Choice(one, STEADY) for one in steady), *rest]


def _by_quality(candidate: Candidate) -> float:
    return -candidate.quality
