"""`jeton ledger prune`: months whose detail nobody needs any more."""

import click

from router.accounting.prune import prune
from router.domain.periods import month_text
from router.ledger.address import Address
from router.ledger.store import LedgerError

FINDINGS_SHOWN = 20


class MonthType(click.ParamType[int]):
    """2026-11, as 202611."""

    name = "yyyy-mm"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        year, _, month = str(value).partition("-")
        if not (
            year.isdecimal() and month.isdecimal() and len(year) == 4 and len(month) == 2 and 1 <= int(month) <= 12
        ):
            self.fail(f"{value} is no month; write it as in 2026-11", param, ctx)
        return int(year) * 100 + int(month)


@click.command("prune")
@click.option("--before", type=MonthType(), required=True, help="The first month (UTC) that stays.")
@click.pass_obj
def prune_ledger(address: Address, /, before: int) -> None:
    """Give up the journal and the charges of old months, and keep what they add up to.

    Totals, hours (`jeton report`), budgets, leases and prices stay, and `sum` over all time is the same as before; `list`, `show`
    and sums by day know the months that are left. What goes is audited first, and stays when something is off (exit status 1).
    May run beside jeton.
    """
    try:
        pruning = prune(address, before)
    except LedgerError as error:
        raise click.ClickException(str(error)) from None
    if pruning.findings:
        for finding in pruning.findings[:FINDINGS_SHOWN]:
            click.echo(
                f"{finding.table} {finding.row}: {finding.what} is {finding.stored}, should be {finding.should_be}"
            )
        raise click.ClickException("nothing was pruned: `jeton ledger audit` tells more")
    click.echo(f"{pruning.charges:,} charges and {pruning.events:,} events before {month_text(before)} are gone")
