"""Clients that leave what is billed to its end: it is read on, within bounds, and the row says what it used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from payloads import HELLO
from whole_app import WholeApp, running

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "max_tokens": 60}
LONG = {**BODY, "max_tokens": 2_000, "stream": True}


def reads_on(**bounds: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        (cloud,) = config["pools"][2]["backends"]
        cloud["when_client_leaves"] = "read_on"
        config["read_on"] = bounds

    return change


async def leave(jeton: WholeApp, body: dict[str, Any]) -> None:
    """Once the answer is on its way, where it is a stream, else once it is made."""
    client = await jeton.raw(jeton.request(PATH, body))
    if body.get("stream"):
        await client.reader.readuntil(b"}\n\n")
    else:
        await jeton.until(lambda: not jeton.replica("cloud").engine.is_idle)
    client.leave()


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}])
async def test_a05_what_a_provider_bills_after_the_client_left_is_read_on_and_the_row_is_exact(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    async with running(tmp_path, reads_on()) as jeton:
        await jeton.http.post(PATH, json=BODY)
        await leave(jeton, {**BODY, **asked})
        await jeton.settled()
        whole, charge = await jeton.charges()
        assert (charge["status"], charge["fault"]) == ("cancelled", "client_gone")
        assert charge["usage_source"] == whole["usage_source"] == "provider"
        assert charge["completion_tokens"] == whole["completion_tokens"]
        assert charge["cost_nanousd"] == whole["cost_nanousd"]


async def test_a05_what_is_left_is_read_on_for_so_long_and_estimated_beyond(tmp_path: Path) -> None:
    async with running(tmp_path, reads_on(seconds_max=0.3)) as jeton:
        jeton.replica("cloud").faults(stall_after_chunks=3)
        await leave(jeton, LONG)
        await jeton.settled()  # the engine, too: it is stopped
        (charge,) = await jeton.charges()
        assert (charge["status"], charge["fault"], charge["usage_source"]) == ("cancelled", "client_gone", "estimated")
        assert charge["completion_tokens"] > 0


async def test_a05_what_is_left_is_read_on_for_so_many_bytes_and_estimated_beyond(tmp_path: Path) -> None:
    async with running(tmp_path, reads_on(bytes_max=2_000)) as jeton:
        await leave(jeton, LONG)
        await jeton.settled()
        (charge,) = await jeton.charges()
        assert (charge["status"], charge["fault"], charge["usage_source"]) == ("cancelled", "client_gone", "estimated")


async def test_a05_so_many_are_read_on_at_once_and_the_others_stopped(tmp_path: Path) -> None:
    async with running(tmp_path, reads_on(at_once_max=1, seconds_max=2.0)) as jeton:
        jeton.replica("cloud").faults(stall_after_chunks=3)
        await leave(jeton, LONG)
        await jeton.until(lambda: jeton.app._failover._reading_on == 1)
        await leave(jeton, LONG)
        await jeton.until(lambda: sum(jeton.in_flight.values()) == 1)
        assert jeton.app._failover._reading_on == 1, "the first one is not what was stopped"
        await jeton.settled()
        assert [(one["status"], one["usage_source"]) for one in await jeton.charges()] == [
            ("cancelled", "estimated")
        ] * 2


async def test_a05_an_answer_that_was_read_on_is_there_for_the_client_that_asks_again(tmp_path: Path) -> None:
    async with running(tmp_path, reads_on()) as jeton:
        body = json.dumps({**BODY, "stream": True}).encode()
        client = await jeton.raw(jeton.request(PATH, body, idempotency_key="again"))
        await client.reader.readuntil(b"}\n\n")
        client.leave()
        await jeton.settled()
        headers = {"idempotency-key": "again", "content-type": "application/json"}
        answer = await jeton.http.post(PATH, content=body, headers=headers)
        assert answer.headers.get("idempotent-replayed") == "true", answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
        assert len(await jeton.charges()) == 1


async def test_a05_for_a_client_that_left_no_other_backend_is_asked(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        reads_on()(config)
        config["policy"] = {"name": "always_large"}
        config["aliases"]["both"] = {"backends": ["cloud", "small"]}
        config["timeouts"] = {"first_byte_seconds": 0.5}

    async with running(tmp_path, change) as jeton:
        jeton.replica("cloud").faults(stall_before_first_token=True)
        client = await jeton.raw(jeton.request(PATH, {**BODY, "model": "both", "stream": True}))
        await jeton.until(lambda: bool(jeton.seen("cloud")))
        client.leave()
        await jeton.settled()
        (charge,) = await jeton.charges()
        assert (charge["backend"], charge["status"], charge["fault"]) == ("cloud", "failed", "stall")
