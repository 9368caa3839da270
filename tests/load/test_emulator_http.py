"""HTTP around the answers: keep-alive, pipelining, rejection of strangers, the queue's limit, the end of a process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

import load.emulator.http
from load.emulator import EmulatedFleet, Replica, ReplicaSpec
from load.emulator.errors import ENGINE_DEAD

CHAT = {"messages": [{"role": "user", "content": "hello world"}], "max_tokens": 4}
LONG = {**CHAT, "max_tokens": 5000, "ignore_eos": True}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


async def until_running(replica: Replica, count: int) -> None:
    async with asyncio.timeout(5):
        while replica.engine.running + replica.engine.waiting != count:
            await asyncio.sleep(0.001)


async def test_an_api_key_guards_v1_alone(client: httpx.AsyncClient) -> None:
    async with EmulatedFleet.start([ReplicaSpec(api_key="sk-secret")]) as fleet:
        url = fleet.replicas[0].url
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "sk-secret"}):
            refused = await client.get(f"{url}/v1/models", headers=headers)
            assert (refused.status_code, refused.json()) == (401, {"error": "Unauthorized"})
        right = {"authorization": "Bearer sk-secret"}
        assert (await client.get(f"{url}/v1/models", headers=right)).status_code == 200
        for path in ("/health", "/metrics", "/version", "/load", "/ping"):
            assert (await client.get(url + path)).status_code == 200
        assert (await client.post(f"{url}/tokenize", json={"prompt": "a"})).status_code == 200


async def test_a_full_queue_is_a_503_before_any_byte_of_a_stream(client: httpx.AsyncClient) -> None:
    async with EmulatedFleet.start([ReplicaSpec(sequences_max=1, queued_max=2)]) as fleet:
        replica = fleet.replicas[0]
        url = f"{replica.url}/v1/chat/completions"
        held = [asyncio.create_task(client.post(url, json=LONG)) for _ in range(2)]
        await until_running(replica, 2)
        assert (replica.engine.running, replica.engine.waiting) == (1, 1)
        refused = await client.post(url, json={**CHAT, "stream": True})
        assert refused.status_code == 503
        assert refused.json()["error"]["type"] == "Service Unavailable"
        assert "retry-after" not in refused.headers
        assert 'reason="max_num_queued_reqs"} 1.0' in (await client.get(f"{replica.url}/metrics")).text
        for task in held:
            task.cancel()
        await until_running(replica, 0)


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load.emulator.http, "KEEP_ALIVE_SECONDS", 0.05)
    async with EmulatedFleet.start([ReplicaSpec()]) as fleet:
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.replicas[0].port)
        body = json.dumps({**CHAT, "max_tokens": 60, "ignore_eos": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b'"metrics":null}')
        writer.close()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with EmulatedFleet.start([ReplicaSpec()]) as fleet:
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.replicas[0].port)
        writer.write(
            b"GET /version HTTP/1.1\r\nhost: x\r\n\r\nGET /load HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        async with asyncio.timeout(5):
            answers = await reader.read()
        writer.close()
        assert answers.index(b'{"version":"0.32.0"}') < answers.index(b'{"server_load":0}')


async def test_a_reader_that_does_not_read_does_not_slow_the_engine() -> None:
    async with EmulatedFleet.start([ReplicaSpec(time_factor=100)]) as fleet:
        replica = fleet.replicas[0]
        _, writer = await asyncio.open_connection("127.0.0.1", replica.port)
        body = json.dumps({**LONG, "stream": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        await until_running(replica, 1)
        await until_running(replica, 0)
        assert replica.engine.counters.completion_tokens == 5000
        writer.transport.abort()


async def test_when_the_fleet_stops_streams_hear_of_the_engines_death() -> None:
    async with EmulatedFleet.start([ReplicaSpec()]) as fleet:
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.replicas[0].port)
        body = json.dumps({**LONG, "stream": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        await reader.readuntil(b'"content"')
    rest = await reader.read()
    writer.close()
    assert ENGINE_DEAD.encode() in rest
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_the_command_serves_replicas_until_it_is_told_to_stop(tmp_path: Path, client: httpx.AsyncClient) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(
        "one: {parameters_billion: 1, layers: 8, kv_bytes_per_token: 1000, weight_bytes_per_parameter: 1, memory_gb: 8,"
        " bandwidth_gb_per_second: 3000, tflops: 500}\n"
    )
    port = free_port()
    command = ["-m", "load", "emulate", "--profile", str(profile), "--port", str(port), "--replicas", "2"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--served-model-name", "a", "--served-model-name", "b", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            told = [await process.stdout.readline() for _ in range(2)]
        assert [line.split()[0] for line in told] == [b"a", b"a"]
        models = (await client.get(f"http://127.0.0.1:{port + 1}/v1/models")).json()
        assert [model["id"] for model in models["data"]] == ["a", "b"]
        answer = await client.post(f"http://127.0.0.1:{port}/v1/chat/completions", json={**CHAT, "model": "b"})
        assert (answer.status_code, answer.json()["model"]) == (200, "a")
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0


def free_port() -> int:
    """The first of two free neighbours. Workers of a parallel run look in ranges of their own."""
    import socket

    start = 20_000 + 500 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 40)
    for port in range(start, start + 500, 2):
        try:
            for candidate in (port, port + 1):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", candidate))
        except OSError:
            continue
        return port
    raise AssertionError("no two free ports side by side")
