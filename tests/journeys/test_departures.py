"""Requests that are cut short at every point there is: nothing stays open, everything is booked once, the bill adds up.

What is asserted is the journey's end (`whole_app.running`): no work in flight, no open attempt, no task's exception, idle
engines, one charge for each attempt, and books that balance to the nano-dollar.
"""

import asyncio
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from payloads import HELLO, form, sound
from whole_app import RawClient, WholeApp, running

CHAT = "/v1/chat/completions"
TURNS = 48

REQUESTS: dict[str, tuple[str, Any]] = {
    "whole": (CHAT, {"model": "small-model", "messages": HELLO, "max_tokens": 3}),
    "stream": (CHAT, {"model": "small-model", "messages": HELLO, "max_tokens": 3, "stream": True}),
    "metered": (CHAT, {"model": "cloud-model", "messages": HELLO, "max_tokens": 3, "stream": True}),
    "auto": (CHAT, {"model": "auto", "messages": HELLO, "max_tokens": 3, "stream": True, "n": 2}),
    "failing": (CHAT, {"model": "large-model", "messages": HELLO, "max_tokens": 3}),
    "responses": ("/v1/responses", {"model": "small-model", "input": "x", "max_output_tokens": 3, "stream": True}),
    "messages": ("/v1/messages", {"model": "small-model", "messages": HELLO, "max_tokens": 3, "stream": True}),
    "completions": ("/v1/completions", {"model": "small-model", "prompt": ["a", "b"], "max_tokens": 3}),
    "embeddings": ("/v1/embeddings", {"model": "embed-model", "input": ["one", "two"]}),
    "upload": ("/v1/audio/transcriptions", form(("model", "audio-model"), ("file", sound(0.2)))),
    "large": (CHAT, {"model": "small-model", "messages": HELLO, "max_tokens": 3, "x": ["y" * 1000] * 200}),
    "refused": (CHAT, {"model": "nothing", "messages": HELLO}),
}
FAULTS: list[dict[str, Any]] = [
    {"refuse": True},
    {"reset_before_first_byte": True},
    {"reset_after_chunks": 2},
    {"eof_after_chunks": 1},
    {"stall_before_first_token": True},
    {"stall_after_chunks": 2},
    {"status": 500},
    {"status": 503},
    {"status": 429, "retry_after": 1.0},
    {"status": 400},
    {"html": True},
    {"short_body": True},
    {"usage": "missing"},
    {"engine_dead": True},
    {"bad_sse": "bad_json"},
]


def as_bytes(jeton: WholeApp, name: str) -> bytes:
    path, body = REQUESTS[name]
    if isinstance(body, bytes):
        return jeton.request(path, body, content_type="multipart/form-data; boundary=limit")
    return jeton.request(path, body)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_client_may_leave_at_any_turn_of_the_event_loop(jeton: WholeApp, name: str) -> None:
    if name == "failing":
        jeton.replica("large").faults(status=500)
    for count in range(TURNS):
        client = await jeton.raw(as_bytes(jeton, name))
        await turns(count)
        client.leave()
    await jeton.settled()


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_may_be_cancelled_at_any_of_its_waits(jeton: WholeApp, name: str) -> None:
    """As the server does with what outlasts its patience at shutdown."""
    if name == "failing":
        jeton.replica("large").faults(status=500)
    tasks = jeton.server.server_state.tasks
    for count in range(1, TURNS):  # one that never began is the server's own affair
        client = await jeton.raw(as_bytes(jeton, name))
        while not tasks:
            await asyncio.sleep(0)
        await turns(count)
        for task in list(tasks):
            task.cancel()
        client.leave()
        await jeton.until(lambda: not tasks)
    await jeton.settled()


def restless(config: dict[str, Any]) -> None:
    config["timeouts"] = {"first_byte_seconds": 0.3, "chunk_seconds": 0.3, "connect_seconds": 0.3}
    config["health"] = {"interval_seconds": 0.1, "ejection_seconds": 0.2, "cooldown_seconds_max": 0.3}
    config["server"] |= {"write_seconds": 1.0, "body_seconds": 0.5, "header_seconds": 0.5}


@pytest.mark.parametrize("seed", range(3))
async def test_clients_leave_and_backends_fail_as_they_please(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    outcomes: Counter[str] = Counter()
    async with running(tmp_path, restless) as jeton:

        async def spoil() -> None:
            replicas = [replica for backend in jeton.fleet.values() for replica in backend]
            while True:
                replica = random.choice(replicas)
                if random.random() < 0.4:
                    replica.clear_faults()
                else:
                    replica.faults(**random.choice(FAULTS))
                await asyncio.sleep(random.uniform(0, 0.03))

        async def visit() -> None:
            request = as_bytes(jeton, random.choice(list(REQUESTS)))
            client = await jeton.raw()
            for start in range(0, len(request), step := random.choice((97, 4096, len(request)))):
                client.send(request[start : start + step])
                if random.random() < 0.02:
                    client.leave()
                    outcomes["left inside the request"] += 1
                    return
                await asyncio.sleep(0)
            await read(client)

        async def read(client: RawClient) -> None:
            patience = random.choice((0.0, 0.01, 0.05, 5.0))
            try:
                async with asyncio.timeout(patience):
                    status, headers = await client.head()
                    outcomes[str(status)] += 1
                    if "content-length" in headers:
                        await client.reader.readexactly(int(headers["content-length"]))
                    else:
                        await client.reader.readuntil(b"0\r\n\r\n")
            except TimeoutError:
                outcomes["left"] += 1
            except (asyncio.IncompleteReadError, ConnectionError):
                outcomes["cut"] += 1
            client.leave()

        async def visitor() -> None:
            for _ in range(25):
                await visit()

        spoiling = asyncio.create_task(spoil())
        await asyncio.gather(*(visitor() for _ in range(12)))
        spoiling.cancel()
        for replicas in jeton.fleet.values():
            for replica in replicas:
                replica.clear_faults()
        await jeton.emulated.settled()
        await jeton.settled()
        statuses = Counter(charge["status"] for charge in await jeton.charges())
        assert {"ok", "failed", "cancelled"} <= set(statuses), "the storm was none"
        assert outcomes["left"] > 0
        assert outcomes["200"] > 0
