"""The tables of the SQLite ledger, and how a file is opened: as its one writer, as one of several, or to read beside them."""

import os
import sqlite3
from pathlib import Path

from router.ledger import rollups, workers
from router.ledger.locks import FileLock, Turns, lock_ledger
from router.ledger.store import LedgerError

APPLICATION_ID = 0x6A65746F  # "jeto": tells a ledger from any other SQLite file
VERSION = 5

# How long a commit waits for somebody else's lock (a backup, a curious shell) before it counts as failed and is tried again.
BUSY_SECONDS = 1.0
# Where several write, they wait for their turn (`locks.py`); this is for somebody from outside.
SHARED_BUSY_SECONDS = 10.0

# Pages in the write-ahead log before they are copied into the file: 16 MB. A page of an index is written again by every
# commit; the longer the log, the fewer of its versions are copied.
CHECKPOINT_PAGES = 4000

# A subject's kind is unique: an event that is delivered twice is one event. `seq` orders the journal, is never reused and
# leaves no gap. The *position* is the last checkpoint: leases are booked up to `at_ns`, and events up to `seq` are in their
# states. `detail` holds what the event says beyond its columns (`rows.py`), so that all other tables can be derived
# from journal, prices and position alone, for every event after `whole_from_seq`; what an older jeton wrote up to there has less.
# Totals are kept in the order in which they first appeared; `sqlite.py` moves them in the transaction that writes the charges.
TABLES = """
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    kind TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    lease_id TEXT NOT NULL,
    amount INTEGER NOT NULL,
    detail TEXT,
    worker TEXT NOT NULL DEFAULT '',
    UNIQUE (subject, kind)
) STRICT;

CREATE TABLE charges (
    attempt_id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    api_key_name TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    asked_model TEXT NOT NULL,
    pool TEXT NOT NULL,
    backend TEXT NOT NULL,
    replica TEXT NOT NULL,
    model TEXT NOT NULL,
    tier TEXT NOT NULL,
    policy TEXT NOT NULL,
    reason TEXT NOT NULL,
    baseline TEXT NOT NULL,
    category TEXT NOT NULL,
    prompt_tokens_estimate INTEGER NOT NULL,
    completion_tokens_estimate INTEGER NOT NULL,
    billing TEXT NOT NULL,
    price_id TEXT NOT NULL,
    opened_ns INTEGER NOT NULL,
    first_token_ns INTEGER,
    ended_ns INTEGER NOT NULL,
    status TEXT NOT NULL,
    fault TEXT NOT NULL,
    http_status INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    audio_seconds REAL NOT NULL,
    provider_cost_nanousd INTEGER,
    usage_source TEXT NOT NULL,
    cost_status TEXT NOT NULL,
    cost_nanousd INTEGER,
    standard_nanousd INTEGER,
    baseline_nanousd INTEGER,
    cost_prompt_nanousd INTEGER,
    cost_cached_nanousd INTEGER,
    standard_prompt_nanousd INTEGER,
    standard_cached_nanousd INTEGER
) STRICT;
CREATE INDEX charges_ended ON charges (ended_ns);

CREATE TABLE totals (
    pool TEXT NOT NULL,
    backend TEXT NOT NULL,
    billing TEXT NOT NULL,
    model TEXT NOT NULL,
    tier TEXT NOT NULL,
    tenant TEXT NOT NULL,
    status TEXT NOT NULL,
    usage_source TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost_nanousd INTEGER NOT NULL,
    standard_nanousd INTEGER NOT NULL,
    saved_nanousd INTEGER NOT NULL,
    UNIQUE (pool, backend, billing, model, tier, tenant, status, usage_source)
) STRICT;

CREATE TABLE leases (
    lease_id TEXT PRIMARY KEY,
    replica TEXT NOT NULL,
    pool TEXT NOT NULL,
    backend TEXT NOT NULL,
    price_id TEXT NOT NULL,
    started_ns INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    ended_ns INTEGER,
    bill_nanousd INTEGER NOT NULL,
    idle_nanousd INTEGER NOT NULL,
    state TEXT,
    state_seq INTEGER NOT NULL
) STRICT;

CREATE TABLE position (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at_ns INTEGER NOT NULL,
    seq INTEGER NOT NULL DEFAULT 0,
    open_from_seq INTEGER NOT NULL,
    whole_from_seq INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO position (id, at_ns, open_from_seq) VALUES (1, 0, 0);
"""

# sha256: of the snapshot. A rate that is off by little need not show in any charge.
PRICES = """
CREATE TABLE prices (
    price_id TEXT PRIMARY KEY,
    snapshot TEXT NOT NULL,
    sha256 TEXT NOT NULL
) STRICT;
"""


