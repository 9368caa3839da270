"""What keeping the books of several workers costs: `python -m load.bench.shared_books`.

Four workers report attempts as fast as they can; then one accountant books them all. Told is the CPU time of a request at its
worker, calls and journal apart, and at the accountant, fold, reading and writing together, and how many a second that makes on
one core. One process plays all of them, one after the other.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from rich.console import Console

from load.bench.books import BACKEND, END, PRICE, PROFILE, facts
from router.accountant import Accountant
from router.bookkeeper import Bookkeeper
from router.clock import Clock
from router.ledger.journals import Journals, WorkerJournal
from router.ledger.shared import SharedLedger

WORKERS = 4
ATTEMPTS = 20_000
IN_FLIGHT = 32


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.sqlite"
        calls, journal = _report(path)
        keeper = asyncio.run(_book(path))
    Console().print(
        f"at a worker {calls:.1f} µs of CPU in the calls and {journal:.1f} in the journal; at the accountant {keeper:.1f} µs a"
        f" request, {1e6 / keeper:,.0f} requests a second on one core"
    )


def _report(path: Path) -> tuple[float, float]:
    """µs of CPU a request."""
    clock = Clock()
    calls = 0.0
    began_all = time.process_time()
    for worker in range(WORKERS):
        journal = WorkerJournal(path, clock.now_ns, f"w{worker}")
        accountant = Accountant(journal)
        accountant.set_fleet([BACKEND], {BACKEND.name: PRICE}, {BACKEND.name: PROFILE}, clock.now_ns())
        made = [facts(worker * ATTEMPTS + number) for number in range(ATTEMPTS // WORKERS)]
        in_flight: list[str] = []
        began_seconds = time.thread_time()
        for one in made:
            accountant.open(one, BACKEND, PRICE, 412, 173, clock.now_ns())
            in_flight.append(one.attempt_id)
            if len(in_flight) > IN_FLIGHT:
                accountant.first_token(in_flight[IN_FLIGHT // 2], clock.now_ns())
                accountant.close(in_flight.pop(0), END, clock.now_ns())
        for attempt_id in in_flight:
            accountant.close(attempt_id, END, clock.now_ns())
        calls += time.thread_time() - began_seconds
        journal.close()
    whole = time.process_time() - began_all
    return calls / ATTEMPTS * 1e6, (whole - calls) / ATTEMPTS * 1e6


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
