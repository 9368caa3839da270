"""What is remembered of a run: sums, and distributions in buckets of one per cent. As large for a million requests as for ten."""

from collections import Counter
from dataclasses import dataclass, field
from math import exp, floor, log
from typing import Any

from load.drive.result import Objectives

# Bounds of neighbouring buckets differ by 1 %, so a percentile is told to half of that.
STEP = log(1.01)
SECONDS_MIN = 1e-6


class Distribution:
    """Seconds, in buckets."""

    __slots__ = ("_buckets", "count", "maximum", "total")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0
        self.maximum = 0.0

    def add(self, seconds: float) -> None:
        self._buckets[floor(log(seconds if seconds > SECONDS_MIN else SECONDS_MIN) / STEP)] += 1
        self.count += 1
        self.total += seconds
        if seconds > self.maximum:
            self.maximum = seconds

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    def percentile(self, rank: float) -> float | None:
        """The middle of the bucket in which this share of the values ends, rank 0–100; None of nothing."""
        wanted = max(1, -int(-self.count * rank // 100))
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(self.maximum, exp((bucket + 0.5) * STEP))
        return None

    def share_up_to(self, seconds: float) -> float:
        """Of the values, those in buckets that end by then, 0–1."""
        last = floor(log(max(seconds, SECONDS_MIN)) / STEP)
        return (
            sum(count for bucket, count in self._buckets.items() if bucket < last) / self.count if self.count else 0.0
        )

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


@dataclass(slots=True)
class Tally:
    """Of the requests that were counted (not those due in the warm-up).

    refused: requests that got no whole answer, by reason. retries: attempts after one that failed.
    useful_nanousd: the allocated cost of what was served on leased replicas; metered_nanousd: what was bought by the token;
    lost_nanousd: what attempts cost that failed.
    quality: the sum of the predicted quality of what was chosen, relative to the highest tier (1.0).
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
    quality: float = 0.0
    ttft: Distribution = field(default_factory=Distribution)
    tpot: Distribution = field(default_factory=Distribution)
    latency: Distribution = field(default_factory=Distribution)
    backends: Counter[str] = field(default_factory=Counter)
    first_due_seconds: float | None = None
    last_ended_seconds: float = 0.0

    def answered(
        self,
        *,
        due_seconds: float,
        first_seconds: float,
        ended_seconds: float,
        backend: str,
        prompt_tokens: int,
        cached_tokens: int,
        completion_tokens: int,
        cost_nanousd: int,
        is_metered: bool,
        quality: float,
    ) -> None:
        if self.first_due_seconds is None or due_seconds < self.first_due_seconds:
            self.first_due_seconds = due_seconds
        self.last_ended_seconds = max(self.last_ended_seconds, ended_seconds)
        self.requests += 1
        self.prompt_tokens += prompt_tokens
        self.cached_tokens += cached_tokens
        self.completion_tokens += completion_tokens
        if is_metered:
            self.metered_nanousd += cost_nanousd
        else:
            self.useful_nanousd += cost_nanousd
        self.quality += quality
        self.backends[backend] += 1
        ttft, latency = first_seconds - due_seconds, ended_seconds - due_seconds
        tpot = (ended_seconds - first_seconds) / (completion_tokens - 1) if completion_tokens > 1 else 0.0
        self.ttft.add(ttft)
        self.latency.add(latency)
        if completion_tokens > 1:
            self.tpot.add(tpot)
        wanted = self.objectives
        self.met += (
            (wanted.ttft_seconds_max is None or ttft <= wanted.ttft_seconds_max)
            and (wanted.tpot_seconds_max is None or tpot <= wanted.tpot_seconds_max)
            and (wanted.latency_seconds_max is None or latency <= wanted.latency_seconds_max)
        )

    @property
    def duration_seconds(self) -> float:
        return self.last_ended_seconds - self.first_due_seconds if self.first_due_seconds is not None else 0.0

    @property
    def due(self) -> int:
        """All that was counted, refused requests too."""
        return self.requests + self.refused.total()
