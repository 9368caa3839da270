"""The in-process fleet: what tests and the demo stand on."""

import asyncio
import socket

import httpx
import pytest

from load.emulator import EmulatedFleet, ReplicaSpec

CHAT = {"messages": [{"role": "user", "content": "hello world"}], "max_tokens": 8}


async def chat(url: str, **members: object) -> httpx.Response:
    async with httpx.AsyncClient(timeout=5) as client:
        return await client.post(f"{url}/v1/chat/completions", json={**CHAT, **members})


async def test_replicas_listen_on_ports_of_their_own_and_answer_as_their_model() -> None:
    async with EmulatedFleet.start([ReplicaSpec(model="small"), ReplicaSpec(model="large")]) as fleet:
        first, second = fleet.replicas
        assert first.port != second.port
        assert (await chat(first.url)).json()["model"] == "small"
        assert (await chat(second.url)).json()["model"] == "large"
        assert [seen.path for seen in first.requests_seen] == ["/v1/chat/completions"]


async def test_a_replica_that_refuses_is_reachable_again_when_the_fault_is_cleared() -> None:
    async with EmulatedFleet.start([ReplicaSpec()]) as fleet:
        replica = fleet.replicas[0]
        replica.faults(refuse=True)
        with pytest.raises(httpx.ConnectError):
            await chat(replica.url)
        replica.clear_faults()
        await fleet.settled()
        assert (await chat(replica.url)).status_code == 200


async def test_faults_can_be_set_over_http_on_a_sibling_and_run_out() -> None:
    async with EmulatedFleet.start([ReplicaSpec(), ReplicaSpec()]) as fleet, httpx.AsyncClient() as client:
        first, second = fleet.replicas
        url = f"{second.url}/emulator/faults?replica=0"
        assert (await client.post(url, json={"status": 429, "retry_after": 7, "times": 1})).status_code == 200
        refused = await chat(first.url)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
        assert (await client.get(url)).json()["hits"] == 1
        assert (await chat(first.url)).status_code == 200
        assert (await client.delete(url)).status_code == 200
        assert (await client.get(url)).json() == {"fault": None, "hits": 0}
        assert (await client.post(url, json={"status": 429, "html": True})).status_code == 400


async def test_a_client_that_leaves_or_half_closes_leaves_nothing_running() -> None:
    async with EmulatedFleet.start([ReplicaSpec()]) as fleet:
        replica = fleet.replicas[0]
        body = b'{"messages":[{"role":"user","content":"x"}],"stream":true,"max_tokens":5000,"ignore_eos":true}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        for is_half_closed in (False, True):
            reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
            writer.write(head % len(body) + body)
            await reader.readuntil(b'"content"')
            assert replica.engine.running == 1
            if is_half_closed:
                writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
                assert not (await reader.read()).endswith(b"0\r\n\r\n")
            writer.close()
            for _ in range(1000):
                if replica.engine.running == 0:
                    break
                await asyncio.sleep(0.001)
            assert replica.engine.running == 0
            assert (replica.engine.waiting, replica.generations) == (0, [])
