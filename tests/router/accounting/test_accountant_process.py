"""`jeton accountant`: the books of workers that serve elsewhere, kept by a process of its own."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from audited import assert_audit_is_clean, assert_what_is_told_is_the_audits
from emulated_fleet import EmulatedProcess
from groups import PATIENCE_SECONDS, is_booked, until, write_config
from jeton_server import ENVIRONMENT, JETON, PEPPER, JetonServer, fleet_config, new_api_key
from ports import free_port, free_ports
from price_feed import document

from router.accounting.process import Accounting
from router.config_file import load


def accountant(directory: Path, port: int) -> subprocess.Popen[bytes]:
    command = [*JETON, "accountant", "--config", "router.yaml", "--port", str(port)]
    with (directory / f"accountant-{port}").open("wb") as log:
        return subprocess.Popen(command, cwd=directory, env=ENVIRONMENT, stdout=log, stderr=log)


def health(port: int) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=5).json()
    except httpx.HTTPError:
        return {}
    return answer


@pytest.mark.timeout(300)
def test_a13_a17_apart_the_accountant_alone_shows_the_money_and_another_takes_over(tmp_path: Path) -> None:
    emulated = {name: EmulatedProcess.start(tmp_path, name) for name in ("small", "large")}
    running: list[subprocess.Popen[bytes]] = []
    server = None
    try:
        urls = {name: process.wait_until_ready() for name, process in emulated.items()}
        api_key = new_api_key()
        config = fleet_config(**urls, embed=[], api_key=api_key, context_tokens=32_768)
        del config["pools"][1]["backends"][1]
        config["ledger"] = {"accountant": "apart", "silence_seconds": 2}
        server = JetonServer.start(tmp_path, config, api_key)
        first, second = free_ports(2)
        running.append(accountant(tmp_path, first))
        until(lambda: health(first).get("keeps_the_books"))
        running.append(accountant(tmp_path, second))
        until(lambda: health(second).get("keeps_the_books") is False)

        ledger = tmp_path / "var/jeton.sqlite"
        headers = {"authorization": f"Bearer {api_key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False) as client:

            def ask(times: int) -> None:
                for number in range(times):
                    body = {"model": ("small", "large")[number % 2], "messages": [{"role": "user", "content": "hi"}]}
                    assert client.post("/v1/chat/completions", json=body | {"max_tokens": 5}).status_code == 200

            ask(6)
            running[0].kill()
            ask(6)  # what serves does not notice
            until(lambda: health(second).get("keeps_the_books"))
            until(lambda: is_booked(ledger))
            metrics = httpx.get(f"http://127.0.0.1:{second}/metrics", trust_env=False).text
            assert assert_audit_is_clean(ledger, metrics).attempts == 12
            assert "jeton_bill_usd_total{" in metrics
            own = client.get("/metrics").text
            assert "jeton_bill_usd_total" not in own
            assert "jeton_requests_total{" in own
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_SECONDS) == 0
        running[1].send_signal(signal.SIGTERM)
        assert running[1].wait(PATIENCE_SECONDS) == 0
        found = assert_audit_is_clean(ledger)
        assert (found.attempts, found.open_attempts) == (12, 0)
    finally:
        for process in running:
            process.kill()
            process.wait()
        if server is not None and server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
        for one in emulated.values():
            one.stop()


async def test_leases_of_an_accountant_apart_cost_what_their_feed_says_and_go_on_so_at_the_next_start(
    tmp_path: Path,
) -> None:
    small, large, embed = ([f"http://127.0.0.1:{port}"] for port in free_ports(3))
    config = fleet_config(small, large, embed, new_api_key()) | {
        "ledger": {"path": str(tmp_path / "ledger.sqlite"), "accountant": "apart"}
    }
    write_config(tmp_path, config)
    book = json.loads((tmp_path / "prices.yaml").read_text())
    book["feeds"] = {"market": {"file": "spot.json", "prices": ["gpu"], "poll_seconds": 86_400}}
    (tmp_path / "prices.yaml").write_text(json.dumps(book))
    (tmp_path / "spot.json").write_bytes(document(time.time_ns(), gpu="3.5"))

    async def price_ids(poll_result: str) -> set[str]:
        """Of the leases that run, once the feed was polled."""
        keeping = Accounting(load(tmp_path / "router.yaml", environ={"JETON_API_KEY_PEPPER": PEPPER}))
        async with keeping.asgi.router.lifespan_context(keeping.asgi), asyncio.timeout(PATIENCE_SECONDS):
            while f'feed="market",result="{poll_result}"' not in bytes((await keeping._metrics()).body).decode():
                await asyncio.sleep(0.02)
            while not keeping._keeper.totals().leases:
                await keeping._metrics()
                await asyncio.sleep(0.02)
            await keeping._metrics()
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as file:
            found = file.execute("SELECT DISTINCT price_id FROM leases WHERE ended_ns IS NULL").fetchall()
        return {price_id for (price_id,) in found}

    [fed] = await price_ids("changed")
    assert "~3.5~" in fed
    (tmp_path / "spot.json").unlink()
    assert await price_ids("unreachable") == {fed}  # what it told last stays
    assert_what_is_told_is_the_audits(tmp_path / "ledger.sqlite")


@pytest.mark.timeout(100)
def test_an_accountant_whose_workers_keep_their_own_books_is_refused(tmp_path: Path) -> None:
    small, large, embed = ([f"http://127.0.0.1:{port}"] for port in free_ports(3))
    write_config(tmp_path, fleet_config(small, large, embed, new_api_key()))
    process = accountant(tmp_path, port := free_port())
    assert process.wait(PATIENCE_SECONDS) == 1
    assert "set `apart`" in (tmp_path / f"accountant-{port}").read_text()
    assert json.loads((tmp_path / "router.yaml").read_text()).get("ledger") is None
