"""How a ledger is opened, as its one writer or to read beside it; made where there is none, brought up to date where it is old.

The version is the last of the revisions in `migrations/`, and stands in the ledger (`alembic_version`); files of SQLite had it in
`user_version` alone before there were revisions, and still have it there for the jetons of that time. SQLAlchemy and Alembic
are imported only to make or to change tables.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from router.ledger import sqlite_database
from router.ledger.address import Address, PostgresAddress
from router.ledger.database import Database, Engine
from router.ledger.locks import AnyTurns, NoTurns, Turns, lead, lock_ledger
from router.ledger.sqlite_database import APPLICATION_ID, SqliteDatabase
from router.ledger.store import LedgerError

if TYPE_CHECKING:
    from sqlalchemy import Connection

VERSION = 10
STAMPS = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, PRIMARY KEY (version_num))"


def open_writer(address: Address, wait_seconds: float = 0.0) -> Database:
    """The connection of the one process that writes this ledger, created where there is none, holding its lock.

    Only in PostgreSQL is the lock waited for. Raises LedgerError.
    """
    if isinstance(address, PostgresAddress):
        from router.ledger import postgres_schema

        return postgres_schema.open_writer(address, wait_seconds)
    lock = lock_ledger(address, is_shared=False)
    try:
        return SqliteDatabase(_open_file(address), lock)
    except BaseException:
        lock.close()
        raise


def open_shared(address: Address, *, leads: bool = False) -> Database:
    """A connection of one of several processes that write this ledger, created where there is none. leads: holding the
    accountant's lock. Raises LedgerError; LockHeld when another leads."""
    if isinstance(address, PostgresAddress):
        from router.ledger import postgres_schema

        return postgres_schema.open_shared(address, leads=leads)
    locks = [lock_ledger(address, is_shared=True)]
    try:
        if leads:
            locks.append(lead(address))
        turns = turns_of(address)
        try:
            with turns:
                connection = _open_file(address)
        finally:
            turns.close()
        connection.execute(f"PRAGMA busy_timeout = {round(sqlite_database.SHARED_BUSY_SECONDS * 1000)}")
        return SqliteDatabase(connection, *locks)
    except BaseException:
        for lock in locks:
            lock.close()
        raise


def open_reader(address: Address) -> Database:
    """A connection that cannot write, beside a running writer or without one. Raises LedgerError."""
    if isinstance(address, PostgresAddress):
        from router.ledger import postgres_schema

        return postgres_schema.open_reader(address)
    if not address.is_file():
        raise LedgerError(f"{address}: there is no ledger here; `jeton serve` makes one, --ledger names another")
    connection = None
    try:
        connection = sqlite_database.connected_to_read(address)
        check_version(_version(connection, address), address, may_upgrade=False)
    except (sqlite3.Error, LedgerError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, LedgerError):
            raise
        raise LedgerError(f"{address}: cannot be read as a ledger ({error})") from None
    return SqliteDatabase(connection)


def turns_of(address: Address) -> AnyTurns:
    """To be taken by one of several that write, for each transaction; PostgreSQL sees to that itself."""
    return Turns(address) if isinstance(address, Path) else NoTurns()


@contextmanager
def reading(address: Address) -> Iterator[Database]:
    """One state of the ledger, whatever is written meanwhile. Raises LedgerError."""
    database = open_reader(address)
    try:
        database.begin_reading()
        yield database
    except database.error as error:
        raise LedgerError(f"{address}: cannot be read ({error})") from None
    finally:
        database.close()


def make_room(database: Database, months: Iterable[int]) -> None:
    """For what is booked in these months, where that has to be said."""
    if database.engine is Engine.POSTGRESQL:
        from router.ledger import partitions, postgres_database

        assert isinstance(database, postgres_database.PostgresDatabase)
        there = partitions.months_there(database)
        for month in months:
            partitions.make_months(database, month, there)


def check_version(version: int, address: Address, *, may_upgrade: bool) -> None:
    """Raises LedgerError."""
    if version < VERSION and not may_upgrade:
        raise LedgerError(
            f"{address}: written by an older jeton (schema {version}); `jeton serve` brings it up to date when it starts"
        )
    if version > VERSION:
        raise LedgerError(
            f"{address}: written by a newer jeton (schema {version}, this one knows {VERSION}); upgrade jeton"
        )


def make_tables(connection: "Connection") -> None:
    """All of them, empty, in a transaction of the caller's."""
    from router.ledger.tables import FIRST_ROWS, metadata

    metadata.create_all(connection)
    connection.exec_driver_sql(STAMPS)
    for statement in (*FIRST_ROWS, f"INSERT INTO alembic_version VALUES ('{VERSION}')"):
        connection.exec_driver_sql(statement)


def migrate(connection: "Connection", version: int) -> None:
    """From this version to the newest, in a transaction of the caller's."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    if version < VERSION and not connection.dialect.has_table(connection, "alembic_version"):
        command.stamp(config, str(version))
    command.upgrade(config, "head")


def _open_file(path: Path) -> sqlite3.Connection:
    connection = sqlite_database.connected_to_write(path)
    try:
        version = None if _is_new(connection) else _version(connection, path)
        if version is not None:
            check_version(version, path, may_upgrade=True)
        sqlite_database.prepare_to_write(connection)
        if version is None:
            os.chmod(path, 0o600)  # who asked what and paid how much is not everybody's business
        if version != VERSION:
            with _changing(connection) as changing:
                if version is None:
                    make_tables(changing)
                    changing.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
                else:
                    migrate(changing, version)
                changing.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
    except (sqlite3.Error, OSError) as error:
        connection.close()
        raise LedgerError(f"{path}: cannot be opened as a ledger ({error})") from None
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _changing(connection: sqlite3.Connection) -> "Iterator[Connection]":
    """SQLAlchemy on this connection, in one transaction with all that it does: tables too."""
    from sqlalchemy import StaticPool, create_engine
    from sqlalchemy.exc import DBAPIError

    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    try:
        with engine.connect() as changing, changing.begin():
            connection.execute("BEGIN IMMEDIATE")  # which SQLAlchemy leaves to the driver, and the driver does not do
            yield changing
    except DBAPIError as error:
        raise cast(sqlite3.Error, error.orig) from None


def _is_new(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return int(tables) == 0


def _version(connection: sqlite3.Connection, path: Path) -> int:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        raise LedgerError(f"{path}: is not a jeton ledger")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
