"""One connection to the data port: uvicorn's httptools protocol, with the guards that it lacks.

uvicorn has no time-out for headers and no cap on them; a subclass of its protocol gives 408 and 431, and says 400 in OpenAI's
shape. httptools is pinned because it refuses the malformed framings (CL+TE, bare LF, obs-fold, signed lengths) that h11 and
others let through.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from router.config.server import ServerConfig
from router.dispatch.outbox import BareBody, ChunkedBody, Outbox
from router.dispatch.watchdog import NEVER, Watchdog
from router.errors import BadRequest, ClientTooSlow, HeadersTooLarge, Refusal
from router.wire.error_body import error_body

# Where a request's scope carries its exchange with the client, for what ASGI does not offer: hearing at once that the client
# has left, without a task that waits for it; cutting a client that reads nothing; and writing without a message, two
# coroutines and two regular expressions for every header.
EXCHANGE_KEY = "jeton.exchange"
KEEP_ALIVE_SECONDS = 75
# How often idle connections are looked over; one may stay so much longer.
KEEP_ALIVE_PERIOD_SECONDS = 1.0
# What a client has not read yet waits in our buffer and in the kernel's, which Linux would let grow to 4 MB (it doubles
# SO_SNDBUF for its own overhead). With the upstream's this makes a stream's lag: 1 MB at most.
WRITE_BUFFER_BYTES = 32 * 2**10
SEND_BUFFER_BYTES = 256 * 2**10
UPGRADE_HEADERS = frozenset({b"connection", b"upgrade", b"http2-settings"})


def response_head(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Status line and headers, up to those of the framing. Raises ValueError for a line break inside a header."""
    head = STATUS_LINE[status] + b"".join([b"%b: %b\r\n" % header for header in headers])
    if head.count(b"\n") != len(headers) + 1 or head.count(b"\r") != len(headers) + 1:
        raise ValueError("a header of the answer contains a line break")
    return head


class DirectCycle(RequestResponseCycle):
    """uvicorn's exchange of one request and its answer, which may be written to without ASGI's messages.

    Before each call `flow.write_paused` must be looked at. What is written after the client has left goes nowhere.
    """

    connection: "Connection"
    outbox: Outbox
    # Of an answer that has begun and whose length was not told: for many pieces in a row, while the client has not left.
    body_pieces: ChunkedBody

    def begin(self, head: bytes, *, length_bytes: int | None, closes: bool, body: bytes = b"") -> None:
        """The answer's head, and its first bytes. length_bytes: of the whole body; None: chunked, or as it comes where the client
        speaks HTTP/1.0, whose connections uvicorn keeps for one answer alone."""
        self.response_started = True
        self.waiting_for_100_continue = False
        if self.disconnected:
            return
        self.chunked_encoding = length_bytes is None and self.scope["http_version"] != "1.0"
        if closes:
            self.keep_alive = False
        if length_bytes is not None:
            head += b"content-length: %d\r\n" % length_bytes
        elif self.chunked_encoding:
            head += b"transfer-encoding: chunked\r\n"
            self.body_pieces = ChunkedBody(self.outbox, self.transport, self.flow)
        else:
            self.body_pieces = BareBody(self.outbox, self.transport, self.flow)
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.outbox.write(self.transport, head + end + body)

    def put(self, data: bytes) -> None:
        """The next piece of an answer whose length was not told; not empty."""
        if not self.disconnected:
            self.body_pieces.put(data)

    def end(self, data: bytes = b"") -> None:
        """The last piece of an answer whose length was not told, or nothing further of one whose was."""
        if self.disconnected:
            return
        if self.chunked_encoding:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
            self.outbox.write(self.transport, last)
        elif data:
            self.outbox.write(self.transport, data)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.outbox.flush()
            self.transport.close()
        self.on_response()


class Connection(Protocol):
    """What a `Conversation` may do with the connection under it. on_gone: called once it is lost. is_lost: it was before."""

    loop: asyncio.AbstractEventLoop
    on_gone: Callable[[], None] | None
    is_lost: bool

    def abort(self) -> None: ...


