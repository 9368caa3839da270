"""Workers that tell one another, through a real Redis, which replica's prefix cache holds what."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from redis.asyncio import Redis
from redis_server import RedisServer, redis_server

from router import prefix_news
from router.config.stores import RedisConfig
from router.domain.fleet import Backend, Billing, EngineKind, Pool, PoolKind, Replica
from router.domain.request import PrefixMark
from router.prefix_news import FIELD, MESSAGE_MARKS, MESSAGES_AT_ONCE, PrefixNewsExchange
from router.redis_link import RETRY_SECONDS
from router.selection.affinity import UNTOLD_MARKS_MAX, PrefixIndex
from router.wire.prefix_news import Told, pack_news, replica_name

SECRET = b"secret"
REPLICAS = tuple(Replica(f"b/{number}", "b", f"http://b{number}:8000") for number in range(2))
BACKEND = Backend(
    "b", Pool("p", PoolKind.CENTRAL, Billing.LEASED), "m", "m", "large", "bf16", EngineKind.VLLM, 32_768, frozenset(), "", "",
    REPLICAS,
)  # fmt: skip
FIRST_TURN = (PrefixMark(11, 500), PrefixMark(12, 900))
SECOND_TURN = (*FIRST_TURN, PrefixMark(13, 1500))
THIRD_TURN = (*SECOND_TURN, PrefixMark(14, 2000))


class Worker:
    """Its index and its part of the exchange; time stands still for it but when it is put forward."""

    def __init__(self, url: str, secret: bytes = SECRET, timeout_seconds: float = 5) -> None:
        self.seconds = 100.0
        self.index = PrefixIndex()
        self.index.follow({replica.id: 100_000 for replica in REPLICAS})
        self.index.is_shared = True
        config = RedisConfig(url=url, timeout_seconds=timeout_seconds)
        self.exchange = PrefixNewsExchange(self.index, config, "", secret, lambda: self.seconds)
        self.exchange.follow([BACKEND])

    async def exchange_all(self) -> None:
        while await self.exchange.exchange():
            pass

    async def exchange_again(self) -> None:
        """It need not have waited."""
        self.seconds += RETRY_SECONDS
        await self.exchange.exchange()

    def known(self, prefix: tuple[PrefixMark, ...] = THIRD_TURN) -> dict[str, int]:
        return dict(self.index.cached_tokens(prefix))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Any]:
    client = Redis.from_url(server.url)
    yield client
    await client.aclose()


@asynccontextmanager
async def workers(
    server: RedisServer, count: int = 2, secret: bytes = SECRET, timeout_seconds: float = 5
) -> AsyncIterator[list[Worker]]:
    made = [Worker(server.url, secret, timeout_seconds) for _ in range(count)]
    yield made
    for worker in made:
        await worker.exchange._link.aclose()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)


async def test_what_one_worker_sent_where_is_known_to_the_others_while_they_run(server: RedisServer) -> None:
    async with workers(server, 3) as made:
        one, other, third = made
        async with one.exchange.running(), other.exchange.running(), third.exchange.running():
            one.index.sent("b/0", FIRST_TURN)
            await until(lambda: all(worker.known() == {"b/0": 900} for worker in made))
            third.index.sent("b/0", SECOND_TURN)
            third.index.sent("b/1", FIRST_TURN)
            await until(lambda: all(worker.known() == {"b/0": 1500, "b/1": 900} for worker in made))
        assert (one.exchange.told, other.exchange.told, third.exchange.told) == (1, 0, 2)
        assert (one.exchange.heard, other.exchange.heard, third.exchange.heard) == (2, 3, 1)
        assert [worker.exchange.unreadable + worker.exchange.failures for worker in made] == [0, 0, 0]


async def test_what_a_worker_sent_last_is_told_when_it_ends(server: RedisServer) -> None:
    async with workers(server, 1) as (late,):
        ending = Worker(server.url)
        async with ending.exchange.running():
            await until(lambda: not ending.exchange._is_lost)
            ending.index.sent("b/0", FIRST_TURN)
        await late.exchange_all()
        assert late.known() == {"b/0": 900}


async def test_who_begins_later_reads_what_was_told_before_and_heeds_restarts(server: RedisServer) -> None:
    async with workers(server) as (one, late):
        one.index.sent("b/0", FIRST_TURN)
        one.index.sent("b/1", FIRST_TURN)
        await one.exchange_all()
        one.index.restarted("b/0")
        one.index.sent("b/1", SECOND_TURN)
        await one.exchange_all()
        await late.exchange_all()
        assert late.known() == {"b/1": 1500}


async def test_who_listened_believes_in_a_restart_only_what_it_has_seen_itself(server: RedisServer) -> None:
    """Another that cannot reach the replica takes it for down, too."""
    async with workers(server) as (one, other):
        for _ in range(2):
            await other.exchange_all()
            one.index.sent("b/0", FIRST_TURN)
            await one.exchange_all()
            await other.exchange_all()
            one.index.restarted("b/0")
        await one.exchange_all()
        await other.exchange_all()
        assert (one.known(), other.known()) == ({}, {"b/0": 900})
        other.index.restarted("b/0")
        assert other.known() == {}


async def test_who_begins_does_not_believe_what_is_long_ago(server: RedisServer, redis: Any) -> None:
    async with workers(server) as (one, late):
        name = replica_name(REPLICAS[0], "")
        old, young = (
            pack_news(1, [Told(name, 0, (mark.key,), (mark.tokens,))]) for mark in (FIRST_TURN[0], THIRD_TURN[0])
        )
        now_ms = time.time_ns() // 1_000_000
        await redis.xadd(one.exchange.stream, {FIELD: old}, id=f"{now_ms - 301_000}-0")
        await redis.xadd(one.exchange.stream, {FIELD: pack_news(1, [])}, id=f"{now_ms}-0")
        await late.exchange_all()
        assert late.known() == {}
        await redis.xadd(one.exchange.stream, {FIELD: young}, id=f"{now_ms}-1")
        await late.exchange_all()
        assert late.known() == {"b/0": 500}


@pytest.mark.parametrize("is_killed", [True, False])
async def test_while_redis_is_away_each_knows_its_own_and_after_it_they_catch_up(
    server: RedisServer, *, is_killed: bool
) -> None:
    async with workers(server, timeout_seconds=0.25) as (one, other):
        one.index.sent("b/0", FIRST_TURN)
        while other.known() != {"b/0": 900}:
            await one.exchange_again()
            await other.exchange_again()
        if is_killed:
            server.kill()
        else:
            server.pause()
        for worker in (one, other):
            worker.seconds += RETRY_SECONDS
        before = one.exchange.failures, other.exchange.failures
        one.index.sent("b/0", SECOND_TURN)
        other.index.sent("b/1", FIRST_TURN)
        for _ in range(3):
            for worker in (one, other):
                assert not await worker.exchange.exchange()
        assert one.known() == {"b/0": 1500}
        assert other.known() == {"b/0": 900, "b/1": 900}
        asked = one.exchange.failures - before[0], other.exchange.failures - before[1]
        assert asked == (1, 1), "nobody asks again and again"
        if is_killed:
            server.start()
        else:
            server.resume()
        async with asyncio.timeout(60):
            while one.known() != {"b/0": 1500, "b/1": 900} or other.known() != one.known():
                await one.exchange_again()
                await other.exchange_again()


async def test_a_redis_that_begins_anew_with_a_clock_that_is_behind_is_heard_from_its_beginning(
    server: RedisServer, redis: Any
) -> None:
    async with workers(server) as (one, other):
        future_ms = time.time_ns() // 1_000_000 + 3_600_000
        await redis.xadd(one.exchange.stream, {FIELD: pack_news(1, [])}, id=f"{future_ms}-0")
        await other.exchange_all()
        server.kill()
        assert not await other.exchange.exchange()
        server.start()
        one.index.sent("b/0", FIRST_TURN)
        await one.exchange_all()
        await other.exchange_again()
        assert other.known() == {"b/0": 900}


async def test_what_waits_while_redis_is_away_is_bounded(server: RedisServer) -> None:
    async with workers(server) as (one, other):
        await one.exchange_all()
        server.kill()
        news = 2 * UNTOLD_MARKS_MAX
        for number in range(news):
            one.index.sent("b/0", (PrefixMark(number + 100, 5),))
            if number % 1000 == 0:
                await one.exchange_again()
        one.index.sent("b/0", FIRST_TURN)
        waiting = one.index._untold_marks + one.exchange._untold_news
        assert waiting <= UNTOLD_MARKS_MAX + MESSAGES_AT_ONCE * MESSAGE_MARKS
        server.start()
        while one.exchange.told + one.index.given_up < news + 1:
            await one.exchange_again()
        assert one.index.given_up >= news - waiting
        await other.exchange_all()
        assert other.known() == {"b/0": 900}


async def test_what_is_no_news_is_passed_over_and_counted(server: RedisServer, redis: Any) -> None:
    async with workers(server) as (one, other):
        stream = one.exchange.stream
        for fields in ({FIELD: b""}, {FIELD: b"\xff" * 40}, {b"another": b"x"}, {FIELD: pack_news(1, [])[:-1]}):
            await redis.xadd(stream, fields)
        strange = Told(replica_name(Replica("b/0", "b", "http://elsewhere:8000"), ""), 0, (11,), (500,))
        await redis.xadd(stream, {FIELD: pack_news(1, [strange])})
        one.index.sent("b/0", FIRST_TURN)
        await one.exchange_all()
        await other.exchange_all()
        assert other.known() == {"b/0": 900}
        assert (other.exchange.unreadable, other.exchange.heard) == (4, 2)


async def test_a_key_that_is_no_stream_is_as_a_redis_that_is_away(server: RedisServer, redis: Any) -> None:
    async with workers(server, 1) as (one,):
        await redis.set(one.exchange.stream, "somebody's")
        one.index.sent("b/0", FIRST_TURN)
        with structlog.testing.capture_logs() as log:
            for _ in range(3):
                await one.exchange_again()
        assert one.exchange.failures == 3
        assert len(log) == 1
        assert one.known() == {"b/0": 900}
        await redis.delete(one.exchange.stream)
        await one.exchange_again()
        assert one.exchange.told == 1


async def test_routers_of_another_secret_share_nothing(server: RedisServer) -> None:
    async with workers(server, 1) as (one,), workers(server, 1, b"another") as (stranger,):
        one.index.sent("b/0", FIRST_TURN)
        await one.exchange_all()
        await stranger.exchange_all()
        assert stranger.known() == {}
        assert stranger.exchange.heard == 0


async def test_the_stream_is_bounded_and_ends_when_nobody_tells_any_more(
    server: RedisServer, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_news, "MESSAGES_MAX", 10)
    async with workers(server, 1) as (one,):
        for number in range(400):
            one.index.sent("b/0", (PrefixMark(number + 1, 5),))
            await one.exchange.exchange()
        assert await redis.xlen(one.exchange.stream) < 400
        assert 0 < await redis.ttl(one.exchange.stream) <= prefix_news.STREAM_SECONDS


async def test_who_is_behind_hears_a_part_at_a_time_and_lets_others_have_their_turn(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_news, "READ_MARKS", 500)
    async with workers(server) as (one, other):
        for turn in range(10):
            for number in range(200):
                one.index.sent("b/0", (PrefixMark(1000 * turn + number + 1, 5),))
            await one.exchange.exchange()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(others())
        heard = []
        while await other.exchange.exchange():
            heard.append(other.exchange.heard)
        beside.cancel()
        assert heard[0] == 600
        assert other.exchange.heard == 2000
        assert turns > len(heard)


async def test_who_does_not_catch_up_goes_on_with_what_is_told_now(
    server: RedisServer, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every read is full, and none ends the backlog."""
    monkeypatch.setattr(prefix_news, "READ_MESSAGES", 1)
    async with workers(server) as (one, late):
        for number in range(3000):
            await redis.xadd(one.exchange.stream, {FIELD: pack_news(1, [Told(number, 0, (), ())])})
        with structlog.testing.capture_logs() as log:
            async with late.exchange.running():
                await until(lambda: late.exchange._behind_since is not None)
                late.seconds += prefix_news.BEHIND_SECONDS_MAX + 1
                await until(lambda: late.exchange._behind_since is None)
                one.index.sent("b/0", FIRST_TURN)
                await one.exchange.exchange()
                await until(lambda: late.known() == {"b/0": 900})
        assert [line["event"] for line in log] == [
            "more is told of prefix caches than can be heard; some of it is passed over"
        ]
        assert late.exchange.heard < 3000


async def test_where_there_is_no_choice_redis_is_not_asked(server: RedisServer, redis: Any) -> None:
    async with workers(server, 1) as (one,):
        one.exchange.follow(())
        server.kill()
        assert not await one.exchange.exchange()
        assert one.exchange.failures == 0


async def test_it_ends_though_a_cancellation_is_lost_in_the_midst_of_a_command(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As redis-py does now and then."""
    begun = asyncio.Event()

    async def stubborn() -> bool:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return False

    async with workers(server, 1) as (one,):
        monkeypatch.setattr(one.exchange, "exchange", stubborn)
        async with asyncio.timeout(60):
            async with one.exchange.running():
                await begun.wait()
