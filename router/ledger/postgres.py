"""The store at scale: PostgreSQL, written in batches by the one accountant that holds its lock, with a local spool.

While PostgreSQL is away, batches go into the spool, which counts as written down: metered attempts are dispatched, nothing waits.
Counters stand still meanwhile, for they are read from the ledger. Once it is back, the spool is written first, in order, each
part in one transaction with the position that it leads to: a part that was written although its commit was not confirmed is
written again to no effect. The spool outlives the process, too.

Every accountant takes a *term*. Whoever comes back and finds another's has lost the lock to it for a while: that one has closed
what was open, and has had the leases. What the spool holds of metered attempts is then booked behind that, for their money was
spent, and where the other has closed one as lost, by its estimate, that is corrected; leased ones are left out, for their time
is in the other's bill.

A PostgreSQL that neither answers nor breaks the connection is away, too (`postgres_patience.py`).
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
import structlog

from router.domain.attempt import AttemptStatus
from router.domain.periods import month_of, month_start_ns
from router.domain.totals import Totals
from router.ledger.address import PostgresAddress
from router.ledger.batch import Batch, BatchRows, Months, batch_rows, write_rows
from router.ledger.database import transaction
from router.ledger.partitions import make_months, months_there
from router.ledger.postgres_database import OURS, PostgresDatabase
from router.ledger.postgres_schema import open_writer
from router.ledger.reading import read_last_event, read_recovery, read_totals
from router.ledger.returning import RECONNECT_SECONDS, Returning
from router.ledger.rows import CHARGE_COLUMNS, charge_from_row, rebased_closing
from router.ledger.spending import prepare_spending, read_spent
from router.ledger.spool import DRAIN_BYTES, DRAIN_SECONDS, Spool
from router.ledger.store import Checkpoint, Correction, EventKind, LedgerError, SpentQuestion
from router.ledger.workers import write_corrections
from router.ledger.writer import EVENTS_WAITING_MAX, BatchedLedger

start_of = lru_cache(month_start_ns)

log = structlog.get_logger(__name__)


class PostgresLedger(BatchedLedger):
    """A `LedgerStore` in PostgreSQL. Opening raises LedgerError: PostgreSQL must be there, and its lock free within
    lock_seconds."""

    def __init__(
        self,
        address: PostgresAddress,
        spool_path: Path,
        spool_bytes_max: int,
        *,
        commit_seconds: float = 0.02,
        lock_seconds: float = 5.0,
        events_waiting_max: int = EVENTS_WAITING_MAX,
    ) -> None:
        self._spool = Spool(spool_path, spool_bytes_max)
        try:
            shelf = PostgresShelf(address, self._spool, lock_seconds)
        except BaseException:
            self._spool.close()
            raise
        super().__init__(shelf, commit_seconds, events_waiting_max)

    @property
    def spool(self) -> tuple[int, int] | None:
        return self._spool.size_bytes, self._spool.bytes_max


class PostgresShelf:
    """See `writer.Shelf`. Connections break, and are made again here."""

    def __init__(self, address: PostgresAddress, spool: Spool, lock_seconds: float) -> None:
        self._address = address
        self._spool = spool
        self._is_deposed = False
        self._reconnect_at_seconds = 0.0
        self._returning: Returning[PostgresDatabase] | None = None
        self._database: PostgresDatabase | None = None
        database = open_writer(address, lock_seconds)
        try:
            self._months_there = months_there(database)
            self._take_over(database)
        except psycopg.Error as error:
            database.close()
            raise LedgerError(f"{address}: cannot be opened as a ledger ({error})") from None
        except BaseException:
            database.close()
            raise
        self._database = database

    def _take_over(self, database: PostgresDatabase) -> None:
        """What waits in the spool first; then what the last accountant left is ours to go on with."""
        with transaction(database):
            self.ledger_id = prepare_spending(database)
        if (owner := self._spool.owner) is not None:
            ledger_id, term = owner
            if ledger_id != self.ledger_id:
                raise LedgerError(
                    f"{self._address}: what the spool holds belongs to another ledger ({ledger_id}, this one is"
                    f" {self.ledger_id}); open that one, or name another file (ledger.spool.path)"
                )
            is_foreign = term != _term(database)
            while not self._spool.is_empty:
                self._write_spooled(database, is_foreign=is_foreign)
        with transaction(database):
            database.execute("UPDATE position SET term = term + 1")
            self._term = _term(database)
        self.seq, month = read_last_event(database)
        self._months = Months(month)
        make_months(database, month or month_of(time.time_ns()), self._months_there)
        self.recovery = read_recovery(database)
        self.totals = read_totals(database, open_nanousd={}, seq=self.seq)
        self._stored_seq = self.seq

    def commit(self, batch: Batch) -> None:
        rows = batch_rows(batch, self._months)
        self.attend()
        if self._database is not None and self._spool.is_empty:
            try:
                self.totals = self._write(self._database, rows, batch.checkpoint)
                return
            except OURS:
                raise
            except psycopg.Error as error:
                self._lose(error)
        self._spool.append(rows, (self.ledger_id, self._term))

    def answer(self, questions: Sequence[SpentQuestion]) -> tuple[list[int], int]:
        if self._database is None:
            raise LedgerError(f"{self._address}: is away")
        return read_spent(self._database, questions), self._stored_seq

    def attend(self) -> float | None:
        """Come back, and write what waits, for a while."""
        if self._database is None and not self._is_deposed:
            self._come_back()
        database, deadline_seconds = self._database, time.monotonic() + DRAIN_SECONDS
        if database is None:
            return None if self._is_deposed else RECONNECT_SECONDS
        if self._spool.is_empty:
            return None
        try:
            while not self._spool.is_empty and time.monotonic() < deadline_seconds:
                self._write_spooled(database, is_foreign=False)
        except OURS:
            raise
        except psycopg.Error as error:
            self._lose(error)
            return RECONNECT_SECONDS
        if self._spool.is_empty:
            log.info("the spool is written to the ledger")
            return None
        return 0.0

    def close(self) -> None:
        if not self._spool.is_empty:
            log.warning(
                "ending with a spool that is not written yet: it is at the next start", bytes=self._spool.size_bytes
            )
        returned = None if self._returning is None else self._returning.wait()
        for database in (self._database, returned):
            if database is not None:
                database.close()
        self._spool.close()

    def _lose(self, error: psycopg.Error) -> None:
        """The session is given up, and the lock with it: what came of its last transaction is not known."""
        log.error("the ledger's PostgreSQL is away; batches go into the spool", error=" ".join(str(error).split()))
        if self._database is not None:
            self._database.close()
        self._database = None

    def _come_back(self) -> None:
        """Connecting may take seconds where packets get lost, and the spool must not wait for that."""
        if self._returning is None:
            if time.monotonic() >= self._reconnect_at_seconds:
                self._returning = Returning(lambda: open_writer(self._address, wait_seconds=0.0))
            return
        if self._returning.is_alive():
            return
        database, self._returning = self._returning.database, None
        self._reconnect_at_seconds = time.monotonic() + RECONNECT_SECONDS
        if database is None:
            return
        try:
            if (term := _term(database)) != self._term:
                self._is_deposed = True
                log.error(
                    "another jeton has become the accountant of this ledger; what comes is kept in the spool until a restart",
                    term=term,
                    ours=self._term,
                )
                database.close()
                return
            self._months_there = months_there(database)
        except psycopg.Error:
            database.close()
            return
        self._database = database
        log.warning("the ledger's PostgreSQL is back", spool_bytes=self._spool.size_bytes)

    def _write(self, database: PostgresDatabase, rows: BatchRows, checkpoint: Checkpoint | None) -> Totals:
        """In one transaction; the totals as of the checkpoint, or as they were."""
        for month in rows.months - self._months_there:
            make_months(database, month, self._months_there)
        totals = self.totals
        with transaction(database):
            write_rows(database, _without_known(database, rows))
            if checkpoint is not None and rows.position is not None:
                totals = read_totals(database, checkpoint.open_nanousd, rows.position[1])
        self._stored(rows)
        return totals

    def _stored(self, rows: BatchRows) -> None:
        if rows.events:
            self._stored_seq = rows.events[-1][0]

    def _write_spooled(self, database: PostgresDatabase, *, is_foreign: bool) -> None:
        number, size_bytes, rows = self._spool.first(DRAIN_BYTES)
        corrections: list[tuple[int, Correction]] = []
        if is_foreign:
            rows, corrections = _booked_behind(database, rows)
        for month in rows.months - self._months_there:
            make_months(database, month, self._months_there)
        with transaction(database):
            write_rows(database, _without_known(database, rows))
            write_corrections(database, corrections)
        self._spool.remove(number, size_bytes)
        self._stored(rows)


def _term(database: PostgresDatabase) -> int:
    (term,) = database.execute("SELECT term FROM position").fetchone()
    return int(term)


def _without_known(database: PostgresDatabase, rows: BatchRows) -> BatchRows:
    """An event is one within its month (`partitions.py`). One that is booked in a later month than its own may have been there
    before: it is looked for. All others could only be in the month they are booked in."""
    known = {
        seq
        for seq, month, subject, kind, at_ns, *_ in rows.events
        if at_ns < start_of(month) and _is_known(database, subject, kind)
    }
    if not known:
        return rows
    return replace(
        rows,
        events=[event for event in rows.events if event[0] not in known],
        charges=[charge for charge in rows.charges if charge[0] not in known],
    )


def _is_known(database: PostgresDatabase, subject: str, kind: str) -> bool:
    found = database.execute(
        "SELECT 1 FROM journal WHERE subject = :subject AND kind = :kind", {"subject": subject, "kind": kind}
    )
    return found.fetchone() is not None


def _booked_behind(database: PostgresDatabase, rows: BatchRows) -> tuple[BatchRows, list[tuple[int, Correction]]]:
    """What of it another accountant's ledger lacks, in new places at its end, and what of it that has otherwise."""
    seq, month = read_last_event(database)
    months = Months(month)
    kept = BatchRows([], [], [], rows.prices)
    charges = {charge[0]: charge for charge in rows.charges}
    corrections: list[tuple[int, Correction]] = []
    left_out = 0
    for old_seq, _, *members in rows.events:
        subject, kind, at_ns, lease_id, _, detail, worker = members
        if lease_id:
            left_out += 1
        elif not _is_known(database, subject, kind):
            seq += 1
            kept.events.append((seq, months.of(at_ns), *members))
            if old_seq in charges:
                kept.charges.append((seq, months.month, *charges[old_seq][2:]))
        elif old_seq in charges and (correction := _correction(database, charges[old_seq][2:])) is not None:
            seq += 1
            booked_ns, amount = correction.booked_ns, correction.corrected_nanousd
            said = rebased_closing(detail, at_ns, booked_ns)
            event = (subject, EventKind.CORRECTED.value, booked_ns, "", amount, said, worker)
            kept.events.append((seq, months.of(booked_ns), *event))
            corrections.append((seq, correction))
    log.warning(
        "the spool of a deposed accountant is booked behind its successor's events",
        events=len(kept.events),
        left_out_of_leases=left_out,
        corrections=len(corrections),
    )
    return kept, corrections


def _correction(database: PostgresDatabase, row: Sequence[Any]) -> Correction | None:
    """Of an attempt that the ledger has as lost, by the charge that it had after all; None where there is nothing to correct."""
    charge = charge_from_row(dict(zip(CHARGE_COLUMNS, row, strict=True)))
    lost = database.execute(
        """
        SELECT cost_nanousd, (SELECT at_ns FROM position) FROM charges WHERE attempt_id = :attempt_id AND status = 'lost'
        AND NOT EXISTS (SELECT 1 FROM corrections WHERE corrections.attempt_id = charges.attempt_id)
        """,
        {"attempt_id": charge.facts.attempt_id},
    ).fetchone()
    if lost is None or charge.status is AttemptStatus.LOST:
        return None
    lost_nanousd, position_ns = lost
    corrected_nanousd = (charge.cost_nanousd or 0) - (lost_nanousd or 0)
    return Correction(charge, corrected_nanousd, max(position_ns, charge.ended_ns))
