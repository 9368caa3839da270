"""`jeton ledger budgets`: what is spent of every budget in router.yaml, from the ledger's file."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from router.config import RouterConfig
from router.config_shape import check_shape
from router.config_source import ConfigRefused, read_source
from router.domain.budget import NS_PER_SECOND, Budget, span_at
from router.domain.money import usd_text
from router.fleet_config import build_budgets
from router.ledger.address import Address
from router.ledger.schema import reading
from router.ledger.spending import read_spent
from router.ledger.store import LedgerError, SpentQuestion

COLUMNS_PIPE = 160


@click.command("budgets")
@click.pass_context
def list_budgets(context: click.Context) -> None:
    """List budgets with what is spent of them in their present period.

    As this ledger has it: where several routers share a budget through Redis, the others' ledgers have their own part. What
    running requests hold is not in any ledger; /metrics shows it.
    """
    assert context.parent is not None
    path = context.parent.params["config"]
    if not path.is_file():
        raise click.ClickException(
            f"{path}: there is no such file; the budgets stand in router.yaml, which `jeton ledger --config FILE budgets` names"
        )
    try:
        config = check_shape(read_source(path), RouterConfig)
        rows = list(_rows(context.obj, build_budgets(config), time.time_ns()))
    except (ConfigRefused, LedgerError) as error:
        raise click.ClickException(str(error)) from None
    table = Table(box=SIMPLE_HEAD)
    for heading in ("tenant", "API key", "per"):
        table.add_column(heading, no_wrap=True)
    for heading in ("budget $", "spent $", "left $", "renews (UTC)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = (
        Console(markup=False, highlight=False) if sys.stdout.isatty() else Console(width=COLUMNS_PIPE, markup=False)
    )
    console.print(table)


def _rows(address: Address, budgets: tuple[Budget, ...], now_ns: int) -> Iterator[tuple[str, ...]]:
    with reading(address) as database:
        for budget in budgets:
            span = span_at(budget.period, now_ns)
            [spent] = read_spent(database, [SpentQuestion(budget.tenant, budget.api_key_name, span)])
            limit = budget.limit_nanousd
            renews = "never"
            if span.end_ns is not None:
                renews = f"{datetime.fromtimestamp(span.end_ns / NS_PER_SECOND, UTC):%Y-%m-%dT%H:%M}"
            amounts = map(usd_text, (limit, spent, limit - spent))
            yield budget.tenant, budget.api_key_name or "all", budget.period.value, *amounts, renews
