"""DNS as a source of replicas, asked over real sockets."""

import asyncio
from collections.abc import AsyncIterator

import dns.rcode
import pytest
from name_server import NameServer

from router.fleet.discovery import Found, SourceFailed
from router.fleet.discovery.dns import DnsSource

NAME = "edge.vllm.test"


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with NameServer.running() as server:
        yield server


def source(server: NameServer, *, port: int | None = 8000, name: str = NAME) -> DnsSource:
    return DnsSource(name, port, "http", 0.02, [("127.0.0.1", server.port)])


async def first(source: DnsSource) -> tuple[Found, ...]:
    async with asyncio.timeout(30):
        return await anext(source.states())


async def test_every_address_of_the_name_is_a_replica(server: NameServer) -> None:
    server.records = {(NAME, "A"): ["10.0.0.8", "10.0.0.7"], (NAME, "AAAA"): ["fd00::7"]}
    urls = [found.url for found in await first(source(server))]
    assert urls == ["http://10.0.0.7:8000", "http://10.0.0.8:8000", "http://[fd00::7]:8000"]


async def test_srv_records_tell_ports_too(server: NameServer) -> None:
    server.records = {
        (NAME, "SRV"): ["0 0 8001 a.vllm.test.", "0 0 8002 b.vllm.test."],
        ("a.vllm.test", "A"): ["10.0.0.1"],
        ("b.vllm.test", "A"): ["10.0.0.2"],
    }
    assert await first(source(server, port=None)) == (Found("http://10.0.0.1:8001"), Found("http://10.0.0.2:8002"))


async def test_a_name_that_does_not_exist_has_no_replicas(server: NameServer) -> None:
    server.records = {("other.test", "A"): ["10.0.0.1"]}
    assert await first(source(server)) == ()


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_a_resolver_that_fails_has_said_nothing(server: NameServer, rcode: dns.rcode.Rcode) -> None:
    server.rcode = rcode
    with pytest.raises(SourceFailed, match=r"edge\.vllm\.test"):
        await first(source(server))


async def test_changes_are_told_at_the_next_question(server: NameServer) -> None:
    server.records = {(NAME, "A"): ["10.0.0.1"]}
    states = source(server).states()
    assert await anext(states) == (Found("http://10.0.0.1:8000"),)
    server.records = {(NAME, "A"): ["10.0.0.2"]}
    async with asyncio.timeout(30):
        async for state in states:
            if state == (Found("http://10.0.0.2:8000"),):
                break
