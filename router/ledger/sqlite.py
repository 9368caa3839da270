"""The embedded store: one SQLite file (WAL, synchronous FULL), written by one thread."""

from collections.abc import Sequence
from pathlib import Path

from router.ledger.batch import Batch, Months, batch_rows, write_rows
from router.ledger.database import Database, transaction
from router.ledger.reading import read_last_event, read_recovery, read_totals
from router.ledger.schema import open_writer
from router.ledger.spending import prepare_spending, read_spent
from router.ledger.store import SpentQuestion
from router.ledger.writer import EVENTS_WAITING_MAX, BatchedLedger


class SqliteLedger(BatchedLedger):
    """A `LedgerStore` on one SQLite file. Opening raises LedgerError; so does a second one on the same file."""

    def __init__(self, path: Path, commit_seconds: float = 0.02, events_waiting_max: int = EVENTS_WAITING_MAX) -> None:
        super().__init__(FileShelf(open_writer(path)), commit_seconds, events_waiting_max)


class FileShelf:
    """See `writer.Shelf`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with transaction(database):
            self.ledger_id = prepare_spending(database)
        self.seq, month = read_last_event(database)
        self._months = Months(month)
        self.recovery = read_recovery(database)
        self.totals = read_totals(database, open_nanousd={}, seq=self.seq)

    def commit(self, batch: Batch) -> None:
        database, checkpoint, totals = self._database, batch.checkpoint, self.totals
        with transaction(database):
            write_rows(database, batch_rows(batch, self._months))
            if checkpoint is not None:
                totals = read_totals(database, checkpoint.open_nanousd, batch.last_seq)
        self.totals = totals
        self.seq = max(self.seq, batch.last_seq)

    def answer(self, questions: Sequence[SpentQuestion]) -> tuple[list[int], int]:
        return read_spent(self._database, questions), self.seq

    def attend(self) -> float | None:
        return None

    def close(self) -> None:
        self._database.close()
