"""What is remembered under an `Idempotency-Key`, for how long, and how much of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis_server import RedisServer, redis_server

from router.access.repeats import ENTRY_BYTES, KeptAnswer, Repeats, repeat_name, request_fingerprint
from router.config.stores import RedisConfig, RepeatsConfig
from router.errors import BadRequest, RepeatNotKept, RepeatRunning, RepeatWithOtherBody

ONE = request_fingerprint("/v1/chat/completions", b'{"a":1}')
OTHER = request_fingerprint("/v1/chat/completions", b'{"a":2}')
HEADERS = ((b"content-type", b"application/json"),)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def run(repeats: Repeats, name: str, body: bytes = b"answer", fingerprint: bytes = ONE) -> None:
    assert await repeats.claim(name, fingerprint) is None
    copy = repeats.copy()
    copy.headers = HEADERS
    for start in range(0, len(body), 100):
        copy.add(body[start : start + 100])
    repeats.keep(name, copy)
    copy.close()


async def test_the_same_request_gets_the_answer_again_and_another_is_refused() -> None:
    repeats = Repeats(RepeatsConfig())
    await run(repeats, "a")
    assert await repeats.claim("a", ONE) == KeptAnswer(False, HEADERS, b"answer")
    with pytest.raises(RepeatWithOtherBody):
        await repeats.claim("a", OTHER)
    assert await repeats.claim("b", OTHER) is None


async def test_while_the_first_runs_every_other_is_refused_and_one_that_failed_frees_its_key() -> None:
    repeats = Repeats(RepeatsConfig())
    assert await repeats.claim("a", ONE) is None
    with pytest.raises(RepeatRunning):
        await repeats.claim("a", ONE)
    with pytest.raises(RepeatWithOtherBody):
        await repeats.claim("a", OTHER)
    repeats.free("a")
    assert await repeats.claim("a", OTHER) is None


async def test_an_answer_is_forgotten_when_its_time_is_over() -> None:
    clock = Clock()
    repeats = Repeats(RepeatsConfig(kept_seconds=10), clock=clock)
    await run(repeats, "a")
    clock.seconds = 9.0
    assert await repeats.claim("a", ONE) is not None
    clock.seconds = 10.0
    assert await repeats.claim("a", ONE) is None
    assert repeats.bytes_held == 0


async def test_the_oldest_answers_make_room_within_the_memory_that_is_allowed() -> None:
    most = 20 * (ENTRY_BYTES + 1000)
    repeats = Repeats(RepeatsConfig(memory_bytes_max=most))
    for number in range(100):
        await run(repeats, f"{number}", b"x" * 900)
        assert repeats.bytes_held <= most
    assert await repeats.claim("99", ONE) is not None
    assert await repeats.claim("0", ONE) is None


async def test_a_request_whose_answer_was_too_large_is_not_run_again() -> None:
    repeats = Repeats(RepeatsConfig(answer_bytes_max=1000))
    await run(repeats, "a", b"x" * 1001)
    with pytest.raises(RepeatNotKept):
        await repeats.claim("a", ONE)
    with pytest.raises(RepeatWithOtherBody):
        await repeats.claim("a", OTHER)
    assert repeats.bytes_held < 2 * ENTRY_BYTES


async def test_copies_under_way_are_bounded_together() -> None:
    repeats = Repeats(RepeatsConfig(memory_bytes_max=1000))
    copies = [repeats.copy() for _ in range(10)]
    for copy in copies:
        copy.add(b"x" * 300)
        assert repeats.bytes_held <= 1000
    assert [copy.is_whole for copy in copies] == [True] * 3 + [False] * 7
    for copy in copies:
        copy.close()
    assert repeats.bytes_held == 0


def test_no_two_tenants_and_keys_have_one_name() -> None:
    pairs = [("a", b"bc"), ("ab", b"c"), ("abc", b"d"), ("ü", b"bc")]
    assert len({repeat_name(*pair) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"a\x00b", "ü".encode(), b"a\x7f"])
def test_a_key_that_is_none_is_refused(key: bytes) -> None:
    with pytest.raises(BadRequest, match="Idempotency-Key"):
        repeat_name("tests", key)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@asynccontextmanager
async def worker(redis: RedisServer, clock: Clock) -> AsyncIterator[Repeats]:
    shared = RedisConfig(url=redis.url, timeout_seconds=5)
    repeats = Repeats(RepeatsConfig(), shared, clock=clock)
    async with repeats.running():
        yield repeats


async def until_claimed(repeats: Repeats, name: str, fingerprint: bytes) -> KeptAnswer | None:
    """What another worker has written reaches Redis a moment after its client has the answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await repeats.claim(name, fingerprint)
            except RepeatRunning:
                await asyncio.sleep(0.01)


