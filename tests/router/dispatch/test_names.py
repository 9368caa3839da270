"""Backends' names outlive a DNS that fails; names that strangers choose are looked up within bounds of time and number."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from router.dispatch import names as names_module
from router.dispatch.names import FRESH_SECONDS, LOOKUPS_MAX, RETRY_SECONDS, BackendNames, StrangersNames
from router.dispatch.plain import PlainUpstream
from router.dispatch.tls import TlsUpstream
from router.dispatch.upstream import Origin, Upstream, UpstreamFailed, UpstreamRequest
from router.dispatch.watchdog import Watchdog


class Dns:
    """What a test says names are, and when. asked: how often."""

    def __init__(self, **book: Sequence[str]) -> None:
        self.book = book
        self.seconds = 0.0
        self.asked = 0
        self.is_silent = False

    async def lookup(self, name: str) -> Sequence[str]:
        self.asked += 1
        if self.is_silent:
            await asyncio.Event().wait()
        if name not in self.book:
            raise OSError(-2, "Name or service not known")
        return self.book[name]

    def clock(self) -> float:
        return self.seconds

    def names(self) -> BackendNames:
        return BackendNames(self.lookup, self.clock)


async def test_a_name_is_asked_once_while_its_answer_is_fresh_and_anew_within_thirty_seconds() -> None:
    dns = Dns(engine=["10.0.0.1"])
    names = dns.names()
    found = await asyncio.gather(*(names.addresses("engine") for _ in range(5)))
    assert (found, dns.asked) == ([("10.0.0.1",)] * 5, 1)
    dns.book["engine"] = ["10.0.0.2"]
    assert await names.addresses("engine") == ("10.0.0.1",)
    dns.seconds += FRESH_SECONDS
    assert FRESH_SECONDS <= 30
    assert await names.addresses("engine") == ("10.0.0.2",)


async def test_f34_the_last_good_address_serves_while_the_name_is_not_found() -> None:
    dns = Dns(engine=["10.0.0.1"])
    names = dns.names()
    await names.addresses("engine")
    del dns.book["engine"]
    for _ in range(3):
        dns.seconds += FRESH_SECONDS
        assert await names.addresses("engine") == ("10.0.0.1",)
        asked = dns.asked
        assert await names.addresses("engine") == ("10.0.0.1",)
        assert dns.asked == asked, "not with every connection"
    dns.book["engine"] = ["10.0.0.2"]
    dns.seconds += RETRY_SECONDS
    assert await names.addresses("engine") == ("10.0.0.2",)


async def test_f34_a_dns_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "WAIT_SECONDS", 0.01)
    dns = Dns(engine=["10.0.0.1"])
    names = dns.names()
    await names.addresses("engine")
    dns.seconds += FRESH_SECONDS
    dns.is_silent = True
    assert await names.addresses("engine") == ("10.0.0.1",)
    assert await names.addresses("engine") == ("10.0.0.1",)
    assert dns.asked == 2
    await names.aclose()


async def test_a_name_that_never_had_an_address_is_said_so_and_asked_again() -> None:
    dns = Dns(empty=[])
    names = dns.names()
    for name in ("nobody", "empty", "nobody"):
        with pytest.raises(OSError, match=r"not known|no address"):
            await names.addresses(name)
    dns.book["nobody"] = ["10.0.0.1"]
    assert await names.addresses("nobody") == ("10.0.0.1",)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_address_is_no_name(address: str) -> None:
    dns = Dns()
    assert await dns.names().addresses(address) == (address,)
    assert dns.asked == 0


@asynccontextmanager
async def engines() -> AsyncIterator[int]:
    """Two at one port, on two addresses of the loopback; each says its own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        body = writer.get_extra_info("sockname")[0].encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    one = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = one.sockets[0].getsockname()[1]
    other = await asyncio.start_server(serve, "127.0.0.2", port)
    async with one, other:
        yield port