# Charges' columns since version 4.
PARTS = ("cost_prompt_nanousd", "cost_cached_nanousd", "standard_prompt_nanousd", "standard_cached_nanousd")


def open_writer(path: Path, *, is_shared: bool = False) -> tuple[sqlite3.Connection, FileLock]:
    """A connection that writes, to a ledger that is created where there is none, and the lock on it.

    is_shared: other processes write it, too. Without it this is the one process that does; the lock is advisory and goes with
    the process, however that dies. Raises LedgerError.
    """
    lock = lock_ledger(path, is_shared=is_shared)
    try:
        if not is_shared:
            return _connect_writer(path), lock
        turns = Turns(path)
        with turns:
            connection = _connect_writer(path)
            connection.execute(f"PRAGMA busy_timeout = {round(SHARED_BUSY_SECONDS * 1000)}")
        turns.close()
        return connection, lock
    except BaseException:
        lock.close()
        raise


def open_reader(path: Path, *, check_same_thread: bool = True) -> sqlite3.Connection:
    """A connection that cannot write, beside a running writer or without one. Raises LedgerError."""
    if not path.is_file():
        raise LedgerError(f"{path}: there is no ledger here; `jeton serve` makes one, --ledger names another")
    connection = None
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=check_same_thread,
        )
        _check_version(connection, path, may_upgrade=False)
    except (sqlite3.Error, LedgerError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, LedgerError):
            raise
        raise LedgerError(f"{path}: cannot be read as a ledger ({error})") from None
    return connection


def _connect_writer(path: Path) -> sqlite3.Connection:
    # The connection is made here and used by the writer thread alone, one after the other.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    try:
        is_new = _is_new(connection)
        if not is_new:
            _check_version(connection, path, may_upgrade=True)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if not is_new:
            _upgrade(connection)
        else:
            os.chmod(path, 0o600)  # who asked what and paid how much is not everybody's business
            connection.execute("BEGIN IMMEDIATE")
            for statement in _statements(TABLES + PRICES + rollups.TABLES + workers.TABLES):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
    except (sqlite3.Error, OSError) as error:
        connection.close()
        raise LedgerError(f"{path}: cannot be opened as a ledger ({error})") from None
    except BaseException:
        connection.close()
        raise
    return connection


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring the tables of an older jeton up to date, all in one transaction.

    In version 1 a trigger moved the totals, row by row. Before version 3 the journal did not say how attempts ended, nor the
    ledger what its prices were: for what was booked by then, the charges themselves are the record. Before version 4 charges
    had no parts by class of token, and there were no hours: `rollups.py` adds them up from here on, the past first. Before
    version 5 there was one process to a ledger, and no worker in the journal.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DROP TRIGGER IF EXISTS charges_total")
    if version < 3:
        connection.execute("ALTER TABLE journal RENAME COLUMN opening TO detail")
        connection.execute("ALTER TABLE position ADD COLUMN seq INTEGER NOT NULL DEFAULT 0")
        connection.execute("UPDATE position SET seq = (SELECT ifnull(max(state_seq), 0) FROM leases)")
        connection.execute("UPDATE leases SET state_seq = 0 WHERE ended_ns IS NOT NULL")
        connection.execute("ALTER TABLE position ADD COLUMN whole_from_seq INTEGER NOT NULL DEFAULT 0")
        connection.execute("UPDATE position SET whole_from_seq = (SELECT ifnull(max(seq), 0) FROM journal)")
        connection.execute(PRICES)
    if version < 4:
        for name in PARTS:
            connection.execute(f"ALTER TABLE charges ADD COLUMN {name} INTEGER")
        for statement in _statements(rollups.TABLES):
            connection.execute(statement)
    connection.execute("ALTER TABLE journal ADD COLUMN worker TEXT NOT NULL DEFAULT ''")
    for statement in _statements(workers.TABLES):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _is_new(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return int(tables) == 0


def _statements(script: str) -> list[str]:
    """The script's statements one by one: `executescript` would commit between them."""
    statements, rest = [], ""
    for line in script.splitlines(keepends=True):
        rest += line
        if sqlite3.complete_statement(rest):
            statements.append(rest)
            rest = ""
    return statements


def _check_version(connection: sqlite3.Connection, path: Path, *, may_upgrade: bool) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        raise LedgerError(f"{path}: is not a jeton ledger")
    if version < VERSION and not may_upgrade:
        raise LedgerError(
            f"{path}: written by an older jeton (schema {version}); `jeton serve` brings it up to date when it starts"
        )
    if version > VERSION:
        raise LedgerError(
            f"{path}: written by a newer jeton (schema {version}, this one knows {VERSION}); upgrade jeton"
        )
