"""Kubernetes as a source of replicas: list and watch as the API server speaks them, over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_server import ApiServer, endpoint, endpoint_slice
from ports import free_port

from router.fleet.discovery import Found, SourceFailed
from router.fleet.discovery.kubernetes import KubernetesSource, ServiceName

States = AsyncIterator[tuple[Found, ...]]
ONE, TWO = Found("http://10.0.0.1:8000", "edge-a"), Found("http://10.0.0.2:8000", "edge-b")


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer.running() as server:
        yield server


def source(server: ApiServer, directory: Path, **members: object) -> KubernetesSource:
    token = directory / "token"
    token.write_text(f"{server.token}\n")
    name = {"service": "edge", "namespace": "vllm", "server": server.url, "token_file": token} | members
    return KubernetesSource(ServiceName(**name))  # type: ignore[arg-type]


async def following(states: States) -> tuple[Found, ...]:
    async with asyncio.timeout(60):
        return await anext(states)


async def watched(server: ApiServer, count: int) -> None:
    """Until so many watches have begun: what is told before is in the list."""
    async with asyncio.timeout(60):
        while len(server.watches) < count:
            await asyncio.sleep(0.01)


async def test_ready_endpoints_of_all_slices_are_replicas_by_their_pods(server: ApiServer, tmp_path: Path) -> None:
    server.put(endpoint_slice("edge-1", endpoint("10.0.0.1", "edge-a"), endpoint("10.0.0.3", "edge-c", ready=False)))
    server.put(endpoint_slice("edge-2", endpoint("10.0.0.2", "edge-b", ready=None)))
    server.put(endpoint_slice("edge-6", endpoint("fd00::1", "edge-a"), kind="IPv6"))
    found = await following(source(server, tmp_path).states())
    assert found == (ONE, TWO, Found("http://[fd00::1]:8000", "edge-a"))


async def test_the_port_is_a_number_a_name_or_the_only_one(server: ApiServer, tmp_path: Path) -> None:
    one = endpoint_slice("edge-1", endpoint("10.0.0.1", "edge-a"))
    one["ports"].append({"name": "metrics", "protocol": "TCP", "port": 9000})
    server.put(one)
    for port, url in ((7000, "http://10.0.0.1:7000"), ("metrics", "http://10.0.0.1:9000")):
        assert await following(source(server, tmp_path, port=port).states()) == (Found(url, "edge-a"),)
    assert await following(source(server, tmp_path).states()) == ()  # which of the two is not said


async def test_changes_are_told_as_they_come(server: ApiServer, tmp_path: Path) -> None:
    states = source(server, tmp_path).states()
    assert await following(states) == ()
    changed = asyncio.create_task(following(states))
    await watched(server, 1)
    server.put(endpoint_slice("edge-1", endpoint("10.0.0.1", "edge-a")))
    assert await changed == (ONE,)
    server.put(endpoint_slice("edge-1", endpoint("10.0.0.1", "edge-a"), endpoint("10.0.0.2", "edge-b")))
    assert await following(states) == (ONE, TWO)
    server.delete("edge-1")
    assert await following(states) == ()
    assert (server.lists, len(server.watches)) == (1, 1)


async def test_a_stream_that_ends_is_begun_again_where_it_ended(server: ApiServer, tmp_path: Path) -> None:
    states = source(server, tmp_path).states()
    assert await following(states) == ()
    changed = asyncio.create_task(following(states))
    await watched(server, 1)
    server.put(endpoint_slice("edge-1", endpoint("10.0.0.1", "edge-a")))
    assert await changed == (ONE,)
    server.bookmark()
    seen = server.version
    changed = asyncio.create_task(following(states))
    server.end_streams()
    await watched(server, 2)
    assert server.watches[1] == seen
    server.put(endpoint_slice("edge-2", endpoint("10.0.0.2", "edge-b")))
    assert await changed == (ONE, TWO)
    assert server.lists == 1


async def test_a_version_that_is_gone_under_the_watch_is_listed_anew(server: ApiServer, tmp_path: Path) -> None:
    server.put(endpoint_slice("edge-1", endpoint("10.0.0.1", "edge-a")))
    states = source(server, tmp_path).states()
    assert await following(states) == (ONE,)
    listed = asyncio.create_task(following(states))
    await watched(server, 1)
    server.say_gone()
    assert await listed == (ONE,)
    assert server.lists == 2


async def test_a_version_that_is_gone_at_the_next_watch_is_listed_anew(server: ApiServer, tmp_path: Path) -> None:
    states = source(server, tmp_path).states()
    assert await following(states) == ()
    listed = asyncio.create_task(following(states))
    await watched(server, 1)
    server.slices["edge-1"] = endpoint_slice("edge-1", endpoint("10.0.0.1", "edge-a"))  # while nobody was told
    server.version = server.oldest = 500
    server.end_streams()
    assert await listed == (ONE,)
    assert server.lists == 2


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_server_that_refuses_has_said_nothing(server: ApiServer, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(SourceFailed, match=str(status)):
        await following(source(server, tmp_path).states())


async def test_a_token_that_was_replaced_is_read_again(server: ApiServer, tmp_path: Path) -> None:
    states = source(server, tmp_path).states()
    assert await following(states) == ()
    changed = asyncio.create_task(following(states))
    await watched(server, 1)
    server.token = "another token"
    (tmp_path / "token").write_text("another token\n")
    server.end_streams()
    await watched(server, 2)
    server.put(endpoint_slice("edge-1", endpoint("10.0.0.1", "edge-a")))
    assert await changed == (ONE,)


async def test_outside_of_a_cluster_it_says_what_is_missing() -> None:
    with pytest.raises(SourceFailed, match="KUBERNETES_SERVICE_HOST"):
        await following(KubernetesSource(ServiceName("edge"), environ={}).states())


async def test_a_server_that_is_not_there_has_said_nothing(tmp_path: Path) -> None:
    name = ServiceName("edge", "vllm", server=f"http://127.0.0.1:{free_port()}", token_file=tmp_path / "none")
    with pytest.raises(SourceFailed, match="cannot be asked"):
        await following(KubernetesSource(name).states())
