"""The response cache: kept answers, and the requests under way whose answers others wait for.

Off until it is configured. Who asks for what somebody is just being answered waits for that answer, and goes on alone when it
comes to nothing: once, so that a failing backend is not waited for in a row. Nobody's leaving disturbs anybody else: what was
begun for a client that left goes on while others wait for it, and where it ended through its leader alone, one of them leads the
others.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from router.cache.answer import StoredAnswer
from router.cache.key import Served
from router.cache.memory import MemoryAnswers
from router.cache.shared import RedisAnswers
from router.config.stores import CacheConfig, CacheStore, RedisConfig


class Flight:
    """A request under way. answer: None until it landed, and for good where it came to nothing. followers: how many wait for it.
    is_left: it came to nothing through its leader alone, who left or had too little time or money. on_unfollowed: told when
    nobody waits for it any more."""

    __slots__ = ("answer", "followers", "is_left", "landed", "on_unfollowed")

    def __init__(self) -> None:
        self.answer: StoredAnswer | None = None
        self.landed = asyncio.Event()
        self.followers = 0
        self.is_left = False
        self.on_unfollowed: Callable[[], None] | None = None

    @property
    def is_followed(self) -> bool:
        return self.followers > 0 and not self.landed.is_set()

    def land(self, answer: StoredAnswer | None) -> None:
        """The first word counts."""
        if self.landed.is_set():
            return
        self.answer = answer
        self.landed.set()
        if answer is None and self.on_unfollowed is not None:
            self.on_unfollowed()

    async def wait(self) -> StoredAnswer | None:
        """Its answer once it has landed."""
        self.followers += 1
        try:
            await self.landed.wait()
        finally:
            self.followers -= 1
            if not self.followers and not self.landed.is_set() and self.on_unfollowed is not None:
                self.on_unfollowed()
        return self.answer


class Tape:
    """What goes out to a client, recorded. served: by what; an answer of another's is not kept. header: what the client is told
    of the cache. flight: whose followers wait for the answer; None: nothing is recorded. key: under which it is kept.

    Given up, `is_recording` then being false, where it grows beyond its bounds.
    """

    __slots__ = ("_cache", "_flight", "_key", "_pieces", "bytes", "header", "is_recording", "served")

    def __init__(
        self,
        cache: "ResponseCache",
        served: Served,
        header: tuple[bytes, bytes],
        key: bytes = b"",
        flight: Flight | None = None,
    ) -> None:
        self._cache = cache
        self._key = key
        self._flight = flight
        self._pieces: list[bytes] = []
        self.bytes = 0
        self.header = header
        self.is_recording = flight is not None
        self.served = served

    @property
    def is_followed(self) -> bool:
        """Whether anybody waits for what is recorded."""
        return self._flight is not None and self._flight.is_followed

    def watch(self, on_unfollowed: Callable[[], None] | None) -> None:
        """on_unfollowed: told from now on when nobody waits for it any more."""
        if self._flight is not None:
            self._flight.on_unfollowed = on_unfollowed

    def leave(self) -> None:
        """Who leads ends, for reasons of its own: one of those who wait leads them."""
        if self._flight is not None:
            self._flight.is_left = True

    def add(self, piece: bytes) -> None:
        if not self.is_recording:
            return
        self.bytes += len(piece)
        self._cache.taped_bytes += len(piece)
        self._pieces.append(piece)
        if self.bytes > self._cache.answer_bytes_max or self._cache.taped_bytes > self._cache.taped_bytes_max:
            self.give_up()

    def body(self) -> bytes:
        return b"".join(self._pieces)

    def keep(self, answer: StoredAnswer) -> None:
        """All has been said, whether or not the client has read it: followers need not wait for that."""
        self._erase()
        self._cache.put(self._key, answer)
        if self._flight is not None:
            self._flight.land(answer)

    def give_up(self) -> None:
        """Nothing is kept of it, and nobody need wait; without effect where it was kept."""
        self._erase()
        if self._flight is not None:
            self._flight.land(None)

    def _erase(self) -> None:
        self._cache.taped_bytes -= self.bytes
        self.bytes = 0
        self._pieces = []
        self.is_recording = False


class ResponseCache:
    """redis: where it lives, if there is one; used when the configuration says so. clock: monotonic seconds.

    waiting: requests that wait for another's answer.
    """

    def __init__(
        self, redis: RedisConfig | None = None, password: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.is_on = False
        self.answer_bytes_max = 0
        self.taped_bytes = 0
        self.taped_bytes_max = 0
        self.memory = MemoryAnswers(clock)
        self.shared = RedisAnswers(redis, password, clock) if redis is not None else None
        self._is_shared = False
        self._ttl_seconds = 0.0
        self._flights: dict[bytes, Flight] = {}
        self.waiting = 0

    def configure(self, config: CacheConfig | None) -> None:
        """From now on. Requests under way end on what they began with."""
        self.is_on = config is not None
        if config is None:
            self.memory.limit(0)
            return
        self._is_shared = config.store is CacheStore.REDIS and self.shared is not None
        self._ttl_seconds = config.ttl_seconds
        self.answer_bytes_max = config.answer_bytes_max
        self.taped_bytes_max = config.memory_bytes_max
        self.memory.limit(0 if self._is_shared else config.memory_bytes_max)

    @property
    def flights(self) -> int:
        """Requests under way that others may wait for."""
        return len(self._flights)

    @property
    def entries(self) -> int:
        return len(self.memory)

    @property
    def bytes_held(self) -> int:
        """Kept, and being recorded."""
        return self.memory.bytes + self.taped_bytes

    @property
    def evictions(self) -> int:
        return self.memory.evictions

    @property
    def store_failures(self) -> int:
        return 0 if self.shared is None else self.shared.failures

    async def get(self, key: bytes) -> StoredAnswer | None:
        if self._is_shared and self.shared is not None:
            return await self.shared.get(key)
        return self.memory.get(key)

    def put(self, key: bytes, answer: StoredAnswer) -> None:
        if not self.is_on:
            return
        if self._is_shared and self.shared is not None:
            self.shared.put(key, answer, self._ttl_seconds)
        else:
            self.memory.put(key, answer, self._ttl_seconds)

    async def join(self, key: bytes) -> StoredAnswer | None:
        """The answer of an identical request under way, when it has ended; None where there is none, or it came to nothing.

        Where its leader left, the first of those who waited is told None, and the others wait for that one if it leads: from here
        to `taping` it must not be suspended.
        """
        while (flight := self._flights.get(key)) is not None:
            self.waiting += 1
            try:
                answer = await flight.wait()
            finally:
                self.waiting -= 1
            if answer is not None or not flight.is_left:
                return answer
        return None

    @contextmanager
    def taping(self, key: bytes, served: Served, header: tuple[bytes, bytes], *, leads: bool) -> Iterator[Tape]:
        """While the block runs the request is under way. leads: others may wait for it."""
        flight = Flight()
        if leads and key not in self._flights:
            self._flights[key] = flight
        tape = Tape(self, served, header, key, flight)
        try:
            yield tape
        finally:
            tape.give_up()
            if self._flights.get(key) is flight:
                del self._flights[key]

    async def aclose(self) -> None:
        if self.shared is not None:
            await self.shared.aclose()