async def answer_of(upstream: Upstream, port: int) -> str:
    request = UpstreamRequest(Origin("http", "engine", port), b"/v1/x", [(b"content-type", b"text/plain")], b"{}")
    exchange = await upstream.send(request, connect_seconds=60, first_byte_seconds=60)
    found = b""
    while piece := await exchange.read(60):
        found += piece
    exchange.release()
    return found.decode()


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_f34_new_connections_go_to_the_new_address_and_to_the_last_good_one_when_there_is_none(kind: str) -> None:
    async with engines() as port:
        dns = Dns(engine=["127.0.0.1"])
        names = dns.names()
        upstream: Upstream = PlainUpstream(Watchdog(), names) if kind == "plain" else TlsUpstream(names)
        assert await answer_of(upstream, port) == "127.0.0.1"
        dns.book["engine"] = ["127.0.0.2"]
        assert await answer_of(upstream, port) == "127.0.0.1"
        dns.seconds += FRESH_SECONDS
        assert await answer_of(upstream, port) == "127.0.0.2"
        del dns.book["engine"]
        dns.seconds += FRESH_SECONDS
        assert await answer_of(upstream, port) == "127.0.0.2"
        await upstream.aclose()


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_f34_an_address_at_which_nobody_is_is_asked_for_anew_before_its_time_is_over(kind: str) -> None:
    async with engines() as port:
        dns = Dns(engine=["127.0.0.3"])
        names = dns.names()
        upstream: Upstream = PlainUpstream(Watchdog(), names) if kind == "plain" else TlsUpstream(names)
        with pytest.raises(UpstreamFailed, match="connect"):
            await answer_of(upstream, port)
        dns.book["engine"] = ["127.0.0.2"]
        assert await answer_of(upstream, port) == "127.0.0.2"
        await upstream.aclose()


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_of_several_addresses_the_first_that_answers_is_taken(kind: str) -> None:
    async with engines() as port:
        dns = Dns(engine=["127.0.0.3", "127.0.0.4", "127.0.0.2"])
        names = dns.names()
        upstream: Upstream = PlainUpstream(Watchdog(), names) if kind == "plain" else TlsUpstream(names)
        assert await answer_of(upstream, port) == "127.0.0.2"
        await upstream.aclose()


async def test_the_addresses_of_all_names_are_found() -> None:
    book = {"a": ["1.1.1.1"], "b": ["1.0.0.1", "2606:4700::1"]}
    names = StrangersNames(book.__getitem__)
    assert sorted(await names.addresses(["a", "b"])) == ["1.0.0.1", "1.1.1.1", "2606:4700::1"]
    names.close()


async def test_a_name_that_is_not_found_is_said_so() -> None:
    def lookup(name: str) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    names = StrangersNames(lookup)
    with pytest.raises(OSError, match="not known"):
        await names.addresses(["a"])
    names.close()


async def test_the_systems_own_look_up_is_used_unless_told_otherwise() -> None:
    names = StrangersNames()
    assert "127.0.0.1" in await names.addresses(["localhost"])
    names.close()


async def test_slow_names_cost_a_bounded_time_and_number_of_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "LOOKUP_SECONDS", 0.05)
    go_on = threading.Event()

    def lookup(name: str) -> Sequence[str]:
        go_on.wait(60)
        return ["1.1.1.1"]

    names = StrangersNames(lookup)
    try:
        for _ in range(3):
            with pytest.raises(OSError, match="too long"):
                await names.addresses(["slow"])
        waiting = [asyncio.ensure_future(names.addresses([f"slow-{number}"])) for number in range(2 * LOOKUPS_MAX)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, OSError) for result in results)
        assert any("too many" in str(result) for result in results)
    finally:
        go_on.set()
    async with asyncio.timeout(60):
        while True:  # as soon as they have ended there is room again
            try:
                assert await names.addresses(["a"]) == ["1.1.1.1"]
                break
            except OSError:
                await asyncio.sleep(0.01)
    names.close()
