"""`jeton ledger reconcile`: a provider's usage export against what the ledger says, by day and model."""

import csv
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import click
from pydantic import BaseModel, BeforeValidator, Field
from rich.console import Console
from rich.table import Table

from router.config_shape import read_shape
from router.config_source import ConfigRefused
from router.domain.money import nanousd_from_usd, usd_text
from router.domain.periods import HOURS_PER_DAY
from router.ledger.address import Address
from router.ledger.periods import Period, read_periods
from router.ledger.store import LedgerError
from router.reporting.reconcile import Line, Usage, Verdict, reconcile

PIPE_COLUMNS = 1000
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
    tolerance_usd: Annotated[Decimal, BeforeValidator(lambda value: Decimal(str(value))), Field(ge=0)] = Decimal("0.01")


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
    ours = [Usage(one.day, one.model, *one[3:]) for one in found]
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
    with invoice.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=mapped.delimiter)
        named = {value for value in columns.model_dump().values() if value is not None}
        if missing := sorted(named - set(reader.fieldnames or ())):
            there = ", ".join(reader.fieldnames or ())
            raise click.ClickException(f"{invoice}: there is no column `{missing[0]}`; there is {there}")
        for number, row in enumerate(reader, 2):
            try:
                yield _usage(row, mapped)
            except (ValueError, InvalidOperation, OverflowError, TypeError) as error:
                raise click.ClickException(f"{invoice}:{number}: cannot be read ({error})") from None


def _usage(row: Mapping[str, str], mapped: Mapped) -> Usage:
    columns = mapped.columns

    def count(column: str | None) -> int | None:
        if column is None:
            return None
        number = Decimal(row[column].replace(",", "") or "0")
        if number != int(number):
            raise ValueError(f"{column} is {row[column]}, not a whole number")
        return int(number)

    cached, uncached = count(columns.cached_tokens), count(columns.uncached_tokens)
    prompt = count(columns.prompt_tokens) if uncached is None else uncached + (cached or 0)
    cost = None
    if columns.cost_usd is not None:
        cost = nanousd_from_usd(Decimal(row[columns.cost_usd].replace(",", "").replace("$", "") or "0"))
    text, model = row[columns.day], row[columns.model]
    if mapped.day_format == "unix":
        day = datetime.fromtimestamp(int(text), UTC)
    else:
        day = datetime.strptime(text, mapped.day_format)
        day = day.astimezone(UTC) if day.tzinfo is not None else day
    return Usage(
        f"{day:%Y-%m-%d}",
        mapped.models.get(model, model),
        count(columns.requests),
        prompt,
        cached,
        count(columns.completion_tokens),
        cost,
    )


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
    return [*cells, usd_text(line.difference_nanousd)]


def _print(rows: list[dict[str, str]], lines: list[Line]) -> None:
    table = Table()
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number > 2 else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row.values())
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)
    console.print(table)
    counts = Counter(line.verdict for line in lines)
    said = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    console.print(f"{said}; difference ${usd_text(sum(line.difference_nanousd for line in lines))}")
