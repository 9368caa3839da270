"""A router whose ledger is in PostgreSQL, which goes away and comes back under way: clients do not notice, nothing is lost."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from payloads import HELLO
from postgres_server import PostgresServer
from whole_app import WholeApp, running

from router.ledger.address import PostgresAddress
from router.ledger.history import Filters, read_history

PATH = "/v1/chat/completions"
AWAY = "the ledger's PostgreSQL is away; batches go into the spool"


def in_postgresql(address: PostgresAddress, directory: Path) -> Any:
    def change(config: dict[str, Any]) -> None:
        config["ledger"] = {
            "url": address.url,
            "commit_seconds": 0.005,
            "spool": {"path": str(directory / "spool"), "bytes_max": 2**22},
        }

    return change


async def ask(http: httpx.AsyncClient, model: str) -> httpx.Response:
    return await http.post(PATH, json={"model": model, "messages": HELLO, "max_tokens": 5})


async def ask_all(jeton: WholeApp, rounds: int) -> None:
    http = jeton.http
    for _ in range(rounds):
        for model in ("small-model", "large-model", "cloud-model"):
            assert (await ask(http, model)).status_code == 200


async def metric(jeton: WholeApp, name: str) -> float:
    text = (await jeton.http.get("/metrics")).text
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith((name + " ", name + "{"))
    )


async def test_it_serves_and_counts_as_with_a_file(postgres: PostgresAddress, tmp_path: Path) -> None:
    async with running(tmp_path, in_postgresql(postgres, tmp_path)) as jeton:
        await ask_all(jeton, 3)
        await jeton.settled()
        assert await metric(jeton, "jeton_usage_total") == 9
        assert await metric(jeton, "jeton_ledger_spool_bytes") == 0
    with read_history(postgres) as history:
        assert len(history.charges(Filters(), 100)) == 9


@pytest.mark.parametrize(("goes", "comes"), [("kill", "start_again"), ("freeze", "thaw")])
async def test_f30_clients_do_not_notice_that_postgresql_is_killed_or_frozen(
    own_server: PostgresServer, tmp_path: Path, goes: str, comes: str
) -> None:
    address = own_server.database()
    async with running(tmp_path, in_postgresql(address, tmp_path), alarms=(AWAY,)) as jeton:
        await ask_all(jeton, 2)
        await asyncio.to_thread(getattr(own_server, goes))
        await ask_all(jeton, 3)
        await jeton.settled()
        assert await metric(jeton, "jeton_ledger_spool_bytes") > 0
        assert await metric(jeton, "jeton_ledger_accepting") == 1
        await asyncio.to_thread(getattr(own_server, comes))
        await ask_all(jeton, 1)
        await jeton.settled()
        while await metric(jeton, "jeton_ledger_spool_bytes"):
            await asyncio.sleep(0.05)
        assert await metric(jeton, "jeton_usage_total") == 18
        assert AWAY in [event["event"] for event in jeton.events]
    with read_history(address) as history:
        assert len(history.charges(Filters(), 100)) == 18
