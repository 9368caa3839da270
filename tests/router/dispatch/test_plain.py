"""The pooled upstream client against real sockets that misbehave as backends do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from router.dispatch.plain import PlainUpstream
from router.dispatch.upstream import BUFFER_BYTES_MAX, Origin, UpstreamFailed, UpstreamRequest
from router.dispatch.watchdog import Watchdog

Script = Callable[["Backend", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


class Backend:
    """A listening socket that plays a script for each connection, and remembers what it was sent."""

    def __init__(self, port: int) -> None:
        self.origin = Origin("http", "127.0.0.1", port)
        self.connections = 0
        self.requests: list[bytes] = []

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
        whole = head + await reader.readexactly(length)
        self.requests.append(whole)
        return whole


@asynccontextmanager
async def backend(script: Script) -> AsyncIterator[Backend]:
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        found.connections += 1
        try:
            await script(found, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    found = Backend(server.sockets[0].getsockname()[1])
    try:
        yield found
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def post(to: Backend, body: bytes | AsyncIterator[bytes] = b"{}", length_bytes: int | None = None) -> UpstreamRequest:
    return UpstreamRequest(to.origin, b"/v1/x", [(b"x-request-id", b"r1")], body, length_bytes)


async def send(upstream: PlainUpstream, request: UpstreamRequest, first_byte_seconds: float = 5.0):  # type: ignore[no-untyped-def]
    return await upstream.send(request, connect_seconds=1.0, first_byte_seconds=first_byte_seconds)


async def whole(exchange) -> bytes:  # type: ignore[no-untyped-def]
    pieces = []
    while piece := await exchange.read(5.0):
        pieces.append(piece)
    return b"".join(pieces)


async def test_a_request_is_sent_whole_and_its_answer_read_whole() -> None:
    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
        await reader.read()

    async with backend(script) as at:
        exchange = await send(PlainUpstream(Watchdog()), post(at, b'{"a":1}'))
        assert (exchange.status, await whole(exchange)) == (200, b"hi")
        assert (b"content-type", b"a/b") in exchange.headers
        head, _, body = at.requests[0].partition(b"\r\n\r\n")
        assert body == b'{"a":1}'
        assert head.split(b"\r\n") == [
            b"POST /v1/x HTTP/1.1",
            b"host: 127.0.0.1:%d" % at.origin.port,
            b"x-request-id: r1",
            b"content-length: 7",
        ]


async def _answer_for_ever(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await at.request(reader)
        writer.write(OK)


async def test_a_connection_is_used_again_once_its_answer_is_complete() -> None:
    async with backend(_answer_for_ever) as at:
        upstream = PlainUpstream(Watchdog())
        for _ in range(5):
            exchange = await send(upstream, post(at))
            assert await whole(exchange) == b"hi"
            exchange.release()
        assert at.connections == 1


async def test_a_pooled_connection_that_the_backend_closed_is_replaced_once() -> None:
    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        writer.write(OK)
        await writer.drain()
        await reader.readuntil(b"\r\n")  # the next request arrives, and finds the door closing
        writer.transport.abort()

    async with backend(script) as at:
        upstream = PlainUpstream(Watchdog())
        for _ in range(3):
            exchange = await send(upstream, post(at))
            assert await whole(exchange) == b"hi"
            exchange.release()
        assert at.connections == 3


async def test_f1_a_refused_connection_is_told_from_all_else() -> None:
    async with backend(_answer_for_ever) as at:
        pass
    with pytest.raises(UpstreamFailed) as failed:
        await send(PlainUpstream(Watchdog()), post(at))
    assert failed.value.fault == "connect"


async def test_f2_a_reset_before_the_first_byte_is_not_tried_again_here() -> None:
    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        writer.transport.abort()

    async with backend(script) as at:
        with pytest.raises(UpstreamFailed) as failed:
            await send(PlainUpstream(Watchdog()), post(at))
        assert failed.value.fault == "reset"
        assert at.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
async def test_f3_an_answer_without_its_end_is_no_answer(answer: bytes) -> None:
    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        writer.write(answer)

    async with backend(script) as at:
        exchange = await send(PlainUpstream(Watchdog()), post(at))
        assert await exchange.read(5.0) == b"half"
        with pytest.raises(UpstreamFailed) as failed:
            await exchange.read(5.0)
        assert failed.value.fault == "eof"


async def test_an_answer_that_ends_with_its_connection_is_whole() -> None:
    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    async with backend(script) as at:
        assert await whole(await send(PlainUpstream(Watchdog()), post(at))) == b"all of it"


async def test_f4_silence_before_the_first_byte_ends_at_the_time_out_and_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        await reader.read()
        closed.set()

    async with backend(script) as at:
        watchdog = Watchdog(period_seconds=0.01)
        with pytest.raises(UpstreamFailed) as failed:
            await send(PlainUpstream(watchdog), post(at), first_byte_seconds=0.05)
        assert failed.value.fault == "stall"
        await asyncio.wait_for(closed.wait(), 5)
        assert len(watchdog) == 0


async def test_f5_silence_inside_a_stream_ends_at_the_time_out() -> None:
    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await reader.read()

    async with backend(script) as at:
        exchange = await send(PlainUpstream(Watchdog(period_seconds=0.01)), post(at))
        assert await exchange.read(5.0) == b"hi"
        with pytest.raises(UpstreamFailed) as failed:
            await exchange.read(0.05)
        assert failed.value.fault == "stall"


async def test_f18_a_released_answer_that_is_not_complete_closes_the_connection_and_is_never_half_closed() -> None:
    ended = asyncio.Event()

    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
        try:
            while True:  # a half-close would end the reading and leave the writing possible for ever
                writer.write(b"2\r\nhi\r\n")
                await writer.drain()
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    async with backend(script) as at:
        exchange = await send(PlainUpstream(Watchdog()), post(at))
        await exchange.read(5.0)
        exchange.release()
        await asyncio.wait_for(ended.wait(), 5)


async def test_f20_an_answer_that_nobody_reads_pauses_the_backend() -> None:
    written = 0

    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await at.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        while written < 100_000_000:
            writer.write(b"x" * 10_000)
            written += 10_000
            await writer.drain()

    async with backend(script) as at:
        exchange = await send(PlainUpstream(Watchdog()), post(at))
        before = -1
        while before != written:  # until the backend's writes have come to rest
            before = written
            await asyncio.sleep(0.2)
        assert written < 100_000_000
        assert len(await exchange.read(5.0)) <= BUFFER_BYTES_MAX + 256 * 2**10  # the bound, and one read of the socket
        exchange.release()


async def test_an_iterated_body_goes_out_as_it_comes_and_is_not_sent_again() -> None:
    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at.requests.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(OK)
        await reader.read()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"defg"

    async with backend(script) as at:
        assert await whole(await send(PlainUpstream(Watchdog()), post(at, pieces()))) == b"hi"
        assert at.requests[0].endswith(b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")


async def test_interim_answers_are_passed_over() -> None:
    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK)
        await reader.read()

    async with backend(script) as at:
        exchange = await send(PlainUpstream(Watchdog()), post(at))
        assert (exchange.status, await whole(exchange)) == (200, b"hi")


@pytest.mark.parametrize(
    "answer",
    [
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000 + b"\r\n",
    ],
)
async def test_b59_answers_that_are_malformed_or_have_endless_headers_are_failures(answer: bytes) -> None:
    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        writer.write(answer)
        await reader.read()

    async with backend(script) as at:
        with pytest.raises(UpstreamFailed) as failed:
            await send(PlainUpstream(Watchdog()), post(at))
        assert failed.value.fault == "protocol"


async def test_an_answer_that_lacks_only_its_framing_keeps_its_connection_for_a_moment() -> None:
    released = asyncio.Event()

    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await at.request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
            await released.wait()
            writer.write(b"0\r\n\r\n")

    async with backend(script) as at:
        upstream = PlainUpstream(Watchdog())
        exchange = await send(upstream, post(at))
        assert await exchange.read(5.0) == b"hi"
        exchange.release(lingers=True)
        released.set()
        await until(lambda: any(upstream._idle.values()))
        exchange = await send(upstream, post(at))
        assert await exchange.read(5.0) == b"hi"
        exchange.release()
        assert at.connections == 1


async def test_a_cancelled_send_leaves_nothing_watched_and_nothing_open() -> None:
    closed = asyncio.Event()

    async def script(at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        await reader.read()
        closed.set()

    async with backend(script) as at:
        watchdog = Watchdog()
        task = asyncio.create_task(send(PlainUpstream(watchdog), post(at)))
        while not at.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 5)
        assert len(watchdog) == 0


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Prompter:
    """Sends what it is told, one piece after another, each in its own time."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def script(self, at: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await at.request(reader)
        writer.write(CHUNKED)
        while (piece := await self.pieces.get()) is not None:
            writer.write(piece)


