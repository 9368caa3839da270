"""A backend that is stopped when nothing is asked of it: nobody wakes it by looking, whoever wakes it waits and pays, and its
lease runs from start to stop."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from capacity_example import serving
from payloads import HELLO
from whole_app import WholeApp

COLD_SECONDS, IDLE_SECONDS = 0.3, 0.8
HOUR_NANOUSD = 7_560_000_000
BODY = {"model": "on-call", "messages": HELLO, "max_tokens": 3}


def quick(config: dict[str, Any]) -> None:
    backend = config["pools"][0]["backends"][0]
    backend["scale_to_zero"] = {"cold_start_seconds": COLD_SECONDS, "idle_seconds": IDLE_SECONDS}


async def explained(jeton: WholeApp, model: str) -> dict[str, dict[str, Any]]:
    """By backend, what is told of its candidate."""
    answer = await jeton.http.post("/jeton/explain", json=BODY | {"model": model})
    return {choice["backend"]: choice for choice in answer.json()["ranking"]}


def leases(jeton: WholeApp) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(f"file:{jeton.ledger_path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute("SELECT * FROM leases ORDER BY started_ns").fetchall()


async def test_it_is_woken_by_a_request_alone_and_its_lease_runs_from_start_to_stop(tmp_path: Path) -> None:
    specs = {"on-call": {"cold_start_seconds": COLD_SECONDS, "idle_seconds": IDLE_SECONDS}}
    async with serving("scale_to_zero", tmp_path, quick, specs) as jeton:
        replica = jeton.replica("on-call")
        activator = replica.activator
        assert activator is not None
        cold = (await explained(jeton, "auto"))["on-call"]
        assert cold["cold_start_seconds"] == COLD_SECONDS
        assert cold["ttft_seconds"] > COLD_SECONDS
        least_nanousd = HOUR_NANOUSD * (COLD_SECONDS + IDLE_SECONDS) / 3600
        assert cold["quote"]["marginal"]["nanousd"] >= cold["waking"]["nanousd"] >= least_nanousd
        asking = [asyncio.create_task(jeton.http.post("/v1/chat/completions", json=BODY)) for _ in range(2)]
        await jeton.until(lambda: jeton.in_flight == {"on-call-1": 2})
        starting = (await explained(jeton, "auto"))["on-call"]
        assert 0 < starting["cold_start_seconds"] < COLD_SECONDS
        assert starting["waking"]["nanousd"] == 0  # that is paid for
        assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200, 200]
        warm = (await explained(jeton, "auto"))["on-call"]
        assert (warm["cold_start_seconds"], warm["waking"]["nanousd"]) == (0.0, 0)
        assert activator.starts == 1
        await jeton.until(lambda: not activator.is_running)  # and is not asked for its health, which would wake it
        assert {request.path for request in replica.requests_seen} == {"/v1/chat/completions"}
        (first,) = leases(jeton)
        assert (await explained(jeton, "auto"))["on-call"]["waking"]["nanousd"] >= least_nanousd
        assert (await jeton.http.post("/v1/chat/completions", json=BODY)).status_code == 200
        assert activator.starts == 2
        text = (await jeton.http.get("/metrics")).text
        assert 'jeton_replica_wakes_total{backend="on-call",replica="on-call-1"} 2.0' in text
        assert 'jeton_replica_asleep{backend="on-call",replica="on-call-1"} 0.0' in text
        charges = await jeton.charges()
        assert [charge["cost_status"] for charge in charges] == ["priced"] * 3
        started = charges[0]
        # While it starts, nobody but those who wait for it is there to pay for it.
        waited_nanousd = charges[0]["cost_nanousd"] + charges[1]["cost_nanousd"]
        assert waited_nanousd >= HOUR_NANOUSD * COLD_SECONDS / 3600 * 0.9
        rows = {row["lease_id"]: row for row in leases(jeton)}
        assert len(rows) == 2
        ended = rows[first["lease_id"]]
        seconds = (ended["ended_ns"] - ended["started_ns"]) / 1e9
        assert ended["started_ns"] == started["opened_ns"]
        last_ns = max(charge["ended_ns"] for charge in charges[:2])
        assert last_ns + int(IDLE_SECONDS * 1e9) <= ended["ended_ns"] <= charges[2]["opened_ns"]
        assert abs(ended["bill_nanousd"] - HOUR_NANOUSD * seconds / 3600) <= 1
        assert ended["bill_nanousd"] - ended["idle_nanousd"] == pytest.approx(waited_nanousd, abs=4)
