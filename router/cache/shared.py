"""Answers in Redis, for all workers. What it does not answer in time is a miss, and after that it is left alone for a while.

Each answer is a value of its own that expires; how many there may be is Redis' own `maxmemory` to say, with an eviction policy
(`allkeys-lru`, or `volatile-lru` where budgets live in it, too, for those must not be evicted).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from router.cache.answer import AnswerUnreadable, StoredAnswer, answer_from_bytes, answer_to_bytes
from router.config.stores import RedisConfig

log = structlog.get_logger(__name__)

PREFIX = b"jeton:answers:"
# As with budgets: nobody waits for a Redis that has just failed.
RETRY_SECONDS = 1.0
# Stores under way; beyond that answers are not kept, so that a slow Redis piles nothing up here.
STORING_MAX = 64


class RedisAnswers:
    """clock: monotonic seconds. failures: commands that Redis did not answer."""

    def __init__(self, config: RedisConfig, password: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis: Any = Redis.from_url(
            config.url,
            username=config.username,
            password=password or None,
            socket_timeout=config.timeout_seconds,
            socket_connect_timeout=config.timeout_seconds,
            retry=None,
            max_connections=16,
        )
        self._clock = clock
        self._retry_at = 0.0
        self._is_failing = False
        self._storing: set[asyncio.Task[None]] = set()
        self.failures = 0

    async def get(self, key: bytes) -> StoredAnswer | None:
        if self._clock() < self._retry_at:
            return None
        for is_last in (False, True):
            try:
                found = await self._redis.get(PREFIX + key)
            except (RedisError, OSError) as error:
                if is_last or isinstance(error, RedisTimeoutError):
                    self._failed(error)
                    return None
                continue  # the connection was idle and is gone, perhaps: once more, on another
            self._answered()
            break
        try:
            return None if found is None else answer_from_bytes(found)
        except AnswerUnreadable:  # of another version; it expires
            return None

    def put(self, key: bytes, answer: StoredAnswer, ttl_seconds: float) -> None:
        """Soon; nobody waits for it, for the client has its answer."""
        if self._clock() < self._retry_at or len(self._storing) >= STORING_MAX:
            return
        task = asyncio.get_running_loop().create_task(self._put(key, answer, ttl_seconds))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    async def aclose(self) -> None:
        await asyncio.gather(*self._storing, return_exceptions=True)
        await self._redis.aclose()

    async def _put(self, key: bytes, answer: StoredAnswer, ttl_seconds: float) -> None:
        try:
            await self._redis.set(PREFIX + key, answer_to_bytes(answer), px=max(round(ttl_seconds * 1000), 1))
        except (RedisError, OSError) as error:
            self._failed(error)

    def _answered(self) -> None:
        if self._is_failing:
            self._is_failing = False
            log.warning("redis answers again")

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self._retry_at = self._clock() + RETRY_SECONDS
        if not self._is_failing:
            self._is_failing = True
            log.warning("redis does not answer; nothing is found in the response cache", error=str(error)[:200])
