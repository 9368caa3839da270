"""What booking what several workers report costs the accountant: `python -m load.bench.shared_books`.

Four workers report attempts as fast as they can; then one accountant books them all. Told is the CPU time of a request there,
fold, reading and writing together, and how many a second that makes on one core. One process plays all of them, one after the
other. What a request costs at its worker, at a steady pace: `load.bench.books`.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from rich.console import Console

from load.bench.books import BACKEND, END, PRICE, PROFILE, facts
from router.accounting.bookkeeper import Bookkeeper
from router.accounting.reporter import Reporter
from router.clock import Clock
from router.ledger.journals import Journals, WorkerJournal
from router.ledger.shared import SharedLedger

WORKERS = 4
ATTEMPTS = 20_000
IN_FLIGHT = 32


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.sqlite"
        _report(path)
        keeper = asyncio.run(_book(path))
    Console().print(f"{keeper:.1f} µs a request, {1e6 / keeper:,.0f} requests a second on one core")


def _report(path: Path) -> None:
    clock = Clock()
    for worker in range(WORKERS):
        journal = WorkerJournal(path, clock.now_ns, f"w{worker}")
        accountant = Reporter(journal)
        accountant.set_fleet([BACKEND], {BACKEND.name: PRICE}, {BACKEND.name: PROFILE}, clock.now_ns())
        made = [facts(worker * ATTEMPTS + number) for number in range(ATTEMPTS // WORKERS)]
        in_flight: list[str] = []
        for one in made:
            accountant.open(one, BACKEND, PRICE, 412, 173, clock.now_ns())
            in_flight.append(one.attempt_id)
            if len(in_flight) > IN_FLIGHT:
                accountant.first_token(in_flight[IN_FLIGHT // 2], clock.now_ns())
                accountant.close(in_flight.pop(0), END, clock.now_ns())
        for attempt_id in in_flight:
            accountant.close(attempt_id, END, clock.now_ns())
        journal.close()


async def _book(path: Path) -> float:
    clock = Clock()
    keeper = Bookkeeper(Journals(path), lambda: SharedLedger(path), clock.now_ns, silence_seconds=10.0)
    keeper.set_fleet([BACKEND], {BACKEND.name: PRICE}, {BACKEND.name: PROFILE})
    began = time.process_time()
    assert await keeper.lead()
    await keeper.go_on(is_asked=True)
    totals = await keeper.posted(60.0)
    assert sum(total.attempts for total in totals.lines.values()) == ATTEMPTS
    await keeper.close()
    return (time.process_time() - began) / ATTEMPTS * 1e6


if __name__ == "__main__":
    main()
