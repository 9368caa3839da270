"""Whether names lead to public addresses: looked up apart from all else, in threads of their own.

Names that clients choose may be answered slowly, or never. The event loop's own threads look up our backends; these here can at
worst keep one another waiting, and a client waits no longer than `LOOKUP_SECONDS`.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore

LOOKUP_SECONDS = 2.0
LOOKUP_THREADS = 4
# More look-ups than this that wait already would only wait longer.
LOOKUPS_MAX = 64


def _system_lookup(name: str) -> Sequence[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


class StrangersNames:
    """lookup: the addresses of a name, in a thread; raises OSError where there are none."""

    def __init__(self, lookup: Callable[[str], Sequence[str]] = _system_lookup) -> None:
        self._lookup = lookup
        self._threads: ThreadPoolExecutor | None = None
        self._room = BoundedSemaphore(LOOKUPS_MAX)

    async def addresses(self, names: Iterable[str]) -> list[str]:
        """Of all of them. Raises OSError where one has none, or none in time."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="names")
        lookups = [self._begin(self._threads, name) for name in names]
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await asyncio.gather(*map(asyncio.wrap_future, lookups))
        except TimeoutError:
            raise OSError("looking a name up took too long") from None
        return [address for one in found for address in one]

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, threads: ThreadPoolExecutor, name: str) -> "Future[Sequence[str]]":
        if not self._room.acquire(blocking=False):
            raise OSError("too many names are being looked up")
        lookup = threads.submit(self._lookup, name)
        lookup.add_done_callback(lambda _: self._room.release())
        return lookup
