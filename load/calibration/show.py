"""What a profile says, against concurrency: a table, and plots for the terminal."""

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from load.calibration.closed_loop import Bench, Habits, habit_terms, measure
from load.calibration.rows import tokens_per_second
from router.pricing.mix import Mix
from router.pricing.price import LeasedPrice, Purchase
from router.pricing.profile import EngineProfile
from router.pricing.roofline import Coefficients, Deployment
from router.pricing.standard import NANOUSD_PER_USD, standard_rates
from router.profiles import Catalogue

CONCURRENCIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MILLION = 10**6
PLOT_LINES = 14
PLOT_COLUMNS_MAX = 100


class Point(NamedTuple):
    """usd_per_million: what a token of each class costs while the replica does nothing but this, at this concurrency."""

    concurrency: int
    tokens_per_second: float
    ttft_seconds: float
    tpot_seconds: float
    prompt_usd_per_million: float
    cached_usd_per_million: float
    completion_usd_per_million: float
    is_queueing: bool


def points(
    catalogue: Catalogue, deployment: Deployment, prompt_tokens: int, completion_tokens: int, usd_per_hour: float
) -> list[Point]:
    profile = catalogue.profile(deployment)
    habits = _habits(catalogue, deployment)
    price = LeasedPrice("show", round(usd_per_hour * NANOUSD_PER_USD), Purchase.ON_DEMAND)
    found = []
    for concurrency in CONCURRENCIES:
        if concurrency > profile.sequences_max:
            break
        steps = -(-prompt_tokens // profile.chunk_tokens)
        bench: Bench[Any] = Bench(prompt_tokens, completion_tokens, concurrency, 1.0, steps)
        ttft, tpot = measure(_coefficients(profile), float(profile.kv_capacity_tokens), bench, habits)
        full = profile.model_copy(update={"sequences_target": concurrency})
        rates = standard_rates(price, full, 1.0, Mix(prompt_tokens, completion_tokens))
        found.append(
            Point(
                concurrency,
                tokens_per_second(concurrency, completion_tokens, ttft, tpot),
                ttft,
                tpot,
                rates.prompt / NANOUSD_PER_USD,
                rates.cached / NANOUSD_PER_USD,
                rates.completion / NANOUSD_PER_USD,
                concurrency * (prompt_tokens + completion_tokens / 2) > profile.kv_capacity_tokens,
            )
        )
    return found


def shown(
    catalogue: Catalogue,
    deployment: Deployment,
    prompt_tokens: int,
    completion_tokens: int,
    usd_per_hour: float,
    columns: int,
    has_plot: bool,
) -> Iterator[Table | str]:
    found = points(catalogue, deployment, prompt_tokens, completion_tokens, usd_per_hour)
    yield _table(found)
    capacity = catalogue.profile(deployment).kv_capacity_tokens
    yield f"KV cache: {capacity:,} tokens. * more than it holds: requests queue for room."
    if has_plot:
        yield from _plots(found, min(columns, PLOT_COLUMNS_MAX))


def _table(found: list[Point]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name in ("at once", "tokens/s", "TTFT ms", "TPOT ms", "$/M in", "$/M cached", "$/M out"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in found:
        table.add_row(
            f"{point.concurrency}{'*' if point.is_queueing else ''}",
            f"{point.tokens_per_second:,.0f}",
            f"{point.ttft_seconds * 1e3:,.0f}",
            f"{point.tpot_seconds * 1e3:.1f}",
            f"{point.prompt_usd_per_million:.3f}",
            f"{point.cached_usd_per_million:.6f}",
            f"{point.completion_usd_per_million:.3f}",
        )
    return table


def _plots(found: list[Point], columns: int) -> Iterator[str]:
    import plotext  # type: ignore[import-untyped]  # it ships no types

    axis = [point.concurrency for point in found]
    for title, values in (
        ("completion tokens per second", [point.tokens_per_second for point in found]),
        ("TPOT, ms", [point.tpot_seconds * 1e3 for point in found]),
        ("$ per million completion tokens", [point.completion_usd_per_million for point in found]),
    ):
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.plot_size(columns, PLOT_LINES)
        plotext.xscale("log")
        plotext.yscale("log")
        plotext.xticks(axis, [str(one) for one in axis])
        plotext.yticks(ticks := _ticks(values), [_short(tick) for tick in ticks])
        plotext.title(f"{title}, against concurrency")
        plotext.plot(axis, values, marker="braille")
        plotext.scatter(axis, values, marker="o")
        plot: str = plotext.build()
        yield plot


def _ticks(values: list[float]) -> list[float]:
    """1, 2 and 5 in every decade between the least and the greatest."""
    decades = [mantissa * 10.0**power for power in range(-4, 8) for mantissa in (1, 2, 5)]
    inside = [tick for tick in decades if min(values) * 0.8 <= tick <= max(values) * 1.25]
    return inside or [min(values), max(values)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def _coefficients(profile: EngineProfile) -> Coefficients[Any]:
    return Coefficients._make(getattr(profile, name) for name in Coefficients._fields)


def _habits(catalogue: Catalogue, deployment: Deployment) -> Habits[Any]:
    """Of a benchmark on this engine, the version being the one that most of its runs had."""
    constants, fit = catalogue.constants, catalogue.fit_of(deployment)
    terms = habit_terms(deployment.engine, fit.engine_version)
    habits: Habits[Any] = Habits._make(prod(constants.get(name, 1.0) for name in names) for names in terms)
    return habits._replace(
        request_seconds=habits.request_seconds * fit.correction.request,
        request_token_seconds=habits.request_token_seconds * fit.correction.request,
    )
