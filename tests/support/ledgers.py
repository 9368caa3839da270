"""A ledger's place, in either engine, for the tests that hold on both."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from router.ledger.address import Address, PostgresAddress
from router.ledger.schema import open_reader
from router.ledger.sqlite import SqliteLedger
from router.ledger.writer import EVENTS_WAITING_MAX, BatchedLedger

ENGINES = ("sqlite", "postgresql")
SPOOL_BYTES_MAX = 2**24


@dataclass(frozen=True)
class Place:
    """directory: of the spool, and of what a test needs besides."""

    address: Address
    directory: Path

    def open(self, commit_seconds: float = 0.001, events_waiting_max: int = EVENTS_WAITING_MAX) -> BatchedLedger:
        if isinstance(self.address, Path):
            return SqliteLedger(self.address, commit_seconds, events_waiting_max)
        return self.open_in_postgres(commit_seconds, events_waiting_max=events_waiting_max)

    def open_in_postgres(
        self,
        commit_seconds: float = 0.001,
        *,
        spool_bytes_max: int = SPOOL_BYTES_MAX,
        lock_seconds: float = 5.0,
        events_waiting_max: int = EVENTS_WAITING_MAX,
    ) -> BatchedLedger:
        from router.ledger.postgres import PostgresLedger

        assert isinstance(self.address, PostgresAddress)
        return PostgresLedger(
            self.address,
            self.directory / "spool",
            spool_bytes_max,
            commit_seconds=commit_seconds,
            lock_seconds=lock_seconds,
            events_waiting_max=events_waiting_max,
        )

    def change(self, *statements: str) -> None:
        """Behind the ledger's back; every statement must change something."""
        with self._connected() as connection:
            for statement in statements:
                assert connection.execute(statement).rowcount != 0, statement

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(open_reader(self.address)) as database:
            return [tuple(row) for row in database.execute(sql)]

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        if isinstance(self.address, Path):
            with closing(sqlite3.connect(self.address, isolation_level=None)) as file:
                yield file
        else:
            with closing(psycopg.connect(self.address.url, autocommit=True)) as connection:
                yield connection
