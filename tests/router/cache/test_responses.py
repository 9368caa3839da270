"""Identical requests under way are answered once; nobody's failing or leaving takes anything from the others."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from router.cache.answer import StoredAnswer
from router.cache.key import Served
from router.cache.responses import ResponseCache, Tape
from router.config.stores import CacheConfig

ANSWER = StoredAnswer(False, "application/json", b"{}", "llama", "small", "edge-small", 10, 5, 2, False)
SERVED = Served("llama", "fp8")
HEADER = (b"x-jeton-cache", b"miss")
KEY = b"k" * 32


@pytest.fixture
def cache() -> ResponseCache:
    made = ResponseCache()
    made.configure(CacheConfig(memory_bytes_max=10_000, answer_bytes_max=1_000))
    return made


async def lead(cache: ResponseCache, begun: asyncio.Event, go_on: asyncio.Event, answer: StoredAnswer | None) -> None:
    with cache.taping(KEY, SERVED, HEADER, leads=True) as tape:
        begun.set()
        await go_on.wait()
        if answer is not None:
            tape.keep(answer)


class Leader:
    """A request under way, which ends when it is told to."""

    def __init__(self, cache: ResponseCache, answer: StoredAnswer | None) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(lead(cache, self.begun, self.go_on, answer))


async def test_followers_wait_for_the_leaders_whole_answer_and_it_is_kept(cache: ResponseCache) -> None:
    leader = Leader(cache, ANSWER)
    await leader.begun.wait()
    followers = [asyncio.create_task(cache.join(KEY)) for _ in range(5)]
    await asyncio.sleep(0)
    assert not any(follower.done() for follower in followers)
    leader.go_on.set()
    assert await asyncio.gather(*followers) == [ANSWER] * 5
    assert await cache.get(KEY) == ANSWER
    assert cache.flights == 0


async def test_followers_go_on_when_the_leader_fails_or_leaves(cache: ResponseCache) -> None:
    for end in ("nothing", "cancelled"):
        leader = Leader(cache, None)
        await leader.begun.wait()
        follower = asyncio.create_task(cache.join(KEY))
        await asyncio.sleep(0)
        if end == "cancelled":
            leader.task.cancel()
        else:
            leader.go_on.set()
        assert await follower is None
        assert cache.flights == 0
    assert await cache.get(KEY) is None


async def test_a_follower_that_leaves_takes_nothing_from_the_others(cache: ResponseCache) -> None:
    leader = Leader(cache, ANSWER)
    await leader.begun.wait()
    leaving, staying = (asyncio.create_task(cache.join(KEY)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    assert not leader.task.done()
    leader.go_on.set()
    assert await staying == ANSWER
    await leader.task


async def test_when_a_leader_left_one_of_the_others_leads_and_the_rest_follow(cache: ResponseCache) -> None:
    led: list[str] = []

    async def ask(name: str, answer: StoredAnswer | None) -> StoredAnswer | None:
        found = await cache.join(KEY)
        if found is not None:
            return found
        with cache.taping(KEY, SERVED, HEADER, leads=True) as tape:
            led.append(name)
            await asyncio.sleep(0.001)
            if answer is None:
                tape.leave()
                return None
            tape.keep(answer)
        return answer

    asked = [ask("first", None), ask("second", None), *(ask("other", ANSWER) for _ in range(5))]
    assert await asyncio.gather(*asked) == [None, None] + [ANSWER] * 5
    assert led == ["first", "second", "other"]
    assert (cache.flights, cache.waiting) == (0, 0)


async def test_when_a_leader_came_to_nothing_nobody_waits_again(cache: ResponseCache) -> None:
    leader = Leader(cache, None)
    await leader.begun.wait()
    followers = [asyncio.create_task(cache.join(KEY)) for _ in range(3)]
    await asyncio.sleep(0)
    leader.go_on.set()
    await leader.task
    next_one = Leader(cache, ANSWER)
    assert await asyncio.gather(*followers) == [None] * 3
    next_one.go_on.set()
    await next_one.task


async def test_who_leads_is_told_when_the_last_follower_has_gone_or_there_is_nothing_to_wait_for(
    cache: ResponseCache,
) -> None:
    told: list[str] = []
    with cache.taping(KEY, SERVED, HEADER, leads=True) as tape:
        assert not tape.is_followed
        tape.watch(lambda: told.append("alone"))
        followers = [asyncio.create_task(cache.join(KEY)) for _ in range(2)]
        await asyncio.sleep(0)
        assert tape.is_followed
        followers[0].cancel()
        await asyncio.sleep(0)
        assert (told, tape.is_followed) == ([], True)
        followers[1].cancel()
        await asyncio.sleep(0)
        assert (told, tape.is_followed) == (["alone"], False)
        last = asyncio.create_task(cache.join(KEY))
        await asyncio.sleep(0)
        put(tape, b"x" * 1_001)
        assert (told, tape.is_followed) == (["alone"] * 2, False)
        tape.watch(None)
    assert await last is None
    assert told == ["alone"] * 2


async def test_nobody_waits_for_what_is_not_under_way(cache: ResponseCache) -> None:
    assert await cache.join(KEY) is None


async def test_a_request_that_wants_a_fresh_answer_is_followed_by_nobody_and_its_answer_is_kept(
    cache: ResponseCache,
) -> None:
    with cache.taping(KEY, SERVED, HEADER, leads=False) as tape:
        assert cache.flights == 0
        tape.keep(ANSWER)
    assert await cache.get(KEY) == ANSWER


async def test_of_two_leaders_the_first_is_followed(cache: ResponseCache) -> None:
    """As when several go on by themselves after a leader that failed."""
    with cache.taping(KEY, SERVED, HEADER, leads=True) as first:
        with cache.taping(KEY, SERVED, HEADER, leads=True) as second:
            second.keep(replace(ANSWER, body=b"second"))
        follower = asyncio.create_task(cache.join(KEY))
        await asyncio.sleep(0)
        first.keep(ANSWER)
    assert await follower == ANSWER
    assert await cache.get(KEY) == ANSWER


def put(tape: Tape, *pieces: bytes) -> None:
    for piece in pieces:
        tape.add(piece)


async def test_an_answer_that_is_too_large_is_given_up_and_its_followers_need_not_wait(cache: ResponseCache) -> None:
    with cache.taping(KEY, SERVED, HEADER, leads=True) as tape:
        follower = asyncio.create_task(cache.join(KEY))
        await asyncio.sleep(0)
        put(tape, b"x" * 600)
        assert tape.body() == b"x" * 600
        put(tape, b"x" * 600)
        assert not tape.is_recording
        assert await follower is None, "while the leader is still being answered"
        assert cache.taped_bytes == 0
    assert await cache.get(KEY) is None


async def test_all_recordings_together_are_bounded(cache: ResponseCache) -> None:
    tapes: list[Any] = []
    for number in range(20):
        recording = cache.taping(b"%d" % number, SERVED, HEADER, leads=True)
        tapes.append((recording, recording.__enter__()))
        put(tapes[-1][1], b"x" * 900)
        assert cache.taped_bytes <= 10_000
    assert sum(tape.is_recording for _, tape in tapes) == 11
    for recording, _ in tapes:
        recording.__exit__(None, None, None)
    assert (cache.taped_bytes, cache.flights) == (0, 0)


async def test_a_tape_that_records_nothing_holds_nothing(cache: ResponseCache) -> None:
    tape = Tape(cache, SERVED, HEADER)
    put(tape, b"x")
    assert (tape.body(), cache.taped_bytes) == (b"", 0)


async def test_switched_off_it_forgets_and_keeps_nothing(cache: ResponseCache) -> None:
    with cache.taping(KEY, SERVED, HEADER, leads=True) as tape:
        tape.keep(ANSWER)
    cache.configure(None)
    assert not cache.is_on
    assert cache.entries == 0
    with cache.taping(KEY, SERVED, HEADER, leads=True) as tape:
        tape.keep(ANSWER)
    assert cache.entries == 0


async def test_followers_do_not_wait_until_the_leaders_client_has_read_its_answer(cache: ResponseCache) -> None:
    with cache.taping(KEY, SERVED, HEADER, leads=True) as tape:
        follower = asyncio.create_task(cache.join(KEY))
        await asyncio.sleep(0)
        tape.keep(ANSWER)
        assert await follower == ANSWER
        assert await cache.join(KEY) == ANSWER
    assert await cache.get(KEY) == ANSWER, "leaving the block takes nothing back"
