"""How far a scrape at the cap of label sets holds streams up: `python -m load.bench.scrapes`.

Tasks in one event loop do what a stream does, a little work every few milliseconds, and note how late they are called; beside
them the metrics of 10,000 label sets are rendered again and again, as the application renders them. Milliseconds. Acceptance row
F40: at most 20 more at the 99th percentile.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from statistics import quantiles

import uvloop
from rich.console import Console
from rich.table import Table

from router.commands.serve import YOUNG_OBJECTS_MAX
from router.domain.attempt import AttemptStatus
from router.domain.totals import NOTHING, Account, Line, LineTotal, Totals
from router.domain.usage import UsageSource
from router.telemetry.metrics import TENANTS_MAX, Metrics
from router.telemetry.moved import NoFleet

LABEL_SETS = 10_000
STREAMS = 40
PERIOD_SECONDS = 0.01
WORK_SECONDS = 0.00005
SCRAPES = 12
# Of cost two bases, of tokens four classes.
LABEL_SETS_PER_ACCOUNT = 6


class FullBooks:
    """Books with as many accounts as fill so many label sets."""

    unrecorded_attempts = 0
    is_accepting = True

    def __init__(self, label_sets: int = LABEL_SETS) -> None:
        lines = {}
        for number in range(label_sets // LABEL_SETS_PER_ACCOUNT):
            backend, tenant = f"backend-{number // TENANTS_MAX}", f"tenant-{number % TENANTS_MAX}"
            account = Account("central", backend, "leased", "a-model-of-some-name", "large", tenant)
            line = Line(account, AttemptStatus.OK, UsageSource.PROVIDER)
            lines[line] = LineTotal(1, 0, 1000, 100, 10, 200, 20, 10**6, 10**6, 1)
        self._totals = replace(NOTHING, lines=lines)

    def totals(self) -> Totals:
        return self._totals


def full_metrics(label_sets: int = LABEL_SETS) -> Metrics:
    return Metrics(FullBooks(label_sets), NoFleet())


def main() -> None:
    metrics = full_metrics()
    gc.collect()  # the collector as `jeton serve` sets it
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, 20, 20)
    table = Table("", "median", "p99", "longest", title=f"how late streams are called, ms; {LABEL_SETS:,} label sets")
    for name, work in (("no scrape", _wait), ("scraped all the time", metrics.scrape)):
        lateness_ms, render_ms = uvloop.run(_measure(work))
        cuts = quantiles(lateness_ms, n=100)
        name += f" ({render_ms:.0f} ms each)" if work is not _wait else ""
        table.add_row(name, f"{cuts[49]:.2f}", f"{cuts[98]:.2f}", f"{max(lateness_ms):.2f}")
    Console().print(table)


async def _wait() -> None:
    await asyncio.sleep(0.2)


async def _measure(work: Callable[[], Awaitable[object]]) -> tuple[list[float], float]:
    lateness_ms: list[float] = []
    streams = [asyncio.create_task(_stream(lateness_ms)) for _ in range(STREAMS)]
    begun = time.perf_counter()
    for _ in range(SCRAPES):
        await work()
    seconds = time.perf_counter() - begun
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    return lateness_ms, seconds / SCRAPES * 1e3


async def _stream(lateness_ms: list[float]) -> None:
    while True:
        due = time.perf_counter() + PERIOD_SECONDS
        await asyncio.sleep(PERIOD_SECONDS)
        now = time.perf_counter()
        lateness_ms.append((now - due) * 1e3)
        while time.perf_counter() < now + WORK_SECONDS:  # what relaying a chunk costs
            pass


if __name__ == "__main__":
    main()
