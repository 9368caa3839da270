"""`jeton ledger preemptions`: when spot replicas were taken away, for how long, and what it cut short."""

import sys
import time
from datetime import UTC, datetime

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from router.domain.money import usd_text
from router.ledger.address import Address
from router.ledger.preemptions import Preemption, read_preemptions
from router.ledger.schema import reading
from router.ledger.store import LedgerError

COLUMNS_PIPE = 160


@click.command("preemptions")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, newest first.")
@click.pass_obj
def list_preemptions(address: Address, /, limit: int) -> None:
    """List spot replicas that were taken away, newest first.

    Of backends with a declared `preemption`; the last 400 days are kept. Away is until it served again, for as long as it was
    paid meanwhile: "gone" where nobody saw it come back. Cut are the attempts that ran there and broke, with the seconds and
    the money that they had taken; it lacks those of months that were pruned.
    """
    try:
        with reading(address) as database:
            found = read_preemptions(database, time.time_ns(), limit)
    except LedgerError as error:
        raise click.ClickException(str(error)) from None
    table = Table(box=SIMPLE_HEAD)
    for heading in ("taken (UTC)", "backend", "pool", "replica", "why"):
        table.add_column(heading, no_wrap=True)
    for heading in ("away s", "cut", "cut s", "cut $"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        table.add_row(*_row(one))
    console = (
        Console(markup=False, highlight=False) if sys.stdout.isatty() else Console(width=COLUMNS_PIPE, markup=False)
    )
    console.print(table)


def _row(one: Preemption) -> tuple[str, ...]:
    taken = f"{datetime.fromtimestamp(one.taken_ns / 1e9, UTC):%Y-%m-%dT%H:%M:%S}"
    away = "still" if one.until_ns is None else "gone"
    if one.is_back and one.until_ns is not None:
        away = f"{(one.until_ns - one.taken_ns) / 1e9:.0f}"
    cut = str(one.cut_attempts), f"{one.cut_ns / 1e9:.1f}", usd_text(one.cut_nanousd)
    return taken, one.backend, one.pool, one.replica, one.why, away, *cut
