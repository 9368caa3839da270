"""`jeton serve --workers`: several processes, one port, one ledger, one scrape; whichever dies."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from audited import assert_audit_is_clean
from emulated_fleet import EmulatedProcess
from groups import PATIENCE_SECONDS, is_booked, until, write_config
from jeton_server import ENVIRONMENT, JETON, JetonServer, fleet_config, new_api_key
from ports import free_port, free_ports
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from redis_server import RedisServer, redis_server

from router.access.keys import api_key_hash
from router.group import Member, Supervisor, _Worker

WORKERS = 4
CLIENTS = 8


@contextmanager
def load(server: JetonServer) -> Iterator[list[int]]:
    """Clients that ask again as soon as they are answered, each request on a connection of its own. Yields the statuses."""
    statuses: list[int] = []
    is_over = threading.Event()

    def ask(number: int) -> None:
        headers = {"authorization": f"Bearer {server.api_key}"}
        while not is_over.is_set():
            model = "small" if number % 3 else "large"
            body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
            with (
                suppress(httpx.HTTPError),
                httpx.Client(base_url=server.url, headers=headers, timeout=20, trust_env=False) as client,
            ):
                path = "/v1/chat/completions"
                statuses.append(client.post(path, json=body | {"stream": number % 2 == 0}).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def scraped(server: JetonServer) -> dict[str, float]:
    """Series of one scrape, whichever worker answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            text = httpx.get(f"{server.url}/metrics", timeout=10, trust_env=False).raise_for_status().text
            break
        except httpx.HTTPError:  # the worker that took it was killed
            assert time.monotonic() < deadline
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.type in ("counter", "histogram")
    }


def leading(server: JetonServer) -> int:
    return int((server.directory / "var/jeton.sqlite.accountant").read_text() or 0)


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def log_of(server: JetonServer) -> str:
    return (server.directory / "jeton.log").read_text()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:
        yield server


def shares(redis: RedisServer) -> set[str]:
    """The workers that have one of the only budget there is."""
    with Redis(port=redis.port, decode_responses=True) as client:
        [key] = client.keys("{jeton:budgets}:tests*")
        return {field[2:] for field in client.hkeys(key) if field.startswith("l:")}


