"""kill -9 at any moment: the ledger opens, what was acknowledged is there, nothing is there twice, and the books balance."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import busy_books
import pytest
from audited import assert_audit_is_clean
from bookkeeping import (
    FLEET,
    PRICES,
    PROFILES,
    assert_books_balance,
    assert_file_is_consistent,
    assert_ledger_is_consistent,
)
from ledgers import Place
from postgres_server import PostgresServer

from router.accounting.accountant import Accountant
from router.accounting.rebuild import rebuild
from router.domain.totals import Totals
from router.ledger.schema import open_reader

# In one ledger: the longer it lives, the longer its audit takes. `make test-crash` asks for more of them.
KILLS_EACH = 20
LEDGERS = max(int(os.environ.get("JETON_TEST_KILLS", "0")) // KILLS_EACH, 1)

# A disk that is full, to a process: no file may grow beyond what the ledger's own files have reached.
FULL_DISK = """
import asyncio, resource, sys, time
from pathlib import Path
from bookkeeping import EDGE_PRICE, FLEET, PRICES, PROFILES, SMALL, answered, facts
from router.accounting.accountant import Accountant
from router.domain.totals import Totals
from router.ledger.sqlite import SqliteLedger

path = Path(sys.argv[1])
store = SqliteLedger(path, commit_seconds=0.001)
accountant = Accountant(store)
accountant.set_fleet(FLEET, PRICES, PROFILES, time.time_ns())
asyncio.run(store.published(10.0))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
largest = max(file.stat().st_size for file in path.parent.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 50_000, hard))
served = 0
while accountant.is_accepting or served < 500:
    one = facts(f"r{served}")
    accountant.open(one, SMALL, EDGE_PRICE, 100, 50, time.time_ns())
    accountant.close(one.attempt_id, answered(), time.time_ns())
    served += 1
    time.sleep(0.0005)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
