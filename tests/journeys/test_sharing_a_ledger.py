"""One of several workers on a ledger, whole: what it reports is booked as if it had kept its books itself."""

import asyncio
import json
from pathlib import Path
from typing import Any

from payloads import HELLO
from whole_app import running

PATH = "/v1/chat/completions"


def shared(config: dict[str, Any]) -> None:
    config["ledger"]["accountant"] = "inside"


async def test_what_clients_are_told_is_charged_to_the_nano_dollar_while_one_worker_serves_alone(
    tmp_path: Path,
) -> None:
    """Metered and leased, streamed and whole: the estimate lacks the others alone, and there are none."""
    async with running(tmp_path, shared) as jeton:
        told = {}
        for number in range(6):
            body = {
                "model": ("small-model", "large-model", "cloud-model")[number % 3],
                "messages": HELLO,
                "max_tokens": 20,
            }
            if number % 2:
                answer = await jeton.http.post(
                    PATH, json=body | {"stream": True, "stream_options": {"include_usage": True}}
                )
                last = json.loads(answer.text.split("data: ")[-2])
                cost = last["jeton_cost"]["nanousd"]
            else:
                answer = await jeton.http.post(PATH, json=body)
                cost = round(float(answer.headers["x-jeton-cost-usd"]) * 1e9)
            told[answer.headers["x-request-id"]] = cost
        charged = {row["request_id"]: row["cost_nanousd"] for row in await jeton.charges()}
        assert charged.keys() == told.keys()
        # Beginnings of the lease differ, and with them what of a nano-dollar is carried over.
        assert all(abs(charged[name] - told[name]) <= 1 for name in told)


async def test_failures_and_clients_that_leave_are_booked_as_they_were_seen(tmp_path: Path) -> None:
    async with running(tmp_path, shared) as jeton:
        jeton.replica("small", 0).faults(refuse=True)
        jeton.replica("small", 1).faults(refuse=True)
        body = {"model": "small-model", "messages": HELLO, "max_tokens": 20}
        assert (await jeton.http.post(PATH, json=body)).status_code == 502
        client = await jeton.raw(
            jeton.request(PATH, body | {"model": "large-model", "max_tokens": 500, "stream": True})
        )
        status, _ = await client.head()
        assert status == 200
        client.leave()
        await jeton.settled()
        rows = await jeton.charges()
        assert [(row["status"], row["fault"]) for row in rows][:2] == [("failed", "connect")] * 2
        assert (rows[2]["status"], rows[2]["fault"]) == ("cancelled", "client_gone")
        assert rows[2]["cost_nanousd"] > 0


async def test_the_metrics_of_the_one_that_keeps_the_books_have_the_money(tmp_path: Path) -> None:
    async with running(tmp_path, shared) as jeton:
        answers = await asyncio.gather(
            *(jeton.http.post(PATH, json={"model": "anything", "messages": HELLO, "max_tokens": 5}) for _ in range(20))
        )
        assert {answer.status_code for answer in answers} == {200}
        await jeton.charges()
        text = (await jeton.http.get("/metrics")).text
        shown = [line for line in text.splitlines() if line.startswith("jeton_usage_total")]
        assert sum(float(line.rpartition(" ")[2]) for line in shown) == 20
        assert "jeton_ledger_lag_seconds " in text