@pytest.mark.timeout(400)
def test_a13_a14_a17_four_workers_have_one_ledger_and_its_budgets_whoever_is_killed(
    tmp_path: Path, redis: RedisServer
) -> None:
    emulated = {name: EmulatedProcess.start(tmp_path, name) for name in ("small", "large")}
    server = None
    try:
        urls = {name: process.wait_until_ready() for name, process in emulated.items()}
        api_key = new_api_key()
        config = fleet_config(**urls, embed=[], api_key=api_key, context_tokens=32_768)
        del config["pools"][1]["backends"][1]
        config["ledger"] = {"silence_seconds": 2 * PATIENCE_SECONDS}  # the dead are known to be, silent or not
        config["redis"] = {"url": redis.url}
        config["tenants"][0]["budgets"] = [{"usd": 1000, "per": "month"}]
        ledger = tmp_path / "var/jeton.sqlite"
        server = JetonServer.start(tmp_path, config, api_key, "--workers", str(WORKERS))
        until(lambda: log_of(server).count("ready  ") >= WORKERS)
        assert len(children(server.process.pid)) == WORKERS

        # Under load, whoever keeps the books is killed, then a worker that does not: no counter falls meanwhile.
        seen, killed = scraped(server), []
        with load(server) as statuses:
            for victim in ("accountant", "worker"):
                wanted = len(statuses) + 20
                until(lambda wanted=wanted: len(statuses) > wanted)
                leader = leading(server)
                others = children(server.process.pid) - {leader}
                os.kill(leader if victim == "accountant" else min(others), signal.SIGKILL)
                gone = leader if victim == "accountant" else min(others)
                killed.append(gone)
                until(lambda gone=gone: not is_alive(gone))
                scrapes_after = 0
                while scrapes_after < 3:  # without it, while another begins, and with that one
                    is_whole = log_of(server).count("ready  ") == WORKERS + len(killed)
                    now = scraped(server)
                    fallen = {name: (seen[name], now.get(name)) for name in seen if now.get(name, 0) < seen[name]}
                    assert not fallen
                    seen = now
                    scrapes_after += is_whole
                assert len(children(server.process.pid)) == WORKERS
                assert leading(server) != gone
        assert set(statuses) == {200}

        # The load is over, the dead are buried: what is shown is what is booked, to the nano-dollar.
        until(lambda: log_of(server).count("a worker is dead") >= 2)
        assert "taken for dead" not in log_of(server)
        # What was their share of the budget is for the others, minutes before silence alone would have told.
        until(lambda: not any(f"-{pid}-" in worker for pid in killed for worker in shares(redis)))
        assert len(shares(redis)) == WORKERS
        until(lambda: is_booked(ledger) and assert_audit_is_clean(ledger).open_attempts == 0)
        shown = "\n".join(server.metrics()) + "\n"
        found = assert_audit_is_clean(ledger, shown)
        for name in ("jeton_ledger_lag_seconds", "jeton_late_events_total"):
            assert f"\n{name} " in shown
        ended = sum(value for name, value in scraped(server).items() if name.startswith("jeton_usage_total"))
        assert ended == found.attempts >= len(statuses)
        answered = sum(value for name, value in scraped(server).items() if name.startswith("jeton_requests_total"))
        assert answered <= len(statuses)  # those that died unscraped are not counted twice, nor at all

        # A reload reaches every worker.
        config["aliases"]["another"] = {"tiers": ["small"]}
        write_config(tmp_path, config)
        server.process.send_signal(signal.SIGHUP)
        headers = {"authorization": f"Bearer {api_key}"}

        def knows_the_alias() -> bool:
            answers = [
                httpx.get(f"{server.url}/v1/models/another", headers=headers, trust_env=False) for _ in range(20)
            ]
            return {answer.status_code for answer in answers} == {200}

        until(knows_the_alias)
        workers = children(server.process.pid)
        assert server.stop() == 0
        assert not any(map(is_alive, workers))
        assert assert_audit_is_clean(ledger).attempts == ended
    finally:
        if server is not None and server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
        for process in emulated.values():
            process.stop()


@pytest.mark.timeout(400)
def test_two_workers_obey_one_administrator_and_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    admin_key, admin_port = new_api_key(), free_port()
    config = a_config()
    config["health"] = {"interval_seconds": 600}  # nobody is at its replicas: they would be down, and not leaving
    config["admin"] = {
        "port": admin_port,
        "api_keys": [
            {"name": "operator", "hash": api_key_hash(admin_key, ENVIRONMENT["JETON_API_KEY_PEPPER"].encode())}
        ],
    }
    write_config(tmp_path, config)
    command = [*JETON, "serve", "--config", "router.yaml", "--port", "0", "--workers", "2"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=log, stderr=log)

    def ask(method: str, path: str, **members: Any) -> httpx.Response:
        """On a connection of its own: any worker may answer."""
        headers = {"authorization": f"Bearer {admin_key}"}
        url = f"http://127.0.0.1:{admin_port}{path}"
        return httpx.request(method, url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False, **members)

    def leaving() -> list[set[str]]:
        """By answer, of so many that each worker has given one."""
        answers = [ask("GET", "/replicas").json()["replicas"] for _ in range(12)]
        return [{one["id"] for one in replicas if one["state"] == "leaving"} for replicas in answers]

    try:
        until(lambda: (tmp_path / "log").read_text().count("ready  ") == 2)
        workers = children(process.pid)
        assert len(workers) == 2
        answer = ask("POST", "/replicas/small/1/leave", json={"seconds": 3600, "why": "its node is drained"})
        assert (answer.status_code, answer.json()) == (202, {"replica": "small/1", "seconds": 3600.0, "workers": 2})
        assert ask("POST", "/replicas/nobody/leave").status_code == 404
        assert ask("POST", "/reload").json() == {"asked": True, "workers": 2}

        # One that begins later knows of it, too, and for whom it was.
        os.kill(min(workers), signal.SIGKILL)
        until(lambda: (tmp_path / "log").read_text().count("replica is leaving") == 3)
        assert "is leaving: its node is drained" in str(ask("GET", "/replicas").json())
        assert leaving() == [{"small/1"}] * 12
        assert ask("POST", "/replicas/small/1/stay").json() == {"replica": "small/1", "workers": 2}
        assert leaving() == [set()] * 12
        workers = children(process.pid)
    finally:
        process.kill()
        process.wait()
    until(lambda: not any(map(is_alive, workers)))
    assert "the supervisor is gone" in (tmp_path / "log").read_text()


