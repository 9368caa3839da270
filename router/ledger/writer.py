"""The writer of a ledger: a thread of its own, many events to a commit.

The event loop only appends to a batch in memory. The writer thread takes the batch whole, so that what was appended together
is committed together, at most `commit_seconds` after its first event; at once when somebody waits for it. A commit that fails is
tried again until it succeeds; meanwhile the next batch grows, up to a bound on which `is_full` reports. Nothing is dropped
here. Where batches go is the `Shelf`'s: a file of SQLite (`sqlite.py`), or PostgreSQL (`postgres.py`).
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from router.domain.attempt import Charge
from router.domain.totals import Totals
from router.ledger.batch import Batch
from router.ledger.store import Checkpoint, Correction, Event, Lease, LedgerError, Recovery, SpentQuestion

# About 1 kB each: what may wait in memory while the disk is stuck.
EVENTS_WAITING_MAX = 100_000
RETRY_SECONDS = 0.25
# At shutdown, how long a failing disk is given before what waits is reported as lost.
CLOSE_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Shelf(Protocol):
    """Where batches are put. Opened by who makes it, from then on the writer thread's alone.

    ledger_id, seq, recovery: what the last process left. totals: as of the last checkpoint that was committed.
    """

    ledger_id: str
    seq: int
    recovery: Recovery
    totals: Totals

    def commit(self, batch: Batch) -> None:
        """Durable when it returns. Whatever it raises, nothing of the batch counts, and it is asked again."""

    def answer(self, questions: Sequence[SpentQuestion]) -> tuple[list[int], int]:
        """What the tables say, and the last event that is in them."""

    def attend(self) -> float | None:
        """Do what is due beside commits; in how many seconds it wants to be asked again, None: at the next batch."""

    def close(self) -> None: ...


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
    """A coroutine that waits for an answer from the tables. seq: of the last event that was appended before."""

    questions: Sequence[SpentQuestion]
    seq: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[tuple[list[int], int]]

    def answer(self, amounts: list[int], through_seq: int) -> None:
        if not self.future.done():
            self.future.set_result((amounts, through_seq))

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class BatchedLedger:
    """A `LedgerStore` that puts its batches on a shelf."""

    def __init__(self, shelf: Shelf, commit_seconds: float, events_waiting_max: int = EVENTS_WAITING_MAX) -> None:
        self._shelf = shelf
        self._commit_seconds = commit_seconds
        self._events_waiting_max = events_waiting_max
        self.ledger_id = shelf.ledger_id
        self._seq = self._committed_seq = shelf.seq
        self._checkpoints = self._checkpoints_committed = 0
        self._totals = shelf.totals
        self._lock = threading.Lock()  # held for a few list operations at a time, never across a commit
        self._batch = Batch()
        # A checkpoint's totals must not contain what came after it, so it seals its batch. Only one sealed batch waits: the
        # next checkpoint takes it up, or states would pile up while the disk is stuck.
        self._sealed: Batch | None = None
        self._events_waiting = 0
        self._failure: Exception | None = None
        self._waiters: list[_Waiter] = []
        self._questions: list[_Question] = []
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._close_seconds = CLOSE_SECONDS
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
    def spool(self) -> tuple[int, int] | None:
        """Bytes that wait in a local spool, and those there is room for; None without one."""
        return None

    @property
    def position(self) -> int:
        return self._seq

    def recover(self) -> Recovery:
        return self._shelf.recovery

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
            seq = self._seq = self._batch.put(self._seq, events, charge, lease, correction)
            self._events_waiting += len(events)
        if not self._work.is_set():
            self._work.set()
        return seq

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        with self._lock:
            batch, self._batch = self._batch, Batch()
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
        with self._lock:
            question = _Question(questions, self._seq, loop, loop.create_future())
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
        self._shelf.close()
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
            self._work.wait(self._attend())
            self._hurry.wait(self._commit_seconds)  # company for the event that woke us
            self._hurry.clear()
            self._work.clear()
            is_last = self._closing.is_set()
            while (batch := self._take()) is not None:
                if not self._commit_until_done(batch):
                    return
                # What has come meanwhile waits for company, too: a commit costs what it costs, however little is in it. But
                # behind a checkpoint may be what somebody waits for.
                if batch.checkpoint is None and not is_last:
                    break
            self._answer()
            if is_last:
                return

    def _take(self) -> Batch | None:
        with self._lock:
            if self._sealed is not None:
                batch, self._sealed = self._sealed, None
            else:
                batch, self._batch = self._batch, Batch()
        return None if batch.is_empty else batch

    def _answer(self) -> None:
        """Tell who asks what the tables say; all that was committed is in them, and nothing else. Who asked when there was more
        waits for that: it was counted before, and would be forgotten."""
        with self._lock:
            questions, self._questions = self._questions, []
        for question in questions:
            tell: Callable[[], None]
            try:
                amounts, through_seq = self._shelf.answer(question.questions)
                tell = partial(question.answer, amounts, through_seq)
            except Exception as error:
                tell = partial(question.fail, error)
            else:
                if through_seq < question.seq:
                    with self._lock:
                        self._questions += [] if question.future.done() else [question]
                    continue
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
                question.loop.call_soon_threadsafe(tell)

    def _commit_until_done(self, batch: Batch) -> bool:
        """Commit, however often it takes; False when the ledger is being closed and the disk does not recover."""
        tries_at_close = 0
        while True:
            try:
                self._shelf.commit(batch)
                break
            except Exception as error:  # whatever it is, the rows stay: dropping them would be a loss that nobody sees
                if self._failure is None:
                    log.error("ledger commit failed, trying again", error=str(error), events=len(batch.events))
                self._failure = error
                if self._closing.is_set():
                    tries_at_close += 1
                    if tries_at_close > self._close_seconds / RETRY_SECONDS:  # which may be none by now
                        return False
                time.sleep(RETRY_SECONDS)
        if self._failure is not None:
            log.warning("ledger commits again", events=len(batch.events))
            self._failure = None
        self._announce(batch)
        return True

    def _attend(self) -> float | None:
        try:
            return self._shelf.attend()
        except Exception:
            log.exception("the ledger could not be attended to")
            return RETRY_SECONDS

    def _announce(self, batch: Batch) -> None:
        """Tell whoever waits that the batch is on disk."""
        with self._lock:
            self._events_waiting -= len(batch.events)
            self._committed_seq = max(self._committed_seq, batch.last_seq)
            if batch.checkpoint is not None:
                self._totals = self._shelf.totals
                self._checkpoints_committed = batch.checkpoint_number
            due = [waiter for waiter in self._waiters if waiter.is_due()]
            for waiter in due:
                self._waiters.remove(waiter)
        for waiter in due:
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
                waiter.loop.call_soon_threadsafe(waiter.wake)
