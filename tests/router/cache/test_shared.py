"""Answers in a real Redis are there for all workers; when it is away, nobody waits for it twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from redis_server import RedisServer, redis_server

from router.cache.answer import StoredAnswer
from router.cache.key import Served
from router.cache.responses import ResponseCache
from router.cache.shared import PREFIX
from router.config.stores import CacheConfig, CacheStore, RedisConfig
from router.redis_link import RETRY_SECONDS

ANSWER = StoredAnswer(True, "text/event-stream", b"data: {}\n\n", "llama", "small", "edge-small", 10, 5, 2, False)
SERVED = Served("llama", "fp8")
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


class Worker:
    def __init__(self, url: str, timeout_seconds: float = 1.0) -> None:
        self.now = 100.0
        self.cache = ResponseCache(RedisConfig(url=url, timeout_seconds=timeout_seconds), clock=lambda: self.now)
        self.cache.configure(CacheConfig(store=CacheStore.REDIS, ttl_seconds=60))

    @property
    def failures(self) -> int:
        return self.cache.store_failures

    async def keep(self, key: bytes, answer: StoredAnswer) -> None:
        with self.cache.taping(key, SERVED, (b"x-jeton-cache", b"miss"), leads=True) as tape:
            tape.keep(answer)
        shared = self.cache.shared
        assert shared is not None
        await asyncio.gather(*shared._storing)


@pytest.fixture
async def workers(server: RedisServer) -> AsyncIterator[tuple[Worker, Worker]]:
    pair = Worker(server.url), Worker(server.url)
    yield pair
    for worker in pair:
        await worker.cache.aclose()


async def test_what_one_worker_keeps_another_finds_and_it_expires(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    assert await other.cache.get(KEY) is None
    await one.keep(KEY, ANSWER)
    assert await other.cache.get(KEY) == ANSWER
    assert one.cache.entries == 0, "it is not kept twice"
    assert one.cache.shared is not None
    assert 0 < await one.cache.shared._link.redis.pttl(PREFIX + KEY) <= 60_000


async def test_what_is_no_answer_of_ours_is_a_miss(workers: tuple[Worker, Worker]) -> None:
    one, _ = workers
    assert one.cache.shared is not None
    await one.cache.shared._link.redis.set(PREFIX + b"odd", b"something else")
    assert await one.cache.get(b"odd") is None
    assert one.failures == 0


async def test_f22_f23_a_redis_that_is_away_is_asked_once_and_then_left_alone(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, structlog.testing.capture_logs() as log:
        worker = Worker(server.url, timeout_seconds=0.1)
        await worker.keep(KEY, ANSWER)
        assert await worker.cache.get(KEY) == ANSWER
        server.pause()
        for _ in range(5):
            assert await worker.cache.get(KEY) is None
            await worker.keep(KEY, ANSWER)
        assert worker.failures == 1
        worker.now += RETRY_SECONDS
        assert await worker.cache.get(KEY) is None
        assert worker.failures == 2
        server.resume()
        worker.now += RETRY_SECONDS
        while await worker.cache.get(KEY) != ANSWER:
            worker.now += RETRY_SECONDS
        server.kill()
        assert await worker.cache.get(KEY) is None
        told = [event["event"].partition(";")[0] for event in log]
        assert told[:2] == ["redis does not answer", "redis answers again"]
        await worker.cache.aclose()