async def test_a_worker_that_does_not_obey_is_named_and_the_others_have_obeyed() -> None:
    """Supervisor and members as they are, without the processes between them."""
    supervisor = Supervisor(lambda *_: (), 3, "127.0.0.1", 0, drain_seconds=0)
    heard: list[tuple[str, Any]] = []
    running: list[asyncio.Task[None]] = []
    members = []

    async def tally() -> list[Any]:
        return []

    def obeying(name: str) -> Callable[[Any], Any]:
        def obey(order: Any) -> bool:
            heard.append((name, order["order"]))
            if name == "b":
                raise ValueError("it cannot")
            return True

        return obey

    for number, name in enumerate("abc"):
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        supervisor._running[number] = worker = _Worker(None, writer)  # type: ignore[arg-type]
        member = Member(theirs.detach(), tally, lambda name=name: name, lambda worker: None, obeying(name))  # type: ignore[misc]
        members.append(member)
        running += [
            asyncio.create_task(supervisor._hear(number, worker, reader)),
            asyncio.create_task(member.hear()),
        ]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not all(worker.name for worker in supervisor._running.values()):
            await asyncio.sleep(0.01)
        obeyed = await members[0].give({"order": "reload"})
    assert (obeyed.results, obeyed.missing) == ({"a": True, "c": True}, ["b"])
    assert [name for name, order in heard if order == "reload"] == ["a", "b", "c"]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for worker in supervisor._running.values():
        worker._writer.close()
    supervisor._place.close()


async def test_a_worker_that_was_still_starting_at_the_end_is_no_failure() -> None:
    supervisor = Supervisor(lambda *_: ("sleep", "1000"), 1, "127.0.0.1", 0, drain_seconds=PATIENCE_SECONDS)
    running = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not supervisor._running:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == 0


