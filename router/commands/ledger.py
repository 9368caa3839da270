"""`jeton ledger`: what requests have cost, from the ledger; a running router is not disturbed."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.commands.ledger_audit import audit_ledger, rebuild_ledger
from router.commands.ledger_budgets import list_budgets
from router.commands.ledger_preemptions import list_preemptions
from router.commands.ledger_prune import prune_ledger
from router.commands.reconcile import reconcile_invoice
from router.config_source import ConfigRefused
from router.domain.money import usd_text
from router.ledger.address import Address
from router.ledger.history import HAVE_LEASES, Filters, SumBy, SumRow, grand_total, read_history
from router.ledger.rows import CHARGE_COLUMNS, charge_from_row
from router.ledger.store import LedgerError
from router.ledger_options import MOMENT, AddressType, address_in_file, moment_ns
from router.telemetry.moved import series_moved

NS_PER_SECOND = 10**9
NS_PER_MILLISECOND = 10**6
UNKNOWN = "unknown"
PIPE_COLUMNS = 1000

Row = Mapping[str, str]


@click.group()
@click.option("--ledger", "address", type=AddressType(), help="The ledger's file, or the URL of its database.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("router.yaml"),
    show_default=True,
    help="The configuration that names the ledger, unless --ledger does.",
)
@click.pass_context
def ledger(context: click.Context, address: Address | None, config: Path) -> None:
    """Show what requests have cost.

    Amounts are exact US dollars. Without --ledger and without a router.yaml it is var/jeton.sqlite.
    """
    if address is None:
        with _told_plainly():
            address = address_in_file(config)
    context.obj = address


ledger.add_command(audit_ledger)
ledger.add_command(rebuild_ledger)
ledger.add_command(prune_ledger)
ledger.add_command(list_budgets)
ledger.add_command(list_preemptions)


def _filter_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--csv", "as_csv", is_flag=True, help="CSV on standard output, amounts in US dollars."),
        click.option("--until", type=MOMENT, help="Ended before (UTC)."),
        click.option("--since", type=MOMENT, help="Ended at or after (UTC)."),
        click.option("--backend", default="", help="Of this backend only."),
        click.option("--pool", default="", help="Of this pool only."),
        click.option("--tenant", default="", help="Of this tenant only."),
    ):
        command = option(command)
    return command


@ledger.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, newest first.")
@_filter_options
@click.pass_obj
def list_charges(address: Address, /, limit: int, as_csv: bool, **filters: Any) -> None:
    """List attempts that have ended, newest first."""
    with _told_plainly(), read_history(address) as history:
        charges = history.charges(_filters(**filters), limit)
    if as_csv:
        _write_csv([_csv_name(column) for column in CHARGE_COLUMNS], (_csv_row(charge) for charge in charges))
        return
    shown = ("ended", "attempt", "tenant", "backend", "tier", "status", "usage", "prompt", "completion", "cost $")
    _print_table(shown, [_listed(charge) for charge in charges], right_from=7)


@ledger.command("sum")
@click.option("--by", type=click.Choice([by.value for by in SumBy]), default=SumBy.BACKEND.value, show_default=True)
@_filter_options
@click.pass_obj
def sum_charges(address: Address, /, by: str, as_csv: bool, **filters: Any) -> None:
    """Sum attempts by tenant, pool, backend, model, tier or day (UTC).

    By pool and backend, over all time, the bill stands beside: bill = cost + open + idle, where open is what attempts in
    flight have run up. Lost is what of the cost bought no answer. What workers told late is in it, as of when they did.
    """
    selected = _filters(**filters)
    with _told_plainly(), read_history(address) as history:
        sums, is_whole = history.sums(SumBy(by), selected), history.has_all(SumBy(by), selected)
    if not is_whole:
        click.echo("Some of this period was pruned and is not in these sums; `jeton report` has its hours.", err=True)
    columns = [by, "attempts", "unpriced", "prompt", "cached", "completion", "reasoning", "cost $", "standard $"]
    columns += ["lost $", "saved $", "$ per million"]
    if by in HAVE_LEASES and selected.is_of_places:
        columns += ["open $", "idle $", "bill $"]
    if as_csv:
        csv_names = {column: _csv_name(column) for column in columns}
        summed = [_summed(by, row) for row in sums]
        _write_csv(list(csv_names.values()), ({csv_names[name]: row[name] for name in columns} for row in summed))
    else:
        _print_table(columns, [_summed(by, row) for row in [*sums, grand_total(sums)]], right_from=1)


@ledger.command("show")
@click.argument("request_id")
@click.pass_obj
def show_request(address: Address, /, request_id: str) -> None:
    """Follow one request: log, journal, the charge of every attempt, the price it was made at, the metrics it moved."""
    with _told_plainly(), read_history(address) as history:
        story = history.story(request_id)
    click.echo(
        f"In the log: request_id={story.request_id}, where an attempt failed. At a backend: x-request-id, as the attempts here."
    )
    events = [
        {
            "seq": str(event["seq"]),
            "time": _time_text(event["at_ns"]),
            "attempt": event["subject"],
            "event": event["kind"],
        }
        | {"worker": event["worker"], "lease": event["lease_id"], "weight": str(event["amount"] or "")}
        for event in story.events
    ]
    columns = ["seq", "time", "attempt", "event", "worker", "lease", "weight"]
    if not any(event["worker"] for event in events):
        columns.remove("worker")
    _print_table(columns, events, right_from=len(columns) - 1)
    if story.waiting:
        waiting = [
            {
                "told, not booked yet": one["kind"],
                "time": _time_text(one["at_ns"]),
                "attempt": one["subject"],
                "worker": one["worker"],
            }
            for one in story.waiting
        ]
        _print_table(("told, not booked yet", "time", "attempt", "worker"), waiting, right_from=4)
    for charge in story.charges:
        members = [{"charge": name, "": text} for name, text in _csv_row(charge).items() if text]
        if (service_tier := story.service_tiers.get(charge["attempt_id"])) is not None:
            members.append({"charge": "service_tier", "": service_tier})
        for tool, calls in story.tool_calls.get(charge["attempt_id"], ()):
            members.append({"charge": f"calls of {tool}", "": str(calls)})
        _print_table(("charge", ""), members, right_from=2)
        if (snapshot := story.prices.get(charge["price_id"])) is not None:
            rates = [{"price": name, "": text} for name, text in _flattened(orjson.loads(snapshot)["price"])]
            _print_table(("price", ""), rates, right_from=1)
        moved = [
            {"series moved": name, "by": f"{amount:.9f}".rstrip("0").rstrip(".")} for name, amount in _moved(charge)
        ]
        _print_table(("series moved", "by"), moved, right_from=1)
    for correction in story.corrections:
        members = [{"told later": name, "": text} for name, text in _csv_row(correction).items() if text]
        _print_table(("told later", ""), members, right_from=2)


def _moved(charge: Mapping[str, Any]) -> list[tuple[str, float]]:
    try:
        return list(series_moved(charge_from_row(charge)))
    except ValueError as error:  # a status that is none: `audit` names it
        raise click.ClickException(f"the charge of {charge['attempt_id']} cannot be read ({error})") from None


def _flattened(members: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A price's members in lines, rates in the dollars of a price book: `rates.prompt $ per million 2.000000000`."""
    for name, value in members.items():
        if name == "rates":
            for one, nanousd_per_million in value.items():
                if nanousd_per_million is not None:  # it costs what any other write does
                    yield f"{prefix}{name}.{one} $ per million", usd_text(nanousd_per_million)
        elif isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield from _flattened({str(number): one for number, one in enumerate(value, 1)}, f"{prefix}{name}.")
        else:
            yield prefix + name, str(value)


