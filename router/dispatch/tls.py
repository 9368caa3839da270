"""aiohttp behind the upstream interface, for TLS and clouds.

Certificates are always verified and redirects never followed. Slower than `plain.py` (0.11 ms a request against 0.04), and
not ours to maintain.
"""

import asyncio
import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from router.dispatch.names import BackendNames
from router.dispatch.upstream import (
    BUFFER_BYTES_MAX,
    IDLE_SECONDS_MAX,
    UpstreamFailed,
    UpstreamRequest,
)


class TlsUpstream:
    """The session is made on first use, inside the event loop."""

    def __init__(self, names: BackendNames | None = None) -> None:
        self._names = names or BackendNames()
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, request: UpstreamRequest, *, connect_seconds: float, first_byte_seconds: float
    ) -> "TlsExchange":
        url = URL(f"{request.origin.scheme}://{request.origin.authority}{request.path.decode()}", encoded=True)
        headers = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
        if isinstance(request.body, bytes) or request.length_bytes is not None:
            length = len(request.body) if isinstance(request.body, bytes) else request.length_bytes
            headers.append(("content-length", str(length)))
        try:
            async with asyncio.timeout(connect_seconds + first_byte_seconds):
                response = await self._open().post(
                    url,
                    data=request.body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._names.doubt(request.origin.host)
            raise UpstreamFailed("connect", type(error).__name__) from None
        except TimeoutError:
            raise UpstreamFailed("stall") from None
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailed("reset", type(error).__name__) from None
        return TlsExchange(response)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=IDLE_SECONDS_MAX, resolver=_Resolver(self._names), use_dns_cache=False
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("user-agent", "accept-encoding"),
                auto_decompress=False,
                read_bufsize=BUFFER_BYTES_MAX,
                trust_env=False,
            )
        return self._session


class _Resolver(AbstractResolver):
    """Our names, as aiohttp asks for them."""

    def __init__(self, names: BackendNames) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._names.addresses(host)
        ]

    async def close(self) -> None:
        """The names are not ours."""


class TlsExchange:
    """One answer under way over aiohttp."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers = [(name.lower(), value) for name, value in response.raw_headers]
        self._response = response

    async def read(self, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await self._response.content.readany()
        except TimeoutError:
            raise UpstreamFailed("stall") from None
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailed("eof", type(error).__name__) from None

    def release(self, *, lingers: bool = False) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()