accountant.advance(time.time_ns())
totals = asyncio.run(store.published(30.0))
assert accountant.is_accepting
assert sum(total.attempts for total in totals.lines.values()) == served
store.close()
"""
SUPPORT = Path(busy_books.__file__)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(LEDGERS))
def test_f30_f29_a_router_killed_at_any_moment_leaves_a_ledger_that_is_whole(tmp_path: Path, number: int) -> None:
    path = tmp_path / "ledger.sqlite"
    chance = random.Random(20261123 + number)
    durable: set[str] = set()
    shown_nanousd = 0
    for kill in range(KILLS_EACH):
        output = killed_after(Place(path, tmp_path), kill, lines=chance.randrange(1, 120))
        durable.update(name for word, name in output if word == "durable")
        shown_nanousd = max([shown_nanousd, *(int(amount) for word, amount in output if word == "posted")])
        assert_file_is_consistent(path)
        assert_audit_is_clean(path)  # as the kill left it, open attempts and all
        connection = open_reader(path)
        known = {name for (name,) in connection.execute("SELECT subject FROM journal WHERE kind = 'opened'")}
        connection.close()
        assert durable <= known
        if kill % 2 or kill == KILLS_EACH - 1:  # else the next one to be killed is the one that takes up
            totals = taken_up(Place(path, tmp_path))
            assert_books_balance(totals, open_attempts=0)
            assert_file_is_consistent(path, is_quiet=True)
            assert assert_audit_is_clean(path).open_attempts == 0
    assert sum(total.cost_nanousd for total in totals.lines.values()) >= shown_nanousd > 0
    assert len(durable) > KILLS_EACH
    rebuild(path, tmp_path / "rebuilt.sqlite")
    assert_audit_is_clean(tmp_path / "rebuilt.sqlite")


def test_f31_a_full_disk_loses_nothing_and_is_caught_up_when_freed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)],
        cwd=SUPPORT.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "ledger commit failed" in done.stdout + done.stderr
    assert_file_is_consistent(path, is_quiet=True)
    assert_audit_is_clean(path)


# In PostgreSQL: kills of the router, of PostgreSQL, and of both, the router with a spool that is not empty. They take longer.
KILLS_EACH_POSTGRES = 6
LEDGERS_POSTGRES = max(int(os.environ.get("JETON_TEST_KILLS", "0")) // KILLS_EACH_POSTGRES, 1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(LEDGERS_POSTGRES))
def test_f30_f29_router_and_postgresql_killed_at_any_moment_lose_nothing_and_count_nothing_twice(
    own_server: PostgresServer, tmp_path: Path, number: int
) -> None:
    place = Place(own_server.database(), tmp_path)
    chance = random.Random(20261126 + number)
    durable: set[str] = set()
    shown_nanousd, spooled = 0, 0
    for kill in range(KILLS_EACH_POSTGRES):
        with Busy(place, kill) as busy:
            busy.say(chance.randrange(1, 120))
            if kill % 3:
                own_server.kill()
                busy.say(chance.randrange(40, 120))  # which the spool takes
            if kill % 3 == 1:
                own_server.start_again()
                busy.say(chance.randrange(1, 120))  # whether it is written by then or not
        if kill % 3 == 2:
            spooled += spool_bytes(place)
            own_server.start_again()
        durable.update(name for word, name in busy.said if word == "durable")
        shown_nanousd = max([shown_nanousd, *(int(amount) for word, amount in busy.said if word == "posted")])
        assert_ledger_is_consistent(place.address)
        assert_audit_is_clean(place.address)  # as the kill left it, whatever the spool holds
        totals = taken_up(place)
        assert spool_bytes(place) == 0
        assert_books_balance(totals, open_attempts=0)
        assert_ledger_is_consistent(place.address, is_quiet=True)
        assert assert_audit_is_clean(place.address).open_attempts == 0
        assert durable <= {name for (name,) in place.rows("SELECT subject FROM journal WHERE kind = 'opened'")}
    assert sum(total.cost_nanousd for total in totals.lines.values()) >= shown_nanousd > 0
    assert len(durable) > KILLS_EACH_POSTGRES
    assert spooled > 0
    rebuild(place.address, tmp_path / "rebuilt.sqlite")
    assert_audit_is_clean(tmp_path / "rebuilt.sqlite")


def spool_bytes(place: Place) -> int:
    with closing(sqlite3.connect(place.directory / "spool")) as connection:
        return int(connection.execute("SELECT ifnull(sum(length(rows)), 0) FROM batches").fetchone()[0])


def taken_up(place: Place) -> Totals:
    """A router starts on what the dead one left, and ends in peace."""
    store = place.open(commit_seconds=0.02)
    accountant = Accountant(store)
    accountant.set_fleet(FLEET, PRICES, PROFILES, time.time_ns())
    totals = asyncio.run(store.published(30.0))
    store.close()
    return totals


class Busy:
    """A process that keeps books, killed at the end. said: word and rest of every line it has said whole."""

    def __init__(self, place: Place, seed: int) -> None:
        command = [sys.executable, str(SUPPORT), str(place.address), str(seed), str(place.directory)]
        self._log = place.directory / "busy.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self._lines: list[str] = []

    def __enter__(self) -> "Busy":
        return self

    def say(self, lines: int) -> None:
        """Wait until it has said so many more; its writer thread is anywhere by then."""
        assert self._process.stdout is not None
        for _ in range(lines):
            self._lines.append(self._process.stdout.readline())

    def __exit__(self, *_: object) -> None:
        with self._process:
            assert self._process.stdout is not None
            self._process.send_signal(signal.SIGKILL)
            self._lines += self._process.stdout
        assert self._process.returncode == -signal.SIGKILL, self._log.read_text()[-3000:]
        whole = (line.strip().partition(" ") for line in self._lines if line.endswith("\n"))
        self.said = [(word, rest) for word, _, rest in whole]


def killed_after(place: Place, seed: int, lines: int) -> list[tuple[str, str]]:
    """What the process had said until it was killed, at so many lines."""
    with Busy(place, seed) as busy:
        busy.say(lines)
    return busy.said
