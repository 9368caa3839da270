"""One attempt at one replica: the request goes out, the answer is judged and comes back piece by piece.

Who is tried next, and what it costs, is decided above. Here a failure is only told apart: whose fault it is, whether another
replica may be asked, and what the client hears if nobody else can answer.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from time import time
from typing import NamedTuple
from urllib.parse import urlsplit

from router.dispatch.names import BackendNames
from router.dispatch.plain import PlainUpstream
from router.dispatch.tls import TlsUpstream
from router.dispatch.upstream import Exchange, Headers, Origin, Upstream, UpstreamFailed, UpstreamRequest
from router.dispatch.watchdog import Watchdog
from router.domain.fleet import Replica
from router.domain.request import Endpoint
from router.errors import BackendFailed, BackendRefused, BackendTimedOut, RateLimited, Refusal, Unavailable
from router.wire.error_body import read_error
from router.wire.sse import EventSplitter, EventTooLong
from router.wire.streams import Stream

# Of a backend's error body, as much as is read to find its message.
ERROR_BYTES_MAX = 64 * 2**10

FAILED = "The backend failed to answer; nothing is wrong with the request, try again."
CUT = "The backend failed while answering; what was sent so far is incomplete."


class AttemptFailed(Exception):
    """One attempt did not deliver.

    fault: connect | reset | eof | stall | protocol | too_large | limited | credentials | refused | http_<status> | leaving |
    not_json | not_sse | bad_event | error_event | error_body | aborted | unfinished. is_retryable: another replica may do better.
    refusal: what the client is told if nobody else can answer.
    """

    def __init__(
        self,
        fault: str,
        refusal: Refusal,
        *,
        http_status: int = 0,
        is_retryable: bool = True,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(fault)
        self.fault = fault
        self.refusal = refusal
        self.http_status = http_status
        self.is_retryable = is_retryable
        self.retry_after_seconds = retry_after_seconds

    @classmethod
    def leaving(cls, *, has_begun: bool) -> "AttemptFailed":
        """Given up, because the replica is about to be taken away. has_begun: some of its answer is at the client."""
        return cls("leaving", BackendFailed(CUT if has_begun else FAILED, detail="the replica is leaving"))

    @classmethod
    def from_answer(cls, fault: str) -> "AttemptFailed":
        """A whole answer with status 200 that is none."""
        return cls(fault, BackendFailed(FAILED, detail=fault), http_status=200)


@dataclass(frozen=True, slots=True)
class Patience:
    """Time-outs of one attempt, seconds; from the configuration."""

    connect_seconds: float
    first_byte_seconds: float
    chunk_seconds: float


class Parcel(NamedTuple):
    """What is sent, whoever it is sent to.

    is_streaming: whether an event stream must come back; None: either, as the form that is still arriving will say.
    length_bytes: of a body that is iterated (once), None where unknown.
    """

    endpoint: Endpoint
    path: str
    headers: Headers
    body: bytes | AsyncIterator[bytes]
    is_streaming: bool | None
    length_bytes: int | None = None


class Relay:
    """Both upstream clients, behind what the pipeline needs of them."""

    def __init__(self, watchdog: Watchdog, names: BackendNames) -> None:
        self._plain = PlainUpstream(watchdog, names)
        self._tls = TlsUpstream(names)

    async def send(self, replica: Replica, parcel: Parcel, patience: Patience) -> Exchange:
        """Send the parcel and wait for a 200 of the right kind. Raises AttemptFailed."""
        origin, prefix = _target(replica.url)
        upstream: Upstream = self._tls if origin.scheme == "https" else self._plain
        headers = parcel.headers if replica.api_key is None else [*parcel.headers, _credentials(replica)]
        request = UpstreamRequest(origin, prefix + parcel.path.encode(), headers, parcel.body, parcel.length_bytes)
        try:
            exchange = await upstream.send(
                request, connect_seconds=patience.connect_seconds, first_byte_seconds=patience.first_byte_seconds
            )
        except UpstreamFailed as failure:
            raise _transport_failure(failure) from None
        try:
            if exchange.status == 200:
                _check_kind(exchange, parcel)
                return exchange
            raise await _status_failure(exchange, patience)
        except BaseException:
            exchange.release()
            raise

    async def aclose(self) -> None:
        await self._plain.aclose()
        await self._tls.aclose()


async def read_whole(exchange: Exchange, seconds: float, bytes_max: int) -> bytes:
    """A whole body, with at most `seconds` of silence in it. Raises AttemptFailed."""
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := await exchange.read(seconds):
            size += len(piece)
            if size > bytes_max:
                raise AttemptFailed("too_large", BackendFailed(FAILED, detail=f"answer over {bytes_max} bytes"))
            pieces.append(piece)
    except UpstreamFailed as failure:
        raise _transport_failure(failure) from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class StreamRelay:
    """A stream's pieces as the client gets them, until the backend has really finished or has failed."""

    __slots__ = ("_exchange", "_patience", "_splitter", "stream")

    def __init__(self, exchange: Exchange, stream: Stream, patience: Patience) -> None:
        self._exchange = exchange
        self._patience = patience
        self._splitter = EventSplitter()
        self.stream = stream

    async def first(self) -> bytes:
        """Up to and with the first event that means something: until then nothing is owed to the client."""
        pieces: list[bytes] = []
        while self.stream.events == 0:
            piece = await self.next()
            if piece is None:
                break
            pieces.append(piece)
        return b"".join(pieces)

    async def next(self) -> bytes | None:
        """The next bytes; None when the stream is over and was really finished. Raises AttemptFailed when it was not."""
        stream = self.stream
        seconds = self._patience.chunk_seconds if stream.events else self._patience.first_byte_seconds
        while not stream.is_done:
            if stream.fault:
                raise self._failed(stream.fault, stream.fault)
            try:
                data = await self._exchange.read(seconds)
                events = self._splitter.feed(data) if data else self._last_event()
            except UpstreamFailed as failure:
                if stream.is_finished:  # all was said; only the framing is missing
                    return None
                raise _transport_failure(failure, CUT if stream.events else FAILED) from None
            except EventTooLong:
                raise self._failed("bad_event", "an event without end") from None
            if len(events) == 1:
                out = stream.feed(events[0])
            else:
                out = b"".join([stream.feed(event) for event in events if not stream.fault])
            if out:
                return out
            if not data:
                break
        if stream.fault:
            raise self._failed(stream.fault, stream.fault)
        if not stream.is_finished:
            raise self._failed("unfinished", "no finish reason before the end")
        return None

    def _failed(self, fault: str, detail: str) -> AttemptFailed:
        return AttemptFailed(fault, BackendFailed(CUT if self.stream.events else FAILED, detail=detail))

    def release(self) -> None:
        self._exchange.release(lingers=self.stream.is_done)

    def _last_event(self) -> list[bytes]:
        """What the body ended on without a blank line: taken for an event if it can be one."""
        rest = self._splitter.rest()
        return [rest.rstrip(b"\r\n") + b"\n\n"] if rest.strip() else []