ledger.add_command(reconcile_invoice)


class _told_plainly:
    """What is wrong with the ledger is told in a line, without a traceback."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, LedgerError | ConfigRefused):
            raise click.ClickException(str(error)) from None


def _filters(tenant: str, pool: str, backend: str, since: datetime | None, until: datetime | None) -> Filters:
    return Filters(tenant, pool, backend, moment_ns(since), moment_ns(until))


def _time_text(at_ns: int) -> str:
    seconds, rest_ns = divmod(at_ns, NS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // NS_PER_MILLISECOND:03d}Z"


def _usd(nanousd: int | None) -> str:
    return UNKNOWN if nanousd is None else usd_text(nanousd)


def _usd_per_million(total_nanousd: int, tokens: int) -> str:
    if not tokens:
        return ""
    return f"{Decimal(total_nanousd) / tokens / 1000:.4f}"  # nano-dollars a token are thousandths of a dollar a million


def _listed(charge: Mapping[str, Any]) -> Row:
    return {
        "ended": _time_text(charge["ended_ns"]),
        "attempt": charge["attempt_id"],
        "tenant": charge["tenant"],
        "backend": charge["backend"],
        "tier": charge["tier"],
        "status": " ".join(filter(None, [charge["status"], charge["fault"]])),
        "prompt": f"{charge['prompt_tokens']:,}",
        "completion": f"{charge['completion_tokens']:,}",
        "usage": charge["usage_source"],
        "cost $": _usd(charge["cost_nanousd"]),
    }


def _summed(key_name: str, row: SumRow) -> Row:
    total = row.total
    return {
        key_name: row.key,
        "attempts": str(total.attempts),
        "unpriced": str(total.unpriced),
        "prompt": str(total.prompt_tokens),
        "cached": str(total.cached_tokens),
        "completion": str(total.completion_tokens),
        "reasoning": str(total.reasoning_tokens),
        "cost $": usd_text(total.cost_nanousd),
        "standard $": usd_text(total.standard_nanousd),
        "lost $": usd_text(total.lost_nanousd),
        "saved $": usd_text(total.saved_nanousd),
        "$ per million": _usd_per_million(total.cost_nanousd, total.prompt_tokens + total.completion_tokens),
        "open $": _usd(row.open_nanousd),
        "idle $": _usd(row.idle_nanousd),
        "bill $": _usd(row.bill_nanousd),
    }


def _csv_name(column: str) -> str:
    """A table's heading, or the ledger's own name, as a CSV column: amounts are in dollars there."""
    return column.replace("_nanousd", "_usd").replace("$ per million", "usd_per_million").replace(" $", "_usd")


def _csv_row(charge: Mapping[str, Any]) -> Row:
    """A charge with amounts in exact dollars; empty where a value is unknown."""
    row: dict[str, str] = {}
    for name, value in charge.items():
        if value is None:
            row[_csv_name(name)] = ""
        else:
            row[_csv_name(name)] = usd_text(value) if name.endswith("_nanousd") else str(value)
    return row


def _write_csv(columns: Sequence[str], rows: Iterable[Row]) -> None:
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _print_table(columns: Sequence[str], rows: Iterable[Row], right_from: int) -> None:
    """Columns from `right_from` on hold numbers."""
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number >= right_from else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(row[column]) for column in columns))
    # As wide as it needs to be where no terminal sets a width: a cut amount is a wrong one.
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)
    console.print(table)
