"""A plan as tables and as JSON. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from load.drive.result import Objectives
from load.plan.break_even import BreakEven
from load.plan.demand import Demand
from load.plan.fleet import Plan
from load.plan.purchase import Way

# The busiest minute of Azure's conversation trace of 2023-11-16 ÷ its mean.
PEAK_RATIO = 1.54


def shown(
    demand: Demand,
    objectives: Objectives,
    attainment_min: float,
    plans: Sequence[Plan],
    crossings: Sequence[BreakEven],
    unused: Sequence[str],
) -> Iterator[Table | str]:
    yield (
        f"{demand.tokens_per_day / 1e6:,.1f} M tokens a day: {demand.requests_per_second:,.2f} requests/s of"
        f" {demand.prompt_tokens:,.0f} + {demand.completion_tokens:,.0f} tokens, {demand.peak_per_second:,.2f}/s at the peak;"
        f" {attainment_min:.0%} with TTFT ≤ {objectives.ttft_seconds_max:g} s and TPOT ≤"
        f" {1000 * (objectives.tpot_seconds_max or 0):g} ms"
    )
    table = Table(box=SIMPLE_HEAD)
    for heading in ("fleet", "paid"):
        table.add_column(heading, no_wrap=True)
    for heading in ("replicas", "$/day", "$/year", "$/M tokens", "used", "TTFT p99", "TPOT p99", "quality"):
        table.add_column(heading, justify="right", no_wrap=True)
    for plan in plans:
        table.add_row(*_row(plan))
    yield table
    if any(plan.settled is not None and not plan.settled.build.is_measured for plan in plans):
        yield "* never measured: the word of the roofline (`jeton profile show`)."
    if any(plan.way is Way.SPOT for plan in plans):
        yield "Spot is taken away at times; what then serves instead is not in its price."
    if crossings:
        table = Table(box=SIMPLE_HEAD, title="break-even points", title_justify="left")
        for heading in ("cheaper", "than", "from", "", ""):
            table.add_column(heading, justify="right" if heading == "from" else "left")
        for one in crossings:
            value = (
                "never"
                if one.value is None
                else f"{one.value:,.1f}"
                if one.value < 1e5
                else f"{one.value / 1e6:,.1f} M"
            )
            table.add_row(one.cheaper, one.other, value, "" if one.value is None else one.unit, one.note)
        yield table
    if unused:
        yield f"Prices without a profile, or not in force: {', '.join(unused)}."


def _row(plan: Plan) -> list[str]:
    settled = plan.settled
    mark = "" if settled is None or settled.build.is_measured else " *"
    replicas = (
        "–" if settled is None else f"{plan.replicas:,.2f}" if plan.way is Way.SERVERLESS else f"{plan.replicas:,.0f}"
    )
    return [
        plan.label + mark,
        plan.offer,
        replicas,
        f"{plan.usd_per_day:,.2f}",
        f"{plan.usd_per_year:,.0f}",
        f"{plan.usd_per_million_tokens:.4f}",
        "–" if plan.utilization_ratio is None else f"{plan.utilization_ratio:.0%}",
        "–" if settled is None else f"{settled.ttft_seconds_p99:.2f} s",
        "–" if settled is None else f"{1000 * settled.tpot_seconds_p99:.0f} ms",
        "?" if plan.quality is None else f"{plan.quality:.2f}",
    ]


def told(
    demand: Demand,
    objectives: Objectives,
    attainment_min: float,
    plans: Sequence[Plan],
    crossings: Sequence[BreakEven],
) -> dict[str, Any]:
    return {
        "demand": {
            "tokens_per_day": demand.tokens_per_day,
            "requests_per_second": demand.requests_per_second,
            "prompt_tokens": demand.prompt_tokens,
            "completion_tokens": demand.completion_tokens,
            "peak_ratio": demand.peak_ratio,
            "cached_ratio": demand.cached_ratio,
            "quality_min": demand.quality_min,
        },
        "objectives": {
            "ttft_seconds_max": objectives.ttft_seconds_max,
            "tpot_seconds_max": objectives.tpot_seconds_max,
            "attainment_ratio_min": attainment_min,
        },
        "plans": [_told(plan) for plan in plans],
        "break_even_points": [one._asdict() for one in crossings],
    }


def _told(plan: Plan) -> Mapping[str, Any]:
    settled = plan.settled
    build = None if settled is None else settled.build
    return {
        "way": plan.way.value,
        "price": plan.offer,
        "model": plan.model,
        "gpu": None if build is None else build.gpu,
        "gpus_per_replica": None if build is None else build.gpus,
        "quantization": None if build is None else build.quantization,
        "replicas": None if build is None else plan.replicas,
        "usd_per_day": plan.usd_per_day,
        "usd_per_year": plan.usd_per_year,
        "usd_per_million_tokens": plan.usd_per_million_tokens,
        "utilization_ratio": plan.utilization_ratio,
        "requests_per_second_of_a_replica": None if settled is None else settled.rate,
        "ttft_seconds_p99": None if settled is None else settled.ttft_seconds_p99,
        "tpot_seconds_p99": None if settled is None else settled.tpot_seconds_p99,
        "quality": plan.quality,
        "is_measured": None if build is None else build.is_measured,
    }
