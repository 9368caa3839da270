"""How the figures look: one table and a few lines, readable at 80 columns. No reading, no arithmetic of money."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from load.demo.figures import Figures, Row

NOTHING = "–"

HEADINGS = ("", "requests", "in flight", "tokens/s", "bill $", "idle", "$/M", "std $/M")


def render(figures: Figures, *, baseline: str, elapsed_seconds: float) -> RenderableType:
    """baseline: the backend that savings are measured against."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for row in figures.rows:
        table.add_row(*_cells(row), style="bold" if row.is_pool else "")
    return Group(Text(f"jeton demo, {_clock(elapsed_seconds)}", style="bold"), table, *_lines(figures, baseline))


def usd(amount: float, symbol: str = "$") -> str:
    """An amount, as far as its digits say something: $12.35, $1.235, $0.0123, $0.000012, −$0.0123."""
    size = abs(amount)
    if size >= 10:
        digits = f"{size:,.2f}"
    elif size >= 1:
        digits = f"{size:.3f}"
    else:
        digits = f"{size:.4f}" if size >= 1e-3 or not size else f"{size:.6f}"
    return f"{'−' if amount < 0 else ''}{symbol}{digits}"


def usd_per_million(price: float | None) -> str:
    """Three significant digits."""
    if price is None:
        return NOTHING
    return f"{price:,.0f}" if abs(price) >= 100 else f"{price:.1f}" if abs(price) >= 10 else f"{price:.2f}"


def duration(seconds: float | None) -> str:
    """A short time, in the unit that suits it."""
    if seconds is None:
        return NOTHING
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def ratio(part: float | None) -> str:
    return NOTHING if part is None else f"{part:.0%}"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name if row.is_pool else f"  {row.name}",
        f"{row.requests:,}",
        str(row.in_flight),
        f"{row.tokens_per_second:,.0f}",
        usd(row.bill_usd, symbol=""),
        ratio(row.idle_ratio),
        usd_per_million(row.allocated_usd_per_million),
        usd_per_million(row.standard_usd_per_million),
    )


def _lines(figures: Figures, baseline: str) -> list[Text]:
    bill = figures.bill_usd
    work, idle = (ratio(part / bill if bill else None) for part in (figures.work_usd, figures.idle_usd))
    lines = [
        f"bill      {usd(bill)} = work {usd(figures.work_usd)} ({work}) + idle {usd(figures.idle_usd)} ({idle}); "
        f"${figures.bill_usd_per_hour:.2f} an hour",
        f"saved     {_saved(figures, baseline)}",
        f"time      jeton itself {duration(figures.overhead_seconds_p50)} p50, {duration(figures.overhead_seconds_p99)} p99; "
        f"first token {duration(figures.ttft_seconds_p50)} p50",
        f"requests  {figures.requests:,}; {figures.requests_per_second:.1f} a second{_refused(figures.refusals)}",
    ]
    legend = (
        f"Rates, prices and times: of the last {figures.span_seconds:.0f} s. $/M: per million tokens, the share of the bill that"
        " was work; std: the same tokens at target utilization, or at list price."
    )
    return [*(Text(line) for line in lines), Text(legend, style="dim")]


def _saved(figures: Figures, baseline: str) -> str:
    """By method, which is how the figure is known; and what is left of it when idle time is paid, too."""
    if not figures.saved_usd:
        return NOTHING
    by_method = ", ".join(f"{usd(amount)} (method {method})" for method, amount in figures.saved_usd.items())
    after_idle_usd = sum(figures.saved_usd.values()) - figures.idle_usd
    return f"{by_method} vs always {baseline}, {usd(after_idle_usd)} after idle"


def _refused(refusals: Mapping[str, int]) -> str:
    if not refusals:
        return ""
    return "; refused: " + ", ".join(f"{count:,} {code}" for code, count in refusals.items())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
