"""The bursar beside others: in one process, over several, and when Redis is away."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import budget_racer
import pytest
from redis_server import RedisServer, redis_server

from router.accounting.bursar import Bursar
from router.clock import Clock
from router.config.stores import RedisConfig
from router.domain.budget import Budget, Period
from router.domain.request import Endpoint
from router.errors import BudgetExceeded, BudgetUnavailable
from router.ledger import shared_budget
from router.ledger.budget import Claim, Hold
from router.ledger.shared_budget import RedisBudgets
from router.ledger.sqlite import SqliteLedger
from router.ledger.store import LedgerError

TERM_NS = 60 * 10**9
LIMIT = 1_000_000
WORKERS = 4
KILLS_EACH = 5


def charge(cost: int, bursar: Bursar) -> Any:
    return SimpleNamespace(cost_nanousd=cost, ended_ns=bursar._clock.now_ns())


@asynccontextmanager
async def working(
    directory: Path, server: RedisServer | None, limit: int = LIMIT, name: str = "ledger"
) -> AsyncIterator[Bursar]:
    store = SqliteLedger(directory / f"{name}.sqlite")
    shared = RedisBudgets(RedisConfig(url=server.url), "", store.ledger_id) if server else None
    bursar = Bursar(store, Clock(), shared)
    bursar.configure([Budget("acme", "", Period.DAY, limit), Budget("acme", "laptop", Period.DAY, 2 * limit)])
    try:
        async with bursar.running():
            yield bursar
    finally:
        store.close()


async def reserve(bursar: Bursar, nanousd: int, key: str = "key") -> Hold:
    return await bursar.reserve(bursar.of("acme", key), nanousd, TERM_NS, Endpoint.CHAT)


class Watched:
    """Awaits a coroutine. has_waited: whether it had to, so that others ran meanwhile."""

    def __init__(self, coroutine: Coroutine[Any, Any, Hold]) -> None:
        self._coroutine = coroutine
        self.has_waited = False

    def __await__(self) -> Generator[Any, None, Hold]:
        steps = self._coroutine.__await__()
        while True:
            try:
                step = next(steps)
            except StopIteration as done:
                hold: Hold = done.value
                return hold
            self.has_waited = True
            yield step


async def test_a15_500_at_once_in_one_process(tmp_path: Path) -> None:
    async with working(tmp_path, None) as bursar:
        held = most = spent = refused = 0

        async def request(number: int) -> None:
            nonlocal held, most, spent, refused
            try:
                hold = await reserve(bursar, 9_000)
            except BudgetExceeded:
                refused += 1
                return
            held += hold.nanousd
            most = max(most, held + spent)
            await asyncio.sleep(number % 7 / 1000)
            held -= hold.nanousd
            spent += (cost := number * 17 % 9_001)
            bursar.settle(hold, charge(cost, bursar))

        await asyncio.gather(*(request(number) for number in range(500)))
        assert most <= LIMIT
        assert LIMIT - most < 9_000, "and all of it can be used"
        assert refused == 500 - LIMIT // 9_000
        assert bursar.open_holds == 0


def run_race(directory: Path, url: str, count: int, hold: int, cost_least: int) -> tuple[int, int, int]:
    start_at = time.time() + 2.5 + shared_budget.REBUILD_SECONDS + 1.5
    processes = []
    for number in range(WORKERS):
        own = directory / str(number)
        own.mkdir()
        arguments = [url, str(own), *map(str, (count // WORKERS, LIMIT, hold, cost_least, start_at))]
        command = [sys.executable, budget_racer.__file__, *arguments]
        processes.append(subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=100)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * WORKERS
    admitted, cost, slowest = zip(*(map(int, output) for output in outputs), strict=True)
    return sum(admitted), sum(cost), max(slowest)


def test_a15_500_at_once_over_4_workers(tmp_path: Path) -> None:
    """The costs are up to the holds: what is given back is spent again, and in the end the budget is not passed."""
    with redis_server(tmp_path) as server:
        admitted, cost, slowest = run_race(tmp_path, server.url, count=500, hold=9_000, cost_least=100)
    print(f"{admitted} of 500 admitted, {cost} of {LIMIT} spent, asking took {slowest} ms at most")
    assert cost <= LIMIT
    assert admitted >= LIMIT // 9_000 * 0.9


def test_f27_4_workers_by_64_against_a_budget_for_100(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        admitted, cost, _ = run_race(tmp_path, server.url, count=4 * 64, hold=10_000, cost_least=10_000)
    print(f"{admitted} admitted of a budget for 100")
    assert cost == admitted * 10_000
    # Refused is also who asks while the last of it is the share of a worker whose own requests do not need it any more.
    assert 90 <= admitted <= 100


async def test_a_small_request_need_not_ask_anybody(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with working(tmp_path, server) as bursar:
            (account, _) = bursar.of("acme", "laptop")
            assert account.free_nanousd == LIMIT // 32, "something is here before the first request"
            await reserve(bursar, 1_000)
            await asyncio.sleep(1)
            assert account.free_nanousd == (LIMIT - 1_000) // 8, "and more where they come"
            server.pause()
            for _ in range(100):
                await (small := Watched(reserve(bursar, 1_000)))
                assert not small.has_waited
            server.resume()


@pytest.mark.parametrize("how", ["pause", "kill"])
async def test_f22_f23_f24_without_redis_shares_serve_then_it_is_said_that_nobody_knows(
    tmp_path: Path, how: str
) -> None:
    with redis_server(tmp_path) as server:
        async with working(tmp_path, server) as bursar:
            getattr(server, how)()
            admitted = unavailable = waited = 0
            for _ in range(300):
                asking = Watched(reserve(bursar, 1_000))
                try:
                    hold = await asking
                    bursar.settle(hold, charge(1_000, bursar))
                    admitted += 1
                except BudgetUnavailable:
                    unavailable += 1
                waited += asking.has_waited
            assert admitted == LIMIT // 32 // 1_000, "the share that was here"
            assert unavailable == 300 - admitted
            assert waited <= 2, "the breaker is open: nobody else waits"
            server.resume() if how == "pause" else server.start()
            deadline = time.monotonic() + 8
            while time.monotonic() < deadline:
                try:
                    await reserve(bursar, 1_000)
                    break
                except BudgetUnavailable:
                    await asyncio.sleep(0.05)
            else:
                raise AssertionError("it goes on when redis is back")
            (account, _) = bursar.of("acme", "laptop")
            assert account.spent_nanousd == admitted * 1_000


async def test_f25_a_fail_over_under_two_workers_gives_nothing_out_twice(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with working(tmp_path, server, name="a") as a, working(tmp_path, server, name="b") as b:
            spent = 0
            until = time.monotonic() + 40
            killed = False
            exceeded = 0
            while time.monotonic() < until and exceeded < 100:  # in a row: what one has not used comes to the other
                for bursar in (a, b):
                    try:
                        hold = await reserve(bursar, 2_000)
                        exceeded = 0
                    except BudgetUnavailable:
                        continue
                    except BudgetExceeded:
                        exceeded += 1
                        continue
                    await asyncio.sleep(0.001)
                    bursar.settle(hold, charge(2_000, bursar))
                    spent += 2_000
                if spent >= LIMIT // 2 and not killed:
                    killed = True
                    server.kill()
                    server.start()  # it knows nothing any more
                await asyncio.sleep(0.02 if exceeded else 0.005)
            assert killed
            assert LIMIT - 2 * 2_000 <= spent <= LIMIT


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(max(int(os.environ.get("JETON_TEST_KILLS", "0")) // KILLS_EACH, 1)))
async def test_f25_f29_redis_killed_at_any_moment_under_load_gives_nothing_out_twice_and_keeps_no_hold(
    tmp_path: Path, number: int
) -> None:
    chance, limit = random.Random(20261127 + number), 100 * LIMIT
    spent = [0, 0]
    is_over = False

    async def load(bursar: Bursar, index: int) -> None:
        while not is_over:
            nanousd = chance.randrange(1, 9_000)
            try:
                hold = await reserve(bursar, nanousd)
            except BudgetUnavailable:
                await asyncio.sleep(0.01)
                continue
            await asyncio.sleep(chance.random() / 500)
            if chance.random() < 0.1:
                bursar.void(hold)
                continue
            cost = chance.randrange(nanousd + 1)
            spent[index] += cost
            bursar.settle(hold, charge(cost, bursar))

    with redis_server(tmp_path) as server:
        async with working(tmp_path, server, limit, "a") as a:
            async with working(tmp_path, server, limit, "b") as b:
                tasks = [
                    asyncio.create_task(load(bursar, index)) for index, bursar in enumerate((a, b)) for _ in range(4)
                ]
                for _ in range(KILLS_EACH):
                    before = sum(spent)
                    await asyncio.sleep(chance.random())
                    server.kill()
                    await asyncio.sleep(chance.random() / 2)
                    server.start()  # it knows nothing any more
                    async with asyncio.timeout(30):
                        while sum(spent) == before:
                            await asyncio.sleep(0.01)
                is_over = True
                await asyncio.gather(*tasks)
                async with asyncio.timeout(30):
                    while any(bursar._shared is None or bursar._shared.is_away for bursar in (a, b)):
                        await asyncio.sleep(0.05)
                for index, bursar in enumerate((a, b)):
                    (account, _) = bursar.of("acme", "laptop")
                    assert account.spent_nanousd == spent[index] > 0
                    assert bursar.open_holds == 0
            left = limit - sum(spent)
            hold = await until_granted(a, left)
            with pytest.raises(BudgetExceeded):
                await reserve(a, 1)
            a.void(hold)


async def test_a14_a_dead_workers_share_is_freed_once_the_ledger_has_booked_it_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_booked = answers = False

    async def ask_whether_it_is_booked() -> bool:
        return is_booked

    async def ask(*_: object) -> tuple[list[int], int]:
        if not answers:
            raise LedgerError("is away")
        return [300_000, 0, 300_000, 0], 0  # what the dead one spent, of either budget

    with redis_server(tmp_path) as server:
        store = SqliteLedger(tmp_path / "ledger.sqlite")
        dead = RedisBudgets(RedisConfig(url=server.url), "", store.ledger_id, worker="dead")
        config = [Budget("acme", "", Period.DAY, LIMIT), Budget("acme", "laptop", Period.DAY, 2 * LIMIT)]
        bursar = Bursar(store, Clock(), RedisBudgets(RedisConfig(url=server.url), "", store.ledger_id, worker="living"))
        bursar.configure(config)
        async with bursar.running():
            accounts = bursar.of("acme", "laptop")
            claims = [(one.budget, Claim(one.span, 0, 0, 0, 900_000)) for one in accounts]
            await dead.claim(claims)
            with pytest.raises(BudgetExceeded):
                await reserve(bursar, 500_000)
            monkeypatch.setattr(store, "spent", ask)
            burying = asyncio.create_task(bursar.bury("dead", ask_whether_it_is_booked))
            for what_is_missing in ("booked", "told"):
                await asyncio.sleep(0.6)
                with pytest.raises(BudgetExceeded):
                    await reserve(bursar, 500_000)
                assert not burying.done(), what_is_missing
                is_booked = True
            answers = True
            await burying
            held = await until_granted(bursar, LIMIT - 300_000)
            with pytest.raises(BudgetExceeded):
                await reserve(bursar, 1)
            bursar.void(held)
        await dead.close()
        store.close()


async def until_granted(bursar: Bursar, nanousd: int) -> Hold:
    """Once what was freed has been claimed."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await reserve(bursar, nanousd)
            except (BudgetExceeded, BudgetUnavailable):
                await asyncio.sleep(0.05)


