"""What could not be written while PostgreSQL was away: a bounded local file, as durable as the embedded ledger.

Batches go in as rows, in order, and come out in order once they are written where they belong. Bounded is what they hold; the
file takes little more, and gives its space to what comes later.
"""

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from router.ledger.batch import BatchRows
from router.ledger.store import LedgerError

BUSY_SECONDS = 1.0
# What of a spool is written where it belongs at once, and for how long before what is new has its turn.
DRAIN_BYTES = 2**20
DRAIN_SECONDS = 0.2
TABLES = (
    "CREATE TABLE IF NOT EXISTS batches (number INTEGER PRIMARY KEY, rows BLOB NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS owner (ledger_id TEXT NOT NULL, term INTEGER NOT NULL) STRICT",
)


class SpoolFull(LedgerError):
    """There is no room until PostgreSQL is back."""


class SpoolTaken(LedgerError):
    """Another process has it."""


class SpoolFile:
    """One process's: texts, in order. Opening raises LedgerError, SpoolTaken when another has it.

    size_bytes: what waits. owner: of which ledger it is, and which accountant's (`position.term`; 0: a worker's) when it was
    filled; None when nothing waits.
    """

    def __init__(self, path: Path, bytes_max: int) -> None:
        self.path = path
        self.bytes_max = bytes_max
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = open(path.with_name(path.name + ".lock"), "a")  # noqa: SIM115 (held as long as the spool is)
        except OSError as error:
            raise LedgerError(f"{path}: the spool cannot be made here ({error.strerror})") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise SpoolTaken(
                f"{path}: another jeton has this spool; give each one of its own (ledger.spool.path)"
            ) from None
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise LedgerError(f"{path}: cannot be opened as a spool ({error})") from None

    def _open(self) -> None:
        self._connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
        )
        os.chmod(self.path, 0o600)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        for table in TABLES:
            self._connection.execute(table)
        (self.size_bytes,) = self._connection.execute("SELECT ifnull(sum(length(rows)), 0) FROM batches").fetchone()

    @property
    def is_empty(self) -> bool:
        return not self.size_bytes

    @property
    def owner(self) -> tuple[str, int] | None:
        found: tuple[str, int] | None = self._connection.execute("SELECT ledger_id, term FROM owner").fetchone()
        return None if self.is_empty else found

    def put(self, text: bytes, owner: tuple[str, int]) -> None:
        """Durable when it returns. Raises SpoolFull, or what SQLite raises."""
        if self.size_bytes + len(text) > self.bytes_max:
            raise SpoolFull(
                f"{self.path}: the spool is full ({self.size_bytes:,} of {self.bytes_max:,} bytes, ledger.spool.bytes_max)"
            )
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            if self.is_empty:
                self._connection.execute("DELETE FROM owner")
                self._connection.execute("INSERT INTO owner VALUES (?, ?)", owner)
            self._connection.execute("INSERT INTO batches (rows) VALUES (?)", (text,))
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self.size_bytes += len(text)

    def oldest(self, bytes_max: int) -> tuple[int, int, list[bytes]]:
        """The oldest texts, of about so many bytes; before them, for `remove`, the last one's number and how many they hold."""
        texts, last, size = [], 0, 0
        for number, text in self._connection.execute("SELECT number, rows FROM batches ORDER BY number"):
            texts.append(text)
            last, size = number, size + len(text)
            if size >= bytes_max:
                break
        return last, size, texts

    def remove(self, number: int, size_bytes: int) -> None:
        """All up to this one: they are where they belong."""
        self._connection.execute("DELETE FROM batches WHERE number <= ?", (number,))
        self.size_bytes -= size_bytes

    def close(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()
        self._lock.close()


class Spool(SpoolFile):
    """An accountant's: batches as rows."""

    def append(self, batch: BatchRows, owner: tuple[str, int]) -> None:
        """Durable when it returns. Raises SpoolFull, or what SQLite raises."""
        members = (batch.events, batch.charges, batch.leases, batch.prices, batch.position)
        self.put(orjson.dumps(members), owner)

    def first(self, bytes_max: int) -> tuple[int, int, BatchRows]:
        """The oldest batches as one, of about so many bytes; and, for `remove`, the last one's number and how many they hold."""
        last, size, texts = self.oldest(bytes_max)
        merged = BatchRows([], [], [], [])
        for text in texts:
            _extend(merged, orjson.loads(text))
        return last, size, merged


def _extend(merged: BatchRows, members: Sequence[Any]) -> None:
    events, charges, leases, prices, position = members
    merged.events += events
    merged.charges += charges
    merged.leases += leases
    merged.prices += prices
    merged.position = position or merged.position
