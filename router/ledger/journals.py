"""A worker's side of a shared ledger: what it sees is reported, and booked by the accountant, who may be elsewhere.

A worker that folds what it sees itself (`accountant.py`) takes this for a store like the others: it keeps the events of attempts,
and lets leases go and what charges say beyond how attempts ended. One that only reports (`reporter.py`) tells it no more than
that. The event loop appends to a list; a thread puts it on a shelf (`report_shelf.py`), as `writer.py` does, and *beats* when
there is nothing to write: it says up to when all is told, what is in flight here, and hears what is in flight elsewhere.

What is appended after a beat is never of a time before it. A worker that was silent for so long that it was taken for dead
finds that out with its next transaction, and goes on under another name: its attempts were closed as lost by then, and what it
tells of them is booked as corrections.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import structlog

from router.domain.attempt import Charge
from router.domain.sleep import Wake
from router.domain.totals import NOTHING, Totals
from router.ledger import rows, workers
from router.ledger.address import Address
from router.ledger.database import Database
from router.ledger.report_shelf import Beat, ReportShelf
from router.ledger.schema import open_reader
from router.ledger.spending import read_spent
from router.ledger.store import (
    Checkpoint,
    Correction,
    Event,
    EventKind,
    Lease,
    LedgerError,
    Opening,
    Recovery,
    SpentQuestion,
)
from router.ledger.workers import Told, WorkerState, read_told
from router.ledger.writer import CLOSE_SECONDS, EVENTS_WAITING_MAX, RETRY_SECONDS

log = structlog.get_logger(__name__)

# How far behind the accountant may be of what workers see: time is booked up to the oldest beat.
BEAT_SECONDS = 0.2
CLOSED = EventKind.CLOSED._value_
# How long the ledger may take to say whether it has booked another's.
BOOKED_SECONDS_MAX = 5.0


class WorkerJournal:
    """A `LedgerStore` that keeps no books. now_ns: the clock that events are timed by. name: for people, a part of the
    worker's own. spool: as the shelf's. Opening raises LedgerError.

    lease_prices: the ids of the prices by which leases ran when it was opened.
    """

    def __init__(
        self,
        address: Address,
        now_ns: Callable[[], int],
        name: str,
        commit_seconds: float = 0.02,
        events_waiting_max: int = EVENTS_WAITING_MAX,
        beat_seconds: float = BEAT_SECONDS,
        spool: tuple[Path, int] | None = None,
    ) -> None:
        self._now_ns = now_ns
        self._commit_seconds = commit_seconds
        self._events_waiting_max = events_waiting_max
        self._beat_seconds = beat_seconds
        self._seq = self._committed_seq = 0
        self._told_ns = now_ns()
        self._in_flight: Mapping[str, int] = {}
        self._awake: Mapping[str, Wake] = {}
        self._shelf = ReportShelf(address, name, self._told_ns, spool, hear_seconds=beat_seconds)
        self.ledger_id, self.lease_prices = self._shelf.ledger_id, self._shelf.lease_prices
        self._lock = threading.Lock()  # held for a few list operations at a time, never across a commit
        self._waiting: list[workers.TellsEvent] = []  # from the one after the last committed on
        # Of those, what was tried to write before: whether it was is not known, so it is written again as the same rows.
        self._tried: list[workers.ReportRow] = []
        self._tried_events = 0
        self._prices: dict[str, str] = {}
        self._asked: list[_Asked] = []
        self._failure: Exception | None = None
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    # From the event loop

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= self._events_waiting_max

    @property
    def is_accepting(self) -> bool:
        return self._failure is None and not self.is_full

    @property
    def position(self) -> int:
        return self._seq

    @property
    def worker(self) -> str:
        """The name by which it is known."""
        return self._shelf.worker

    @property
    def identity(self) -> str:
        """The name by which it began, whatever it is known by now."""
        return self._shelf.identity

    @property
    def elsewhere(self) -> Mapping[str, int]:
        """Attempts in flight at each replica, of the other workers that live."""
        return self._shelf.elsewhere

    @property
    def spool(self) -> tuple[int, int] | None:
        return self._shelf.spool

    @property
    def awake(self) -> workers.Awake:
        """What the other workers that live know of replicas that scale to zero."""
        return self._shelf.awake

    @property
    def awake_before(self) -> workers.Awake:
        """What all workers knew of them when this one began, those that have ended too."""
        return self._shelf.awake_before

    def tell(self, in_flight: Mapping[str, int], awake: Mapping[str, Wake] = MappingProxyType({})) -> None:
        """What is in flight here now, and who is awake that scales to zero, by replica, for the next beat."""
        self._in_flight, self._awake = in_flight, awake

    def recover(self) -> Recovery:
        return Recovery((), {}, {})

    def keep_price(self, price_id: str, snapshot: str) -> None:
        with self._lock:
            self._prices[price_id] = snapshot
        self._work.set()

    def append(
        self,
        events: Sequence[Event],
        charge: Charge | None = None,
        lease: Lease | None = None,
        correction: Correction | None = None,
    ) -> int:
        seq = self._seq
        for event in events:
            kind, opening = event.kind, event.detail
            if isinstance(opening, Opening):
                members = opening.facts, opening.billing, opening.price_id, opening.estimate_nanousd
                said = opening.is_streaming, rows.opening_members(*members)
                seq = self.report(event.subject, kind, event.at_ns, said)
            elif kind is EventKind.FIRST_TOKEN:
                seq = self.report(event.subject, kind, event.at_ns, None)
            elif kind is EventKind.CLOSED and charge is not None:
                seq = self.report_end(charge, event.at_ns)
        return seq

    def report(self, subject: str, kind: EventKind, at_ns: int, said: tuple[Any, ...] | None) -> int:
        """Write down how an attempt begins or goes on (`workers.TellsEvent`). Returns the event's position."""
        with self._lock:
            if at_ns < self._told_ns:  # it began before the last beat, by microseconds
                at_ns = self._told_ns
            self._told_ns = at_ns
            self._waiting.append((subject, kind._value_, at_ns, said))
            self._seq = seq = self._seq + 1
        if not self._work.is_set():
            self._work.set()
        return seq

    def report_end(self, charge: Charge, at_ns: int) -> int:
        """Write down how an attempt ended. Returns the event's position."""
        with self._lock:
            if at_ns < self._told_ns:
                at_ns = self._told_ns
            self._told_ns = at_ns
            said = rows.told_closing_members(charge, at_ns)
            self._waiting.append((charge.facts.attempt_id, CLOSED, at_ns, said))
            self._seq = seq = self._seq + 1
        if not self._work.is_set():
            self._work.set()
        return seq

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """The books are elsewhere."""

    async def committed(self, seq: int, timeout_seconds: float) -> None:
        if self._committed_seq < seq:
            await self._ask(lambda: self._committed_seq >= seq or None, timeout_seconds)

    async def published(self, timeout_seconds: float) -> Totals:
        return NOTHING

    def totals(self) -> Totals:
        return NOTHING

    async def spent(self, questions: Sequence[SpentQuestion], timeout_seconds: float) -> tuple[list[int], int]:
        """As far as the accountant has booked; the position is of this worker's own reports."""

        def read(database: Database) -> tuple[list[int], int]:
            database.begin_reading()
            try:
                amounts = read_spent(database, questions)
                (booked_seq,) = database.execute(
                    "SELECT booked_seq FROM workers WHERE worker = :worker", {"worker": self.worker}
                ).fetchone()
            finally:
                database.rollback()
            return amounts, int(booked_seq)

        found: tuple[list[int], int] = await self._ask(partial(self._shelf.ask, read), timeout_seconds)
        return found

    async def is_booked(self, worker: str) -> bool:
        """Whether all that another process saw, which is gone, is in the ledger. Raises LedgerError, TimeoutError."""
        if self._shelf.has_spooled(worker):
            return False

        def read(database: Database) -> tuple[bool]:
            database.begin_reading()
            try:
                return (workers.is_booked(database, worker),)
            finally:
                database.rollback()

        (is_it,) = await self._ask(partial(self._shelf.ask, read), BOOKED_SECONDS_MAX)
        return bool(is_it)

    def close(self) -> None:
        self._closing.set()
        self._hurry.set()
        self._work.set()
        self._thread.join()
        self._shelf.close()
        if self._waiting:
            raise LedgerError(f"{len(self._waiting)} events could not be written at shutdown ({self._failure})")

    async def _ask(self, answer: Callable[[], Any], timeout_seconds: float) -> Any:
        loop = asyncio.get_running_loop()
        asked = _Asked(answer, loop)
        with self._lock:
            self._asked.append(asked)
        self._hurry.set()
        self._work.set()
        async with asyncio.timeout(timeout_seconds):
            return await asked.future

    # In the thread that writes

    def _run(self) -> None:
        tries_at_close = int(CLOSE_SECONDS / RETRY_SECONDS)
        while True:
            if self._work.wait(self._beat_seconds):
                self._hurry.wait(self._commit_seconds)  # company for the event that woke us
            is_closing = self._closing.is_set()
            self._hurry.clear()
            self._work.clear()
            try:
                self._flush(is_closing=is_closing)
            except Exception as error:  # whatever it is, the rows stay: dropping them would be a loss that nobody sees
                self._failed(error)
                if is_closing:
                    tries_at_close -= 1
                    if tries_at_close < 0:
                        return
                time.sleep(RETRY_SECONDS)
                self._hurry.set()
                self._work.set()
                continue
            self._answer()
            if is_closing:
                return

    def _failed(self, error: Exception) -> None:
        if self._failure is None:
            log.error("journal cannot be written, trying again", error=str(error), events=len(self._waiting))
        self._failure = error

    def _flush(self, *, is_closing: bool) -> None:
        """Together: what waits, and how far all is told."""
        with self._lock:
            taken, prices = self._waiting[:], dict(self._prices)
            watermark_ns = self._told_ns = max(self._now_ns(), self._told_ns)
        self._tried += workers.report_rows(
            self._committed_seq + self._tried_events + 1, taken[self._tried_events :], watermark_ns
        )
        self._tried_events = len(taken)
        in_flight: Mapping[str, int] = {} if is_closing else self._in_flight
        state = WorkerState.LEFT if is_closing else WorkerState.LIVE
        awake = workers.awake_text(self._awake)
        self._shelf.put(self._tried, prices, Beat(watermark_ns, orjson.dumps(in_flight).decode(), awake, state))
        if self._failure is not None:
            log.warning("journal is written again", events=len(taken))
            self._failure = None
        self._tried, self._tried_events = [], 0
        with self._lock:
            del self._waiting[: len(taken)]
            for price_id in prices:
                del self._prices[price_id]
            self._committed_seq += len(taken)

    def _answer(self) -> None:
        """Whoever waits for a commit, or asks the tables."""
        with self._lock:
            asked, self._asked = self._asked, []
        for one in asked:
            try:
                answer = one.answer()
            except Exception as error:
                one.tell(partial(one.fail, error))
                continue
            if answer is None:
                with self._lock:
                    self._asked.append(one)
            else:
                one.tell(partial(one.succeed, answer))


