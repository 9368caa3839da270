"""The accountant's store where several workers report: what it books, and how far, in one transaction.

While SQLite's disk is stuck, batches wait as in the embedded store. A PostgreSQL that is away takes the accountant's lock with
it: another may lead by the time it is back, so what was not committed is let go of, for the reports that it came from are still
there, and whoever leads next books them.
"""

import time
from collections.abc import Mapping, Sequence

from router.domain.periods import month_of
from router.ledger import workers
from router.ledger.address import Address
from router.ledger.batch import Batch, Months, batch_rows, write_rows
from router.ledger.database import Database, Engine, transaction
from router.ledger.reading import read_last_event, read_recovery, read_totals
from router.ledger.schema import make_room, open_shared, turns_of
from router.ledger.spending import prepare_spending, read_spent
from router.ledger.store import LedgerError, SpentQuestion
from router.ledger.writer import EVENTS_WAITING_MAX, BatchedLedger


class SharedLedger(BatchedLedger):
    """A `LedgerStore` that reports are booked in. Opening raises LedgerError, LockHeld when another leads."""

    def __init__(
        self, address: Address, commit_seconds: float = 0.02, events_waiting_max: int = EVENTS_WAITING_MAX
    ) -> None:
        self._books = SharedShelf(address)
        super().__init__(self._books, commit_seconds, events_waiting_max)

    @property
    def is_lost(self) -> bool:
        """Somebody else may keep the books by now: nothing more can be committed here."""
        return self._books.is_lost

    def book(self, booked: Mapping[str, int], silent: Sequence[str] = ()) -> None:
        """With the next commit: reports are booked so far, by worker, and these workers are silent."""
        with self._lock:
            self._batch.booked |= booked
            self._batch.silent += silent
        self._work.set()

    def abandon(self) -> None:
        """Close what is lost, without what was not committed."""
        self._close_seconds = 0.0
        try:
            self.close()
        except LedgerError:
            return


class SharedShelf:
    """See `writer.Shelf`."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._database = open_shared(address, leads=True)
        self._turns = turns_of(address)
        self.is_lost = False
        self._room: set[int] = set()
        try:
            with self._turns, transaction(self._database):
                self.ledger_id = prepare_spending(self._database)
                before_ns = time.time_ns() - workers.KEPT_NS
                self._database.execute(workers.FORGET_WORKERS, {"before_ns": before_ns})
            self.seq, month = read_last_event(self._database)
            self._months = Months(month)
            self._make_room({month or month_of(time.time_ns())})
            self.recovery = read_recovery(self._database)
            self.totals = read_totals(self._database, open_nanousd={}, seq=self.seq)
        except BaseException:
            self.close()
            raise

    def commit(self, batch: Batch) -> None:
        if self.is_lost:
            raise LedgerError(f"{self._address}: was away, and another may keep the books by now")
        database, checkpoint, totals = self._database, batch.checkpoint, self.totals
        rows = batch_rows(batch, self._months)
        try:
            self._make_room(rows.months)
            with self._turns, transaction(database):
                write_rows(database, rows)
                workers.write_corrections(database, batch.corrections)
                workers.write_booked(database, batch.booked, batch.silent)
                if checkpoint is not None:
                    totals = read_totals(database, checkpoint.open_nanousd, batch.last_seq)
        except database.error:
            self.is_lost = _is_broken(database)
            raise
        self.totals = totals
        self.seq = max(self.seq, batch.last_seq)

    def answer(self, questions: Sequence[SpentQuestion]) -> tuple[list[int], int]:
        return read_spent(self._database, questions), self.seq

    def attend(self) -> float | None:
        return None

    def close(self) -> None:
        self._database.close()
        self._turns.close()

    def _make_room(self, months: set[int]) -> None:
        if new := months - self._room:
            make_room(self._database, new)
            self._room |= new


def _is_broken(database: Database) -> bool:
    """Whether the session is gone, and the lock with it."""
    if database.engine is Engine.SQLITE:
        return False
    try:
        database.execute("SELECT 1")
    except database.error:
        return True
    return False
