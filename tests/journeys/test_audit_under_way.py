"""The audit beside a router at work, its live metrics included; one request followed by its id; our tokens against vLLM's."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from audited import assert_audit_is_clean
from click.testing import CliRunner
from payloads import HELLO
from whole_app import WholeApp, running

from router.accounting.audit import audit
from router.commands.ledger import ledger

PATH = "/v1/chat/completions"


def body(model: str = "small-model", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": HELLO, "max_tokens": 20} | more


async def run(jeton: WholeApp, *arguments: str) -> tuple[int, str]:
    """A `jeton ledger` command, in a thread: what it asks of jeton is answered meanwhile."""
    command = ["--ledger", str(jeton.ledger_path), *arguments]
    result = await asyncio.to_thread(CliRunner().invoke, ledger, command)
    return result.exit_code, result.output


async def test_the_audit_is_clean_under_load_to_the_nano_dollar_metrics_included(jeton: WholeApp) -> None:
    is_enough = asyncio.Event()

    async def client(number: int) -> None:
        http = jeton.http
        while not is_enough.is_set():
            model = ("small-model", "large-model", "cloud-model")[number % 3]
            assert (await http.post(PATH, json=body(model, stream=bool(number % 2)))).status_code == 200

    compared = 0
    async with asyncio.TaskGroup() as group:
        for number in range(9):
            group.create_task(client(number))
        for _ in range(10):
            await asyncio.sleep(0.05)
            code, output = await run(jeton, "audit", "--json", "--metrics-url", jeton.url)
            told = json.loads(output)
            assert (code, told["findings"]) == (0, [])
            compared += len(told["metrics_compared"])
        is_enough.set()
    assert compared == 20
    assert told["attempts"] > 9


async def test_live_metrics_that_are_off_are_named(jeton: WholeApp) -> None:
    assert (await jeton.http.post(PATH, json=body("cloud-model"))).status_code == 200
    text = (await jeton.http.get("/metrics")).text
    assert_audit_is_clean(jeton.ledger_path, text)
    shown = next(line for line in text.splitlines() if line.startswith("jeton_bill_usd_total") and "cloud" in line)
    name, amount = shown.rsplit(" ", 1)
    off = text.replace(shown, f"{name} {float(amount) + 1e-9}")
    found = audit(jeton.ledger_path, off, "scraped")
    assert [finding.row for finding in found.findings] == ["jeton_bill_usd_total{pool=cloud, backend=cloud}"]
    assert audit(jeton.ledger_path, "", "scraped").findings[0].stored == "absent"


async def test_one_request_is_followed_by_its_id_from_log_to_metric(jeton: WholeApp) -> None:
    for number in range(2):
        jeton.replica("small", number).faults(refuse=True)
    answer = await jeton.http.post(PATH, json=body())
    assert answer.status_code == 502
    request_id = answer.headers["x-request-id"]
    await jeton.charges()
    assert [event for event in jeton.events if event.get("request_id") == request_id]
    code, output = await run(jeton, "show", request_id)
    assert code == 0
    parts = (
        f"request_id={request_id}",
        f"{request_id}.1",
        "opened",
        "closed",
        "nanousd_per_hour",
        "jeton_cost_usd_total{",
    )
    for part in parts:
        assert part in output
    assert 'jeton_attempts_total{backend="small",status="failed"' in output


async def test_our_tokens_are_those_that_vllm_counted(jeton: WholeApp) -> None:
    await known(jeton, "small")
    for number in range(6):
        answer = await jeton.http.post(PATH, json=body(stream=bool(number % 2)))
        assert answer.status_code == 200
    await jeton.settled()
    await jeton.until(lambda: jeton.app._fleet.meter_drift_ratios().get("small") == 1.0)
    code, output = await run(jeton, "audit", "--metrics-url", jeton.url)
    assert code == 0
    assert "small: 1.0000" in output


async def test_tokens_that_are_not_ours_show_as_drift(jeton: WholeApp) -> None:
    await known(jeton, "small")
    for _ in range(2):
        assert (await jeton.http.post(PATH, json=body())).status_code == 200
    async with httpx.AsyncClient(trust_env=False) as directly:
        for replica in jeton.fleet["small"]:
            answer = await directly.post(f"{replica.url}{PATH}", json=body("tiny-8b"), timeout=30)
            assert answer.status_code == 200
    await jeton.settled()
    await jeton.until(lambda: jeton.app._fleet.meter_drift_ratios().get("small", 1.0) == pytest.approx(0.5, abs=0.01))
    text = (await jeton.http.get("/metrics")).text
    assert 'jeton_meter_drift_ratio{backend="small"} 0.5' in text
    assert audit(jeton.ledger_path, text, "scraped").drift["small"] == pytest.approx(0.5, abs=0.01)


async def test_a_replica_that_tells_a_usage_which_cannot_be_shows_as_drift(tmp_path: Path) -> None:
    async with running(tmp_path) as jeton:
        await known(jeton, "large")
        jeton.replica("large").faults(usage="absurd")
        for _ in range(3):
            assert (await jeton.http.post(PATH, json=body("large-model"))).status_code == 200
        await jeton.settled()
        await jeton.until(lambda: jeton.app._fleet.meter_drift_ratios().get("large", 1.0) != 1.0)


async def known(jeton: WholeApp, backend: str) -> None:
    """Wait until every replica of it has been scraped."""
    replicas = jeton.app._fleet.snapshot.backends[backend].replicas
    await jeton.until(lambda: all(one.id in jeton.app._fleet.snapshot.scrapes for one in replicas))
