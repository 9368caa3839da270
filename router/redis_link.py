"""A client of Redis for whom being without it is a way of working: no wait beyond the time-out, and none at all after a failure.

Whoever uses it goes on without what it keeps there; the log says once that it is away, and once that it is back.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from router.config.stores import RedisConfig

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

# After a failure it is not asked for so long, so that nobody waits for it again and again.
RETRY_SECONDS = 1.0


class RedisAway(Exception):
    """It did not answer."""


class RedisLink:
    """redis: the client itself. without: how it goes on while Redis is away, for the log. clock: monotonic seconds.
    failures: commands that were not answered."""

    def __init__(
        self,
        config: RedisConfig,
        password: str,
        without: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        connections_max: int = 16,
        decodes: bool = False,
    ) -> None:
        self.redis: Any = Redis.from_url(
            config.url,
            username=config.username,
            password=password or None,
            socket_timeout=config.timeout_seconds,
            socket_connect_timeout=config.timeout_seconds,
            retry=None,
            max_connections=connections_max,
            decode_responses=decodes,
        )
        self.failures = 0
        self._without = without
        self._clock = clock
        self._retry_at = 0.0
        self._is_failing = False

    @property
    def is_away(self) -> bool:
        """Not to be asked now."""
        return self._clock() < self._retry_at

    async def ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """What it answers. Put once more where the first connection failed, unless by a time-out. Raises RedisAway."""
        for is_last in (False, True):
            try:
                answer = await question()
            except (RedisError, OSError) as error:
                if is_last or isinstance(error, RedisTimeoutError):
                    raise self._failed(error) from None
                continue  # the connection was idle and is gone, perhaps: once more, on another
            if self._is_failing:
                self._is_failing = False
                log.warning("redis answers again")
            return answer
        raise AssertionError("the last round ends above")

    async def tell(self, command: Callable[[], Awaitable[Any]]) -> None:
        """Once, and whether or not it is heard: nobody waits for an answer."""
        try:
            await command()
        except (RedisError, OSError) as error:
            self._failed(error)

    async def aclose(self) -> None:
        """Even a connection that cannot be closed in time is no longer ours."""
        with suppress(RedisError, OSError):
            await self.redis.aclose()

    def _failed(self, error: Exception) -> RedisAway:
        self.failures += 1
        self._retry_at = self._clock() + RETRY_SECONDS
        if not self._is_failing:
            self._is_failing = True
            log.warning(f"redis does not answer; {self._without}", error=str(error)[:200])
        return RedisAway(str(error))
