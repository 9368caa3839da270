"""Our pooled HTTP/1.1 client on httptools, for plain-HTTP backends: the hot half of the relay.

No redirects, no cookies, no compression, no half-close (vLLM takes it for a disconnect). A socket that is read faster than
its answer is taken is paused, so one exchange buffers `BUFFER_BYTES_MAX` and a read. A stream's read is no larger than the
kernel's buffer, which is bounded too: what lies there is lag as well, and Linux would let it grow to 6 MB.
"""

import asyncio
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any

import httptools

from router.dispatch.names import BackendNames
from router.dispatch.outbox import Outbox
from router.dispatch.upstream import (
    BUFFER_BYTES_MAX,
    IDLE_SECONDS_MAX,
    Origin,
    UpstreamFailed,
    UpstreamRequest,
)
from router.dispatch.watchdog import NEVER, Watchdog

HEADER_BYTES_MAX = 64 * 2**10
# SO_RCVBUF of a connection that streams; Linux doubles it for its own overhead.
STREAM_RECEIVE_BYTES = 32 * 2**10
# How long an answer that is done for us may take to reach its last byte, so that its connection can be kept.
LINGER_SECONDS = 1.0


class PlainUpstream:
    """Connections are pooled per origin, newest first, and dropped when idle for `IDLE_SECONDS_MAX`."""

    def __init__(self, watchdog: Watchdog, names: BackendNames | None = None, outbox: Outbox | None = None) -> None:
        self._watchdog = watchdog
        self._names = names or BackendNames()
        self._outbox = outbox or Outbox()
        self._idle: defaultdict[Origin, list[_Connection]] = defaultdict(list)
        self._heads: dict[tuple[Origin, bytes], bytes] = {}

    async def send(
        self, request: UpstreamRequest, *, connect_seconds: float, first_byte_seconds: float
    ) -> "PlainExchange":
        """A pooled connection that turns out to be closed is replaced once: nothing of an answer had come back."""
        connection = self._take(request.origin)
        is_pooled = connection is not None
        if connection is None:
            connection = await self._connect(request.origin, connect_seconds)
        while True:
            exchange = PlainExchange(connection, self._watchdog)
            connection.exchange = exchange
            try:
                if isinstance(request.body, bytes):
                    framing = b"content-length: %d\r\n\r\n" % len(request.body)
                    self._outbox.write(connection.transport, self._head(request) + framing + request.body)
                else:
                    await self._stream_body(connection, exchange, request, request.body)
                await exchange.head(first_byte_seconds)
            except UpstreamFailed as failure:
                exchange.release()
                if not is_pooled or failure.fault != "reset" or not isinstance(request.body, bytes):
                    raise
                is_pooled = False
                connection = await self._connect(request.origin, connect_seconds)
                continue
            except BaseException:
                exchange.release()
                raise
            return exchange

    async def aclose(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def keep(self, connection: "_Connection") -> None:
        connection.idle_since_seconds = time.monotonic()
        idle = self._idle[connection.origin]
        idle.append(connection)
        oldest = idle[0]
        if connection.idle_since_seconds - oldest.idle_since_seconds > IDLE_SECONDS_MAX:
            oldest.close()
            idle.pop(0)

    def _take(self, origin: Origin) -> "_Connection | None":
        idle = self._idle[origin]
        now = time.monotonic()
        while idle:
            connection = idle.pop()
            if connection.is_open and now - connection.idle_since_seconds < IDLE_SECONDS_MAX:
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin, seconds: float) -> "_Connection":
        try:
            async with asyncio.timeout(seconds):
                return await self._connect_to_any(origin, await self._names.addresses(origin.host))
        except TimeoutError:
            self._names.doubt(origin.host)
            raise UpstreamFailed("connect", "time-out") from None
        except OSError as error:
            self._names.doubt(origin.host)
            raise UpstreamFailed("connect", str(error)) from None

    async def _connect_to_any(self, origin: Origin, addresses: Sequence[str]) -> "_Connection":
        """The first of them that answers. Raises OSError, that of the last."""
        loop = asyncio.get_running_loop()
        for address in addresses[:-1]:
            with suppress(OSError):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, origin, loop), address, origin.port
                )
                return connection
        _, connection = await loop.create_connection(
            lambda: _Connection(self, origin, loop), addresses[-1], origin.port
        )
        return connection

    async def _stream_body(
        self,
        connection: "_Connection",
        exchange: "PlainExchange",
        request: UpstreamRequest,
        body: AsyncIterator[bytes],
    ) -> None:
        length_bytes = request.length_bytes
        is_chunked = length_bytes is None
        framing = b"transfer-encoding: chunked" if length_bytes is None else b"content-length: %d" % length_bytes
        connection.transport.write(self._head(request) + framing + b"\r\n\r\n")
        async for piece in body:
            if exchange.has_news:  # answered early, or gone: the rest is not wanted
                return
            connection.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            await connection.drained()
        if is_chunked:
            connection.transport.write(b"0\r\n\r\n")

    def _head(self, request: UpstreamRequest) -> bytes:
        """Request line and headers up to the framing. The part that every request to this path shares is kept."""
        key = (request.origin, request.path)
        start = self._heads.get(key)
        if start is None:
            start = b"POST %b HTTP/1.1\r\nhost: %b\r\n" % (request.path, request.origin.authority.encode())
            self._heads[key] = start
        return start + b"".join([b"%b: %b\r\n" % header for header in request.headers])


