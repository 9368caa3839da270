"""What the demo has cost, from the ledger's file and exact to the nano-dollar, once the router has ended."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.domain.money import usd_text
from router.ledger.history import Filters, SumBy, SumRow, grand_total, read_history

HEADINGS = ("", "attempts", "tokens", "$/M", "charges $", "idle $", "bill $")


def summarize(ledger: Path, *, baseline: str, outcomes: Mapping[str, int], tenant: str) -> RenderableType:
    """outcomes: how the traffic's requests ended. tenant: whose requests were the user's own. Raises LedgerError."""
    with read_history(ledger) as history:
        backends = history.sums(SumBy.BACKEND, Filters())
        own = [row.total for row in history.sums(SumBy.TENANT, Filters()) if row.key == tenant]
    whole = grand_total(backends)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0, show_footer=True)
    for heading, footer in zip(HEADINGS, _cells(whole), strict=True):
        table.add_column(heading, footer, justify="right" if heading else "left", overflow="fold")
    for row in backends:
        table.add_row(*_cells(row))
    lines = [_identity(whole)]
    if whole.open_nanousd:
        lines.append(f"residue: the part of a nano-dollar that was left of each charge, {whole.open_nanousd} in all")
    lines.append(f"saved ${usd_text(whole.total.saved_nanousd)} against always {baseline} (method counterfactual)")
    lines.append("traffic: " + ", ".join(f"{count:,} × {outcome}" for outcome, count in sorted(outcomes.items())))
    for total in own:
        lines.append(f"your own requests: {total.attempts:,}, ${usd_text(total.cost_nanousd)}")
    return Group(Text("The ledger, in US dollars", style="bold"), table, *map(Text, lines))


def _identity(whole: SumRow) -> str:
    bill, idle, residue = whole.bill_nanousd or 0, whole.idle_nanousd or 0, whole.open_nanousd or 0
    right = f"charges ${usd_text(whole.total.cost_nanousd)} + idle ${usd_text(idle)}"
    return f"bill ${usd_text(bill)} = {right}" + (f" + residue ${usd_text(residue)}" if residue else "")


def _cells(row: SumRow) -> tuple[str, ...]:
    total = row.total
    tokens = total.prompt_tokens + total.completion_tokens
    return (
        row.key,
        f"{total.attempts:,}",
        f"{tokens:,}",
        f"{Decimal(total.cost_nanousd) / tokens / 1000:.2f}" if tokens else "–",
        usd_text(total.cost_nanousd),
        usd_text(row.idle_nanousd or 0),
        usd_text(row.bill_nanousd or 0),
    )
