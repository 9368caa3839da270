"""`jeton prices show`: what is in force, how old it is and where it was read; of named prices, what was in force when."""

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.config import RouterConfig
from router.config_shape import check_shape, read_shape
from router.config_source import ConfigRefused, read_source
from router.domain.money import NANOUSD_PER_USD
from router.pricing.book import AnyRow, LeasedPrice, PriceBook, PriceMissing
from router.pricing.freshness import standing

COLUMNS = 160
DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--config", type=click.Path(path_type=Path), default=Path("router.yaml"), show_default=True,
    help="The configuration that names the price book.",
)  # fmt: skip
@click.option("--prices", "path", type=click.Path(path_type=Path), help="The price book, instead of router.yaml's.")
@click.option("--date", "moment", type=DAY, help="Another day than today (UTC).")
@click.pass_context
def show(ctx: click.Context, names: tuple[str, ...], config: Path, path: Path | None, moment: datetime | None) -> None:
    """Show the prices in force with their age and source; of the NAMES given, every row and when it was in force.

    Exits with 1 when a name is unknown or the price book cannot be read.
    """
    now = moment.replace(tzinfo=UTC) if moment is not None else datetime.now(UTC)
    try:
        if path is None:
            path = config.parent / check_shape(read_source(config), RouterConfig).prices
        book = read_shape(path, PriceBook)
        for name in names:
            if name not in book.prices:
                book.row_in_force(name, now.date())  # says which names are near
    except ConfigRefused as refusal:
        click.echo(str(refusal), err=True)
        ctx.exit(1)
    except PriceMissing as error:
        raise click.ClickException(str(error.args[0])) from None
    console = Console(file=sys.stdout, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = COLUMNS
    console.print(_history(book, names) if names else _in_force(book, now))


def _in_force(book: PriceBook, now: datetime) -> Table:
    table = _table("price", "US dollars", "since", "age", "state", "source")
    for name in sorted(book.prices):
        one = standing(book, name, now.timestamp())
        if one.age_seconds is None:
            table.add_row(name, "–", "–", "–", one.state.value, one.why)
            continue
        row = book.row_in_force(name, now.date())
        age = f"{int(one.age_seconds // 86_400)} d"
        feed = book.feed_of(name)
        state = one.state.value if feed is None else f"until {feed} tells"
        table.add_row(name, figures(row), str(row.first_day), age, state, escape(row.source))
    return table


def _history(book: PriceBook, names: tuple[str, ...]) -> Table:
    """Rows by the days on which they counted. One stands aside for a later one, and counts again when that has ended first."""
    table = _table("price", "from", "until", "US dollars", "confirmed", "source")
    for name in names:
        rows = book.prices[name]
        days = sorted({row.first_day for row in rows} | {row.until for row in rows if row.until is not None})
        counting = [
            (day, max((row for row in rows if row.is_in_force(day)), key=_first_day, default=None)) for day in days
        ]
        turns = [(day, row) for (_, before), (day, row) in pairwise([(None, None), *counting]) if row is not before]
        for (day, row), (next_day, _) in pairwise([*turns, (None, None)]):
            if row is not None:
                until = str(next_day or "–")
                table.add_row(name, str(day), until, figures(row), str(row.confirmed or "–"), escape(row.source))
    return table


def _first_day(row: AnyRow) -> date:
    return row.first_day


def _table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def figures(row: AnyRow) -> str:
    """A row's price in few words."""
    return ", ".join(_figures(row))


def _figures(row: AnyRow) -> Iterator[str]:
    price = row.snapshot("")
    if isinstance(price, LeasedPrice):
        yield f"{_usd(price.nanousd_per_hour)} an hour"
        return
    for name in ("prompt", "cached", "completion"):
        yield f"{_usd(getattr(price.rates, name))} {name}"
    if price.request_nanousd:
        yield f"{_usd(price.request_nanousd)} a request"
    if price.audio_nanousd_per_hour:
        yield f"{_usd(price.audio_nanousd_per_hour)} an hour of audio"
    for tool, nanousd in price.tool_call_nanousd:
        yield f"{_usd(nanousd)} a call of {tool}"
    for tier in price.service_tiers:
        rates = (f"{_usd(getattr(tier.rates, name))} {name}" for name in ("prompt", "cached", "completion"))
        yield f"under {tier.name} {' + '.join(rates)}"
    if price.tiers:
        yield f"dearer above {', '.join(f'{tier.above_prompt_tokens:,}' for tier in price.tiers)} tokens"


def _usd(nanousd: int) -> str:
    return f"{(Decimal(nanousd) / NANOUSD_PER_USD).normalize():f}"
