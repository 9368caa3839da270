"""`jeton serve` killed by -9 under load: the audit is clean as the kill left it, and after the next start, metrics included."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from audited import assert_audit_is_clean
from emulated_fleet import EmulatedProcess
from jeton_server import JetonServer, fleet_config, new_api_key

KILLS = 3
CLIENTS = 8
PATIENCE_SECONDS = 60.0


@contextmanager
def load(server: JetonServer) -> Iterator[list[int]]:
    """Clients that ask again as soon as they are answered, streamed and whole. Yields the statuses that they saw."""
    statuses: list[int] = []
    is_over = threading.Event()

    def ask(number: int) -> None:
        headers = {"authorization": f"Bearer {server.api_key}"}
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 20, "stream": number % 2 == 0}
        with httpx.Client(base_url=server.url, headers=headers, timeout=10, trust_env=False) as client:
            while not is_over.is_set():
                with suppress(httpx.HTTPError):
                    model = "small" if number % 3 else "large"
                    statuses.append(client.post("/v1/chat/completions", json={"model": model} | body).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@pytest.mark.timeout(180)
def test_f30_a_router_that_is_killed_under_load_leaves_books_that_are_true(tmp_path: Path) -> None:
    chance = random.Random(4)
    emulated = {name: EmulatedProcess.start(tmp_path, name) for name in ("small", "large")}
    try:
        urls = {name: process.wait_until_ready() for name, process in emulated.items()}
        api_key = new_api_key()
        config = fleet_config(**urls, embed=[], api_key=api_key, context_tokens=32_768)
        del config["pools"][1]["backends"][1]
        ledger = tmp_path / "var/jeton.sqlite"
        ended = 0
        for _ in range(KILLS):
            server = JetonServer.start(tmp_path, config, api_key)
            with load(server) as statuses:
                deadline = time.monotonic() + PATIENCE_SECONDS
                while not statuses:
                    assert time.monotonic() < deadline, "nobody was answered"
                    time.sleep(0.02)
                time.sleep(chance.random())
                server.process.kill()
                server.process.wait()
            assert set(statuses) == {200}
            found = assert_audit_is_clean(ledger)
            assert found.attempts > ended
            ended = found.attempts
        server = JetonServer.start(tmp_path, config, api_key)
        taken_up = assert_audit_is_clean(ledger, "\n".join(server.metrics()) + "\n")
        assert taken_up.open_attempts == 0
        assert server.stop() == 0
    finally:
        for process in emulated.values():
            process.stop()
