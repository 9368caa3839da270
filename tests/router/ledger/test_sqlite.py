"""The embedded store: one file, one writer, and a disk that may be stuck. What every store must do is in `test_store.py`."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bookkeeping import make_version_2
from entries import charge, checkpoint, closed, lease, opened

from router.ledger import schema, sqlite_database, writer
from router.ledger.schema import open_reader
from router.ledger.sqlite import SqliteLedger
from router.ledger.store import LedgerError

PATIENCE_SECONDS = 10.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    store = SqliteLedger(path, commit_seconds=0.001)
    yield store
    store.close()


async def test_f31_a_commit_that_fails_is_tried_again_until_it_succeeds(ledger: SqliteLedger, path: Path) -> None:
    blocker = sqlite3.connect(path, isolation_level=None)
    try:
        blocker.execute("BEGIN IMMEDIATE")  # as a full disk does: every commit fails
        one = charge("r1")
        seq = ledger.append([closed(one)], one)
        with pytest.raises(TimeoutError):
            await ledger.committed(seq, sqlite_database.BUSY_SECONDS + 1)
        assert not ledger.is_accepting
        for number in range(50):
            ledger.append([opened(f"waiting-{number}")])
            ledger.checkpoint(checkpoint(lease(state={"number": number})))
    finally:
        blocker.close()
    await ledger.committed(seq, PATIENCE_SECONDS)
    await ledger.published(PATIENCE_SECONDS)
    assert ledger.is_accepting
    connection = open_reader(path)
    assert connection.execute("SELECT count(*) FROM journal").fetchone() == (51,)
    connection.close()


async def test_what_may_wait_is_bounded_and_said(path: Path) -> None:
    store = SqliteLedger(path, commit_seconds=0.001, events_waiting_max=10)
    blocker = sqlite3.connect(path, isolation_level=None)
    try:
        blocker.execute("BEGIN IMMEDIATE")
        for number in range(10):
            assert not store.is_full
            seq = store.append([opened(f"r{number}")])
        assert store.is_full
        assert not store.is_accepting
    finally:
        blocker.close()
    await store.committed(seq, PATIENCE_SECONDS)
    assert not store.is_full
    store.close()


async def test_a_disk_that_does_not_recover_is_reported_at_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CLOSE_SECONDS", 0.0)
    store = SqliteLedger(path, commit_seconds=0.001)
    blocker = sqlite3.connect(path, isolation_level=None)
    try:
        blocker.execute("BEGIN IMMEDIATE")
        store.append([opened("r1")])
        with pytest.raises(LedgerError, match="1 events could not be written"):
            store.close()
    finally:
        blocker.close()


def test_a_ledger_has_one_writer(ledger: SqliteLedger, path: Path) -> None:
    with pytest.raises(LedgerError, match="another jeton is writing this ledger"):
        SqliteLedger(path)
    program = (
        f"from pathlib import Path; from router.ledger.sqlite import SqliteLedger; SqliteLedger(Path({str(path)!r}))"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert other.returncode != 0
    assert "another jeton is writing this ledger" in other.stderr


def test_a_ledger_of_a_newer_schema_is_refused(path: Path) -> None:
    SqliteLedger(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    for open_it in (SqliteLedger, open_reader):
        with pytest.raises(LedgerError, match="newer jeton"):
            open_it(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    connection.close()
    SqliteLedger(path).close()  # the refusal let go of the lock


async def test_a_ledger_of_version_1_counts_no_charge_twice(path: Path) -> None:
    """Its trigger moved the totals by itself."""
    SqliteLedger(path).close()
    make_version_2(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1")
    connection.execute(
        "CREATE TRIGGER charges_total AFTER INSERT ON charges BEGIN"
        " UPDATE totals SET attempts = attempts + 1, cost_nanousd = cost_nanousd + new.cost_nanousd; END"
    )
    connection.close()
    for number in (1, 2):
        store = SqliteLedger(path)
        one = charge(f"req_{number}", cost=5)
        store.append((closed(one),), one)
        store.checkpoint(checkpoint())
        (line,) = (await store.published(PATIENCE_SECONDS)).lines.values()
        store.close()
        assert (line.attempts, line.cost_nanousd) == (number, 5 * number)


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.sqlite"
    text.write_text("not a database, " * 100)
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = other.read_bytes()
    for path in (text, other):
        for open_it in (SqliteLedger, open_reader):
            with pytest.raises(LedgerError):
                open_it(path)
    assert other.read_bytes() == before


def test_a_ledger_is_read_while_it_is_written_and_after(ledger: SqliteLedger, path: Path) -> None:
    connection = open_reader(path)
    assert connection.execute("SELECT count(*) FROM charges").fetchone() == (0,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM journal")
    connection.close()


def test_a_missing_ledger_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger here"):
        open_reader(tmp_path / "none.sqlite")
    assert not list(tmp_path.iterdir())


def test_others_on_the_machine_cannot_read_the_ledger(ledger: SqliteLedger, path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0
