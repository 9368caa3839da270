"""HTTP/1.1 for the emulator: connections on httptools, framed byte for byte as uvicorn frames vLLM's answers.

One request at a time per connection (pipelined ones wait), one HTTP chunk per SSE event, idle connections closed after five
seconds, a half-closed connection taken for a client that left. What must not live here: what any path means.
"""

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast

import httptools

KEEP_ALIVE_SECONDS = 5.0  # uvicorn's default, recorded: idle connections are closed after 5.00 s

Headers = tuple[tuple[str, str], ...]
EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_date = (0, b"")


def _date_header() -> bytes:
    global _date
    now = int(time.time())
    if now != _date[0]:
        _date = (now, formatdate(now, usegmt=True).encode())
    return _date[1]


class HttpRequest:
    """One request as it came. Header names are lower case; of repeated headers the last one counts."""

    __slots__ = ("body", "headers", "is_keep_alive", "method", "path", "query")

    def __init__(
        self, method: str, target: bytes, headers: dict[str, str], body: bytes, *, is_keep_alive: bool
    ) -> None:
        path, _, query = target.decode("latin-1").partition("?")
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.is_keep_alive = is_keep_alive


class Answer(Protocol):
    """How a handler answers: once with `respond`, or with `start_stream`, `send` for each event, `finish`.

    on_disconnect is called at most once, when the client leaves before the end. Calls after the end are ignored.
    """

    on_disconnect: Callable[[], None] | None

    @property
    def is_over(self) -> bool: ...

    def respond(
        self, status: int, body: bytes = b"", content_type: str | None = JSON, headers: Headers = ()
    ) -> None: ...
    def start_stream(self, content_type: str = EVENT_STREAM, headers: Headers = ()) -> None: ...
    def send(self, event: bytes) -> None: ...
    def finish(self) -> None: ...


class Exchange:
    """The answer to one request on a connection.

    status and body_bytes: what has gone out so far; status 0: nothing. on_over is called once, however it ends.
    """

    __slots__ = (
        "_connection",
        "_write",
        "body_bytes",
        "extra_headers",
        "is_over",
        "on_disconnect",
        "on_over",
        "request",
        "status",
    )

    def __init__(self, connection: "Connection", request: HttpRequest) -> None:
        self._connection = connection
        self._write = connection.transport.write
        self.request = request
        self.extra_headers: Headers = ()
        self.on_disconnect: Callable[[], None] | None = None
        self.on_over: Callable[[Exchange], None] | None = None
        self.is_over = False
        self.status = 0
        self.body_bytes = 0

    def respond(self, status: int, body: bytes = b"", content_type: str | None = JSON, headers: Headers = ()) -> None:
        if self.is_over:
            return
        head = [*headers, ("content-length", str(len(body)))]
        if content_type is not None:
            head.append(("content-type", content_type))
        if self.request.method == "HEAD":
            body = b""
        self.body_bytes = len(body)
        self._write(self._head(status, tuple(head)) + body)
        self._end()

    def start_stream(self, content_type: str = EVENT_STREAM, headers: Headers = ()) -> None:
        if not self.is_over:
            head = (*headers, ("content-type", content_type))
            self._write(self._head(200, head, after=(("transfer-encoding", "chunked"),)))

    def send(self, event: bytes) -> None:
        if not self.is_over:
            size = len(event)
            self.body_bytes += size
            self._write(b"%x\r\n%b\r\n" % (size, event))

    def finish(self) -> None:
        if not self.is_over:
            self._write(b"0\r\n\r\n")
            self._end()

    def write_raw(self, data: bytes) -> None:
        """Bytes as they are; for faults."""
        if not self.is_over:
            self._write(data)

    def hang_up(self) -> None:
        """Send what is buffered, then FIN, whatever was promised; for faults and shutdown."""
        self._connection.transport.close()

    def reset(self) -> None:
        """RST at once; for faults."""
        self._connection.reset()

    def disconnected(self) -> None:
        if not self.is_over:
            self._close()
            if self.on_disconnect is not None:
                self.on_disconnect()

    def _head(self, status: int, headers: Headers, after: Headers = ()) -> bytes:
        lines = [
            f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\ndate: ".encode(),
            _date_header(),
            b"\r\nserver: uvicorn\r\n",
        ]
        self.status = status
        closing: Headers = () if self.request.is_keep_alive else (("connection", "close"),)
        varying: Headers = () if any(name == "vary" for name, _ in headers) else (("vary", "Origin"),)
        for name, value in (*headers, *self.extra_headers, *varying, *closing, *after):
            lines.append(f"{name}: {value}\r\n".encode("latin-1"))
        lines.append(b"\r\n")
        return b"".join(lines)

    def _close(self) -> None:
        self.is_over = True
        if self.on_over is not None:
            self.on_over(self)

    def _end(self) -> None:
        self._close()
        self._connection.exchange_ended(is_keep_alive=self.request.is_keep_alive)


