"""A stream that is poured from its upstream, and what ends that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from router.dispatch.failure import AttemptFailed
from router.dispatch.plain import PlainUpstream
from router.dispatch.relay import Patience, StreamRelay
from router.dispatch.upstream import Origin, UpstreamRequest
from router.dispatch.watchdog import Watchdog
from router.domain.request import Endpoint
from router.wire.sse import EVENT_BYTES_MAX
from router.wire.streams import CompletionStream

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
LAST = b'data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


@asynccontextmanager
async def stream(pieces: "asyncio.Queue[bytes]") -> AsyncIterator[StreamRelay]:
    """One that has begun; what is put into the queue comes next."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        try:
            while piece := await pieces.get():
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    origin = Origin("http", "127.0.0.1", server.sockets[0].getsockname()[1])
    request = UpstreamRequest(origin, b"/v1/chat/completions", [], b"")
    exchange = await PlainUpstream(Watchdog()).send(request, connect_seconds=5.0, first_byte_seconds=5.0)
    read = CompletionStream(
        endpoint=Endpoint.CHAT, model="m", choices=1, context_tokens=100, wants_usage=False, wants_continuous_usage=False,
        is_usage_continuous=False, cost_member=lambda usage: b"null",
    )  # fmt: skip
    relayed = StreamRelay(exchange, read, Patience(5.0, 5.0, 5.0))
    pieces.put_nowait(TOKEN)
    assert await relayed.first() == TOKEN
    try:
        yield relayed
    finally:
        relayed.release()
        pieces.put_nowait(b"")
        server.close()


async def test_pieces_are_poured_up_to_the_last_and_the_end_is_told_by_next() -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    sent: list[bytes] = []

    def send(data: bytes) -> bool:
        sent.append(data)
        pieces.put_nowait(LAST if len(sent) < 3 else b"data: [DONE]\n\n")
        return True

    async with stream(pieces) as relayed:
        pieces.put_nowait(TOKEN)
        await asyncio.wait_for(relayed.pour(send), 10)
        assert sent == [TOKEN, LAST, LAST]
        assert await relayed.next() is None
        assert relayed.stream.is_finished


async def test_who_will_take_no_more_is_sent_no_more() -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    sent: list[bytes] = []
    async with stream(pieces) as relayed:
        pieces.put_nowait(TOKEN)
        await asyncio.wait_for(relayed.pour(lambda data: bool(sent.append(data))), 10)
        pieces.put_nowait(LAST)
        assert await relayed.next() == LAST
        assert sent == [TOKEN]


@pytest.mark.parametrize("bad", [b"data: {no JSON\n\n", b"x" * (EVENT_BYTES_MAX + 1)])
async def test_what_is_no_event_ends_the_pouring_and_is_a_failure(bad: bytes) -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    sent: list[bytes] = []

    async def pour_and_go_on() -> None:
        await relayed.pour(lambda data: not sent.append(data))
        await relayed.next()

    async with stream(pieces) as relayed:
        pieces.put_nowait(bad)
        with pytest.raises(AttemptFailed) as failed:
            await asyncio.wait_for(pour_and_go_on(), 10)
        assert failed.value.fault == "bad_event"
        assert sent == []
