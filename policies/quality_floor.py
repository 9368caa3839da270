"""The cheapest candidate that is predicted to answer well enough and forecast to answer in time.

When: nearly always; it is the default. On leased replicas it goes by what the request adds to the bill (idle capacity costs next
to nothing, a nearly full replica many times its standard price), on metered ones by their price; what a prefix cache holds, and
so what moving a conversation would cost, is in both.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import ALIKE_RATIO, TPOT_SCATTER_RATIO, cheapest_first, soonest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

ON_TIME = "cheapest at the floor, on time"
NEARLY = "cheapest at the floor, hardly later"
LATE = "soonest at the floor, late"
BELOW = "best below the floor"


class QualityFloor(BaseModel, frozen=True, extra="forbid"):
    """Quality before time, and both before price.

    quality_min: the floor, 0–1. The highest tier's quality is 1; a lower tier's is the probability that its answer is as
    good, less what the classifier does not know of such prompts; either times the backend's quality_ratio. With the shipped
    classifier about half of the prompts of kinds that it was trained on reach 0.75, and few others, most of which lie between
    0.4 and 0.5.
    ttft_seconds_max: the objective for the time to the first token. Where even the quickest is forecast to miss it, or nearly,
    what is hardly later (ALIKE_RATIO) counts as on time: the forecasts do not tell them apart, the prices do.
    tpot_seconds_max: the objective for the mean time per token after it; none unless it is set. Forecasts must be that much
    better that nine answers in ten keep it (TPOT_SCATTER_RATIO).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quality", "price", "ttft"})
    reasons: ClassVar[tuple[str, ...]] = (ON_TIME, NEARLY, LATE, BELOW)

    quality_min: float = Field(default=0.75, ge=0, le=1)
    ttft_seconds_max: float = Field(default=2.0, gt=0)
    tpot_seconds_max: float | None = Field(default=None, gt=0)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """On time by quote, then late by time; below the floor come the best first, which is the safe side."""
        on_time: list[Candidate] = []
        late: list[Candidate] = []
        below: list[Candidate] = []
        # Read once: what belongs to a pydantic instance is dear to read, and this is the default policy.
        quality_min, ttft_seconds_max, tpot_seconds_max = (
            self.quality_min,
            self.ttft_seconds_max,
            self._tpot_seconds_max(),
        )
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
        nearly: list[Candidate] = []
        if late:
            nearly, late = self._nearly_on_time(on_time, late)
        return [
            *(
                Choice(one, ON_TIME if one.ttft_seconds <= ttft_seconds_max else NEARLY)
                for one in cheapest_first(on_time + nearly)
            ),
            *map(Choice, soonest_first(late), repeat(LATE)),
            *map(Choice, below, repeat(BELOW)),
        ]

    def _tpot_seconds_max(self) -> float | None:
        """Of a forecast."""
        return None if self.tpot_seconds_max is None else self.tpot_seconds_max / TPOT_SCATTER_RATIO

    def _nearly_on_time(
        self, on_time: Iterable[Candidate], late: Iterable[Candidate]
    ) -> tuple[list[Candidate], list[Candidate]]:
        """Of those that are late, those that are hardly later than the quickest of all, and the others."""
        latest_seconds = ALIKE_RATIO * min(candidate.ttft_seconds for candidate in (*on_time, *late))
        tpot_seconds_max = self._tpot_seconds_max()
        nearly: list[Candidate] = []
        others: list[Candidate] = []
        for candidate in late:
            is_slow = tpot_seconds_max is not None and candidate.tpot_seconds > tpot_seconds_max
            (others if is_slow or candidate.ttft_seconds > latest_seconds else nearly).append(candidate)
        return nearly, others


def _by_quality(candidate: Candidate) -> float:
    return -candidate.quality
