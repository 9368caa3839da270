"""A Redis that is asked only while it answers. What each of its users does meanwhile is in their own tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis_server import redis_server

from router.config.stores import RedisConfig
from router.redis_link import RETRY_SECONDS, RedisAway, RedisLink


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@asynccontextmanager
async def link_to(directory: Path, clock: Clock) -> AsyncIterator[RedisLink]:
    with redis_server(directory) as server:
        link = RedisLink(RedisConfig(url=server.url, timeout_seconds=5), "", "one goes on", clock)
        yield link
        await link.aclose()


def failing(link: RedisLink, *errors: Exception) -> tuple[Any, list[Exception]]:
    """A question that fails so, one time after another, and then is asked in earnest; and what is left of the errors."""
    left = list(errors)

    async def question() -> bool:
        if left:
            raise left.pop(0)
        return bool(await link.redis.ping())

    return question, left


async def test_a_connection_that_is_gone_is_not_yet_a_redis_that_is_away(tmp_path: Path) -> None:
    async with link_to(tmp_path, Clock()) as link:
        question, _ = failing(link, RedisConnectionError("idle, and gone"))
        assert await link.ask(question) is True
        assert (link.is_away, link.failures) == (False, 0)


@pytest.mark.parametrize("errors", [[RedisTimeoutError()], [RedisConnectionError(), OSError()]])
async def test_after_a_failure_it_is_left_alone_for_a_while_and_told_of_once(
    tmp_path: Path, errors: list[Exception]
) -> None:
    clock = Clock()
    async with link_to(tmp_path, clock) as link:
        with structlog.testing.capture_logs() as log:
            for failures in (1, 2):
                question, left = failing(link, *errors)
                with pytest.raises(RedisAway):
                    await link.ask(question)
                assert (link.is_away, link.failures, left) == (True, failures, [])
                clock.seconds += RETRY_SECONDS
                assert not link.is_away
            assert await link.ask(question) is True
            assert await link.ask(question) is True
        assert [event["event"] for event in log] == ["redis does not answer; one goes on", "redis answers again"]


async def test_what_is_told_to_nobody_is_noted(tmp_path: Path) -> None:
    async with link_to(tmp_path, Clock()) as link:
        await link.tell(lambda: link.redis.set("a", "b"))
        assert await link.redis.get("a") == b"b"
        await link.tell(failing(link, RedisConnectionError())[0])
        assert (link.is_away, link.failures) == (True, 1)
