"""A connection that writes beside the one that keeps the ledger, what that one never touches; its lock is not needed."""

from collections.abc import Iterator
from contextlib import contextmanager

from router.ledger import sqlite_database
from router.ledger.address import Address, PostgresAddress
from router.ledger.database import Database
from router.ledger.schema import open_reader
from router.ledger.sqlite_database import SqliteDatabase
from router.ledger.store import LedgerError


@contextmanager
def writing_beside(address: Address, who: str, what: str, busy_seconds: float) -> Iterator[Database]:
    """who: as PostgreSQL shows it. what: that cannot be done when it fails. busy_seconds: for a turn with the file. Raises
    LedgerError."""
    open_reader(address).close()  # says what is wrong with it, if anything is
    database: Database
    if isinstance(address, PostgresAddress):
        import psycopg

        from router.ledger.postgres_database import connected

        try:
            database = connected(address, who)
        except psycopg.Error as error:
            raise LedgerError(f"{address}: cannot be {what} ({error})") from None
    else:
        connection = sqlite_database.connected_to_write(address)
        connection.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {sqlite_database.CHECKPOINT_PAGES}")
        database = SqliteDatabase(connection)
    try:
        yield database
    except database.error as error:
        raise LedgerError(f"{address}: cannot be {what} ({error})") from None
    finally:
        database.close()
