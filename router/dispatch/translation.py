"""Exchanges whose bytes are another API's, read as if they were OpenAI's.

What the translation is comes from outside (`wire/`); here it is joined to the sockets. What it cannot read is a failure of the
transport: a protocol that is not the one we were told.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from router.dispatch.upstream import Exchange, Headers, UpstreamFailed
from router.wire.sse import EventSplitter, EventTooLong

ANSWER_BYTES_MAX = 256 * 2**20
EVENT_STREAM: Headers = ((b"content-type", b"text/event-stream"),)
JSON: Headers = ((b"content-type", b"application/json"),)
# What reading a shape that is not there may raise.
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError)


class StreamTranslator(Protocol):
    """Bytes of theirs in, events of OpenAI's out, one by one as far as there are any yet: what comes before something unreadable
    is not lost with it."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...

    def end(self) -> bytes:
        """What is still due when their stream has ended."""

    def usage_told(self) -> dict[str, Any] | None:
        """What has been told of the usage so far, as a chat's `usage`, where that is not in the events; None: nothing."""


class TranslatedStream:
    """A stream under way."""

    def __init__(self, exchange: Exchange, translator: StreamTranslator) -> None:
        self.status = exchange.status
        self.headers = EVENT_STREAM
        self._exchange = exchange
        self._translator = translator
        self._has_ended = False
        self._failure: UpstreamFailed | None = None

    async def read(self, seconds: float) -> bytes:
        out: list[bytes] = []
        while not any(out) and not self._has_ended:
            if self._failure is not None:
                raise self._failure
            data = await self._exchange.read(seconds)
            self._has_ended = not data
            try:
                for piece in self._translator.feed(data) if data else (self._translator.end(),):
                    out.append(piece)  # not `extend`: what comes before an error counts
            except UNREADABLE as error:
                self._fail(f"a stream that cannot be read: {type(error).__name__}")
            except EventTooLong:
                self._fail("an event without end")
        return b"".join(out)

    def usage_told(self) -> dict[str, Any] | None:
        return self._translator.usage_told()

    def _fail(self, detail: str) -> None:
        """After what could be read has been handed on."""
        self._failure = UpstreamFailed("protocol", detail)
        self._has_ended = False

    def release(self, *, lingers: bool = False) -> None:
        self._exchange.release(lingers=lingers)


class TranslatedAnswer:
    """A whole answer: read to its end before the first byte is handed on."""

    def __init__(self, exchange: Exchange, translate: Callable[[bytes], bytes]) -> None:
        self.status = exchange.status
        self.headers = JSON
        self._exchange = exchange
        self._translate = translate
        self._is_read = False

    async def read(self, seconds: float) -> bytes:
        if self._is_read:
            return b""
        self._is_read = True
        pieces: list[bytes] = []
        size = 0
        while piece := await self._exchange.read(seconds):
            pieces.append(piece)
            size += len(piece)
            if size > ANSWER_BYTES_MAX:
                raise UpstreamFailed("too_large", f"answer over {ANSWER_BYTES_MAX} bytes")
        try:
            return self._translate(b"".join(pieces))
        except UNREADABLE as error:
            raise UpstreamFailed("protocol", f"an answer that cannot be read: {type(error).__name__}") from None

    def release(self, *, lingers: bool = False) -> None:
        self._exchange.release(lingers=lingers)


class EventEditor:
    """A stream of OpenAI's shape whose single events need mending. mend: an event in, what stands in its place out."""

    def __init__(self, mend: Callable[[bytes], bytes]) -> None:
        self._mend = mend
        self._splitter = EventSplitter()

    def feed(self, data: bytes) -> Iterator[bytes]:
        return map(self._mend, self._splitter.feed(data))

    def end(self) -> bytes:
        rest = self._splitter.rest()
        return self._mend(rest.rstrip(b"\r\n") + b"\n\n") if rest.strip() else b""

    def usage_told(self) -> None:
        """It is in the events."""
