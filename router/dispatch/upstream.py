"""The one small interface behind which upstream HTTP clients stand.

Two implementations: `plain.py`, our pooled client on httptools for plain HTTP, because it is the hot path (0.04 ms of CPU a
request); `tls.py`, aiohttp, for TLS and clouds.
"""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

# What one exchange may buffer before its socket is no longer read.
BUFFER_BYTES_MAX = 32 * 2**10
# vLLM closes idle keep-alive connections after 5 s; ours go before.
IDLE_SECONDS_MAX = 4.0

Headers = Sequence[tuple[bytes, bytes]]


class UpstreamFailed(Exception):
    """The transport let us down. fault: connect | reset | eof | stall | protocol | too_large; a label, so a fixed set."""

    def __init__(self, fault: str, detail: str = "") -> None:
        super().__init__(f"{fault}: {detail}" if detail else fault)
        self.fault = fault


class Origin(NamedTuple):  # for its hash: a request asks for it several times
    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


class UpstreamRequest(NamedTuple):
    """One POST. body: whole, or an iterator that is read once, as the socket takes it (then it cannot be sent again).

    length_bytes: of an iterated body, None where unknown (it is sent chunked).
    """

    origin: Origin
    path: bytes
    headers: Headers
    body: bytes | AsyncIterator[bytes]
    length_bytes: int | None = None


class Exchange(Protocol):
    """One answer under way. Header names are lower case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    async def read(self, seconds: float) -> bytes:
        """The next piece of the body, as soon as there is one; b"" when it has properly ended.

        Raises UpstreamFailed("stall") after `seconds` of silence, other faults when it cannot end properly.
        """

    def release(self, *, lingers: bool = False) -> None:
        """The answer is not needed any more: keep the connection if the answer is complete, else close it at once.

        lingers: only framing is left to come; wait a moment for it. Idempotent.
        """


class Upstream(Protocol):
    async def send(self, request: UpstreamRequest, *, connect_seconds: float, first_byte_seconds: float) -> Exchange:
        """Send, and wait for status and headers. Raises UpstreamFailed."""

    async def aclose(self) -> None: ...