async def test_at_the_end_nothing_is_kept_from_the_others(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with working(tmp_path, server, name="a") as bursar:
            hold = await reserve(bursar, 100_000)
            bursar.settle(hold, charge(100, bursar))
        async with working(tmp_path, server, name="b") as bursar:
            await reserve(bursar, LIMIT - 100)
            with pytest.raises(BudgetExceeded):
                await reserve(bursar, 1)


async def test_the_share_of_a_budget_that_a_reload_takes_out_is_given_back(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with working(tmp_path, server, name="a") as a, working(tmp_path, server, name="b") as b:
            await reserve(a, 1_000)
            a.configure([])
            await asyncio.sleep(1.5)
            await reserve(b, LIMIT - 1_000)


async def test_a_share_that_nobody_has_confirmed_for_long_is_not_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.accounting.bursar.SHARE_SECONDS", 1.0)
    with redis_server(tmp_path) as server:
        async with working(tmp_path, server) as bursar:
            await reserve(bursar, 1_000)
            server.kill()
            await asyncio.sleep(2.0)
            with pytest.raises(BudgetUnavailable):
                await reserve(bursar, 1_000)


@pytest.mark.parametrize("hours", [1, -1])
async def test_f28_a_wall_clock_that_jumps_grants_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    async with working(tmp_path, None) as bursar:
        (account,) = bursar.of("acme", "key")
        hold = await reserve(bursar, LIMIT)
        bursar.settle(hold, charge(LIMIT - 1, bursar))
        span, jumped_ns = account.span, time.time_ns() + hours * 3600 * 10**9
        monkeypatch.setattr(time, "time_ns", lambda: jumped_ns)
        with pytest.raises(BudgetExceeded) as raised:
            await reserve(bursar, 2)
        assert account.span == span
        assert raised.value.retry_after_seconds is not None
        assert 0 < raised.value.retry_after_seconds <= 3600


async def test_before_the_ledger_has_said_what_was_spent_nothing_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(tmp_path, None) as bursar:

        async def stuck(*_: object) -> None:
            raise TimeoutError

        spent = bursar._store.spent
        monkeypatch.setattr(bursar._store, "spent", stuck)
        bursar.configure([Budget("acme", "", Period.MONTH, LIMIT)])
        with pytest.raises(BudgetUnavailable):
            await reserve(bursar, 1)
        monkeypatch.setattr(bursar._store, "spent", spent)
        await reserve(bursar, 1)


async def test_who_waits_for_a_budget_that_a_reload_takes_away_is_told(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with working(tmp_path, server) as bursar:
            await asyncio.sleep(0.1)
            server.pause()
            asking = asyncio.create_task(reserve(bursar, LIMIT // 2))
            await asyncio.sleep(0)
            bursar.configure([])
            with pytest.raises(BudgetUnavailable):
                await asyncio.wait_for(asking, 5)
            server.resume()
