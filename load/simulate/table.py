"""Runs of several policies as one table, and which of them nobody beats. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from load.simulate.fleet import Bill
from load.simulate.hindsight import Bounds
from load.simulate.scenario import Simulation
from load.simulate.tally import Tally

# Student's t for 97.5 %, by degrees of freedom; beyond, the normal's.
T_975 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
NORMAL_975 = 1.96


@dataclass(frozen=True, slots=True)
class Figure:
    """The mean over seeds, and the half-width of its 95 % interval (None of a single seed)."""

    mean: float
    half_width: float | None

    def __str__(self) -> str:
        return f"{self.mean:.6g}" if self.half_width is None else f"{self.mean:.6g} ± {self.half_width:.2g}"


# What is better: less (-1) or more (1); the figures that the front is made of.
FRONT = {"usd_per_1000_requests": -1, "quality": 1, "ttft_seconds_p99": -1, "goodput_per_second": 1}


def figures(tally: Tally, bill: Bill, limits: Bounds | None = None) -> dict[str, float]:
    """Of one run. Dollars are those of the bill: leased hours, busy or not, and tokens that were bought.

    - usd_per_1000_requests: (leased bill + metered) ÷ answered requests.
    - refused: requests without a whole answer; usd_lost: of the bill, what attempts cost that failed.
    - usd_used_per_1000_requests: the same without what of the leased hours nobody used.
    - usd_per_million_tokens: the bill ÷ prompt and completion tokens.
    - usd_bound, usd_bound_any_fleet: what the same answers, at the same quality, must have cost (`hindsight.py`), with this
      fleet's leases and with any; to_gain_ratio: what of the bill is above it.
    - goodput_per_second: answers within the objectives ÷ duration; attainment_ratio: those ÷ all requests, refused ones too.
    """
    total = bill.leased_nanousd + tally.metered_nanousd
    answered = max(1, tally.requests)
    tokens = max(1, tally.prompt_tokens + tally.completion_tokens)
    found: dict[str, float] = {}
    if limits is not None:
        with_fleet, with_any = bill.leased_nanousd + limits.metered_nanousd, limits.total_nanousd
        found = {
            "usd_bound": with_fleet / 1e9,
            "usd_bound_any_fleet": with_any / 1e9,
            "to_gain_ratio": 1 - with_fleet / total if total else 0.0,
            "to_gain_any_fleet_ratio": 1 - with_any / total if total else 0.0,
        }
    return found | {
        "requests": tally.requests,
        "refused": tally.refused.total(),
        "retries": tally.retries,
        "usd_total": total / 1e9,
        "usd_leased": bill.leased_nanousd / 1e9,
        "usd_idle": bill.idle_nanousd / 1e9,
        "usd_metered": tally.metered_nanousd / 1e9,
        "usd_lost": tally.lost_nanousd / 1e9,
        "usd_per_1000_requests": total / answered / 1e6,
        "usd_used_per_1000_requests": (total - bill.idle_nanousd) / answered / 1e6,
        "usd_per_million_tokens": total / tokens / 1e3,
        "ttft_seconds_p50": tally.ttft.percentile(50) or 0.0,
        "ttft_seconds_p99": tally.ttft.percentile(99) or 0.0,
        "tpot_seconds_p50": tally.tpot.percentile(50) or 0.0,
        "latency_seconds_p50": tally.latency.percentile(50) or 0.0,
        "latency_seconds_p99": tally.latency.percentile(99) or 0.0,
        "goodput_per_second": tally.met / tally.duration_seconds if tally.duration_seconds else 0.0,
        "attainment_ratio": tally.met / max(1, tally.due),
        "quality": tally.quality / answered,
        "cached_ratio": tally.cached_tokens / max(1, tally.prompt_tokens),
    }


def over_seeds(runs: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    found = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        half = None
        if len(values) > 1:
            freedom = len(values) - 1
            t = T_975[freedom - 1] if freedom <= len(T_975) else NORMAL_975
            half = t * stdev(values) / sqrt(len(values))
        found[name] = Figure(fmean(values), half)
    return found


def front(policies: Mapping[str, Mapping[str, Figure]]) -> set[str]:
    """Those of which no other is at least as good in every figure of FRONT and better in one."""

    def beats(one: Mapping[str, Figure], other: Mapping[str, Figure]) -> bool:
        gains = [sign * (one[name].mean - other[name].mean) for name, sign in FRONT.items()]
        return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)

    return {
        name
        for name, mine in policies.items()
        if not any(beats(other, mine) for key, other in policies.items() if key != name)
    }


COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("$ / 1,000 requests", "usd_per_1000_requests", "{:.4f}"),
    ("of it used", "usd_used_per_1000_requests", "{:.4f}"),
    ("$ / million tokens", "usd_per_million_tokens", "{:.4f}"),
    ("TTFT p50 s", "ttft_seconds_p50", "{:.3f}"),
    ("TTFT p99 s", "ttft_seconds_p99", "{:.3f}"),
    ("goodput/s", "goodput_per_second", "{:.2f}"),
    ("in time", "attainment_ratio", "{:.1%}"),
    ("quality", "quality", "{:.3f}"),
)


# Only where bounds were asked for.
BOUND_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("to gain by routing", "to_gain_ratio", "{:.1%}"),
    ("and by the fleet", "to_gain_any_fleet_ratio", "{:.1%}"),
)


def columns(policies: Mapping[str, Mapping[str, Figure]]) -> tuple[tuple[str, str, str], ...]:
    """Heading, figure and form of each."""
    has_bounds = all("to_gain_ratio" in found for found in policies.values())
    return COLUMNS + BOUND_COLUMNS if has_bounds else COLUMNS


def rows(policies: Mapping[str, Mapping[str, Figure]]) -> list[list[str]]:
    """The cheapest first; a star for those that nobody beats."""
    shown = columns(policies)
    best = front(policies)
    ordered = sorted(policies.items(), key=lambda item: item[1]["usd_per_1000_requests"].mean)
    return [
        [f"{name}{' *' if name in best else ''}", *(_shown(found[key], form) for _, key, form in shown)]
        for name, found in ordered
    ]


def _shown(figure: Figure, form: str) -> str:
    text = form.format(figure.mean)
    return text if figure.half_width is None else f"{text} ± {form.format(figure.half_width)}"


def told(policies: Mapping[str, Mapping[str, Figure]]) -> dict[str, Any]:
    """For JSON."""
    best = front(policies)
    return {
        name: {
            "is_on_the_front": name in best,
            **{key: {"mean": figure.mean, "half_width_95": figure.half_width} for key, figure in found.items()},
        }
        for name, found in policies.items()
    }


def told_of_one(done: Simulation) -> dict[str, Any]:
    """One run, for JSON. Dollars of a backend: its leases, and what of them nobody used."""
    tally, bill = done.tally, done.bill
    return {
        "figures": figures(tally, bill, done.bounds),
        "refused": dict(sorted(tally.refused.items())),
        "happened": dict(sorted(done.happened.items())),
        "seconds": done.seconds,
        "ttft": tally.ttft.told(),
        "tpot": tally.tpot.told(),
        "latency": tally.latency.told(),
        "backends": {
            name: {
                "answers": tally.backends[name],
                "usd_leased": bill.by_backend.get(name, (0, 0))[0] / 1e9,
                "usd_idle": bill.by_backend.get(name, (0, 0))[1] / 1e9,
            }
            for name in sorted({*tally.backends, *bill.by_backend})
        },
    }
