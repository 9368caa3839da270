"""kill -9 of workers and of the accountant among them: what was told is booked once, what was open is lost and flagged, and the
books balance."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import busy_worker
import pytest
from audited import assert_audit_is_clean
from bookkeeping import FLEET, PRICES, PROFILES, assert_file_is_consistent

from router.bookkeeper import Bookkeeper
from router.ledger.journals import Journals
from router.ledger.sqlite import SqliteLedger
from router.rebuild import rebuild

WORKERS = 3
KILLS_EACH = 10
# `make test-crash` asks for more of them.
LEDGERS = max(int(os.environ.get("JETON_TEST_KILLS", "0")) // KILLS_EACH, 1)
SUPPORT = Path(busy_worker.__file__)
PATIENCE_SECONDS = 60.0


class Busy:
    """A worker in a process of its own. What it says goes to a file, so that it never waits for us."""

    def __init__(self, path: Path, seed: int) -> None:
        self.output = path.with_name(f"said-{seed}")
        with self.output.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, str(SUPPORT), str(path), str(seed)], stdout=said, stderr=said
            )

    def said(self) -> list[tuple[str, str]]:
        text = self.output.read_text()
        lines = (line.partition(" ") for line in text.splitlines(keepends=True) if line.endswith("\n"))
        return [(word, rest.strip()) for word, _, rest in lines]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL, self.output.read_text()[-3000:]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(LEDGERS))
def test_a13_f29_f30_workers_and_accountants_killed_at_any_moment_leave_one_charge_for_each_attempt(
    tmp_path: Path, number: int
) -> None:
    path = tmp_path / "ledger.sqlite"
    chance = random.Random(20261126 + number)
    seeds = iter(range(1000 * number, 1000 * (number + 1)))
    busy = [Busy(path, next(seeds)) for _ in range(WORKERS)]
    said: list[tuple[str, str]] = []
    whom = ["accountant", "worker", "both"]
    try:
        until(lambda: all(any(word == "told" for word, _ in one.said()) for one in busy))
        for kill in range(KILLS_EACH):
            booked = booked_events(path)
            until(lambda booked=booked: booked_events(path) > booked)  # somebody leads, and gets on
            time.sleep(chance.random() * 0.3)
            leader = leading(path)
            keeps = [one for one in busy if one.process.pid == leader]
            others = [one for one in busy if one.process.pid != leader]
            victims = {"accountant": keeps, "worker": others[:1], "both": [*keeps, *others[:1]]}[whom[kill % 3]]
            for victim in victims:
                victim.kill()
                said += victim.said()
                busy.remove(victim)
            assert_audit_is_clean(path)  # as the kill left it, with all that is open and not booked
            busy += [Busy(path, next(seeds)) for _ in victims]
        for one in busy:
            one.kill()
            said += one.said()
    finally:
        for one in busy:
            with suppress(ProcessLookupError):
                one.process.kill()
            one.process.wait()
    asyncio.run(take_up(path))
    assert_file_is_consistent(path, is_quiet=True)
    found = assert_audit_is_clean(path)
    assert found.open_attempts == 0
    with closing(sqlite3.connect(path)) as connection:
        charges = {
            attempt_id: (status, source, cost)
            for attempt_id, status, source, cost in connection.execute(
                "SELECT attempt_id, status, usage_source, cost_nanousd FROM charges"
            )
        }
        corrected = {attempt_id for (attempt_id,) in connection.execute("SELECT attempt_id FROM corrections")}
        assert connection.execute("SELECT count(*) FROM reports").fetchone() == (0,)
    assert {name for word, name in said if word == "durable"} <= charges.keys()
    told = {name for word, name in said if word == "told"}
    assert told
    assert {name for name in told if charges[name][0] != "ok"} <= corrected
    assert {source for status, source, _ in charges.values() if status == "lost"} == {"estimated"}
    assert None not in {cost for _, _, cost in charges.values()}
    shown = max(int(amount) for word, amount in said if word == "posted")
    assert sum(cost for _, _, cost in charges.values()) >= shown > 0
    rebuild(path, tmp_path / "rebuilt.sqlite")
    assert_audit_is_clean(tmp_path / "rebuilt.sqlite")


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.02)


def booked_events(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT ifnull(max(seq), 0) FROM journal").fetchone()[0])


def leading(path: Path) -> int:
    """The process that keeps the books, or did last."""
    return int(path.with_name(path.name + ".accountant").read_text() or 0)


async def take_up(path: Path) -> None:
    """An accountant books what the dead have told, and closes what they left open."""
    now_seconds = 0.0

    keeper = Bookkeeper(
        Journals(path),
        lambda: SqliteLedger(path, is_shared=True),
        time.time_ns,
        silence_seconds=1.0,
        monotonic=lambda: now_seconds,
    )
    keeper.set_fleet(FLEET, PRICES, PROFILES)
    assert await keeper.lead()
    for _ in range(3):
        await keeper.go_on(is_asked=True)
        now_seconds += 2.0
    await keeper.close()