async def test_workers_know_of_one_anothers_through_redis(redis: RedisServer) -> None:
    clock = Clock()
    async with worker(redis, clock) as here, worker(redis, clock) as there:
        assert await here.claim("a", ONE) is None
        with pytest.raises(RepeatRunning):
            await there.claim("a", ONE)
        with pytest.raises(RepeatWithOtherBody):
            await there.claim("a", OTHER)
        copy = here.copy()
        copy.headers, copy.is_stream = HEADERS, True
        copy.add(b"one\n")
        copy.add(b"two\n")
        here.keep("a", copy)
        assert await until_claimed(there, "a", ONE) == KeptAnswer(True, HEADERS, b"one\ntwo\n")
        with pytest.raises(RepeatWithOtherBody):
            await there.claim("a", OTHER)
        assert await there.claim("b", ONE) is None
        there.free("b")
        assert await until_claimed(here, "b", OTHER) is None
        here.free("b")
        too_large = here.copy()
        too_large.is_whole = False
        assert await here.claim("c", ONE) is None
        here.keep("c", too_large)
        with pytest.raises(RepeatNotKept):
            await until_claimed(there, "c", ONE)


async def test_of_many_that_claim_at_once_one_gets_it(redis: RedisServer) -> None:
    clock = Clock()
    async with worker(redis, clock) as here, worker(redis, clock) as there:
        claims = [repeats.claim("a", ONE) for _ in range(20) for repeats in (here, there)]
        results = await asyncio.gather(*claims, return_exceptions=True)
        assert results.count(None) == 1
        assert all(result is None or isinstance(result, RepeatRunning) for result in results)


async def test_without_redis_each_worker_knows_its_own_and_asks_again_when_it_is_back(redis: RedisServer) -> None:
    clock = Clock()
    async with worker(redis, clock) as here:
        redis.kill()
        await run(here, "a")
        assert await here.claim("a", ONE) is not None
        await run(here, "b")  # nobody is asked so soon after a failure
        redis.start()
        clock.seconds += 5
        await run(here, "c")
        async with worker(redis, clock) as there:
            assert await there.claim("a", ONE) is None
            assert await until_claimed(there, "c", ONE) is not None


async def test_a_claim_whose_answer_was_lost_on_the_way_is_found_to_be_ones_own(redis: RedisServer) -> None:
    clock = Clock()
    async with worker(redis, clock) as here, worker(redis, clock) as there:
        assert here._shared is not None
        client = here._shared._redis
        put, lost = client.set, []

        async def put_and_lose_the_answer(*args: Any, **more: Any) -> Any:
            answer = await put(*args, **more)
            if not lost:
                lost.append(answer)
                raise RedisConnectionError("gone")
            return answer

        client.set = put_and_lose_the_answer
        assert await here.claim("a", ONE) is None
        client.set = put
        assert lost == [True]
        with pytest.raises(RepeatRunning):
            await there.claim("a", ONE)
        here.free("a")
        assert await until_claimed(there, "a", ONE) is None


async def test_it_ends_though_a_cancellation_is_lost_in_the_midst_of_a_renewal(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As redis-py loses one now and then."""
    begun = asyncio.Event()

    async def stubborn(*_: object) -> None:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)

    monkeypatch.setattr("router.access.repeats.RENEW_SECONDS", 0.01)
    async with asyncio.timeout(60), worker(redis, Clock()) as here:
        assert here._shared is not None
        assert await here.claim("a", ONE) is None
        monkeypatch.setattr(here._shared._redis, "eval", stubborn)
        await begun.wait()
