"""kill -9 at any moment: the ledger opens, what was acknowledged is there, nothing is there twice, and the books balance."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import busy_books
import pytest
from bookkeeping import FLEET, PRICES, PROFILES, assert_books_balance, assert_file_is_consistent

from router.accountant import Accountant
from router.ledger.schema import open_reader
from router.ledger.sqlite import SqliteLedger

KILLS = 20
SUPPORT = Path(busy_books.__file__)


@pytest.mark.timeout(300)
def test_f30_f29_a_router_killed_at_any_moment_leaves_a_ledger_that_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    chance = random.Random(20261123)
    durable: set[str] = set()
    shown_nanousd = 0
    for kill in range(KILLS):
        output = killed_after(path, kill, lines=chance.randrange(1, 120))
        durable.update(name for word, name in output if word == "durable")
        shown_nanousd = max([shown_nanousd, *(int(amount) for word, amount in output if word == "posted")])
        assert_file_is_consistent(path)
        connection = open_reader(path)
        known = {name for (name,) in connection.execute("SELECT subject FROM journal WHERE kind = 'opened'")}
        connection.close()
        assert durable <= known
    store = SqliteLedger(path)
    accountant = Accountant(store)
    accountant.set_fleet(FLEET, PRICES, PROFILES, time.time_ns())
    totals = asyncio.run(store.published(10.0))
    store.close()
    assert_books_balance(totals, open_attempts=0)
    assert_file_is_consistent(path, is_quiet=True)
    assert sum(total.cost_nanousd for total in totals.lines.values()) >= shown_nanousd > 0
    assert len(durable) > KILLS


def killed_after(path: Path, seed: int, lines: int) -> list[tuple[str, str]]:
    """What the process had said until it was killed, at so many lines; the writer thread is anywhere by then."""
    with subprocess.Popen(
        [sys.executable, str(SUPPORT), str(path), str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if len(said) == lines:
                process.send_signal(signal.SIGKILL)
        errors = process.stderr.read()
    assert process.returncode == -signal.SIGKILL, errors
    return [(word, rest) for word, _, rest in (line.strip().partition(" ") for line in said if line.endswith("\n"))]
