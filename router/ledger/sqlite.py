"""The embedded store: one SQLite file, written by one thread, many events to a commit.

The event loop only appends to a batch in memory. The writer thread takes the batch whole, so that what was appended together
is committed together, and syncs it to the disk (WAL, synchronous FULL) at most `commit_seconds` after its first event; at
once when somebody waits for it. A commit that fails is tried again until it succeeds; meanwhile the next batch grows, up to
a bound on which `is_full` reports. Nothing is dropped here.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import starmap
from pathlib import Path
from typing import Any

import structlog

from router.domain.attempt import Charge
from router.domain.totals import Totals
from router.ledger import rollups, rows, workers
from router.ledger.locks import Turns
from router.ledger.reading import read_recovery, read_totals
from router.ledger.schema import open_writer
from router.ledger.spending import MOVE_SPENDING, SpentQuestion, prepare_spending, read_spent
from router.ledger.store import Checkpoint, Correction, Event, EventKind, Lease, LedgerError, Recovery

# About 1 kB each: what may wait in memory while the disk is stuck.
EVENTS_WAITING_MAX = 100_000
RETRY_SECONDS = 0.25
CLOSED, CORRECTED = EventKind.CLOSED, EventKind.CORRECTED
# At shutdown, how long a failing disk is given before what waits is reported as lost.
CLOSE_SECONDS = 10.0

log = structlog.get_logger(__name__)


# sqlite3 lets go of the interpreter's lock at every statement, and under load gets it back milliseconds later; so many rows
# go into one statement. Powers of two, so that any number of rows takes few statements, and all of them stay prepared.
ROWS_PER_STATEMENT = (256, 128, 64, 32, 16, 8, 4, 2, 1)


@cache
def _insert(table: str, columns: tuple[str, ...], count: int) -> str:
    """An INSERT of so many rows, without those that are there already."""
    marks = ", ".join(["(" + ", ".join("?" * len(columns)) + ")"] * count)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {marks} ON CONFLICT DO NOTHING"


def insert_all(
    connection: sqlite3.Connection, table: str, columns: tuple[str, ...], values: Sequence[Sequence[Any]]
) -> None:
    """Without those that are there already."""
    at = 0
    for size in ROWS_PER_STATEMENT:
        while len(values) - at >= size:
            connection.execute(
                _insert(table, columns, size), [value for row in values[at : at + size] for value in row]
            )
            at += size


WRITE_LEASE = f"""
INSERT INTO leases ({", ".join(Lease._fields)}) VALUES ({", ".join("?" * len(Lease._fields))})
ON CONFLICT (lease_id) DO UPDATE SET
    price_id = excluded.price_id,
    at_ns = excluded.at_ns,
    ended_ns = excluded.ended_ns,
    bill_nanousd = excluded.bill_nanousd,
    idle_nanousd = excluded.idle_nanousd,
    state = iif(excluded.ended_ns IS NULL, ifnull(excluded.state, state), NULL),
    state_seq = iif(excluded.ended_ns IS NULL AND excluded.state IS NULL, state_seq, excluded.state_seq)
