"""The cheapest candidate that is predicted to answer well enough and forecast to answer in time.

When: nearly always; it is the default. On leased replicas it goes by what the request adds to the bill (idle capacity costs next
to nothing, a nearly full replica many times its standard price), on metered ones by their price; what a prefix cache holds, and
so what moving a conversation would cost, is in both.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import cheapest_first, quickest_first
from router.domain.decision import Candidate, Choice
from router.domain.fleet import Billing
from router.domain.request import InferenceRequest

ON_TIME = "cheapest at the floor, on time"
LATE = "quickest at the floor, late"
BELOW = "best below the floor"
# Bounds what a quote is taken times where hardly anything is left below the objective.
SLACK_RATIO_MIN = 0.1


class QualityFloor(BaseModel, frozen=True, extra="forbid"):
    """Quality before time, and both before price.

    quality_min: the floor, 0–1. The highest tier's quality is 1; a lower tier's is the probability that its answer is as
    good, less what the classifier does not know of such prompts. With the shipped classifier about half of the prompts of
    kinds that it was trained on reach 0.75, and few others, most of which lie between 0.4 and 0.5.
    ttft_seconds_max: the objective for the time to the first token. tpot_seconds_max: the one for the mean time per token after
    it; none unless it is set. Where it is, what is scarce on a replica of ours is the room below it, long before its slots are:
    its quote is taken times 1 ÷ (the share of the objective that is left), so that what is cheap to buy elsewhere (a prompt that
    is cached nowhere) goes before what is not.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quality", "price", "ttft"})
    reasons: ClassVar[tuple[str, ...]] = (ON_TIME, LATE, BELOW)

    quality_min: float = Field(default=0.75, ge=0, le=1)
    ttft_seconds_max: float = Field(default=2.0, gt=0)
    tpot_seconds_max: float | None = Field(default=None, gt=0)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """On time by quote, then late by time; below the floor come the best first, which is the safe side."""
        on_time: list[Candidate] = []
        late: list[Candidate] = []
        below: list[Candidate] = []
        # Read once: what belongs to a pydantic instance is dear to read, and this is the default policy.
        quality_min, ttft_seconds_max, tpot_seconds_max = self.quality_min, self.ttft_seconds_max, self.tpot_seconds_max
        for candidate in candidates:
            if candidate.quality < quality_min:
                below.append(candidate)
            elif candidate.ttft_seconds <= ttft_seconds_max and (
                tpot_seconds_max is None or candidate.tpot_seconds <= tpot_seconds_max
            ):
                on_time.append(candidate)
            else:
                late.append(candidate)
        if below:
            below = cheapest_first(below)
            below.sort(key=_by_quality)  # stable: equals stay in the order of their quotes
        ranked = cheapest_first(on_time)
        if tpot_seconds_max is not None:
            ranked.sort(key=self._quote_with_room)  # stable
        return [
            *map(Choice, ranked, repeat(ON_TIME)),
            *map(Choice, quickest_first(late), repeat(LATE)),
            *map(Choice, below, repeat(BELOW)),
        ]

    def _quote_with_room(self, candidate: Candidate) -> float:
        if self.tpot_seconds_max is None or candidate.backend.pool.billing is Billing.METERED:
            return candidate.marginal_nanousd
        slack_ratio = 1 - candidate.tpot_seconds / self.tpot_seconds_max
        return candidate.marginal_nanousd / max(slack_ratio, SLACK_RATIO_MIN)


def _by_quality(candidate: Candidate) -> float:
    return -candidate.quality
