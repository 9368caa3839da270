"""A ledger's file in SQLite: as its one writer, or to read beside it."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from router.ledger.database import Engine, Parameters, Row
from router.ledger.locks import FileLock

APPLICATION_ID = 0x6A65746F  # "jeto": tells a ledger from any other SQLite file

# How long a commit waits for somebody else's lock (a backup, a curious shell) before it counts as failed and is tried again.
BUSY_SECONDS = 1.0
# Where several write, they wait for their turn (`locks.py`); this is for somebody from outside.
SHARED_BUSY_SECONDS = 10.0

# Pages in the write-ahead log before they are copied into the file: 16 MB. A page of an index is written again by every
# commit; the longer the log, the fewer of its versions are copied.
CHECKPOINT_PAGES = 4000

# sqlite3 lets go of the interpreter's lock at every statement, and under load gets it back milliseconds later; so many rows
# go into one statement. Powers of two, so that any number of rows takes few statements, and all of them stay prepared.
ROWS_PER_STATEMENT = (256, 128, 64, 32, 16, 8, 4, 2, 1)


class SqliteDatabase:
    """locks: held as long as the connection is."""

    engine = Engine.SQLITE
    error: type[Exception] = sqlite3.Error

    def __init__(self, connection: sqlite3.Connection, *locks: FileLock) -> None:
        self._connection = connection
        self._locks = locks
        self.execute = connection.execute
        self.execute_many: Callable[[str, Iterable[Parameters]], object] = connection.executemany

    def insert_new(self, table: str, columns: tuple[str, ...], values: Sequence[Sequence[Any]]) -> None:
        at = 0
        for size in ROWS_PER_STATEMENT:
            while len(values) - at >= size:
                self._connection.execute(
                    _insert(table, columns, size), list(chain.from_iterable(values[at : at + size]))
                )
                at += size

    def stream(self, sql: str, parameters: Any = ()) -> Iterator[Row]:
        return self._connection.execute(sql, parameters)

    def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def begin_reading(self) -> None:
        self._connection.execute("BEGIN")

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def is_away(self, error: Exception) -> bool:
        return False  # a file is there, and may be full

    def close(self) -> None:
        self._connection.close()
        for lock in self._locks:
            lock.close()


@cache
def _insert(table: str, columns: tuple[str, ...], count: int) -> str:
    marks = ", ".join(["(" + ", ".join("?" * len(columns)) + ")"] * count)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {marks} ON CONFLICT DO NOTHING"


def connected_to_write(path: Path) -> sqlite3.Connection:
    """Made here, and used by the writer thread alone afterwards."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)


def connected_to_read(path: Path) -> sqlite3.Connection:
    """For one thread at a time."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )


def prepare_to_write(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