"""
# The charges that a commit has added, by the row ids that it gave them: one that was there already is not added again.
LAST_CHARGE = "SELECT ifnull(max(rowid), 0) FROM charges"
MOVE_TOTALS = f"""
INSERT INTO totals ({rows.LINES}, {", ".join(rows.SUMS)})
SELECT {rows.LINES}, {", ".join(rows.SUMS.values())} FROM charges WHERE rowid > ? GROUP BY {rows.LINES} ORDER BY min(rowid)
ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in rows.SUMS)}
"""
WRITE_PRICE = "INSERT INTO prices (price_id, snapshot, sha256) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
WRITE_POSITION = "UPDATE position SET at_ns = ?, seq = ?, open_from_seq = ?"


def write_charges(connection: sqlite3.Connection, charges: Sequence[Charge]) -> None:
    """Inside a transaction: those that are not there yet, and the totals that they move."""
    if charges:
        (last_charge,) = connection.execute(LAST_CHARGE).fetchone()
        insert_all(connection, "charges", rows.CHARGE_COLUMNS, [rows.charge_row(charge) for charge in charges])
        connection.execute(MOVE_TOTALS, (last_charge,))
        connection.execute(MOVE_SPENDING, (last_charge,))


def write_leases(connection: sqlite3.Connection, leases: Iterable[Lease]) -> None:
    """Inside a transaction: the last word on each."""
    connection.executemany(WRITE_LEASE, map(rows.lease_row, leases))


@dataclass(slots=True)
class _Batch:
    """What goes to disk together. Leases by id: the last word on each counts. booked: by worker, how far its reports are in
    here; silent: workers taken for dead."""

    events: list[tuple[int, Event]] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    corrections: list[tuple[int, Correction]] = field(default_factory=list)
    booked: dict[str, int] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    leases: dict[str, Lease] = field(default_factory=dict)
    prices: dict[str, str] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    checkpoint_number: int = 0
    last_seq: int = 0

    @property
    def is_empty(self) -> bool:
        return not (
            self.events or self.charges or self.leases or self.prices or self.checkpoint or self.booked or self.silent
        )

    def put_lease(self, lease: Lease) -> None:
        before = self.leases.get(lease.lease_id)
        if before is not None and before.state is not None and lease.state is None:
            lease = lease._replace(state=before.state, state_seq=before.state_seq)
        self.leases[lease.lease_id] = lease

    def extend(self, later: "_Batch") -> None:
        self.events += later.events
        self.charges += later.charges
        self.corrections += later.corrections
        self.booked |= later.booked
        self.silent += later.silent
        self.prices |= later.prices
        for lease in later.leases.values():
            self.put_lease(lease)
        self.last_seq = max(self.last_seq, later.last_seq)


@dataclass(slots=True, eq=False)
class _Waiter:
    """A coroutine that waits for a commit."""

    is_due: Callable[[], bool]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


@dataclass(slots=True, eq=False)
class _Question:
    """A coroutine that waits for an answer from the tables."""

    questions: Sequence[SpentQuestion]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[tuple[list[int], int]]

    def answer(self, amounts: list[int], through_seq: int) -> None:
        if not self.future.done():
            self.future.set_result((amounts, through_seq))

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class SqliteLedger:
    """A `LedgerStore` on one SQLite file. Opening raises LedgerError; so does a second one on the same file.

    is_shared: workers report to the same file, and this is the accountant's. Whoever opens it so must lead (`locks.py`).
    """

    def __init__(
        self,
        path: Path,
        commit_seconds: float = 0.02,
        events_waiting_max: int = EVENTS_WAITING_MAX,
        *,
        is_shared: bool = False,
    ) -> None:
        self._commit_seconds = commit_seconds
        self._events_waiting_max = events_waiting_max
        self._connection, self._file_lock = open_writer(path, is_shared=is_shared)
        self._turns = Turns(path) if is_shared else None
        self._turn = contextlib.nullcontext() if self._turns is None else self._turns
        with self._turn:
            self.ledger_id = prepare_spending(self._connection)
        (last_seq,) = self._connection.execute("SELECT ifnull(max(seq), 0) FROM journal").fetchone()
        self._seq = int(last_seq)
        self._committed_seq = self._seq
        self._checkpoints = self._checkpoints_committed = 0
        self._recovery = read_recovery(self._connection)
        self._totals = read_totals(self._connection, open_nanousd={}, seq=self._seq)
        self._lock = threading.Lock()  # held for a few list operations at a time, never across a commit
        self._batch = _Batch()
        # A checkpoint's totals must not contain what came after it, so it seals its batch. Only one sealed batch waits: the
        # next checkpoint takes it up, or states would pile up while the disk is stuck.
        self._sealed: _Batch | None = None
        self._events_waiting = 0
        self._failure: Exception | None = None
        self._waiters: list[_Waiter] = []
        self._questions: list[_Question] = []
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    # From the event loop

    @property
    def is_full(self) -> bool:
        return self._events_waiting >= self._events_waiting_max

    @property
    def is_accepting(self) -> bool:
        return self._failure is None and not self.is_full

    @property
    def position(self) -> int:
        return self._seq

    def recover(self) -> Recovery:
        return self._recovery

    def keep_price(self, price_id: str, snapshot: str) -> None:
        with self._lock:
            self._batch.prices[price_id] = snapshot
        self._work.set()

    def append(
        self,
        events: Sequence[Event],
        charge: Charge | None = None,
        lease: Lease | None = None,
        correction: Correction | None = None,
    ) -> int:
        with self._lock:
            batch, seq = self._batch, self._seq
            for event in events:
                seq += 1
                batch.events.append((seq, event))
                if event.number:
                    batch.booked[event.worker] = event.number
            self._events_waiting += len(events)
            batch.last_seq = self._seq = seq
            if charge is not None:
                batch.charges.append(charge)
            if correction is not None:
                batch.corrections.append((seq, correction))
            if lease is not None:
                batch.put_lease(lease if lease.state is None else lease._replace(state_seq=seq))
        if not self._work.is_set():
            self._work.set()
        return seq

    def book(self, booked: Mapping[str, int], silent: Sequence[str] = ()) -> None:
        """With the next commit: reports are booked so far, by worker, and these workers are silent."""
        with self._lock:
            self._batch.booked |= booked
            self._batch.silent += silent
        self._work.set()

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        with self._lock:
            batch, self._batch = self._batch, _Batch()
            if self._sealed is not None:
                self._sealed.extend(batch)
                batch = self._sealed
            for lease in checkpoint.leases:
                batch.put_lease(lease._replace(state_seq=self._seq))
            self._checkpoints += 1
            batch.checkpoint = checkpoint
            batch.checkpoint_number = self._checkpoints
            batch.last_seq = self._seq
            self._sealed = batch
        self._work.set()

    async def committed(self, seq: int, timeout_seconds: float) -> None:
        await self._wait(lambda: self._committed_seq >= seq, timeout_seconds)

    async def published(self, timeout_seconds: float) -> Totals:
        number = self._checkpoints
        await self._wait(lambda: self._checkpoints_committed >= number, timeout_seconds)
        return self._totals

    def totals(self) -> Totals:
        return self._totals

    async def spent(self, questions: Sequence[SpentQuestion], timeout_seconds: float) -> tuple[list[int], int]:
        loop = asyncio.get_running_loop()
        question = _Question(questions, loop, loop.create_future())
        with self._lock:
            self._questions.append(question)
        self._hurry.set()
        self._work.set()
        async with asyncio.timeout(timeout_seconds):
            return await question.future

    def close(self) -> None:
        self._closing.set()
        self._hurry.set()
        self._work.set()
        self._thread.join()
        self._connection.close()
        self._file_lock.close()
        if self._turns is not None:
            self._turns.close()
        if self._events_waiting:
            raise LedgerError(f"{self._events_waiting} events could not be written at shutdown ({self._failure})")

    async def _wait(self, is_due: Callable[[], bool], timeout_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(is_due, loop, loop.create_future())
        with self._lock:
            if is_due():
                return
            self._waiters.append(waiter)
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_seconds):
                await waiter.future
        finally:
            with self._lock:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    # In the writer thread

    def _run(self) -> None:
        while True:
            self._work.wait()
            self._hurry.wait(self._commit_seconds)  # company for the event that woke us
            self._hurry.clear()
            self._work.clear()
            while (batch := self._take()) is not None:
                if not self._commit_until_done(batch):
                    return
            self._answer()
            if self._closing.is_set():
                return

    def _take(self) -> _Batch | None:
        with self._lock:
            if self._sealed is not None:
                batch, self._sealed = self._sealed, None
            else:
                batch, self._batch = self._batch, _Batch()
        return None if batch.is_empty else batch

    def _answer(self) -> None:
        """Tell who asks what the tables say; all that was committed is in them, and nothing else."""
        with self._lock:
            questions, self._questions = self._questions, []
        for question in questions:
            tell: Callable[[], None]
            try:
                amounts = read_spent(self._connection, question.questions)
                tell = partial(question.answer, amounts, self._committed_seq)
            except sqlite3.Error as error:
                tell = partial(question.fail, error)
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
                question.loop.call_soon_threadsafe(tell)

    def _commit_until_done(self, batch: _Batch) -> bool:
        """Commit, however often it takes; False when the ledger is being closed and the disk does not recover."""
        tries_at_close = int(CLOSE_SECONDS / RETRY_SECONDS)
        while True:
            try:
                totals = self._commit(batch)
                break
            except Exception as error:  # whatever it is, the rows stay: dropping them would be a loss that nobody sees
                if self._failure is None:
                    log.error("ledger commit failed, trying again", error=str(error), events=len(batch.events))
                self._failure = error
                if self._closing.is_set():
                    tries_at_close -= 1
                    if tries_at_close < 0:
                        return False
                time.sleep(RETRY_SECONDS)
        if self._failure is not None:
            log.warning("ledger commits again", events=len(batch.events))
            self._failure = None
        self._announce(batch, totals)
        return True

    def _commit(self, batch: _Batch) -> Totals | None:
        """One transaction; the totals as of the batch's checkpoint, if it carries one."""
        with self._turn:
            return self._commit_in_turn(batch)

    def _commit_in_turn(self, batch: _Batch) -> Totals | None:
        connection, checkpoint, totals = self._connection, batch.checkpoint, None
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(WRITE_PRICE, starmap(rows.price_row, batch.prices.items()))
            charged = {charge.facts.attempt_id: charge for charge in batch.charges}
            corrected = {one.charge.facts.attempt_id: one.charge for _, one in batch.corrections}
            ended = {CLOSED: charged, CORRECTED: corrected}
            nothing: dict[str, Charge] = {}
            events = [
                rows.event_row(seq, event, ended.get(event.kind, nothing).get(event.subject))
                for seq, event in batch.events
            ]
            insert_all(connection, "journal", rows.EVENT_COLUMNS, events)
            write_charges(connection, batch.charges)
            write_leases(connection, batch.leases.values())
            workers.write_corrections(connection, batch.corrections)
            workers.write_booked(connection, batch.booked, batch.silent)
            if checkpoint is not None:
                open_from_seq = checkpoint.open_from_seq if checkpoint.open_from_seq is not None else batch.last_seq + 1
                connection.execute(WRITE_POSITION, (checkpoint.at_ns, batch.last_seq, open_from_seq))
                rollups.roll(connection)
                totals = read_totals(connection, checkpoint.open_nanousd, batch.last_seq)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return totals

    def _announce(self, batch: _Batch, totals: Totals | None) -> None:
        """Tell whoever waits that the batch is on disk."""
        with self._lock:
            self._events_waiting -= len(batch.events)
            self._committed_seq = max(self._committed_seq, batch.last_seq)
            if totals is not None:
                self._totals = totals
                self._checkpoints_committed = batch.checkpoint_number
            due = [waiter for waiter in self._waiters if waiter.is_due()]
            for waiter in due:
                self._waiters.remove(waiter)
        for waiter in due:
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
                waiter.loop.call_soon_threadsafe(waiter.wake)
