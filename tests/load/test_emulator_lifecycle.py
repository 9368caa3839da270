"""What befalls a whole replica, as a router sees it: zombies, death, freezing, sleep. Against what was recorded of vLLM."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from load.emulator import EmulatedFleet, Replica, ReplicaSpec, lifecycle
from load.emulator.errors import ENGINE_DEAD_EVENT
from load.emulator.lifecycle import Phase

CHAT = {"messages": [{"role": "user", "content": "hello world"}], "max_tokens": 4000, "ignore_eos": True}
SHORT = {**CHAT, "max_tokens": 8}
GREEN = ("/health", "/ping", "/v1/models", "/metrics", "/load")


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    async with EmulatedFleet.start([ReplicaSpec(has_dev_mode=True)]) as fleet:
        yield fleet.replicas[0]


class Stream:
    """A streamed chat on a connection of its own, read in the background."""

    def __init__(self) -> None:
        self.got = b""
        self.ending = ""
        self._task: asyncio.Task[None]

    @classmethod
    async def begin(cls, replica: Replica, **members: object) -> "Stream":
        stream = cls()
        body = json.dumps({**CHAT, "stream": True, **members}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        stream._task = asyncio.create_task(stream._read(reader, writer))
        while b'"content":" ' not in stream.got and not stream.ending:
            await asyncio.sleep(0.002)
        return stream

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.got += data
                if self.got.endswith(b"\r\n0\r\n\r\n"):
                    self.ending = "whole"
                    break
            self.ending = self.ending or "eof"
        except ConnectionError:
            self.ending = "reset"
        writer.close()

    async def ended(self, seconds: float = 60.0) -> str:
        try:
            await asyncio.wait_for(asyncio.shield(self._task), seconds)
        except TimeoutError:
            self._task.cancel()
            return "silence"
        return self.ending


async def until_refused(replica: Replica) -> None:
    """The port closes; a connection that it had taken just before is cut without an answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                await get(replica, "/health")
            except httpx.ConnectError:
                return
            except (httpx.RemoteProtocolError, httpx.ReadError):
                pass
            await asyncio.sleep(0.02)


async def until_served(replica: Replica) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                assert (await ask(replica)).status_code == 200
                return
            except httpx.ConnectError:
                await asyncio.sleep(0.02)


async def ask(
    replica: Replica, path: str = "/v1/chat/completions", seconds: float = 60.0, **body: object
) -> httpx.Response:
    async with httpx.AsyncClient(timeout=seconds) as client:
        return await client.post(f"{replica.url}{path}", json=body or SHORT)


