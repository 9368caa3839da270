"""What keeping the books costs a request: `python -m load.bench.books`.

Attempts are opened, get a first token and are closed at a steady rate in one process, as in a worker, with the caches as cold as
the pauses in between leave them. Told are microseconds of CPU a request that the process spends on that and
would not spend without books: in the calls on the event loop's thread, and in all other threads of the process (writer,
journal), the disk's system calls included. The pacing of the benchmark itself is not counted.

alone: `jeton serve`, which keeps its books itself. inside: one of several workers, which reckons with all of its own requests.
apart: a worker beside a `jeton accountant`, which reports and estimates; the bound of 40 µs is on this, at the rate that an
accountant must keep up with. A commit costs what it costs however many requests share it, up to fifty a second, so the fewer
the requests, the dearer each. bytes: by how much the ledger's file grows.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from router.accounting.accountant import Accountant
from router.accounting.reporter import Reporter
from router.clock import Clock
from router.domain.attempt import AttemptEnd, AttemptFacts, AttemptStatus
from router.domain.fleet import Backend, Billing, EngineKind, Pool, PoolKind, Replica
from router.domain.usage import Usage
from router.ledger.journals import WorkerJournal
from router.ledger.sqlite import SqliteLedger
from router.ledger.store import LedgerStore
from router.pricing.price import LeasedPrice, Purchase
from router.pricing.profile import EngineProfile

SECONDS = 5
PER_SECOND = 2000
RATES = (500, 1000, 2000, 4000)
IN_FLIGHT = 50
RUNS = 3

BACKEND = Backend(
    "central-large", Pool("central", PoolKind.CENTRAL, Billing.LEASED), "meta-llama/Llama-3.1-8B-Instruct", "served",
    "large", "fp8", EngineKind.VLLM, 32_768, frozenset(), "", "",
    (Replica("central-large/0", "central-large", "http://127.0.0.1:1"),),
)  # fmt: skip
PRICE = LeasedPrice("central-h100@2026-05-07#00000000", 3_780_000_000, Purchase.ON_DEMAND)
PROFILE = EngineProfile(
    step_overhead_seconds=2e-3,
    weight_read_seconds=6e-3,
    kv_read_seconds_per_token=4e-8,
    compute_seconds_per_token=3e-5,
    kv_capacity_tokens=400_000,
)
END = AttemptEnd(AttemptStatus.OK, Usage(412, 173, cached_tokens=96), http_status=200)


@dataclass(frozen=True)
class Kept:
    """Microseconds of CPU a request; bytes a request."""

    calls_us: float
    threads_us: float
    bytes_each: float

    @property
    def whole_us(self) -> float:
        return self.calls_us + self.threads_us


def main() -> None:
    table = Table("books", "requests/s", "calls µs", "threads µs", "whole µs", "bytes")
    for column in table.columns[1:]:
        column.justify = "right"
    runs = [("alone", alone, PER_SECOND), ("inside", inside, PER_SECOND), *(("apart", apart, rate) for rate in RATES)]
    for name, place, rate in runs:
        kept = min((keep(place, rate) for _ in range(RUNS)), key=lambda one: one.whole_us)
        figures = kept.calls_us, kept.threads_us, kept.whole_us
        table.add_row(name, f"{rate:,}", *(f"{figure:.1f}" for figure in figures), f"{kept.bytes_each:,.0f}")
    Console().print(table)


def alone(path: Path, _: Clock) -> tuple[Accountant, LedgerStore]:
    store = SqliteLedger(path)
    return Accountant(store), store


def inside(path: Path, clock: Clock) -> tuple[Accountant, LedgerStore]:
    journal = WorkerJournal(path, clock.now_ns, "bench")
    return Accountant(journal), journal


def apart(path: Path, clock: Clock) -> tuple[Accountant, LedgerStore]:
    journal = WorkerJournal(path, clock.now_ns, "bench")
    return Reporter(journal), journal


def keep(place: Callable[[Path, Clock], tuple[Accountant, LedgerStore]], per_second: int) -> Kept:
    clock, attempts = Clock(), SECONDS * per_second
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.sqlite"
        accountant, store = place(path, clock)
        accountant.set_fleet([BACKEND], {BACKEND.name: PRICE}, {BACKEND.name: PROFILE}, clock.now_ns())
        made = [facts(number) for number in range(attempts)]
        began_seconds, began_all, began_here = time.monotonic(), time.process_time(), time.thread_time()
        paced = 0.0
        in_flight: list[str] = []
        for number, one in enumerate(made):
            accountant.open(one, BACKEND, PRICE, 412, 173, clock.now_ns())
            in_flight.append(one.attempt_id)
            accountant.first_token(in_flight[len(in_flight) // 2], clock.now_ns())
            if len(in_flight) > IN_FLIGHT:
                accountant.close(in_flight.pop(0), END, clock.now_ns())
            if number % 10 == 9:
                if number % per_second == per_second - 1:
                    accountant.advance(clock.now_ns())
                pause_seconds = began_seconds + (number + 1) / per_second - time.monotonic()
                before = time.thread_time()
                time.sleep(max(pause_seconds, 0))
                paced += time.thread_time() - before
        for attempt_id in in_flight:
            accountant.close(attempt_id, END, clock.now_ns())
        here = time.thread_time() - began_here
        store.close()
        threads = time.process_time() - began_all - (time.thread_time() - began_here)
        size = path.stat().st_size / attempts
        return Kept((here - paced) / attempts * 1e6, threads / attempts * 1e6, size)


def facts(number: int, backend: Backend = BACKEND) -> AttemptFacts:
    """Ids as the gateway makes them: so many milliseconds, then chance."""
    chance = number * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**80
    request_id = f"req_{1_795_000_000_000 + number:012x}{chance:020x}"
    replica = backend.replicas[0].id
    return AttemptFacts(
        f"{request_id}.1", request_id, 1, "acme", "acme-production", "chat", "auto", backend.pool.name, backend.name, replica,
        backend.model, "large", "policy", "cheapest above the floor", backend.name, "question", 412, 173,
    )  # fmt: skip


if __name__ == "__main__":
    main()
