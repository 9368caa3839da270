"""One attempt at one replica: the request goes out, the answer is judged and comes back piece by piece.

Who is tried next, and what it costs, is decided above. Here a failure is only told apart: whose fault it is, whether another
replica may be asked, and what the client hears if nobody else can answer.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import cache
from time import time
from typing import NamedTuple
from urllib.parse import urlsplit

from router.dispatch.credentials import CredentialsMissing, Vault, reread
from router.dispatch.failure import CUT, FAILED, AttemptFailed, is_read, status_failure
from router.dispatch.names import BackendNames
from router.dispatch.outbox import Outbox
from router.dispatch.plain import PlainExchange, PlainUpstream
from router.dispatch.provider import Order
from router.dispatch.tls import TlsUpstream
from router.dispatch.translation import TranslatedStream
from router.dispatch.upstream import Exchange, Headers, Origin, Upstream, UpstreamFailed, UpstreamRequest
from router.dispatch.watchdog import Watchdog
from router.domain.fleet import Replica
from router.domain.request import Endpoint
from router.errors import BackendFailed, BackendTimedOut, Refusal
from router.wire.rate_limits import wait_seconds
from router.wire.sse import EventSplitter, EventTooLong
from router.wire.streams import CompletionStream, Stream

# Of a backend's error body, as much as is read to find its message.
ERROR_BYTES_MAX = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Patience:
    """Time-outs of one attempt, seconds; from the configuration."""

    connect_seconds: float
    first_byte_seconds: float
    chunk_seconds: float


class Parcel(NamedTuple):
    """What is sent, whoever it is sent to.

    is_streaming: whether an event stream must come back; None: either, as the form that is still arriving will say.
    length_bytes: of a body that is iterated (once), None where unknown. order: at a backend that has a provider, who wants path,
    headers and body as they are here.
    """

    endpoint: Endpoint
    path: str
    headers: Headers
    body: bytes | AsyncIterator[bytes]
    is_streaming: bool | None
    length_bytes: int | None = None
    order: Order | None = None


class Relay:
    """Both upstream clients, behind what the pipeline needs of them. vault: credentials of providers."""

    def __init__(self, watchdog: Watchdog, names: BackendNames, outbox: Outbox) -> None:
        self.vault = Vault()
        self._plain = PlainUpstream(watchdog, names, outbox)
        self._tls = TlsUpstream(names)

    async def send(self, replica: Replica, parcel: Parcel, patience: Patience) -> Exchange:
        """Send the parcel and wait for a 200 of the right kind. Raises AttemptFailed.

        A refusal of our credentials is followed by one more try where there are newer ones to show.
        """
        if parcel.order is not None:
            return await self._send_to_provider(parcel.order, replica, parcel, patience)
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
            failed = await _status_failure(exchange, patience)
        except BaseException:
            exchange.release()
            raise
        exchange.release()
        if failed.fault == "credentials" and isinstance(parcel.body, bytes):
            renewed = await reread(replica)
            if renewed is not None:
                return await self.send(replace(renewed, api_key_file=""), parcel, patience)
        raise failed

    async def _send_to_provider(
        self,
        order: Order,
        replica: Replica,
        parcel: Parcel,
        patience: Patience,
        *,
        tries_left: int = 1,
    ) -> Exchange:
        provider = order.provider
        origin, prefix = _target(replica.url)
        upstream: Upstream = self._tls if origin.scheme == "https" else self._plain
        request = UpstreamRequest(
            origin, prefix + parcel.path.encode(), parcel.headers, parcel.body, parcel.length_bytes
        )
        try:
            request = await provider.authorize(request, replica, self.vault)
            exchange = await upstream.send(
                request, connect_seconds=patience.connect_seconds, first_byte_seconds=patience.first_byte_seconds
            )
        except CredentialsMissing as missing:
            raise AttemptFailed("credentials", BackendFailed(FAILED, detail=str(missing))) from None
        except UpstreamFailed as failure:
            raise _transport_failure(failure) from None
        try:
            if exchange.status == 200:
                received = provider.received(exchange, order)
                _check_kind(received, parcel)
                return received
            failed = provider.failure(exchange.status, exchange.headers, await _error_text(exchange, patience))
        except BaseException:
            exchange.release()
            raise
        exchange.release()
        if failed.fault == "credentials" and tries_left and isinstance(parcel.body, bytes):
            renewed = await provider.renewed(replica, self.vault)
            if renewed is not None:
                return await self._send_to_provider(order, renewed, parcel, patience, tries_left=0)
        raise failed

    async def aclose(self) -> None:
        await self.vault.aclose()
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
                refusal = BackendFailed(FAILED, detail=f"answer over {bytes_max} bytes")
                raise AttemptFailed("too_large", refusal, body=b"".join(pieces))
            pieces.append(piece)
    except UpstreamFailed as failure:
        failed = _transport_failure(failure)
        failed.body = b"".join(pieces)
        raise failed from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class StreamRelay:
    """A stream's pieces as the client gets them, until the backend has really finished or has failed."""

    __slots__ = ("_exchange", "_patience", "_splitter", "stream")

    def __init__(self, exchange: Exchange, stream: Stream, patience: Patience) -> None:
        self._exchange = exchange
        self._patience = patience
        self._splitter = EventSplitter()
        self.stream = stream
        if isinstance(exchange, TranslatedStream) and isinstance(stream, CompletionStream):
            stream.usage_told = exchange.usage_told

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
                out = self._passed(self._splitter.feed(data) if data else self._last_event())
            except UpstreamFailed as failure:
                if stream.is_finished:  # all was said; only the framing is missing
                    return None
                raise _transport_failure(failure, CUT if stream.events else FAILED) from None
            except EventTooLong:
                raise self._failed("bad_event", "an event without end") from None
            if out:
                return out
            if not data:
                break
        if stream.fault:
            raise self._failed(stream.fault, stream.fault)
        if not stream.is_finished:
            raise self._failed("unfinished", "no finish reason before the end")
        return None

    async def pour(self, send: Callable[[bytes], bool]) -> None:
        """The next pieces to `send` as they arrive, where the upstream can, until it returns False or there is something else to
        hear: `next` says what. Raises AttemptFailed."""
        exchange = self._exchange
        if not isinstance(exchange, PlainExchange) or self.stream.is_done or self.stream.fault:
            return

        def take(data: bytes) -> bool:
            out = self._passed(self._splitter.feed(data))
            return (not out or send(out)) and not self.stream.is_done and not self.stream.fault

        try:
            await exchange.pour(take, self._patience.chunk_seconds)
        except EventTooLong:
            raise self._failed("bad_event", "an event without end") from None

    def _passed(self, events: list[bytes]) -> bytes:
        stream = self.stream
        if len(events) == 1:
            return stream.feed(events[0])
        return b"".join([stream.feed(event) for event in events if not stream.fault])

    def _failed(self, fault: str, detail: str) -> AttemptFailed:
        stream = self.stream
        if stream.events:
            refusal = BackendFailed(CUT, detail=detail)
            return AttemptFailed(fault, refusal, retry_after_seconds=stream.wait_seconds)
        if fault in ("limited", "overloaded"):
            return AttemptFailed.from_answer(fault, stream.wait_seconds)
        return AttemptFailed(fault, BackendFailed(FAILED, detail=detail))

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
    status = exchange.status
    body = await _error_text(exchange, patience) if is_read(status) else b""
    return status_failure(status, wait_seconds(exchange.headers, time()), body)


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
