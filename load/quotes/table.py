"""The errors of quotes over mixes, profiles and loads, as Markdown. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from load.attribution.mixes import Mix
from load.quotes.outcome import Quoted, quoted
from router.pricing.profile import EngineProfile

TTFT_MAX = 0.25
STANDARD_MAX = 0.05
ALLOCATED_MAX = 0.20

REQUESTS = 300
REQUESTS_PER_CLIENT = 6
# The forecasts were tuned on the first, and nothing on the second.
SEEDS = (7, 11)


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of |forecast ÷ outcome − 1| over the requests of one run."""

    profile: str
    mix: str
    clients: int
    ttft: float
    tpot: float
    standard: float
    allocated: float

    @property
    def holds(self) -> bool:
        return self.ttft <= TTFT_MAX and self.standard <= STANDARD_MAX and self.allocated <= ALLOCATED_MAX


def requests_wanted(clients: int) -> int:
    return max(REQUESTS, clients * REQUESTS_PER_CLIENT)


def row(name: str, clients: int, mix: str, found: Sequence[Quoted]) -> Row:
    return Row(
        name,
        mix,
        clients,
        _error(found, lambda one: (one.ttft_forecast_seconds, one.ttft_seconds)),
        _error(found, lambda one: (one.tpot_forecast_seconds, one.tpot_seconds)),
        _error(found, lambda one: (one.standard_quote, one.standard)),
        _error(found, lambda one: (one.allocated_quote, one.allocated)),
    )


def _error(found: Sequence[Quoted], pair: Callable[[Quoted], tuple[float, float]]) -> float:
    return median(abs(forecast / outcome - 1) for forecast, outcome in map(pair, found))


@dataclass(frozen=True, slots=True)
class Table:
    """rows: run by run. pooled, expected: over all requests of all runs, with the completion's length known, and expected."""

    rows: list[Row]
    pooled: Row
    expected: Row


def table(
    profiles: Mapping[str, EngineProfile],
    mixes: Sequence[Mix],
    concurrencies: Sequence[int],
    *,
    seed: int,
    on_row: Callable[[Row], None] = lambda _: None,
) -> Table:
    rows: list[Row] = []
    known: list[Quoted] = []
    expected: list[Quoted] = []
    for name, profile in profiles.items():
        for mix in mixes:
            for clients in concurrencies:
                wanted = requests_wanted(clients)
                found = quoted(profile, mix, clients, wanted, seed=seed)
                known += found
                expected += quoted(profile, mix, clients, wanted, seed=seed, is_length_known=False)
                rows.append(row(name, clients, mix.name, found))
                on_row(rows[-1])
    return Table(rows, row("all", 0, "all", known), row("all", 0, "all", expected))


def page(found: Mapping[int, Table], *, date: str, version: str, data: str) -> str:
    """The page that is committed. found: by seed. data: what the profiles were fitted to."""
    holding = " and in ".join(
        f"{sum(one.holds for one in table.rows)} of {len(table.rows)} runs of seed {seed}"
        for seed, table in found.items()
    )
    lines = [
        "# Quotes against outcomes",
        "",
        f"Written by `jeton quotes --out docs/quote-errors.md` on {date} (jeton {version}). Do not edit.",
        f"The profiles' constants are fitted to: {data}.",
        "",
        "A quote is made when a request is sent, from the engine's profile and the router's own work in flight; then the",
        "engine in time (`load/engine`) serves it, and the meter charges it. Errors are medians of |forecast ÷ outcome − 1|",
        f"over the requests of a run. Forecasts were tuned on runs of seed {SEEDS[0]}, and on no others. Clients ask again 50 ms",
        "after an answer (exponential). How much of a prompt is cached is known to the quote, and how long the completion will",
        "be, as it is where clients bound it; the line *mean expected* says what is left of a quote where it is not.",
        "",
        f"Goals: TTFT ≤ {TTFT_MAX:.0%}, standard cost ≤ {STANDARD_MAX:.0%}, allocated cost ≤ {ALLOCATED_MAX:.0%}.",
        f"They hold in {holding}; **where they do not, the line is bold**.",
        "",
        "| over all runs | seed | TTFT | TPOT | standard | allocated |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| length known | {seed} | {_cells(table.pooled)} |" for seed, table in found.items()]
    lines += [f"| mean expected | {seed} | {_cells(table.expected)} |" for seed, table in found.items()]
    lines += [
        "",
        "A quote takes the present load to stay: for each attempt that ends another like it comes, and its prompt is read while",
        "others decode. Where lengths are not known a completion's cost is as uncertain as its length. What is worst forecast is",
        "TPOT where single long prompts hold up a few short answers (*short and long*), and where clients leave (*aborts*).",
    ]
    for seed, table in found.items():
        lines += [
            "",
            f"## Seed {seed}",
            "",
            "| profile | mix | at once | TTFT | TPOT | standard | allocated |",
            "|---|---|---|---|---|---|---|",
        ]
        for one in table.rows:
            mark = "" if one.holds else "**"
            lines.append(f"| {one.profile} | {mark}{one.mix}{mark} | {one.clients} | {_cells(one)} |")
    return "\n".join(lines) + "\n"


def _cells(one: Row) -> str:
    return " | ".join(f"{value:.1%}" for value in (one.ttft, one.tpot, one.standard, one.allocated))