async def pouring(upstream: PlainUpstream, at: Backend, take: Callable[[bytes], bool], seconds: float = 5.0):  # type: ignore[no-untyped-def]
    exchange = await send(upstream, post(at))
    task = asyncio.create_task(exchange.pour(take, seconds))
    await asyncio.sleep(0)
    return exchange, task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_is_poured_comes_piece_by_piece_and_the_end_is_left_to_be_read() -> None:
    prompter, taken = Prompter(), []

    def take(data: bytes) -> bool:
        taken.append(data)
        return True

    async with backend(prompter.script) as at:
        exchange, task = await pouring(PlainUpstream(Watchdog()), at, take)
        for number in range(3):
            prompter.pieces.put_nowait(chunk(b"%d" % number))
            await until(lambda number=number: len(taken) == number + 1)  # type: ignore[misc]
        prompter.pieces.put_nowait(chunk(b"last") + b"0\r\n\r\n")
        await task
        assert taken == [b"0", b"1", b"2"]
        assert [await exchange.read(5.0), await exchange.read(5.0)] == [b"last", b""]
        await exchange.pour(take, 5.0)  # nothing is left to pour
        assert len(taken) == 3


async def test_pouring_ends_with_the_first_piece_that_is_one_too_many() -> None:
    prompter, taken = Prompter(), []

    def take(data: bytes) -> bool:
        taken.append(data)
        return len(taken) < 2

    async with backend(prompter.script) as at:
        exchange, task = await pouring(PlainUpstream(Watchdog()), at, take)
        for number in range(2):
            prompter.pieces.put_nowait(chunk(b"%d" % number))
            await until(lambda number=number: len(taken) == number + 1)  # type: ignore[misc]
        await task
        prompter.pieces.put_nowait(chunk(b"2"))
        assert await exchange.read(5.0) == b"2"
        assert taken == [b"0", b"1"]


