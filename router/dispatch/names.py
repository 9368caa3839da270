"""From names to addresses: of our backends, remembered past a DNS that fails, and of whatever clients name, kept apart.

A backend's name is asked anew when its answer is older than `FRESH_SECONDS`, or nothing could be reached at it; new connections
go to the new address then. While there is no answer, the last good one holds, and nobody waits for longer than `WAIT_SECONDS`.

Names that clients choose may be answered slowly, or never. The event loop's own threads look up our backends; those names have
threads of their own, so that they can at worst keep one another waiting, and a client waits no longer than `LOOKUP_SECONDS`.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import ip_address
from threading import BoundedSemaphore

import structlog

log = structlog.get_logger(__name__)

FRESH_SECONDS = 10.0
# After a failure, while the last good answer serves.
RETRY_SECONDS = 1.0
WAIT_SECONDS = 0.25
LOOKUP_SECONDS = 2.0
LOOKUP_THREADS = 4
# More look-ups than this that wait already would only wait longer.
LOOKUPS_MAX = 64


async def _loop_lookup(name: str) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


class BackendNames:
    """Names that the configuration gives, so they are few. lookup: the addresses of a name, best first; raises OSError where
    there are none. clock: monotonic seconds."""

    def __init__(
        self,
        lookup: Callable[[str], Awaitable[Sequence[str]]] = _loop_lookup,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = lookup
        self._clock = clock
        self._good: dict[str, Sequence[str]] = {}
        self._ask_at: dict[str, float] = {}  # from when on an answer is too old
        self._asking: dict[str, asyncio.Task[OSError | None]] = {}
        self._failing: set[str] = set()

    async def addresses(self, name: str) -> Sequence[str]:
        """Never empty. Raises OSError for a name that never had any."""
        if self._ask_at.get(name, 0.0) > self._clock():
            return self._good[name]
        if _is_address(name):
            return (name,)
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.create_task(self._ask(name))
        await asyncio.wait([asking], timeout=WAIT_SECONDS if name in self._good else None)
        if name not in self._good and (error := asking.result()) is not None:
            raise error
        return self._good[name]

    def doubt(self, name: str) -> None:
        """Nothing could be reached there: ask again before the next connection."""
        self._ask_at.pop(name, None)

    async def aclose(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, name: str) -> OSError | None:
        """Why it has no address; not raised, for perhaps nobody waits for it any more."""
        try:
            found = await self._lookup(name)
            if not found:
                raise OSError(f"{name} has no address")
        except OSError as error:
            if name not in self._good:
                return error
            self._ask_at[name] = self._clock() + RETRY_SECONDS
            if name not in self._failing:
                self._failing.add(name)
                log.warning("name not found; its last good address serves", name=name, error=str(error)[:200])
        else:
            if name in self._failing:
                self._failing.discard(name)
                log.warning("name is found again", name=name)
            self._good[name] = tuple(dict.fromkeys(found))
            self._ask_at[name] = self._clock() + FRESH_SECONDS
        finally:
            del self._asking[name]
        return None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


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