async def get(replica: Replica, path: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.get(f"{replica.url}{path}")


async def test_sigterm_without_a_timeout_ends_streams_with_an_error_and_then_shuts_the_port(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "DYING_SECONDS", 3.0)  # time to look, on a busy machine too
    stream = await Stream.begin(replica)
    replica.faults(terminate=True)
    assert (await get(replica, "/health")).status_code == 200
    refused = await ask(replica)
    assert (refused.status_code, refused.json()["error"]["type"]) == (500, "InternalServerError")
    assert await stream.ended() == "whole"
    assert ENGINE_DEAD_EVENT in stream.got
    assert b"data: [DONE]\n\n" in stream.got
    assert b'"finish_reason":"' not in stream.got
    await until_refused(replica)


async def test_a_draining_replica_is_a_zombie_that_ends_its_work(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "TEARDOWN_SECONDS", 5.0)  # time to look, should its work end before we have
    stream = await Stream.begin(replica, max_tokens=600)
    replica.faults(terminate=True, shutdown_timeout=60)
    for path in GREEN:
        assert (await get(replica, path)).status_code == 200, path
    for path, body in (
        ("/v1/chat/completions", SHORT),
        ("/v1/chat/completions", {**SHORT, "stream": True}),
        ("/v1/completions", {"prompt": "text"}),
        ("/tokenize", {"prompt": "text"}),
    ):
        answer = await ask(replica, path, **body)  # type: ignore[arg-type]
        assert answer.status_code == 500
        assert answer.json()["error"]["message"] == "cannot schedule new futures after shutdown"
    aborted = (await ask(replica, "/v1/completions", prompt=[5, 6], max_tokens=2)).json()
    assert (aborted["choices"][0]["text"], aborted["choices"][0]["finish_reason"]) == ("", "abort")
    assert aborted["usage"]["prompt_tokens"] == 2
    streamed = await ask(replica, "/v1/completions", prompt=[5, 6], max_tokens=2, stream=True)
    assert (streamed.status_code, streamed.text) == (200, "data: [DONE]\n\n")
    assert await stream.ended() == "whole"
    assert b'"finish_reason":"length"' in stream.got
    await until_refused(replica)
    replica.clear_faults()
    await until_served(replica)


async def test_what_a_drain_does_not_end_in_time_is_never_heard_of_again(replica: Replica) -> None:
    stream = await Stream.begin(replica)
    replica.faults(terminate=True, shutdown_timeout=0.1)
    await until_refused(replica)
    assert replica.lifecycle.phase is Phase.HUNG
    assert await stream.ended(0.3) == "silence"
    assert not stream.got.endswith(b"\r\n0\r\n\r\n")


async def test_the_death_of_the_api_server_cuts_streams_in_the_middle(replica: Replica) -> None:
    stream = await Stream.begin(replica)
    replica.faults(api_death=True, seconds=1.5)
    assert await stream.ended() == "eof"
    assert b"[DONE]" not in stream.got
    with pytest.raises(httpx.ConnectError):
        await get(replica, "/health")
    await until_served(replica)
    assert replica.engine.is_idle


async def test_a_frozen_engine_is_silent_green_and_goes_on_where_it_stood(replica: Replica) -> None:
    stream = await Stream.begin(replica, max_tokens=300)
    replica.faults(freeze=True)
    async with asyncio.timeout(60):
        before = -1
        while len(stream.got) != before:  # what was on its way still comes
            before = len(stream.got)
            await asyncio.sleep(0.15)
    assert not stream.ending
    assert (await get(replica, "/health")).status_code == 200
    assert 'num_requests_running{engine="0",model_name="emulated"} 1.0' in (await get(replica, "/metrics")).text
    replica.clear_faults()
    assert await stream.ended() == "whole"
    assert b'"finish_reason":"length"' in stream.got


async def test_hanging_is_not_one_byte(replica: Replica) -> None:
    replica.faults(hang=True, times=1)
    with pytest.raises(httpx.ReadTimeout):
        await ask(replica, seconds=0.2)
    assert (await ask(replica)).status_code == 200


async def test_going_to_sleep_aborts_what_runs_and_keeps_what_comes_waiting(replica: Replica) -> None:
    stream = await Stream.begin(replica)
    assert (await ask(replica, "/sleep?level=1", x=1)).json() == {"status": "sleeping", "level": 1}
    assert await stream.ended() == "whole"
    last = stream.got.rsplit(b"data: ", 2)[1].split(b"\n")[0]
    assert json.loads(last)["choices"][0]["finish_reason"] == "abort"
    assert (await get(replica, "/is_sleeping")).json() == {"is_sleeping": True}
    assert (await get(replica, "/health")).status_code == 200
    text = (await get(replica, "/metrics")).text
    assert 'sleep_state="awake"} 0.0' in text
    assert 'sleep_state="weights_offloaded"} 1.0' in text
    assert 'request_success_total{engine="0",finished_reason="abort",model_name="emulated"} 1.0' in text
    with pytest.raises(httpx.ReadTimeout):
        await ask(replica, seconds=0.2)
    waiting = asyncio.create_task(ask(replica))
    await asyncio.sleep(0.05)
    assert (await ask(replica, "/wake_up", x=1)).json() == {"status": "awake", "tags": None}
    assert (await waiting).status_code == 200
    assert 'sleep_state="awake"} 1.0' in (await get(replica, "/metrics")).text


async def test_a_pause_keeps_waits_for_or_aborts_what_runs(replica: Replica) -> None:
    kept = await Stream.begin(replica, max_tokens=400)
    assert (await ask(replica, "/pause", x=1)).json() == {"status": "paused"}
    assert (await get(replica, "/is_paused")).json() == {"is_paused": True}
    await asyncio.sleep(0.1)
    assert not kept.ending
    assert (await ask(replica, "/resume", x=1)).json() == {"status": "resumed"}
    assert (await kept.ended(), b'"finish_reason":"length"' in kept.got) == ("whole", True)
    awaited = await Stream.begin(replica, max_tokens=300)
    await ask(replica, "/pause?mode=wait", x=1)
    assert await awaited.ended() == "whole"
    assert b'"finish_reason":"length"' in awaited.got
    await ask(replica, "/resume", x=1)
    aborted = await Stream.begin(replica)
    await ask(replica, "/pause?mode=abort", x=1)
    assert (await aborted.ended(), b'"finish_reason":"abort"' in aborted.got) == ("whole", True)


async def test_requests_are_aborted_by_the_ids_of_their_answers(replica: Replica) -> None:
    stream = await Stream.begin(replica)
    (generation,) = replica.generations
    assert (await ask(replica, "/abort_requests", request_ids=["chatcmpl-nobody"])).json()["aborted"] == 1
    assert not stream.ending
    assert (await ask(replica, "/abort_requests", request_ids=[generation.id])).json()["aborted"] == 1
    assert (await stream.ended(), b'"finish_reason":"abort"' in stream.got) == ("whole", True)


async def test_development_paths_are_there_only_in_development_mode() -> None:
    async with EmulatedFleet.start([ReplicaSpec()]) as fleet:
        assert (await ask(fleet.replicas[0], "/sleep", x=1)).status_code == 404


async def test_a_replica_that_starts_refuses_connections_for_a_while() -> None:
    async with EmulatedFleet.start([ReplicaSpec(startup_seconds=1)]) as fleet:
        with pytest.raises(httpx.ConnectError):
            await get(fleet.replicas[0], "/health")
        await until_served(fleet.replicas[0])
        await fleet.settled()


async def test_smaller_priorities_overtake_in_the_queue() -> None:
    async with EmulatedFleet.start([ReplicaSpec(sequences_max=1, is_by_priority=True)]) as fleet:
        replica = fleet.replicas[0]
        order: list[str] = []

        async def one(name: str, priority: int, tokens: int = 20) -> None:
            await ask(replica, **{**SHORT, "max_tokens": tokens, "priority": priority})  # type: ignore[arg-type]
            order.append(name)

        running = asyncio.create_task(one("running", 0, 400))
        while not replica.engine.running:
            await asyncio.sleep(0.002)
        late = asyncio.create_task(one("late", 10))
        while not replica.engine.waiting:
            await asyncio.sleep(0.002)
        await asyncio.gather(running, late, one("urgent", -5))
        assert order == ["running", "urgent", "late"]


async def test_all_of_a_fleet_drains_before_it_leaves() -> None:
    async with EmulatedFleet.start([ReplicaSpec(shutdown_timeout_seconds=60)]) as fleet:
        stream = await Stream.begin(fleet.replicas[0], max_tokens=50)
        await asyncio.wait_for(fleet.drained(), 60)
        assert await stream.ended() == "whole"
        assert b'"finish_reason":"length"' in stream.got
