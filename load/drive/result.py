"""What was seen, in figures. Pure; every figure's formula stands here.

Names are those of AIPerf's `profile_export_aiperf.json` where it has the figure, so that its users find them; units stand
beside each, and times are milliseconds there as they are in AIPerf.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from load.drive.outcome import Outcome

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Objectives:
    """What a good answer keeps, seconds; None: whatever."""

    ttft_seconds_max: float | None = None
    tpot_seconds_max: float | None = None
    latency_seconds_max: float | None = None

    @property
    def are_any(self) -> bool:
        return (self.ttft_seconds_max, self.tpot_seconds_max, self.latency_seconds_max) != (None, None, None)

    def are_met_by(self, outcome: Outcome) -> bool:
        """By an answer that really finished. What was not seen (TTFT of a whole answer) is taken to be its end."""
        if not outcome.is_ok:
            return False
        ttft, latency = outcome.ttft_seconds, outcome.latency_seconds
        return self.are_kept(latency if ttft is None else ttft, outcome.tpot_seconds or 0.0, latency)

    def are_kept(self, ttft_seconds: float, tpot_seconds: float, latency_seconds: float) -> bool:
        """tpot_seconds: 0 where there was but one token."""
        return (
            (self.ttft_seconds_max is None or ttft_seconds <= self.ttft_seconds_max)
            and (self.tpot_seconds_max is None or tpot_seconds <= self.tpot_seconds_max)
            and (self.latency_seconds_max is None or latency_seconds <= self.latency_seconds_max)
        )

    def count_kept(
        self, ttft_seconds: NDArray[np.float64], tpot_seconds: NDArray[np.float64], latency_seconds: NDArray[np.float64]
    ) -> int:
        """How many of several answers keep them, each as in `are_kept`."""
        limits = (
            (self.ttft_seconds_max, ttft_seconds),
            (self.tpot_seconds_max, tpot_seconds),
            (self.latency_seconds_max, latency_seconds),
        )
        kept = np.ones(len(ttft_seconds), bool)
        for limit, seconds in limits:
            if limit is not None:
                kept &= seconds <= limit
        return int(kept.sum())


def spread_of(values: Sequence[float], unit: str) -> dict[str, Any]:
    """Mean, spread and percentiles (linear between neighbours)."""
    if not values:
        return {"unit": unit, "count": 0}
    array = np.asarray(values)
    figures = {
        f"p{rank}": float(value) for rank, value in zip(PERCENTILES, np.percentile(array, PERCENTILES), strict=True)
    }
    return {
        "unit": unit, "count": len(values), "avg": float(array.mean()), "min": float(array.min()),
        "max": float(array.max()), "std": float(array.std()), **figures,
    }  # fmt: skip


def figures(
    outcomes: Sequence[Outcome],
    objectives: Objectives,
    *,
    warmup_seconds: float,
    price: Callable[[Outcome], int | None] | None = None,
) -> dict[str, Any]:
    """All figures of a run. Requests that were due in the warm-up load the server and are not counted.

    price: what a request cost, nano-dollars, where the server does not say.

    - benchmark_duration: from the first counted request's due time to the last counted answer.
    - request_throughput: finished answers ÷ duration; output_token_throughput: their completion tokens ÷ duration.
    - time_to_first_token: first text − due. request_latency: end − due. inter_token_latency (TPOT): (end − first text) ÷
      (completion tokens − 1), one value a request. inter_chunk_latency (ITL): every gap between a stream's pieces.
    - goodput: finished answers within all objectives ÷ duration. slo_attainment_ratio: those ÷ all requests, failed ones too.
    - cost: of the requests whose cost is known; how many those are stands beside it. An unknown cost is not zero.
    """
    counted = [one for one in outcomes if one.scheduled_seconds >= warmup_seconds]
    good = [one for one in counted if one.is_ok]
    began = min((one.scheduled_seconds for one in counted), default=0.0)
    duration = max((one.ended_seconds for one in counted), default=began) - began
    met = sum(map(objectives.are_met_by, counted))
    costs = [cost for one in counted if (cost := _cost(one, price)) is not None]
    completion_tokens = sum(one.completion_tokens or 0 for one in good)

    def per_second(amount: float) -> float:
        return amount / duration if duration > 0 else 0.0

    def milliseconds(read: Callable[[Outcome], float | None]) -> dict[str, Any]:
        return spread_of([1000 * value for one in good if (value := read(one)) is not None], "ms")

    found: dict[str, Any] = {
        "request_count": {"unit": "requests", "avg": len(good)},
        "error_request_count": {"unit": "requests", "avg": len(counted) - len(good)},
        "benchmark_duration": {"unit": "sec", "avg": duration},
        "request_throughput": {"unit": "requests/sec", "avg": per_second(len(good))},
        "output_token_throughput": {"unit": "tokens/sec", "avg": per_second(completion_tokens)},
        "time_to_first_token": milliseconds(lambda one: one.ttft_seconds),
        "inter_token_latency": milliseconds(lambda one: one.tpot_seconds),
        "inter_chunk_latency": spread_of([1000 * gap for one in good for gap in one.gaps_seconds], "ms"),
        "request_latency": milliseconds(lambda one: one.latency_seconds),
        "dispatch_delay": spread_of([1000 * (one.sent_seconds - one.scheduled_seconds) for one in counted], "ms"),
        "input_sequence_length": spread_of(
            [one.prompt_tokens for one in good if one.prompt_tokens is not None], "tokens"
        ),
        "output_sequence_length": spread_of(
            [one.completion_tokens for one in good if one.completion_tokens is not None], "tokens"
        ),
        "cached_tokens_ratio": {"unit": "ratio", "avg": _cached_ratio(good)},
        "errors": dict(Counter(one.error for one in counted if one.error).most_common()),
        "backends": dict(Counter(one.backend for one in good if one.backend).most_common()),
        "cost": {
            "unit": "USD",
            "requests_with_known_cost": len(costs),
            "requests_without": len(counted) - len(costs),
            "total": sum(costs) / 1e9,
            "per_1000_requests": sum(costs) / len(costs) / 1e6 if costs else None,
            "per_million_output_tokens": _per_million(counted, price),
        },
    }
    if objectives.are_any:
        found["goodput"] = {"unit": "requests/sec", "avg": per_second(met)}
        found["slo_attainment_ratio"] = {"unit": "ratio", "avg": met / len(counted) if counted else 0.0}
    return found


def _cost(one: Outcome, price: Callable[[Outcome], int | None] | None) -> int | None:
    return one.cost_nanousd if one.cost_nanousd is not None or price is None else price(one)


def _per_million(counted: Sequence[Outcome], price: Callable[[Outcome], int | None] | None) -> float | None:
    """Dollars of the requests of which both are known, by their completion tokens."""
    known = [
        (cost, one.completion_tokens)
        for one in counted
        if one.completion_tokens and (cost := _cost(one, price)) is not None
    ]
    return sum(cost for cost, _ in known) / sum(tokens for _, tokens in known) / 1000 if known else None


def _cached_ratio(good: Sequence[Outcome]) -> float | None:
    prompts = [(one.prompt_tokens, one.cached_tokens) for one in good if one.prompt_tokens]
    return sum(cached for _, cached in prompts) / sum(tokens for tokens, _ in prompts) if prompts else None


def rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures that people look at first, for a table."""

    def times(name: str) -> str:
        one = found[name]
        return f"{one['p50']:,.0f} / {one['p99']:,.0f} ms" if one["count"] else "–"

    cost = found["cost"]
    listed = [
        ("requests answered", f"{found['request_count']['avg']:,}"),
        ("requests failed", _named(found["error_request_count"]["avg"], found["errors"])),
        ("requests/s", f"{found['request_throughput']['avg']:.2f}"),
        ("output tokens/s", f"{found['output_token_throughput']['avg']:,.0f}"),
        ("TTFT p50 / p99", times("time_to_first_token")),
        ("TPOT p50 / p99", times("inter_token_latency")),
        ("latency p50 / p99", times("request_latency")),
        ("sent late p50 / p99", times("dispatch_delay")),
    ]
    if "goodput" in found:
        listed.append(("goodput", f"{found['goodput']['avg']:.2f} requests/s"))
        listed.append(("within the objectives", f"{found['slo_attainment_ratio']['avg']:.1%}"))
    if cost["requests_with_known_cost"]:
        unknown = f", {cost['requests_without']:,} unknown" if cost["requests_without"] else ""
        listed.append(("cost", f"${cost['total']:.6f}{unknown}"))
        listed.append(("$ per 1,000 requests", f"{cost['per_1000_requests']:.6f}"))
        if cost["per_million_output_tokens"] is not None:
            listed.append(("$ per million output tokens", f"{cost['per_million_output_tokens']:.6f}"))
    return listed


def _named(number: int, kinds: Mapping[str, int]) -> str:
    return f"{number:,}" + (f" ({', '.join(f'{kind} {count:,}' for kind, count in kinds.items())})" if kinds else "")