async def test_a_worker_ends_whose_supervisor_was_killed_before_it_had_read_what_the_worker_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its end of the connection is reset then, not closed."""
    raised: list[int] = []
    monkeypatch.setattr("router.group.signal.raise_signal", raised.append)

    async def tally() -> list[Any]:
        return []

    ours, theirs = socket.socketpair()
    member = Member(theirs.detach(), tally, lambda: "worker", lambda worker: None, lambda order: None)
    async with asyncio.timeout(PATIENCE_SECONDS):
        hearing = asyncio.create_task(member.hear())
        while not select.select([ours], [], [], 0)[0]:
            await asyncio.sleep(0.01)
        ours.close()
        await hearing
    assert raised == [signal.SIGTERM]


def started(directory: Path, config: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`jeton serve --workers 2`, which is to end by itself."""
    write_config(directory, config)
    command = [*JETON, "serve", "--config", "router.yaml", "--workers", "2", *arguments]
    return subprocess.run(
        command, cwd=directory, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def a_config() -> dict[str, Any]:
    """Nobody serves there."""
    small, large, embed = ([f"http://127.0.0.1:{port}"] for port in free_ports(3))
    return fleet_config(small, large, embed, new_api_key())


@pytest.mark.timeout(200)
def test_a_group_whose_workers_cannot_start_ends_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    done = started(tmp_path, a_config() | {"ledger": {"path": "taken"}}, "--port", "0")
    assert done.returncode == 1
    assert "a worker cannot start" in done.stdout + done.stderr


@pytest.mark.timeout(200)
def test_a_port_that_is_taken_is_refused_at_start(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = started(tmp_path, a_config(), "--port", str(port))
    assert done.returncode == 3
    assert f"127.0.0.1:{port} cannot be listened on" in done.stderr


def test_budgets_of_several_workers_need_redis(tmp_path: Path) -> None:
    config = a_config()
    config["tenants"][0]["budgets"] = [{"usd": 5, "per": "day"}]
    done = started(tmp_path, config, "--port", "0")
    assert done.returncode == 1
    assert "set redis.url" in done.stderr


@pytest.mark.timeout(200)
def test_nor_does_a_reload_give_them_budgets_without_redis(tmp_path: Path) -> None:
    config = a_config()
    write_config(tmp_path, config)
    command = [*JETON, "serve", "--config", "router.yaml", "--port", "0", "--workers", "2"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=log, stderr=log)
    try:
        until(lambda: (tmp_path / "log").read_text().count("ready  ") == 2)
        config["tenants"][0]["budgets"] = [{"usd": 5, "per": "day"}]
        # Not even with one: whether workers share anything was decided when they began.
        refused = "configuration refused, the old one stays"
        for refusals, redis in ((2, {}), (4, {"redis": {"url": f"redis://127.0.0.1:{free_port()}"}})):
            write_config(tmp_path, config | redis)
            until(lambda wanted=refusals: (tmp_path / "log").read_text().count(refused) == wanted)
        assert "set redis.url, and start jeton again" in (tmp_path / "log").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


class Reticent:
    """A worker that answers from the second time on it is asked."""

    def __init__(self, name: str, answers: list[Any]) -> None:
        self.name = name
        self.heard: list[Any] = []
        self._answers = answers

    def obey(self, order: Any) -> "asyncio.Future[Any]":
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.heard.append(order)
        if len(self.heard) > 1:
            told.set_result(self._answers)
        return told


def cancelled() -> "asyncio.Future[Any]":
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    told.cancel()
    return told


async def test_a_worker_that_begins_hears_of_notices_though_the_others_were_too_busy_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("router.group.OBEY_SECONDS", 0.01)
    supervisor = Supervisor(lambda *_: (), 2, "127.0.0.1", 0, drain_seconds=0)
    leaving = {
        "id": "small/1",
        "state": "leaving",
        "given_up_in_seconds": 60.0,
        "why": "is leaving: its node is drained",
    }
    busy, new = Reticent("busy", [leaving]), Reticent("new", [])
    supervisor._running = {1: busy, 2: new}  # type: ignore[dict-item]
    await asyncio.wait_for(supervisor._tell_notices(new), 10)  # type: ignore[arg-type]
    assert len(busy.heard) == 2
    assert [(one["order"], one["replica"], one["seconds"]) for one in new.heard] == [("leave", "small/1", 60.0)]

    failing, new = Reticent("failing", []), Reticent("newer", [])
    failing.obey = lambda order: cancelled()  # type: ignore[method-assign]
    supervisor._running = {1: failing, 2: busy, 3: new}  # type: ignore[dict-item]
    await asyncio.wait_for(supervisor._tell_notices(new), 10)  # type: ignore[arg-type]  # by the one that can say
    assert len(new.heard) == 1
    supervisor._running = {1: failing, 3: new}  # type: ignore[dict-item]
    await asyncio.wait_for(supervisor._tell_notices(new), 10)  # type: ignore[arg-type]  # nobody can
    assert len(new.heard) == 1

    busy.heard.clear()
    gone = Reticent("gone", [])
    await asyncio.wait_for(supervisor._tell_notices(gone), 10)  # type: ignore[arg-type]  # nobody is asked for its sake
    assert busy.heard == []
