"""A ledger in a database of PostgreSQL, by psycopg: imported only where there is one."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.adapt import Loader

from router.ledger.address import PostgresAddress
from router.ledger.database import Cursor, Engine, Parameters, Row
from router.ledger.postgres_patience import PatientConnection

CONNECT_SECONDS = 5
# A peer that is gone without a word is noticed by both sides within this time, so that its lock does not outlive it.
SILENT_SECONDS = 4
# No statement of ours takes this long unless it waits for a lock.
STATEMENT_SECONDS = 10
ROWS_AT_ONCE = 5_000
ADVISORY_LOCK = 0x6A65746F  # "jeto": of one database, so that each ledger has its own


# The data is wrong or our SQL is: PostgreSQL is not away, and no spool would help.
OURS = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError, psycopg.NotSupportedError)


class WholeNumbers(Loader):
    """PostgreSQL's sums of bigint are numeric. All of ours are whole."""

    def load(self, data: Any) -> int:
        return int(bytes(data))


class PostgresDatabase:
    engine = Engine.POSTGRESQL
    error: type[Exception] = psycopg.Error

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self.connection = connection
        self._types: dict[str, list[int]] = {}

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        return self.connection.execute(_translated(sql), parameters or None)

    def execute_many(self, sql: str, parameters: Iterable[Parameters], /) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(_translated(sql), list(parameters))

    def insert_new(self, table: str, columns: tuple[str, ...], values: Sequence[Sequence[Any]]) -> None:
        """COPY knows no ON CONFLICT, so rows go through a temporary table: a sixth of the CPU that an INSERT of each would cost
        here, and half of what it would cost there."""
        if not values:
            return
        names = ", ".join(columns)
        arrivals = f"new_{table}"
        types = self._types.get(arrivals)
        if types is None:
            types = self._types[arrivals] = self._make_arrivals(table, arrivals, columns)
        with (
            self.connection.cursor() as cursor,
            cursor.copy(f"COPY {arrivals} ({names}) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(types)
            for row in values:
                copy.write_row(row)
        self.connection.execute(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM {arrivals} ORDER BY seq ON CONFLICT DO NOTHING"
        )

    def _make_arrivals(self, table: str, arrivals: str, columns: tuple[str, ...]) -> list[int]:
        """Emptied at every commit. It is made in the transaction of its first rows: rolled back, it must be made again."""
        names = ", ".join(columns)
        self.connection.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {arrivals} ON COMMIT DELETE ROWS AS SELECT {names} FROM {table} LIMIT 0"
        )
        described = self.connection.execute(f"SELECT {names} FROM {arrivals}").description
        assert described is not None
        return [column.type_code for column in described]

    def stream(self, sql: str, parameters: Any = ()) -> Iterator[Row]:
        with self.connection.cursor(name="jeton") as cursor:
            cursor.itersize = ROWS_AT_ONCE
            cursor.execute(_translated(sql), parameters or None)
            yield from cursor

    def begin(self) -> None:
        self.connection.execute("BEGIN")

    def begin_reading(self) -> None:
        self.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def commit(self) -> None:
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        self._types.clear()
        if not self.connection.closed:
            self.connection.rollback()

    def is_away(self, error: Exception) -> bool:
        return isinstance(error, psycopg.Error) and not isinstance(error, OURS)

    def close(self) -> None:
        """Locks are let go of first: the server ends the session, and its locks with it, some time after we have left."""
        if self.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                self.connection.execute("SELECT pg_advisory_unlock_all()")
        self.connection.close()


def connected(address: PostgresAddress, name: str) -> PostgresDatabase:
    """name: as it is shown in `pg_stat_activity`. Raises psycopg.Error."""
    options = f"-c statement_timeout={STATEMENT_SECONDS}s" if name == "jeton" else ""
    connection = PatientConnection.connect(
        address.url,
        autocommit=True,
        application_name=name,
        connect_timeout=CONNECT_SECONDS,
        keepalives_idle=SILENT_SECONDS // 2,
        keepalives_interval=SILENT_SECONDS // 4,
        keepalives_count=2,
        tcp_user_timeout=SILENT_SECONDS * 1000,
        options=f"-c tcp_keepalives_idle={SILENT_SECONDS // 2} -c tcp_keepalives_interval={SILENT_SECONDS // 4}"
        f" -c tcp_keepalives_count=2 -c synchronous_commit=on {options}",
        password=address.password or None,
    )
    connection.adapters.register_loader("numeric", WholeNumbers)
    return PostgresDatabase(connection)


@lru_cache(maxsize=512)
def _translated(sql: str) -> str:
    """`:name` as psycopg has it."""
    return re.sub(r"(?<!:):([a-z_][a-z_0-9]*)", r"%(\1)s", sql)
