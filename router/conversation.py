"""One exchange with a client over ASGI: its body comes in bounded, its answer goes out no faster than it reads.

A bare ASGI application does not notice a client that leaves unless it watches: this does, and cancels the request's task.
Under our own server the connection tells; under another a task waits on `receive()`. What the bytes mean is not known here.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from router.access.repeats import AnswerCopy, KeptAnswer
from router.attempt import Attempt
from router.connection import EXCHANGE_KEY, DirectCycle, response_head
from router.dispatch.watchdog import NEVER, Deadline, Watchdog
from router.errors import BadRequest, BodyTooLarge, ClientTooSlow, UnsupportedBody

START = "http.response.start"
BODY = "http.response.body"
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]
# Takes a piece, not empty, and tells whether it may be given another.
Outlet = Callable[[bytes], bool]


REPEATED = (b"idempotent-replayed", b"true")


class ClientGone(Exception):
    """The client left while its body was being read."""


class Conversation:
    """headers: the request's, names in lower case; header_values: the same by name. has_started: a status was sent. is_gone: the
    client has left. copy: where set, what is sent is copied to it. is_awaited: where set, whether others wait for the same
    answer: while they do, the request's task goes on without its client. outlast: where set, asked once nobody waits whether it
    goes on all the same; what is sent to a client that has left goes nowhere, but to the copy. attempt: the last that was made at
    answering it, for whoever has to tell what came of it; None before the first."""

    __slots__ = (
        "_exchange",
        "_is_finished",
        "_receive",
        "_scope",
        "_send",
        "_task",
        "_watchdog",
        "_watcher",
        "_write_seconds",
        "attempt",
        "copy",
        "deadline_seconds",
        "has_started",
        "header_values",
        "headers",
        "is_awaited",
        "is_gone",
        "outlast",
    )

    def __init__(self, scope: Message, receive: Receive, send: Send, watchdog: Watchdog, write_seconds: float) -> None:
        self.headers: Sequence[Header] = scope["headers"]
        self.header_values = by_name(self.headers)
        self.has_started = False
        self.is_gone = False
        self.copy: AnswerCopy | None = None
        self.is_awaited: Callable[[], bool] | None = None
        self.outlast: Callable[[], bool] | None = None
        self.attempt: Attempt | None = None
        self.deadline_seconds = NEVER
        self._scope = scope
        self._receive = receive
        self._send = send
        self._watchdog = watchdog
        self._write_seconds = write_seconds
        self._is_finished = False
        self._exchange: DirectCycle | None = scope.get(EXCHANGE_KEY)
        # On Python 3.11 to ask which loop runs is a system call; the connection knows.
        self._task = asyncio.current_task(self._exchange.connection.loop if self._exchange is not None else None)
        self._watcher: asyncio.Task[None] | None = None

    @property
    def task(self) -> "asyncio.Task[Any] | None":
        """The task that answers this request."""
        return self._task

    @property
    def address(self) -> str:
        client = self._scope.get("client")
        return client[0] if client else ""

    @property
    def is_deserted(self) -> bool:
        """The client has left, and nobody else waits for its answer."""
        return self.is_gone and (self.is_awaited is None or not self.is_awaited())

    def header(self, name: bytes) -> bytes | None:
        """The header's value, None where absent; the last of several."""
        return self.header_values.get(name)

    def content_length(self) -> int | None:
        value = self.header(b"content-length")
        return int(value) if value is not None and value.isdigit() else None

    async def pieces(self, bytes_max: int, silence_seconds: float) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises BodyTooLarge (before reading, where its length is declared), UnsupportedBody for
        a compressed one, ClientTooSlow, ClientGone."""
        self._check_body(bytes_max)
        size = 0
        more = True
        while more:
            piece, more = await self._piece(bytes_max - size, silence_seconds)
            size += len(piece)
            if piece:
                yield piece

    async def body(self, bytes_max: int, silence_seconds: float) -> bytes:
        """The body, whole. Raises as `pieces` does."""
        self._check_body(bytes_max)
        exchange = self._exchange
        if exchange is not None and not exchange.more_body and len(exchange.body) <= bytes_max:
            data = bytes(exchange.body)  # it came with the head, as nearly all do
            exchange.body = bytearray()
            exchange.flow.resume_reading()
            return data
        data, more = await self._piece(bytes_max, silence_seconds)
        if not more:
            return data
        pieces, size = [data], len(data)
        while more:
            data, more = await self._piece(bytes_max - size, silence_seconds)
            pieces.append(data)
            size += len(data)
        return b"".join(pieces)

    def watch(self) -> None:
        """From now on cancel the request's task as soon as the client leaves. The body must have been read."""
        if self._exchange is not None:
            connection = self._exchange.connection
            connection.on_gone = self._left
            if connection.is_lost:  # while the last of the body was being looked at
                self._left()
        else:
            self._watcher = asyncio.create_task(self._until_gone())

    async def answer(self, status: int, headers: Sequence[Header], body: bytes, *, closes: bool = False) -> None:
        """A whole answer. closes: the connection ends with it. Raises ValueError for a header with a line break, unsent."""
        head = response_head(status, headers)
        self.has_started = True
        if self.copy is not None:
            self.copy.headers = tuple(headers)
            self.copy.add(body)
        exchange = self._exchange
        if exchange is None:
            framing = [(b"content-length", b"%d" % len(body)), *([(b"connection", b"close")] if closes else [])]
            await self._send_in_time({"type": START, "status": status, "headers": [*headers, *framing]})
        else:
            if exchange.flow.write_paused:
                await self._drained(exchange)
            exchange.begin(head, length_bytes=len(body), closes=closes, body=body)
            body = b""
        await self._end(body)

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        """The head of a stream. Raises ValueError for a header with a line break, unsent."""
        head = response_head(status, headers)
        self.has_started = True
        if self.copy is not None:
            self.copy.headers = tuple(headers)
            self.copy.is_stream = True
        exchange = self._exchange
        if exchange is None:
            await self._send_in_time({"type": START, "status": status, "headers": headers})
        else:
            if exchange.flow.write_paused:
                await self._drained(exchange)
            exchange.begin(head, length_bytes=None, closes=False)

    async def write(self, data: bytes) -> None:
        """Waits while the client does not read; a client that reads nothing for `write_seconds` is disconnected."""
        exchange = self._exchange
        if not data:  # an empty chunk would end the stream
            return
        if self.copy is not None:
            self.copy.add(data)
        if exchange is None:
            await self._send_in_time({"type": BODY, "body": data, "more_body": True})
        else:
            if exchange.flow.write_paused:
                await self._drained(exchange)
            exchange.put(data)

    def outlet(self) -> Outlet | None:
        """Where the next pieces of a stream may be put at once, instead of `write`, until it returns False. None where there is
        something to wait for, or the server under us is another."""
        exchange = self._exchange
        if exchange is None or exchange.disconnected or exchange.flow.write_paused:
            return None
        put = exchange.body_pieces.put
        return put if self.copy is None else also(put, self.copy.add)

    async def finish(self, data: bytes = b"") -> None:
        """The last piece of a stream, and its end."""
        if self.copy is not None:
            self.copy.add(data)
        await self._end(data)

    async def repeat(self, answer: KeptAnswer) -> None:
        """An answer that went out before, as it went out then; a stream in one piece."""
        headers = [*answer.headers, REPEATED]
        if not answer.is_stream:
            await self.answer(200, headers, answer.body)
            return
        await self.start(200, headers)
        await self.finish(answer.body)

    async def _end(self, data: bytes) -> None:
        self._is_finished = True
        exchange = self._exchange
        if exchange is None:
            await self._send_in_time({"type": BODY, "body": data, "more_body": False})
        else:
            if exchange.flow.write_paused:
                await self._drained(exchange)
            exchange.end(data)

    def close(self) -> None:
        """Leave nothing behind, however the exchange ended; a stream that was begun and not finished is cut."""
        if self._exchange is not None:
            self._exchange.connection.on_gone = None
        if self._watcher is not None and not self._is_finished:
            self._watcher.cancel()
        if self.has_started and not self._is_finished:
            self.expire()

    def expire(self) -> None:
        """The client reads nothing: cut the connection, which the watcher then notices."""
        if self._exchange is not None:
            self._exchange.connection.abort()

    def _check_body(self, bytes_max: int) -> None:
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
            raise UnsupportedBody("Send the body uncompressed: `Content-Encoding` is not supported.")
        declared = self.content_length()
        if declared is not None and declared > bytes_max:
            raise BodyTooLarge(f"The body is larger than {bytes_max} bytes.")

    async def _piece(self, bytes_max: int, seconds: float) -> tuple[bytes, bool]:
        """What has come of the body by now, at most `bytes_max`, and whether there is more."""
        deadline = Deadline(self._task, time.monotonic() + seconds)
        self._watchdog.watch(deadline)
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if self._task is None or not deadline.has_passed:
                raise
            self._task.uncancel()
            raise ClientTooSlow(f"Nothing of the body arrived for {seconds:g} s.") from None
        finally:
            self._watchdog.unwatch(deadline)
        if message["type"] == "http.disconnect":
            self.is_gone = True
            raise ClientGone
        piece: bytes = message.get("body", b"")
        if len(piece) > bytes_max:
            raise BodyTooLarge("The body is larger than this server accepts.")
        return piece, message.get("more_body", False)

    async def _send_in_time(self, message: Message) -> None:
        with self._watchdog.timing(self, self._write_seconds):
            await self._send(message)

    async def _drained(self, exchange: DirectCycle) -> None:
        with self._watchdog.timing(self, self._write_seconds):
            await exchange.flow.drain()

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        if self._is_finished or self.is_gone or self._task is None:
            return
        self.is_gone = True
        self.end_if_deserted()

    def end_if_deserted(self) -> None:
        """Cancel the request's task where nobody waits for it any more, and it is not to outlast that."""
        if self._is_finished or self._task is None or not self.is_deserted:
            return
        if self.outlast is None or not self.outlast():
            self._task.cancel()


def also(outlet: Outlet, add: Callable[[bytes], None]) -> Outlet:
    """What is put there is added, too."""

    def put(data: bytes) -> bool:
        add(data)
        return outlet(data)

    return put


def by_name(headers: Sequence[Header]) -> dict[bytes, bytes]:
    """Every header's value by its name; of several the last."""
    return dict(headers)


def require_content_type(call: Conversation, right: bytes) -> bytes:
    """The content type, with its parameters. Raises BadRequest when it is another, or missing, as vLLM does."""
    value = call.header(b"content-type") or b""
    kind = value.partition(b";")[0].strip().lower()
    if kind != right:
        got = kind.decode("latin-1")[:60] or "missing"
        raise BadRequest(f"The `Content-Type` must be {right.decode()}; it is {got}.")
    return value