@cache
def _target(url: str) -> tuple[Origin, bytes]:
    """Where a replica's URL leads, and the path prefix on it. Bounded: URLs come from the configuration alone."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Origin(parts.scheme, parts.hostname or "", port), parts.path.rstrip("/").encode()


def _credentials(replica: Replica) -> tuple[bytes, bytes]:
    key = replica.api_key or ""
    value = f"Bearer {key}" if replica.api_key_header == "authorization" else key
    return replica.api_key_header.encode(), value.encode()


def is_event_stream(exchange: Exchange) -> bool:
    return _kind(exchange) == b"text/event-stream"


def _kind(exchange: Exchange) -> bytes:
    content_type = header_value(exchange, b"content-type")
    if content_type == b"application/json":
        return content_type
    return content_type.split(b";", 1)[0].strip().lower()


def _check_kind(exchange: Exchange, parcel: Parcel) -> None:
    """Raises AttemptFailed for a 200 of the wrong kind: HTML of some proxy, JSON in the place of a stream, nothing at all."""
    kind = _kind(exchange)
    if parcel.is_streaming is None and kind:
        return
    if parcel.is_streaming:
        if kind != b"text/event-stream":
            raise AttemptFailed("not_sse", BackendFailed(FAILED, detail=f"content-type {kind!r}"), http_status=200)
    elif kind != b"application/json":
        raise AttemptFailed("not_json", BackendFailed(FAILED, detail=f"content-type {kind!r}"), http_status=200)


def _transport_failure(failure: UpstreamFailed, message: str = FAILED) -> AttemptFailed:
    refusal: Refusal
    if failure.fault == "stall":
        refusal = BackendTimedOut("The backend did not answer in time.", detail=str(failure))
    else:
        refusal = BackendFailed(message, detail=str(failure))
    return AttemptFailed(failure.fault, refusal)


async def _status_failure(exchange: Exchange, patience: Patience) -> AttemptFailed:
    """What a status other than 200 means. Nothing of a 5xx or of a refusal of our own credentials reaches the client."""
    status = exchange.status
    if status == 429:
        wait = _retry_after_seconds(header_value(exchange, b"retry-after"))
        refusal: Refusal = RateLimited(
            "Every backend that could answer is at its rate limit.", retry_after_seconds=wait or 1.0
        )
        return AttemptFailed("limited", refusal, http_status=status, retry_after_seconds=wait)
    if status in (401, 403):
        refusal = BackendFailed(FAILED, detail=f"the backend refused our credentials ({status})")
        return AttemptFailed("credentials", refusal, http_status=status)
    if 400 <= status < 500 and status != 408:
        message, param, code = read_error(await _error_text(exchange, patience))
        refusal = BackendRefused(status, message, param=param, code=code)
        return AttemptFailed("refused", refusal, http_status=status, is_retryable=False)
    fault = f"http_{status}" if status in (408, 500, 502, 503, 504) else "http_other"
    if status == 503:
        wait = _retry_after_seconds(header_value(exchange, b"retry-after"))
        refusal = Unavailable("Every backend that could answer is busy or away.", retry_after_seconds=wait or 1.0)
        return AttemptFailed(fault, refusal, http_status=status, retry_after_seconds=wait)
    if status in (408, 504):
        return AttemptFailed(fault, BackendTimedOut("The backend did not answer in time."), http_status=status)
    return AttemptFailed(fault, BackendFailed(FAILED, detail=f"status {status}"), http_status=status)


async def _error_text(exchange: Exchange, patience: Patience) -> bytes:
    try:
        return await read_whole(exchange, patience.chunk_seconds, ERROR_BYTES_MAX)
    except AttemptFailed:
        return b""


def header_value(exchange: Exchange, name: bytes) -> bytes:
    """The first header of that name (lower case); b"" where there is none."""
    for found, value in exchange.headers:
        if found == name:
            return value
    return b""


def _retry_after_seconds(value: bytes) -> float | None:
    """`Retry-After` in either of its forms; None when absent or unreadable."""
    text = value.decode("latin-1").strip()
    if not text:
        return None
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (ValueError, TypeError):
        return None