async def test_what_was_there_before_is_not_poured_past() -> None:
    prompter, taken = Prompter(), []
    async with backend(prompter.script) as at:
        exchange = await send(PlainUpstream(Watchdog()), post(at))
        prompter.pieces.put_nowait(chunk(b"before"))
        await until(lambda: exchange._buffered > 0)
        await exchange.pour(lambda data: not taken.append(data), 5.0)
        assert (taken, await exchange.read(5.0)) == ([], b"before")


async def test_an_error_in_who_takes_is_raised_to_who_pours() -> None:
    prompter = Prompter()

    def take(data: bytes) -> bool:
        raise ValueError("not this")

    async with backend(prompter.script) as at:
        _, task = await pouring(PlainUpstream(Watchdog()), at, take)
        prompter.pieces.put_nowait(chunk(b"x"))
        with pytest.raises(ValueError, match="not this"):
            await task


async def test_f3_a_connection_that_breaks_while_it_is_poured_is_heard_by_who_reads() -> None:
    prompter, taken = Prompter(), []
    async with backend(prompter.script) as at:
        exchange, task = await pouring(PlainUpstream(Watchdog()), at, lambda data: not taken.append(data))
        prompter.pieces.put_nowait(chunk(b"half"))
        prompter.pieces.put_nowait(None)
        await task
        if not taken:  # the end came with the piece
            assert await exchange.read(5.0) == b"half"
        with pytest.raises(UpstreamFailed) as failed:
            await exchange.read(5.0)
        assert failed.value.fault == "eof"


async def test_f5_silence_while_a_stream_is_poured_ends_at_the_time_out_of_its_last_piece() -> None:
    prompter, taken = Prompter(), []
    watchdog = Watchdog(period_seconds=0.01)
    async with backend(prompter.script) as at:
        exchange, task = await pouring(PlainUpstream(watchdog), at, lambda data: not taken.append(data), seconds=3600.0)
        exchange._tap_seconds = 0.05  # from the next piece on
        prompter.pieces.put_nowait(chunk(b"x"))
        await asyncio.wait_for(task, 10)
        assert taken == [b"x"]
        with pytest.raises(UpstreamFailed) as failed:
            await exchange.read(5.0)
        assert failed.value.fault == "stall"


async def test_nothing_is_poured_once_its_task_was_cancelled() -> None:
    prompter, taken = Prompter(), []
    async with backend(prompter.script) as at:
        exchange, task = await pouring(PlainUpstream(Watchdog()), at, lambda data: not taken.append(data))
        task.cancel()
        exchange.take(b"x")  # in the same turn of the loop
        exchange.wake()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (taken, await exchange.read(5.0)) == ([], b"x")
