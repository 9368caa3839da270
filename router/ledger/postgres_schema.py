"""How a ledger in PostgreSQL is opened: its tables made or brought up to date, and the lock of its one accountant taken.

The lock is of the session that writes: it goes with it, however that ends, and nobody writes without it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import psycopg

from router.ledger.address import PostgresAddress
from router.ledger.postgres_database import ADVISORY_LOCK, PostgresDatabase, connected
from router.ledger.schema import VERSION, check_version, make_tables, migrate
from router.ledger.store import LedgerError

if TYPE_CHECKING:
    from sqlalchemy import Connection

WRITER = "jeton"
READER = "jeton ledger"
LOCK_RETRY_SECONDS = 0.1


class LockHeld(LedgerError):
    """Another accountant has the ledger."""


def open_writer(address: PostgresAddress, wait_seconds: float) -> PostgresDatabase:
    """Raises LedgerError, LockHeld when the lock is not free within so many seconds."""
    try:
        database = connected(address, WRITER)
        try:
            take_lock(database, address, wait_seconds)
            version = _version(database, address)
            if version is None or version < VERSION:
                with _changing(address) as changing:
                    make_tables(changing) if version is None else migrate(changing, version)
            else:
                check_version(version, address, may_upgrade=True)
        except BaseException:
            database.close()
            raise
    except psycopg.Error as error:
        raise LedgerError(f"{address}: cannot be opened as a ledger ({_told(error)})") from None
    return database


def open_reader(address: PostgresAddress) -> PostgresDatabase:
    """Raises LedgerError."""
    try:
        database = connected(address, READER)
        try:
            version = _version(database, address)
            if version is None:
                raise LedgerError(
                    f"{address}: there is no ledger here; `jeton serve` makes one, --ledger names another"
                )
            check_version(version, address, may_upgrade=False)
        except BaseException:
            database.close()
            raise
    except psycopg.Error as error:
        raise LedgerError(f"{address}: cannot be read as a ledger ({_told(error)})") from None
    return database


def take_lock(database: PostgresDatabase, address: PostgresAddress, wait_seconds: float) -> None:
    """Raises LockHeld."""
    deadline_seconds = time.monotonic() + wait_seconds
    while True:
        (is_ours,) = database.execute("SELECT pg_try_advisory_lock(:key)", {"key": ADVISORY_LOCK}).fetchone()
        if is_ours:
            return
        if time.monotonic() >= deadline_seconds:
            raise LockHeld(
                f"{address}: another jeton is the accountant of this ledger; stop it, give this one a database of its own"
                " (ledger.url), or let it wait for longer (ledger.lock_seconds)"
            )
        time.sleep(LOCK_RETRY_SECONDS)


def _version(database: PostgresDatabase, address: PostgresAddress) -> int | None:
    """None: the database is empty."""
    tables = database.execute("SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace")
    names = {name for (name,) in tables}
    if not names:
        return None
    if not {"journal", "charges", "alembic_version"} <= names:
        raise LedgerError(f"{address}: has tables of something else; give jeton a database of its own")
    (version,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return int(version)


@contextmanager
def _changing(address: PostgresAddress) -> "Iterator[Connection]":
    """SQLAlchemy on a connection of its own, in one transaction with all that it does: tables too."""
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import DBAPIError

    def connect() -> "psycopg.Connection[object]":
        connection = connected(address, WRITER).connection
        connection.autocommit = False
        connection.execute("SET statement_timeout = 0")
        connection.commit()
        return connection

    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    try:
        with engine.begin() as changing:
            yield changing
    except DBAPIError as error:
        raise cast(psycopg.Error, error.orig) from None


def _told(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
