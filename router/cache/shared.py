"""Answers in Redis, for all workers. What it does not answer in time is a miss.

Each answer is a value of its own that expires; how many there may be is Redis' own `maxmemory` to say, with an eviction policy
(`allkeys-lru`, or `volatile-lru` where budgets live in it, too, for those must not be evicted).
"""

import asyncio
import time
from collections.abc import Callable

from router.cache.answer import AnswerUnreadable, StoredAnswer, answer_from_bytes, answer_to_bytes
from router.config.stores import RedisConfig
from router.redis_link import RedisAway, RedisLink

PREFIX = b"jeton:answers:"
# Stores under way; beyond that answers are not kept, so that a slow Redis piles nothing up here.
STORING_MAX = 64


class RedisAnswers:
    """clock: monotonic seconds. failures: commands that Redis did not answer."""

    def __init__(self, config: RedisConfig, password: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._link = RedisLink(config, password, "nothing is found in the response cache", clock)
        self._storing: set[asyncio.Task[None]] = set()

    @property
    def failures(self) -> int:
        return self._link.failures

    async def get(self, key: bytes) -> StoredAnswer | None:
        if self._link.is_away:
            return None
        try:
            found = await self._link.ask(lambda: self._link.redis.get(PREFIX + key))
        except RedisAway:
            return None
        try:
            return None if found is None else answer_from_bytes(found)
        except AnswerUnreadable:  # of another version; it expires
            return None

    def put(self, key: bytes, answer: StoredAnswer, ttl_seconds: float) -> None:
        """Soon; nobody waits for it, for the client has its answer."""
        if self._link.is_away or len(self._storing) >= STORING_MAX:
            return
        ttl_ms = max(round(ttl_seconds * 1000), 1)

        async def put() -> None:
            await self._link.redis.set(PREFIX + key, answer_to_bytes(answer), px=ttl_ms)

        task = asyncio.get_running_loop().create_task(self._link.tell(put))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    async def aclose(self) -> None:
        await asyncio.gather(*self._storing, return_exceptions=True)
        await self._link.aclose()
