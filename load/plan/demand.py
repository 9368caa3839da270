"""What is to be served: how much, how long, how unevenly, how well. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from load.traces import Arrival, Trace

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Demand:
    """requests_per_second: the mean of a day. peak_ratio: the busiest time that is planned for ÷ the mean. cached_ratio: of the
    prompt's tokens, those that a prefix cache holds. quality_min: of an answer, relative to the best model considered; 0–1.

    Raises ValueError for what cannot be.
    """

    requests_per_second: float
    prompt_tokens: float
    completion_tokens: float
    peak_ratio: float = 1.0
    cached_ratio: float = 0.0
    quality_min: float = 0.0

    def __post_init__(self) -> None:
        if not (self.requests_per_second > 0 and isfinite(self.requests_per_second)):
            raise ValueError(f"{self.requests_per_second:g} requests a second are nothing to plan for")
        if self.prompt_tokens < 1 or self.completion_tokens < 1:
            raise ValueError("a request has at least one prompt token and one completion token")
        if self.peak_ratio < 1:
            raise ValueError(f"the peak is at least the mean: a ratio of {self.peak_ratio:g} is below 1")
        if not 0 <= self.cached_ratio < 1:
            raise ValueError(f"a cached ratio of {self.cached_ratio:g} is not within 0 to 1 (exclusive)")
        if not 0 <= self.quality_min <= 1:
            raise ValueError(f"a quality of {self.quality_min:g} is not within 0 to 1")

    @property
    def tokens(self) -> float:
        """Of a request, prompt and completion."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def tokens_per_day(self) -> float:
        return self.requests_per_second * self.tokens * SECONDS_PER_DAY

    @property
    def peak_per_second(self) -> float:
        return self.requests_per_second * self.peak_ratio


def requests_per_second(tokens_per_day: float, prompt_tokens: float, completion_tokens: float) -> float:
    """Of a number of tokens a day, prompts and completions together."""
    return tokens_per_day / SECONDS_PER_DAY / (prompt_tokens + completion_tokens)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a trace says of a demand. peak_ratio: its busiest minute ÷ the mean; 1 for a trace of less than two minutes."""

    requests_per_second: float
    prompt_tokens: float
    completion_tokens: float
    peak_ratio: float


def shape_of(trace: Trace) -> Shape:
    """Raises ValueError for a trace of one request or one moment: it has no rate."""
    arrivals = trace.arrivals
    if trace.seconds <= 0:
        raise ValueError("all its requests come at one moment: it has no rate")
    mean = len(arrivals) / trace.seconds
    began = arrivals[0].seconds
    minutes: dict[int, int] = {}
    for one in arrivals:
        minute = int((one.seconds - began) / 60)
        minutes[minute] = minutes.get(minute, 0) + 1
    whole = int(trace.seconds / 60)
    counts = [count for minute, count in minutes.items() if minute < whole]
    return Shape(
        mean,
        sum(one.prompt_tokens for one in arrivals) / len(arrivals),
        sum(one.completion_tokens for one in arrivals) / len(arrivals),
        max(1.0, max(counts, default=0) / (mean * 60)) if whole >= 2 else 1.0,
    )


def lengths_like(shaped: Sequence[Arrival], prompt_tokens: float, completion_tokens: float) -> list[tuple[int, int]]:
    """Prompt and completion of requests that vary as those of a trace do, and have these means."""
    prompt_scale = prompt_tokens * len(shaped) / sum(one.prompt_tokens for one in shaped)
    completion_scale = completion_tokens * len(shaped) / sum(one.completion_tokens for one in shaped)
    return [
        (max(1, round(one.prompt_tokens * prompt_scale)), max(1, round(one.completion_tokens * completion_scale)))
        for one in shaped
    ]
