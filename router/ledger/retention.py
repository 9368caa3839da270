"""What old months take is given back: their journal and charges go, everything that was summed up from them stays.

First the ledger is told from where on it is whole (`pruned.py`), then rows go: in PostgreSQL whole partitions, in a file some
thousand rows at a time, so that a running router's commits come in between. Killed in between, the next one goes on.
"""

import re

from router.ledger.address import Address
from router.ledger.beside import writing_beside
from router.ledger.database import Database, Engine, transaction
from router.ledger.pruned import Pruned, write_pruned

ROWS_AT_ONCE = 20_000
# Above the other's: a router waits for its turn with the file, and so do we.
BUSY_SECONDS = 60.0
PARTITION = re.compile(r"(journal|charges)_(\d{6})")


def forget(address: Address, pruned: Pruned) -> None:
    """Beside a running router, whose lock is not needed: rows that nobody writes any more are taken out. Raises LedgerError."""
    with writing_beside(address, "jeton prune", "pruned", BUSY_SECONDS) as database:
        with transaction(database):
            write_pruned(database, pruned)
        if database.engine is Engine.POSTGRESQL:
            _drop_partitions(database, pruned.month)
        else:
            for table in ("journal", "charges"):
                _delete_rows(database, table, pruned.seq)


def _delete_rows(database: Database, table: str, until: int) -> None:
    (first,) = database.execute(f"SELECT min(seq) FROM {table}").fetchone()
    while first is not None and first <= until:
        last = min(first + ROWS_AT_ONCE - 1, until)
        with transaction(database):
            database.execute(f"DELETE FROM {table} WHERE seq <= :last", {"last": last})
        (first,) = database.execute(f"SELECT min(seq) FROM {table}").fetchone()


def _drop_partitions(database: Database, before: int) -> None:
    """Detached first, which waits for readers and lets everybody go on, where dropping in place would stop them all."""
    found = database.execute(
        """
        SELECT relname, CAST(CAST(inhparent AS regclass) AS text), inhdetachpending
        FROM pg_class LEFT JOIN pg_inherits ON oid = inhrelid
        WHERE relnamespace = CAST(current_schema() AS regnamespace) AND relkind = 'r' ORDER BY relname
        """
    ).fetchall()
    for name, parent, is_pending in found:
        match = PARTITION.fullmatch(name)
        if match is None or int(match[2]) >= before:
            continue
        if parent is not None:
            database.execute(
                f"ALTER TABLE {parent} DETACH PARTITION {name} {'FINALIZE' if is_pending else 'CONCURRENTLY'}"
            )
        database.execute(f"DROP TABLE {name}")
