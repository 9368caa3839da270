"""The end of a router under load, as an orchestrator brings it about: `jeton serve` in a process of its own, and SIGTERM."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from bookkeeping import assert_file_is_consistent
from jeton_server import JetonServer, fleet_config
from payloads import HELLO

from load.emulator.fleet import EmulatedFleet
from load.emulator.spec import Kind, ReplicaSpec
from router.access.keys import new_api_key

STREAMS = 20


@asynccontextmanager
async def serving(directory: Path, drain_seconds: float) -> AsyncIterator[tuple[JetonServer, EmulatedFleet]]:
    specs = [ReplicaSpec("small"), ReplicaSpec("large"), ReplicaSpec("embed", kind=Kind.EMBED)]
    async with EmulatedFleet.start(specs) as fleet:
        small, large, embed = [replica.url for replica in fleet.replicas]
        api_key = new_api_key()
        config = fleet_config([small], [large], [embed], api_key, context_tokens=32_768)
        config["server"] = {"drain_seconds": drain_seconds}
        jeton = await asyncio.to_thread(JetonServer.start, directory, config, api_key)
        try:
            yield jeton, fleet
        finally:
            jeton.process.kill()
            await asyncio.to_thread(jeton.process.wait)


class Stream:
    """One client's stream, read to its end. has_begun: the first event is there. lines: what stood after `data: `."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.lines: list[str] = []

    async def read(self, client: httpx.AsyncClient, max_tokens: int) -> None:
        body: dict[str, Any] = {"model": "small", "messages": HELLO, "max_tokens": max_tokens, "ignore_eos": True}
        async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
            async for line in answer.aiter_lines():
                self.has_begun.set()
                if line:
                    self.lines.append(line.removeprefix("data: "))


@asynccontextmanager
async def under_load(jeton: JetonServer, max_tokens: int) -> AsyncIterator[tuple[list[Stream], "asyncio.Future[Any]"]]:
    """Streams that have all begun, and their ends."""
    streams = [Stream() for _ in range(STREAMS)]
    headers = {"authorization": f"Bearer {jeton.api_key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=jeton.url, headers=headers, limits=limits, timeout=60, trust_env=False
    ) as client:
        ends = asyncio.gather(*(stream.read(client, max_tokens) for stream in streams))
        await asyncio.gather(*(stream.has_begun.wait() for stream in streams))
        yield streams, ends


async def test_f32_on_sigterm_streams_finish_the_journal_is_flushed_and_the_exit_code_is_0(tmp_path: Path) -> None:
    async with serving(tmp_path, drain_seconds=30) as (jeton, _), under_load(jeton, 600) as (streams, ends):
        async with httpx.AsyncClient(base_url=jeton.url, trust_env=False) as balancer:
            assert (await balancer.get("/ready")).status_code == 200
            jeton.process.send_signal(signal.SIGTERM)
            await not_ready(balancer)
            assert not ends.done()
        await ends
        assert await asyncio.to_thread(jeton.process.wait, 30) == 0
        for stream in streams:
            assert stream.lines[-1] == "[DONE]"
            assert len(stream.lines) == 602  # the role, 600 tokens, the end
        charges = jeton.charges()
        assert [(charge["status"], charge["completion_tokens"]) for charge in charges] == [("ok", 600)] * STREAMS
        assert_file_is_consistent(jeton.directory / "var/jeton.sqlite", is_quiet=True)


async def test_f32_what_outlasts_the_bound_is_told_and_booked(tmp_path: Path) -> None:
    async with serving(tmp_path, drain_seconds=1) as (jeton, fleet), under_load(jeton, 30_000) as (streams, ends):
        jeton.process.send_signal(signal.SIGTERM)
        await ends
        assert await asyncio.to_thread(jeton.process.wait, 30) == 0
        for stream in streams:
            assert json.loads(stream.lines[-1])["error"]["code"] == "unavailable"
        for charge in jeton.charges():
            assert (charge["status"], charge["fault"], charge["usage_source"]) == ("cancelled", "shutdown", "recovered")
            assert charge["completion_tokens"] > 0
        assert len(jeton.charges()) == STREAMS
        assert_file_is_consistent(jeton.directory / "var/jeton.sqlite", is_quiet=True)
        assert all(replica.engine.is_idle for replica in fleet.replicas)
        assert "Exception" not in (jeton.directory / "jeton.log").read_text(), "an end that was ordered is no error"


async def not_ready(balancer: httpx.AsyncClient) -> None:
    """Whoever asks is told so, or finds nobody listening."""
    while True:
        try:
            if (await balancer.get("/ready")).status_code == 503:
                return
        except httpx.TransportError:
            return
        await asyncio.sleep(0.01)
