"""What is learned of preemptions outlives processes: any worker's, and all of them."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from bookkeeping import SMALL
from emulated_fleet import EmulatedProcess
from groups import PATIENCE_SECONDS, until
from jeton_server import ENVIRONMENT, LEASE, JetonServer, fleet_config, new_api_key
from ports import free_port

from router.access.keys import api_key_hash
from router.domain.fleet import Health, HealthState, Preemption
from router.ledger.sqlite import SqliteLedger
from router.preemption_record import PreemptionRecord
from router.selection.preemption import Preemptions

DECLARED = Preemption(0.02, 100.0, 300.0)
SPOT = replace(SMALL, preemption=DECLARED)
DOWN, UP = Health(False, "", 0.0, HealthState.DOWN), Health()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "ledger.sqlite"
    store = SqliteLedger(path)
    yield path
    store.close()


class Worker:
    """One that learns and tells, at a time of the test's own. began_seconds: when its clock was 0."""

    def __init__(self, path: Path, began_seconds: float = 0.0) -> None:
        self.now_seconds = 0.0
        self.preemptions = Preemptions()
        self.preemptions.follow((SPOT,))
        self.record = PreemptionRecord(
            path,
            self.preemptions,
            lambda: round((1_795_000_000 + began_seconds + self.now_seconds) * 1e9),
            lambda: self.now_seconds,
            tell_seconds=3600.0,
        )

    def became(self, health: Health, now_seconds: float) -> None:
        self.now_seconds = now_seconds
        self.preemptions.advance(now_seconds)
        self.preemptions.became(SPOT.name, SPOT.replicas[0].id, health, now_seconds)
        self.record.heed()

    @property
    def known(self) -> tuple[int, float, float]:
        learned = self.preemptions.of(SPOT.name)
        assert learned is not None
        return learned.count, round(learned.hours, 6), round(learned.away_seconds, 6)


async def test_the_next_process_knows_what_the_last_one_saw_whatever_its_clock(path: Path) -> None:
    first = Worker(path)
    async with first.record.running():
        first.became(UP, 0.0)
        first.became(DOWN, 3600.0)
        first.became(UP, 3900.0)
    assert first.known == (1, round(2 + 300 / 3600, 6), 300.0)
    second = Worker(path, began_seconds=86_400.0)
    async with second.record.running():
        assert second.known == first.known


async def test_workers_that_see_the_same_know_the_same(path: Path) -> None:
    workers = [Worker(path), Worker(path, began_seconds=2.0)]
    for now_seconds, health in ((0.0, UP), (3600.0, DOWN), (5400.0, UP)):
        for worker in workers:
            worker.became(health, now_seconds)
    for worker in (*workers, *workers):
        await worker.record.tell()
    assert workers[0].known == workers[1].known
    count, hours, _ = workers[0].known
    assert (count, hours) == (1, pytest.approx(2.5, abs=0.01))


async def test_while_the_ledger_is_away_it_is_kept_and_told_when_that_is_back(path: Path) -> None:
    away = path.with_suffix(".away")
    one, other = Worker(path), Worker(path)
    os.rename(path, away)
    one.became(UP, 0.0)
    one.became(DOWN, 60.0)
    await one.record.tell()
    assert one.known[0] == 1
    os.rename(away, path)
    await one.record.tell()
    await other.record.tell()
    assert other.known == one.known


async def test_a_fleet_that_declares_nothing_asks_nothing_of_the_ledger(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "none.sqlite")
    worker.preemptions.follow((SMALL,))
    async with worker.record.running():
        worker.record.heed()
    assert not worker.record._is_away


@pytest.mark.timeout(400)
def test_what_two_workers_have_seen_is_known_once_by_both_after_they_were_killed(tmp_path: Path) -> None:
    admin_key, admin_port, api_key = new_api_key(), free_port(), new_api_key()
    emulated = EmulatedProcess.start(tmp_path, "small", replicas=2)
    server = None

    def order(what: str) -> None:
        url = f"http://127.0.0.1:{admin_port}/replicas/small/1/{what}"
        headers = {"authorization": f"Bearer {admin_key}"}
        answer = httpx.post(url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False).raise_for_status()
        assert answer.json()["workers"] == 2

    def learned(server: JetonServer, what: str) -> set[float]:
        """By so many answers that each worker has given one."""
        body = {"model": "small", "messages": [{"role": "user", "content": "hello"}]}
        headers = {"authorization": f"Bearer {api_key}"}
        answers = [
            httpx.post(f"{server.url}/jeton/explain", json=body, headers=headers, trust_env=False) for _ in range(12)
        ]
        return {answer.raise_for_status().json()["ranking"][0]["preemption"][what] for answer in answers}

    def rows(sql: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{tmp_path / 'var/jeton.sqlite'}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    try:
        config = fleet_config(emulated.wait_until_ready(), ["http://127.0.0.1:9"], ["http://127.0.0.1:7"], api_key)
        config["pools"][0]["backends"][0]["preemption"] = {"per_hour": 0.02}
        hashed = api_key_hash(admin_key, ENVIRONMENT["JETON_API_KEY_PEPPER"].encode())
        config["admin"] = {"port": admin_port, "api_keys": [{"name": "operator", "hash": hashed}]}
        spot = LEASE | {"purchase": "spot"}
        server = JetonServer.start(tmp_path, config, api_key, "--workers", "2", lease=spot)
        log = tmp_path / "jeton.log"
        until(lambda: log.read_text().count("ready  ") == 2)
        order("leave")
        order("stay")
        until(lambda: rows("SELECT replica, why, is_back FROM preemptions") == [("small/1", "leaving", 1)])
        assert learned(server, "seen") == {1}

        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()
        server = JetonServer.start(tmp_path, config, api_key, "--workers", "2", lease=spot)
        until(lambda: log.read_text().count("ready  ") == 2)
        assert learned(server, "seen") == {1}
        assert 'jeton_preemptions_seen{backend="small"} 1.0' in server.metrics()
        assert "leaving" in server.run("ledger", "--ledger", "var/jeton.sqlite", "preemptions")
        until(lambda: min(learned(server, "hours")) > 0)
        assert server.stop() == 0
        assert rows("SELECT backend FROM watched_days GROUP BY 1 HAVING sum(watched_ns) > 0") == [("small",)]
    finally:
        if server is not None and server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
        emulated.stop()