Handler = Callable[[Exchange], None]


class Connection(asyncio.Protocol):
    """One client connection. `handler` is called with each request when its body has arrived; it must not block."""

    def __init__(self, handler: Handler, connections: set["Connection"]) -> None:
        self._handler = handler
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[HttpRequest] = deque()
        self._exchange: Exchange | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._is_last = False
        self.transport: asyncio.Transport
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class
        self._connections.add(self)
        # Whatever a client leaves unread is kept for it, as vLLM does: a slow reader does not slow the engine.
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._stop_idle_timer()
        self.closed.set_result(None)
        self._queue.clear()
        if self._exchange is not None:
            self._exchange.disconnected()

    def eof_received(self) -> bool:
        return False  # vLLM takes a half-close for a client that left

    def data_received(self, data: bytes) -> None:
        self._stop_idle_timer()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # not supported, ignored: the request itself was read and is answered
        except httptools.HttpParserError:
            message = b"Invalid HTTP request received."
            head = b"HTTP/1.1 400 Bad Request\r\ndate: %b\r\nserver: uvicorn\r\ncontent-type: text/plain; charset=utf-8\r\n"
            tail = b"content-length: %d\r\nconnection: close\r\n\r\n%b"
            self.transport.write(head % _date_header() + tail % (len(message), message))
            self.transport.close()

    # ------------------------------------------------------------------ httptools

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = {}
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = HttpRequest(
            self._parser.get_method().decode(),
            self._target,
            self._headers,
            b"".join(self._body),
            is_keep_alive=self._parser.should_keep_alive() and self._parser.get_http_version() != "1.0",
        )
        if self._exchange is None:
            self._begin(request)
        else:
            self._queue.append(request)

    # ------------------------------------------------------------------ exchanges

    def _begin(self, request: HttpRequest) -> None:
        self._stop_idle_timer()
        self._exchange = Exchange(self, request)
        self._handler(self._exchange)

    def exchange_ended(self, *, is_keep_alive: bool) -> None:
        self._exchange = None
        if not is_keep_alive or self._is_last:
            self.transport.close()
        elif self._queue:
            self._loop.call_soon(self._next)
        else:
            self._rest()

    def _next(self) -> None:
        if self._exchange is None and self._queue and not self.transport.is_closing():
            self._begin(self._queue.popleft())

    def _rest(self) -> None:
        self._stop_idle_timer()
        self._idle_timer = self._loop.call_later(KEEP_ALIVE_SECONDS, self.transport.close)

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def retire(self) -> None:
        """Take no further request: close now, or when the answer under way is over."""
        self._is_last = True
        if self._exchange is None:
            self.transport.close()

    def reset(self) -> None:
        """Close with RST instead of FIN, dropping what is buffered."""
        reset_socket(self.transport)
        self.transport.abort()


def reset_socket(transport: asyncio.Transport) -> None:
    """Make the close of a transport a reset: SO_LINGER with zero seconds."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
