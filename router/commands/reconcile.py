"""`jeton ledger reconcile`: a provider's usage export against what the ledger says, by day and model."""

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click
from pydantic import BaseModel, Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.config_shape import read_shape
from router.config_source import ConfigRefused
from router.domain.money import nanousd_from_usd, usd_text
from router.domain.periods import HOURS_PER_DAY
from router.ledger.address import Address
from router.ledger.periods import Period, read_periods
from router.ledger.store import LedgerError
from router.pricing.rows import Amount
from router.reporting.reconcile import Line, Usage, Verdict, reconcile

PIPE_COLUMNS = 1000
NUMBER = re.compile(r"[-+]?(\d*|[1-9]\d{0,2}(,\d{3})+)(\.\d*)?(?<=[\d.])([eE][-+]?\d{1,3})?", re.ASCII)
HEADINGS = (
    "day", "model", "verdict", "requests", "requests there", "prompt", "prompt there", "completion", "completion there",
    "cost $", "cost there $", "difference $",
)  # fmt: skip


class Columns(BaseModel, frozen=True, extra="forbid"):
    """The export's own names of what we compare. What it does not have is left out and not compared."""

    day: str
    model: str
    requests: str | None = None
    prompt_tokens: str | None = None
    uncached_tokens: str | None = Field(
        default=None, description="where the export has cached tokens beside, not inside"
    )
    cached_tokens: str | None = None
    completion_tokens: str | None = None
    cost_usd: str | None = None


class Mapped(BaseModel, frozen=True, extra="forbid"):
    """How an export is read.

    backends: ours, whose usage it bills. models: the provider's name → ours; a name that is not in it is taken as it is.
    day_format: of strptime, or `unix` for seconds since 1970. tolerance_usd: a row may differ by so much (rounding).
    """

    columns: Columns
    backends: tuple[str, ...] = Field(min_length=1)
    models: Mapping[str, str] = {}
    day_format: str = "%Y-%m-%d"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    tolerance_usd: Amount = Decimal("0.01")


@click.command("reconcile")
@click.option("--invoice", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, help="The CSV.")
@click.option("--mapping", type=click.Path(path_type=Path), required=True, help="Which of its columns is what (YAML).")
@click.option("--csv", "as_csv", is_flag=True, help="CSV on standard output, amounts in US dollars.")
@click.option("--strict", is_flag=True, help="Exit with 1 unless everything matches.")
@click.pass_obj
def reconcile_invoice(address: Address, /, invoice: Path, mapping: Path, as_csv: bool, strict: bool) -> None:
    """Compare a provider's usage export with the ledger, by day (UTC) and model.

    The period is that of the export: from its first day to its last.
    """
    try:
        mapped = read_shape(mapping, Mapped)
        theirs = list(_read_invoice(invoice, mapped))
        if not theirs:
            raise click.ClickException(f"{invoice}: there are no rows in it")
        with read_periods(address) as periods:
            found = periods.invoiced(_period(theirs), mapped.backends)
    except (LedgerError, ConfigRefused) as error:
        raise click.ClickException(str(error)) from None
    ours = [Usage(one.day, one.model, *one[3:-1]) for one in found]
    for name in sorted({*mapped.backends} - {one.backend for one in found}):
        click.echo(f"The ledger has nothing of a backend `{name}` in this period.", err=True)
    if unpriced := sum(one.unpriced for one in found):
        click.echo(
            f"{unpriced:,} attempts here have no price: what they cost is not known, and in no figure here.", err=True
        )
    lines = reconcile(ours, theirs, nanousd_from_usd(mapped.tolerance_usd))
    rows = [dict(zip(HEADINGS, _cells(line), strict=True)) for line in lines]
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([name.replace(" $", "_usd").replace(" ", "_") for name in HEADINGS])
        writer.writerows(row.values() for row in rows)
    else:
        _print(rows, lines)
    if strict and any(line.verdict is not Verdict.MATCHED for line in lines):
        sys.exit(1)


