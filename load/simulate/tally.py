"""What is remembered of a run: sums, and distributions in buckets of one per cent. As large for a million requests as for ten."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, floor, log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from load.drive.result import Objectives

# Bounds of neighbouring buckets differ by 1 %, so a percentile is told to half of that.
STEP = log(1.01)
SECONDS_MIN = 1e-6
BUCKET_MIN, BUCKET_MAX = (floor(log(seconds) / STEP) for seconds in (SECONDS_MIN, 1e9))
# Where each bucket after the first begins.
BOUNDS = np.array([exp(bucket * STEP) for bucket in range(BUCKET_MIN + 1, BUCKET_MAX + 1)])
# What is added up is rounded to this first: sums of whole numbers do not depend on their order.
SUM_UNIT = 1e-9


class Distribution:
    """Seconds, in buckets."""

    __slots__ = ("_buckets", "_total", "count", "maximum")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._total = 0  # in SUM_UNIT
        self.count = 0
        self.maximum = 0.0

    def add(self, seconds: NDArray[np.float64]) -> None:
        if not len(seconds):
            return
        counts = np.bincount(np.searchsorted(BOUNDS, seconds, side="right"))
        for place in np.flatnonzero(counts).tolist():
            self._buckets[BUCKET_MIN + place] += int(counts[place])
        self.count += len(seconds)
        self._total += _sum(seconds)
        self.maximum = max(self.maximum, float(seconds.max()))

    @property
    def mean(self) -> float | None:
        return self._total * SUM_UNIT / self.count if self.count else None

    def percentile(self, rank: float) -> float | None:
        """The middle of the bucket in which this share of the values ends, rank 0–100; None of nothing."""
        wanted = max(1, -int(-self.count * rank // 100))
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(self.maximum, exp((bucket + 0.5) * STEP))
        return None

    def steps(self) -> list[tuple[float, float]]:
        """The cumulative distribution: (seconds, the share of the values up to there), bucket by bucket."""
        found, seen = [], 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            found.append((min(self.maximum, exp((bucket + 1) * STEP)), seen / self.count))
        return found

    def told(self) -> dict[str, Any]:
        """In milliseconds, as `load/drive/result.py` tells them."""
        if not self.count:
            return {"unit": "ms", "count": 0}
        ranks = {f"p{rank}": 1000 * (self.percentile(rank) or 0.0) for rank in (5, 25, 50, 75, 90, 95, 99)}
        return {
            "unit": "ms",
            "count": self.count,
            "avg": 1000 * (self.mean or 0.0),
            "max": 1000 * self.maximum,
            **ranks,
        }


class Answer(NamedTuple):
    """One whole answer. quality: predicted, of what was chosen."""

    due_seconds: float
    first_seconds: float
    ended_seconds: float
    backend: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_nanousd: int
    is_metered: bool
    quality: float


@dataclass(slots=True)
class Tally:
    """Of the requests that were counted (not those due in the warm-up).

    refused: requests that got no whole answer, by reason. retries: attempts after one that failed.
    useful_nanousd: the allocated cost of what was served on leased replicas; metered_nanousd: what was bought by the token;
    lost_nanousd: what attempts cost that failed.
    quality: the sum of the predicted quality of what was chosen, relative to the highest tier (1.0).
    Whatever the order in which answers are added, the figures are the same.
    """

    objectives: Objectives = field(default_factory=Objectives)
    requests: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    met: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    useful_nanousd: int = 0
    metered_nanousd: int = 0
    lost_nanousd: int = 0
    retries: int = 0
    ttft: Distribution = field(default_factory=Distribution)
    tpot: Distribution = field(default_factory=Distribution)
    latency: Distribution = field(default_factory=Distribution)
    backends: Counter[str] = field(default_factory=Counter)
    first_due_seconds: float | None = None
    last_ended_seconds: float = 0.0
    _quality: int = 0  # in SUM_UNIT

    def answered(self, answers: Sequence[Answer]) -> None:
        if not answers:
            return
        due, first, ended, backends, prompt, cached, completion, costs, are_metered, quality = zip(
            *answers, strict=True
        )
        first_due_seconds = min(due)
        if self.first_due_seconds is None or first_due_seconds < self.first_due_seconds:
            self.first_due_seconds = first_due_seconds
        self.last_ended_seconds = max(self.last_ended_seconds, *ended)
        self.requests += len(answers)
        self.prompt_tokens += sum(prompt)
        self.cached_tokens += sum(cached)
        self.completion_tokens += sum(completion)
        metered_nanousd = sum(cost for cost, is_metered in zip(costs, are_metered, strict=True) if is_metered)
        self.metered_nanousd += metered_nanousd
        self.useful_nanousd += sum(costs) - metered_nanousd
        self._quality += _sum(np.array(quality))
        self.backends.update(backends)
        due_seconds, first_seconds, ended_seconds = np.array(due), np.array(first), np.array(ended)
        gaps = np.array(completion) - 1
        tpot = np.where(gaps > 0, (ended_seconds - first_seconds) / np.maximum(gaps, 1), 0.0)
        ttft, latency = first_seconds - due_seconds, ended_seconds - due_seconds
        self.ttft.add(ttft)
        self.latency.add(latency)
        self.tpot.add(tpot[gaps > 0])
        self.met += self.objectives.count_kept(ttft, tpot, latency)

    @property
    def quality(self) -> float:
        return self._quality * SUM_UNIT

    @property
    def duration_seconds(self) -> float:
        return self.last_ended_seconds - self.first_due_seconds if self.first_due_seconds is not None else 0.0

    @property
    def due(self) -> int:
        """All that was counted, refused requests too."""
        return self.requests + self.refused.total()


def _sum(values: NDArray[np.float64]) -> int:
    """In SUM_UNIT."""
    return int(np.rint(values / SUM_UNIT).astype(np.int64).sum())