class GuardedProtocol(HttpToolsProtocol):
    """Times and counts a request's head, and closes idle connections, without a timer for each request: a head that
    arrives in one read, as nearly all do, needs none, and idle connections share one.

    limits, idle_connections, outbox: of all connections of a server; see `guarded_protocol`. deadline_seconds: until when the
    connection may be idle. _read_bytes: what came with the read that is being parsed. _head_bytes: what came of the head before
    that. _is_in_rest: the request was answered before its body had come, and what comes of it is thrown away.
    """

    limits: ClassVar[ServerConfig]
    idle_connections: ClassVar[Watchdog]
    outbox: ClassVar[Outbox]

    _head_timer: asyncio.TimerHandle | None = None
    _is_in_head = False
    _is_in_rest = False
    _head_bytes = 0
    _read_bytes = 0
    deadline_seconds = NEVER
    _refusal: Refusal | None = None
    on_gone: Callable[[], None] | None = None
    is_lost = False

    def abort(self) -> None:
        self.transport.abort()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._start_head_timer()
        self.idle_connections.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self.idle_connections.unwatch(self)
        super().connection_lost(exc)
        self.is_lost = True
        if self.on_gone is not None:
            self.on_gone()

    def eof_received(self) -> None:
        """A client that has said its last is taken to have left, as vLLM takes it: the transport closes now."""
        self.is_lost = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
        if self.on_gone is not None:
            self.on_gone()

    def shutdown(self) -> None:
        self.outbox.flush()  # an answer that has ended may still lie there
        super().shutdown()

    def expire(self) -> None:
        """Nothing was asked for too long."""
        if not self.transport.is_closing():
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if not self._is_in_rest:  # a body that nobody reads, often of somebody without a key, earns no time
            self.deadline_seconds = NEVER
        self._read_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
            return
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.header_bytes_max:
                self._refuse(HeadersTooLarge("The request's headers are too large."))
            elif self._head_timer is None:
                self._start_head_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.deadline_seconds = NEVER
        self._is_in_head = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._is_in_head = False
        self._stop_head_timer()
        if len(self.headers) > self.limits.header_count_max:
            self._refusal = HeadersTooLarge(f"The request has more than {self.limits.header_count_max} headers.")
            raise ValueError  # httptools turns it into the parser error that data_received answers
        if (
            self._head_bytes + self._read_bytes > self.limits.header_bytes_max
            and sum(len(name) + len(value) for name, value in self.headers) > self.limits.header_bytes_max
        ):
            self._refusal = HeadersTooLarge("The request's headers are too large.")
            raise ValueError
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = DirectCycle  # uvicorn offers no other way to have its own class made
        direct = cast(DirectCycle, cycle)
        direct.connection = self
        direct.outbox = self.outbox
        cycle.scope[EXCHANGE_KEY] = direct  # type: ignore[literal-required]  # (a key of our own)
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()
            if self._is_in_rest:
                self._is_in_rest = False
                self.deadline_seconds = time.monotonic() + KEEP_ALIVE_SECONDS

    def on_response_complete(self) -> None:
        """As uvicorn's, but for the timer of an idle connection."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._is_in_rest = self.cycle.more_body
            self.deadline_seconds = time.monotonic() + (
                self.limits.body_seconds if self._is_in_rest else KEEP_ALIVE_SECONDS
            )

    def _decline_upgrade(self, rest: bytes) -> None:
        """An upgrade may be ignored (RFC 9110, 7.8), and Java's client asks every plain server for HTTP/2. The parser
        would take the body for the other protocol, so it is given the head again, without the wish."""
        if self.parser.get_method() == b"CONNECT":
            self._refuse(BadRequest("CONNECT is not served."))
            return
        lines = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in UPGRADE_HEADERS]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or BadRequest("The request is not valid HTTP."))

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.header_seconds, self._head_too_slow)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_too_slow(self) -> None:
        self._head_timer = None
        self._refuse(ClientTooSlow(f"The request's headers did not arrive within {self.limits.header_seconds:g} s."))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer once and close; nothing further from this connection is read."""
        self._is_in_head = False
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        body = error_body(refusal)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.outbox.flush()
        self.transport.write(STATUS_LINE[refusal.status] + head + body)
        self.transport.close()


def guarded_protocol(limits: ServerConfig, outbox: Outbox) -> type[GuardedProtocol]:
    """The protocol class that keeps these limits. uvicorn makes one instance for each connection."""
    shared = {"limits": limits, "idle_connections": Watchdog(KEEP_ALIVE_PERIOD_SECONDS), "outbox": outbox}
    return type("LimitedProtocol", (GuardedProtocol,), shared)