def _read_invoice(invoice: Path, mapped: Mapped) -> Iterator[Usage]:
    """Its rows. Raises ClickException with the line that cannot be read."""
    columns = mapped.columns
    named = {value for value in columns.model_dump().values() if value is not None}
    try:
        with invoice.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=mapped.delimiter)
            there = list(reader.fieldnames or ())
            for name in sorted(named):
                if there.count(name) != 1:
                    what = (
                        "stands twice in the first line"
                        if name in there
                        else f"is not there; there is {', '.join(there)}"
                    )
                    raise click.ClickException(f"{invoice}: the column `{name}` {what}")
            for row in reader:
                try:
                    yield _usage(row, mapped)
                except (ValueError, ArithmeticError, TypeError) as error:
                    raise click.ClickException(f"{invoice}:{reader.line_num}: cannot be read ({error})") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise click.ClickException(f"{invoice}: is not CSV in UTF-8 ({error})") from None


def _usage(row: Mapping[str | None, str | None], mapped: Mapped) -> Usage:
    columns = mapped.columns
    if None in row:
        raise ValueError("more cells than columns; are there decimal commas?")
    if None in row.values():
        raise ValueError("fewer cells than columns")

    def count(column: str | None) -> int | None:
        number = None if column is None else _number(column, row[column] or "")
        if number is not None and number != int(number):
            raise ValueError(f"{column} is {row[column]}, not a whole number")
        return None if number is None else int(number)

    cached, uncached = count(columns.cached_tokens), count(columns.uncached_tokens)
    prompt = count(columns.prompt_tokens)
    if columns.uncached_tokens is not None:
        is_known = uncached is not None and (cached is not None or columns.cached_tokens is None)
        prompt = (uncached or 0) + (cached or 0) if is_known else None
    cost = None
    if columns.cost_usd is not None:
        usd = _number(columns.cost_usd, (row[columns.cost_usd] or "").replace("$", ""))
        cost = None if usd is None else nanousd_from_usd(usd)
    text, model = row[columns.day] or "", row[columns.model] or ""
    if mapped.day_format == "unix":
        day = datetime.fromtimestamp(int(text), UTC)
    else:
        day = datetime.strptime(text, mapped.day_format)
        day = day.astimezone(UTC) if day.tzinfo is not None else day
    return Usage(
        day.date().isoformat(),
        mapped.models.get(model, model),
        count(columns.requests),
        prompt,
        cached,
        count(columns.completion_tokens),
        cost,
    )


def _number(column: str, text: str) -> Decimal | None:
    """None for an empty cell: what an export does not say is not 0. Raises ValueError where a comma may be a decimal one."""
    text = text.strip()
    if not text:
        return None
    if NUMBER.fullmatch(text) is None:
        raise ValueError(f"{column} is {text[:40]}; write numbers with a point, commas between thousands at most")
    return Decimal(text.replace(",", ""))


def _period(theirs: list[Usage]) -> Period:
    days = [row.day for row in theirs]
    first, last = (
        int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) // 3600 for day in (min(days), max(days))
    )
    return Period(first, last + HOURS_PER_DAY)


def _cells(line: Line) -> list[str]:
    ours, theirs = line.ours or Usage("", ""), line.theirs or Usage("", "")
    cells = [line.day, line.model, line.verdict.value]
    for name in ("requests", "prompt_tokens", "completion_tokens"):
        cells += ["" if value is None else str(value) for value in (getattr(ours, name), getattr(theirs, name))]
    cells += ["" if one.cost_nanousd is None else usd_text(one.cost_nanousd) for one in (ours, theirs)]
    return [*cells, "" if line.difference_nanousd is None else usd_text(line.difference_nanousd)]


def _print(rows: list[dict[str, str]], lines: list[Line]) -> None:
    table = Table()
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number > 2 else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row.values()))
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)
    console.print(table)
    counts = Counter(line.verdict for line in lines)
    said = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    known = [line.difference_nanousd for line in lines if line.difference_nanousd is not None]
    unknown = f"; {len(lines) - len(known)} without a cost there, not compared" if len(known) < len(lines) else ""
    console.print(f"{said}; difference ${usd_text(sum(known))}{unknown}")
