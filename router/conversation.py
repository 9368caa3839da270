"""One exchange with a client over ASGI: its body comes in bounded, its answer goes out no faster than it reads.

A bare ASGI application does not notice a client that leaves unless it watches `receive()`; this does, and cancels the
request's task. What the bytes mean is not known here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from router.dispatch.watchdog import NEVER, Deadline, Watchdog
from router.errors import BadRequest, BodyTooLarge, ClientTooSlow, UnsupportedBody
from router.server import ABORT_KEY

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]


class ClientGone(Exception):
    """The client left while its body was being read."""


class Conversation:
    """headers: the request's, names in lower case. has_started: a status was sent. is_gone: the client has left."""

    __slots__ = (
        "_is_finished",
        "_receive",
        "_scope",
        "_send",
        "_task",
        "_watchdog",
        "_watcher",
        "_write_seconds",
        "deadline_seconds",
        "has_started",
        "headers",
        "is_gone",
    )

    def __init__(self, scope: Message, receive: Receive, send: Send, watchdog: Watchdog, write_seconds: float) -> None:
        self.headers: Sequence[Header] = scope["headers"]
        self.has_started = False
        self.is_gone = False
        self.deadline_seconds = NEVER
        self._scope = scope
        self._receive = receive
        self._send = send
        self._watchdog = watchdog
        self._write_seconds = write_seconds
        self._is_finished = False
        self._task: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        client = self._scope.get("client")
        return client[0] if client else ""

    def header(self, name: bytes) -> bytes | None:
        """The header's value, None where absent; the first of several."""
        for found, value in self.headers:
            if found == name:
                return value
        return None

    def content_length(self) -> int | None:
        value = self.header(b"content-length")
        return int(value) if value is not None and value.isdigit() else None

    async def pieces(self, bytes_max: int, silence_seconds: float) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises BodyTooLarge (before reading, where its length is declared), UnsupportedBody for
        a compressed one, ClientTooSlow, ClientGone."""
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
            raise UnsupportedBody("Send the body uncompressed: `Content-Encoding` is not supported.")
        declared = self.content_length()
        if declared is not None and declared > bytes_max:
            raise _too_large(bytes_max)
        size = 0
        while True:
            message = await self._receive_within(silence_seconds)
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > bytes_max:
                raise _too_large(bytes_max)
            if piece:
                yield piece
            if not message.get("more_body", False):
                return

    async def body(self, bytes_max: int, silence_seconds: float) -> bytes:
        """The body, whole. Raises as `pieces` does."""
        pieces = [piece async for piece in self.pieces(bytes_max, silence_seconds)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def watch(self) -> None:
        """From now on cancel the calling task as soon as the client leaves. The body must have been read."""
        self._task = asyncio.current_task()
        self._watcher = asyncio.create_task(self._until_gone())

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        self.has_started = True
        self._watchdog.watch(self)
        await self._send_in_time({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Waits while the client does not read; a client that reads nothing for `write_seconds` is disconnected."""
        await self._send_in_time({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        self._is_finished = True
        try:
            await self._send_in_time({"type": "http.response.body", "body": data, "more_body": False})
        finally:
            self._watchdog.unwatch(self)

    def close(self) -> None:
        """Leave nothing behind, however the exchange ended; a stream that was begun and not finished is cut."""
        self._watchdog.unwatch(self)
        if self._watcher is not None and not self._is_finished:
            self._watcher.cancel()
        if self.has_started and not self._is_finished:
            self.expire()

    def expire(self) -> None:
        """The client reads nothing: cut the connection, which the watcher then notices."""
        abort = self._scope.get(ABORT_KEY)
        if abort is not None:
            abort()

    async def _receive_within(self, seconds: float) -> Message:
        task = asyncio.current_task()
        deadline = Deadline(task, asyncio.get_running_loop().time() + seconds)
        self._watchdog.watch(deadline)
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if task is None or not deadline.has_passed:
                raise
            task.uncancel()
            raise ClientTooSlow(f"Nothing of the body arrived for {seconds:g} s.") from None
        finally:
            self._watchdog.unwatch(deadline)
        if message["type"] == "http.disconnect":
            self.is_gone = True
            raise ClientGone
        return message

    async def _send_in_time(self, message: Message) -> None:
        self.deadline_seconds = asyncio.get_running_loop().time() + self._write_seconds
        await self._send(message)
        self.deadline_seconds = NEVER

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._is_finished and self._task is not None:
            self.is_gone = True
            self._task.cancel()


def require_content_type(call: Conversation, right: bytes) -> bytes:
    """The content type's parameters. Raises BadRequest when it is another, or missing, as vLLM does."""
    kind, _, parameters = (call.header(b"content-type") or b"").partition(b";")
    if kind.strip().lower() != right:
        got = kind.decode("latin-1")[:60] or "missing"
        raise BadRequest(f"The `Content-Type` must be {right.decode()}; it is {got}.")
    return parameters


def _too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {bytes_max} bytes.")
