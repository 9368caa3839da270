"""How many requests a second a store keeps up with, and what that costs: `python -m load.bench.ledger_throughput`.

Attempts are opened, get a first token and are closed at a steady rate, through the accountant, as a busy router would do it;
half of them are metered. Told are the CPU of the calls, of the writer's thread and of PostgreSQL's own process for the
session, in microseconds a request; how far the writer was behind at the end; and, from all of that but the calls, how many
requests a second one core would write. PostgreSQL (pgserver's, on this machine's disk) needs the development requirements.
What a request takes on disk is told of both, all indices included.
"""

import argparse
import asyncio
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from load.bench.books import BACKEND, END, PRICE, PROFILE, facts
from router.accounting.accountant import Accountant
from router.clock import Clock
from router.domain.fleet import Billing, Pool, PoolKind, Replica
from router.ledger.address import PostgresAddress
from router.ledger.sqlite import SqliteLedger
from router.ledger.writer import BatchedLedger
from router.pricing.price import MeteredPrice, Price, TokenRates

METERED = replace(
    BACKEND,
    name="cloud-large",
    pool=Pool("cloud", PoolKind.CLOUD, Billing.METERED),
    replicas=(Replica("cloud-large/0", "cloud-large", "http://127.0.0.1:2"),),
)
METERED_PRICE = MeteredPrice("cloud-large@2026-05-07#00000000", TokenRates(2_500_000, 625_000, 2_500_000, 10_000_000))
PRICES: dict[str, Price] = {BACKEND.name: PRICE, METERED.name: METERED_PRICE}
IN_FLIGHT = 200
EVERY_SECONDS = 0.01
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Kept:
    """Microseconds a request, but for what is named otherwise."""

    store: str
    per_second: int
    calls_us: float
    writer_us: float
    database_us: float
    behind_seconds: float
    bytes_each: float

    @property
    def core_per_second(self) -> float:
        return 1e6 / (self.writer_us + self.database_us)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rates", type=int, nargs="+", default=[500, 2000, 4000], help="Requests a second.")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    table = Table(
        "store", "requests/s", "calls µs", "writer µs", "database µs", "behind s", "a core writes/s", "bytes each"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for rate in arguments.rates:
        for kept in (_in_a_file(rate, arguments.seconds), _in_postgresql(rate, arguments.seconds)):
            figures = [kept.calls_us, kept.writer_us, kept.database_us]
            table.add_row(
                kept.store, f"{kept.per_second:,}", *(f"{figure:.0f}" for figure in figures), f"{kept.behind_seconds:.2f}",
                f"{kept.core_per_second:,.0f}", f"{kept.bytes_each:,.0f}",
            )  # fmt: skip
    Console(width=120).print(table)


def _in_a_file(rate: int, seconds: float) -> Kept:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.sqlite"
        return _keep("SQLite", SqliteLedger(path), rate, seconds, lambda: 0.0, lambda: path.stat().st_size)


def _in_postgresql(rate: int, seconds: float) -> Kept:
    import psycopg

    from router.ledger.postgres import PostgresLedger

    with postgresql() as address, tempfile.TemporaryDirectory() as directory:
        store = PostgresLedger(address, Path(directory) / "spool", 2**28)
        with psycopg.connect(address.url, autocommit=True) as connection:

            def backend_seconds() -> float:
                found = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'jeton'"
                ).fetchone()
                assert found is not None
                fields = Path(f"/proc/{found[0]}/stat").read_text().rpartition(")")[2].split()
                return (int(fields[11]) + int(fields[12])) / TICKS

            def size_bytes() -> int:
                found = connection.execute(
                    "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_stat_user_tables"
                ).fetchone()
                assert found is not None
                return int(found[0])

            return _keep("PostgreSQL", store, rate, seconds, backend_seconds, size_bytes)


@contextmanager
def postgresql() -> Iterator[PostgresAddress]:
    """A server of its own for a while."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pgserver.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="jeton-pg-") as directory:
        server = get_server(Path(directory) / "data", cleanup_mode="delete")
        try:
            host = server.get_uri().rpartition("host=")[2]
            yield PostgresAddress(f"postgresql://postgres@/postgres?host={host}")
        finally:
            server.cleanup()


def _keep(
    name: str,
    store: BatchedLedger,
    rate: int,
    seconds: float,
    database_seconds: Callable[[], float],
    size_bytes: Callable[[], int],
) -> Kept:
    clock = Clock()
    accountant = Accountant(store)
    accountant.set_fleet([BACKEND, METERED], PRICES, {BACKEND.name: PROFILE}, clock.now_ns())
    count = int(rate * seconds)
    made = [facts(number, METERED if number % 2 else BACKEND) for number in range(count)]
    size_before, database_before = size_bytes(), database_seconds()
    began, began_all, began_here = time.monotonic(), time.process_time(), time.thread_time()
    paced, done, advanced = 0.0, 0, began
    in_flight: list[str] = []
    while done < count:
        due = min(int((time.monotonic() - began) * rate) + 1, count)
        for number in range(done, due):
            of = METERED if number % 2 else BACKEND
            accountant.open(made[number], of, PRICES[of.name], 412, 173, clock.now_ns())
            accountant.first_token(made[number].attempt_id, clock.now_ns())
            in_flight.append(made[number].attempt_id)
            if len(in_flight) > IN_FLIGHT:
                accountant.close(in_flight.pop(0), END, clock.now_ns())
        done = due
        if time.monotonic() - advanced > 1.0:
            advanced = time.monotonic()
            accountant.advance(clock.now_ns())
        before = time.thread_time()
        time.sleep(EVERY_SECONDS)
        paced += time.thread_time() - before
    for attempt_id in in_flight:
        accountant.close(attempt_id, END, clock.now_ns())
    here, ended = time.thread_time() - began_here, time.monotonic()
    _until_written(store)
    behind = time.monotonic() - ended
    writer = time.process_time() - began_all - (time.thread_time() - began_here)
    database = database_seconds() - database_before
    store.close()  # which brings all of a file's log into the file
    each = (size_bytes() - size_before) / count
    return Kept(name, rate, (here - paced) / count * 1e6, writer / count * 1e6, database / count * 1e6, behind, each)


def _until_written(store: BatchedLedger) -> None:
    asyncio.run(store.committed(store.position, 600.0))


if __name__ == "__main__":
    main()