class PlainExchange:
    """One request and its answer on one connection."""

    __slots__ = (
        "_buffered",
        "_connection",
        "_failure",
        "_is_complete",
        "_is_paused",
        "_loop",
        "_pieces",
        "_tap",
        "_tap_seconds",
        "_waiter",
        "_watchdog",
        "deadline_seconds",
        "has_head",
        "headers",
        "status",
    )

    def __init__(self, connection: "_Connection", watchdog: Watchdog) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_head = False
        self.deadline_seconds = NEVER
        self._connection: _Connection | None = connection
        self._loop = connection.loop
        self._watchdog = watchdog
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._is_complete = False
        self._is_paused = False
        self._failure: UpstreamFailed | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._tap: Callable[[bytes], bool] | None = None
        self._tap_seconds = 0.0
        watchdog.watch(self)

    @property
    def has_news(self) -> bool:
        return self.has_head or self._failure is not None

    async def head(self, seconds: float) -> None:
        while not self.has_head:
            if self._failure is not None:
                raise self._failure
            await self._news(seconds)

    async def read(self, seconds: float) -> bytes:
        while True:
            if self._pieces:
                return self._taken()
            if self._is_complete:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._news(seconds)

    async def pour(self, take: Callable[[bytes], bool], seconds: float) -> None:
        """Give each piece to `take` as it arrives, without a task's turn in between, as long as it returns True.

        Comes back when it returned False, and when there is what only `read` tells. seconds: of silence. Raises what `take`
        raises.
        """
        if self._pieces or self._is_complete or self._failure is not None:
            return
        self._tap = take
        self._tap_seconds = seconds
        try:
            await self._news(seconds)
        finally:
            self._tap = None

    def release(self, *, lingers: bool = False) -> None:
        connection = self._connection
        if connection is None:
            return
        self._connection = None
        self.deadline_seconds = NEVER
        self._watchdog.unwatch(self)
        connection.leave(is_complete=self._is_complete, lingers=lingers and not self._is_paused)

    def expire(self) -> None:
        self.fail(UpstreamFailed("stall"))

    # Called by the connection.

    def begin(self, status: int) -> None:
        self.status = status
        self.has_head = True

    def take(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._buffered += len(piece)
        if self._buffered > BUFFER_BYTES_MAX and not self._is_paused and self._connection is not None:
            self._is_paused = True
            self._connection.transport.pause_reading()

    def complete(self) -> None:
        self._is_complete = True

    def fail(self, failure: UpstreamFailed) -> None:
        if self._failure is None and not self._is_complete:
            self._failure = failure
        self.wake()

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._tap is not None and self._pieces and not self._is_complete and self._failure is None:
            try:
                goes_on = self._tap(self._taken())
            except Exception as error:
                waiter.set_exception(error)
                return
            if goes_on:
                self.deadline_seconds = time.monotonic() + self._tap_seconds
                return
        waiter.set_result(None)

    def _taken(self) -> bytes:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        if self._is_paused and self._connection is not None:
            self._is_paused = False
            self._connection.transport.resume_reading()
        return data

    async def _news(self, seconds: float) -> None:
        self._waiter = self._loop.create_future()
        self.deadline_seconds = time.monotonic() + seconds
        try:
            await self._waiter
        finally:
            self.deadline_seconds = NEVER
            self._waiter = None


class _Connection(asyncio.Protocol):
    """One socket: at most one exchange at a time, an idle place in the pool, or a second's grace to finish."""

    def __init__(self, pool: PlainUpstream, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self.pool = pool
        self.loop = loop
        self.origin = origin
        self.exchange: PlainExchange | None = None
        self.idle_since_seconds = 0.0
        self.is_open = False
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._is_interim = False
        self._ends_at_eof = False
        self._is_narrow = False
        self._linger: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._is_write_paused = False

    # asyncio's side.

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.Transport = transport
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail("protocol", str(error))
            self.close()
            return
        if self.exchange is not None:
            self.exchange.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.resume_writing()
        exchange = self.exchange
        if exchange is None:
            return
        if exchange.has_head and self._ends_at_eof and exc is None:
            exchange.complete()
            exchange.wake()
        elif exchange.has_head:
            self._fail("eof")
        else:
            self._fail("reset")

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def drained(self) -> None:
        if self._is_write_paused and self.is_open:
            self._drained = self.loop.create_future()
            await self._drained

    # httptools' side.

    def on_message_begin(self) -> None:
        self._headers = []
        self._header_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES_MAX:
            raise ValueError("headers too large")
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._is_interim = status < 200
        if self._is_interim:
            return
        self._ends_at_eof = True
        for name, value in self._headers:
            if name == b"content-length" or name == b"transfer-encoding":
                self._ends_at_eof = False
            elif name == b"content-type" and not self._is_narrow and value.startswith(b"text/event-stream"):
                self._narrow()
        if self.exchange is None:
            self.close()
            return
        self.exchange.headers = self._headers
        self.exchange.begin(status)

    def on_body(self, body: bytes) -> None:
        if self.exchange is not None:
            self.exchange.take(body)

    def on_message_complete(self) -> None:
        if self._is_interim:
            return
        is_kept = self._parser.should_keep_alive()
        if self.exchange is not None:
            self.exchange.complete()
            if not is_kept:
                self.close()
        elif self._linger is not None:
            self._linger.cancel()
            self._linger = None
            if is_kept:
                self.pool.keep(self)
            else:
                self.close()
        else:  # an answer to nothing
            self.close()

    # The exchange's side.

    def leave(self, *, is_complete: bool, lingers: bool) -> None:
        """The exchange is done with us: back to the pool, a moment's grace for the last bytes, or closed at once."""
        self.exchange = None
        if not self.is_open:
            return
        if is_complete:
            self.pool.keep(self)
        elif lingers:
            self._linger = self.loop.call_later(LINGER_SECONDS, self.close)
        else:
            self.close()

    def close(self) -> None:
        """At once, whatever is unsent: whoever listened has left, and the backend should stop."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self.is_open:
            self.is_open = False
            self.transport.abort()

    def _narrow(self) -> None:
        self._is_narrow = True
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STREAM_RECEIVE_BYTES)

    def _fail(self, fault: str, detail: str = "") -> None:
        if self.exchange is not None:
            self.exchange.fail(UpstreamFailed(fault, detail))