class _Asked:
    """A coroutine that waits. answer: in the thread, after a commit; None: not yet."""

    __slots__ = ("answer", "future", "loop")

    def __init__(self, answer: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.answer = answer
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def tell(self, how: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(how)

    def succeed(self, answer: Any) -> None:
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Journals:
    """The accountant's side: what the workers have told, in order. For one thread at a time."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._database: Database | None = None

    def read(self, taken: Mapping[str, int], known_prices: Mapping[str, str], limit: int) -> Told:
        """One consistent state (see `workers.read_told`). Raises LedgerError, or what cannot be read."""
        with self._reading() as database:
            database.begin_reading()
            return read_told(database, taken, known_prices, limit)

    def ended(self, attempt_id: str) -> tuple[Charge | None, bool]:
        """Of an attempt that is not open: its charge, and whether that was corrected."""
        which = {"attempt_id": attempt_id}
        with self._reading() as database:
            row = database.execute(
                f"SELECT {', '.join(rows.CHARGE_COLUMNS)} FROM charges WHERE attempt_id = :attempt_id", which
            ).fetchone()
            found = database.execute("SELECT 1 FROM corrections WHERE attempt_id = :attempt_id", which).fetchone()
        charge = None if row is None else rows.charge_from_row(dict(zip(rows.CHARGE_COLUMNS, row, strict=True)))
        return charge, found is not None

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Database]:
        """On a connection that stays, until it breaks."""
        database = self._database
        if database is None:
            database = self._database = open_reader(self._address)
        try:
            yield database
            database.rollback()
        except database.error as error:
            self.close()
            raise LedgerError(f"{self._address}: cannot be read ({error})") from None
        except BaseException:
            database.rollback()
            raise
