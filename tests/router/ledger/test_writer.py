"""The writer's rounds: how many events find company in a commit, on a real file. What is kept is in `test_store.py`."""

import asyncio
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from entries import charge, checkpoint, closed, lease, opened

from router.domain.budget import Period, span_at
from router.ledger.batch import Batch
from router.ledger.database import Database
from router.ledger.schema import open_writer
from router.ledger.sqlite import FileShelf
from router.ledger.store import SpentQuestion
from router.ledger.writer import BatchedLedger

PATIENCE_SECONDS = 10.0
COMMITS = 6


class WatchedShelf(FileShelf):
    """Writes down its rounds: "attend" at the beginning of each, then a word for every commit. While it commits more comes in."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.rounds: list[str] = []
        self.store: BatchedLedger | None = None

    def commit(self, batch: Batch) -> None:
        super().commit(batch)
        self.rounds.append("commit" if batch.checkpoint is None else "checkpoint")
        if self.store is not None:
            self.store.append([opened(f"came-during-{len(self.rounds)}")])

    def attend(self) -> float | None:
        self.rounds.append("attend")
        return super().attend()

    def commits(self) -> int:
        return len(self.rounds) - self.rounds.count("attend")


@pytest.fixture
def shelf(tmp_path: Path) -> WatchedShelf:
    return WatchedShelf(open_writer(tmp_path / "ledger.sqlite"))


def until(shelf: WatchedShelf, commits: int) -> list[str]:
    end = time.monotonic() + PATIENCE_SECONDS
    while shelf.commits() < commits and time.monotonic() < end:
        time.sleep(0.001)
    return list(shelf.rounds)


def test_what_comes_while_a_commit_runs_waits_for_company(shelf: WatchedShelf) -> None:
    """Else every second commit is one for next to nothing, and costs what a full one costs."""
    store = shelf.store = BatchedLedger(shelf, commit_seconds=0.001)
    store.append([opened("r1")])
    rounds = until(shelf, COMMITS)
    shelf.store = None
    store.close()
    assert rounds.count("commit") >= COMMITS
    assert ("commit", "commit") not in set(pairwise(rounds))


async def test_what_waits_behind_a_checkpoint_does_not_wait_another_round(shelf: WatchedShelf) -> None:
    store = BatchedLedger(shelf, commit_seconds=60.0)
    store.checkpoint(checkpoint(lease(state={})))
    seq = store.append([opened("r1")])
    await store.committed(seq, PATIENCE_SECONDS)  # it hurries the round that both are in
    assert shelf.rounds[1:3] == ["checkpoint", "commit"]
    store.close()


def test_all_that_has_come_is_written_at_the_end(shelf: WatchedShelf) -> None:
    store = shelf.store = BatchedLedger(shelf, commit_seconds=60.0)
    store.append([opened("r1")])
    shelf.store = None
    store.checkpoint(checkpoint(lease(state={})))
    store.append([opened("r2")])
    store.close()
    assert shelf.rounds[1:] == ["checkpoint", "commit"]


class HeldShelf(FileShelf):
    """Its commits wait for a word."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.is_committing, self.goes_on = threading.Event(), threading.Event()

    def commit(self, batch: Batch) -> None:
        self.is_committing.set()
        assert self.goes_on.wait(PATIENCE_SECONDS)
        super().commit(batch)


async def test_a15_a_question_is_answered_when_all_that_was_written_before_it_is_in_the_tables(tmp_path: Path) -> None:
    """Who asks has counted it, and would forget it: nobody else tells of what was settled before."""
    shelf = HeldShelf(open_writer(tmp_path / "ledger.sqlite"))
    store = BatchedLedger(shelf, commit_seconds=0.001)
    first, second = charge("r1"), charge("r2")
    store.append([closed(first)], first)
    assert await asyncio.to_thread(shelf.is_committing.wait, PATIENCE_SECONDS)
    store.append([closed(second)], second)
    everything = SpentQuestion("acme", "", span_at(Period.TOTAL, 0))
    answer = asyncio.create_task(store.spent([everything], PATIENCE_SECONDS))
    await asyncio.sleep(0)  # it is asked
    shelf.goes_on.set()
    assert await answer == ([14], store.position)
    store.close()
