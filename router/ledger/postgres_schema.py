"""How a ledger in PostgreSQL is opened: its tables made or brought up to date, and the lock of its one accountant taken.

The lock is of the session that writes: it goes with it, however that ends, and nobody writes without it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import psycopg

from router.ledger.address import PostgresAddress
from router.ledger.postgres_database import ADVISORY_LOCK, PostgresDatabase, connected
from router.ledger.schema import VERSION, check_version, make_tables, migrate
from router.ledger.store import LedgerError, LockHeld

if TYPE_CHECKING:
    from sqlalchemy import Connection

WRITER = "jeton"
READER = "jeton ledger"
LOCK_RETRY_SECONDS = 0.1
# Beside the accountant's: whether one has the ledger to itself, and who changes its tables.
SHARED_LOCK, TABLES_LOCK = ADVISORY_LOCK + 1, ADVISORY_LOCK + 2
SHARE_IT = "ledger.accountant: inside"


def open_writer(address: PostgresAddress, wait_seconds: float) -> PostgresDatabase:
    """Raises LedgerError, LockHeld when the lock is not free within so many seconds."""

    def take(database: PostgresDatabase) -> None:
        take_lock(database, address, wait_seconds)
        if not _try_lock(database, "pg_try_advisory_lock", SHARED_LOCK):
            raise LockHeld(
                f"{address}: several jetons share this ledger; stop them, or let this one share it, too ({SHARE_IT})"
            )

    return _opened(address, take)


def open_shared(address: PostgresAddress, *, leads: bool) -> PostgresDatabase:
    """Raises LedgerError, LockHeld when another leads, or has the ledger to itself."""

    def take(database: PostgresDatabase) -> None:
        if not _try_lock(database, "pg_try_advisory_lock_shared", SHARED_LOCK):
            raise LockHeld(f"{address}: another jeton has this ledger to itself; let both share it ({SHARE_IT})")
        if leads and not _try_lock(database, "pg_try_advisory_lock", ADVISORY_LOCK):
            raise LockHeld(f"{address}: another jeton keeps the books of this ledger")

    return _opened(address, take)


def _opened(address: PostgresAddress, take_locks: Callable[[PostgresDatabase], None]) -> PostgresDatabase:
    """With its tables made or brought up to date, by one at a time."""
    try:
        database = connected(address, WRITER)
        try:
            take_locks(database)
            version = _version(database, address)
            if version is None or version < VERSION:
                with _changing(address) as changing:
                    changing.exec_driver_sql(f"SELECT pg_advisory_xact_lock({TABLES_LOCK})")
                    version = _version(database, address)  # somebody else may have made them meanwhile
                    if version is None:
                        make_tables(changing)
                    elif version < VERSION:
                        migrate(changing, version)
            check_version(_version(database, address) or 0, address, may_upgrade=True)
        except BaseException:
            database.close()
            raise
    except psycopg.Error as error:
        raise LedgerError(f"{address}: cannot be opened as a ledger ({_told(error)})") from None
    return database


def _try_lock(database: PostgresDatabase, function: str, key: int) -> bool:
    (is_ours,) = database.execute(f"SELECT {function}(:key)", {"key": key}).fetchone()
    return bool(is_ours)


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
