"""Budgets in a real Redis: whatever is lost, late or told twice, no more is given out than there is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis_server import RedisServer, redis_server

from router.config.stores import RedisConfig
from router.domain.budget import LIMIT_NANOUSD_MAX, Budget, Period, span_at
from router.ledger import shared_budget
from router.ledger.budget import Budgets, Claim, Grant, Hold, Spent
from router.ledger.shared_budget import PREFIX, REBUILDING_KEY, RedisBudgets, SharedAway
from router.redis_link import RETRY_SECONDS

DAY = span_at(Period.DAY, 1_790_000_000 * 10**9)
BUDGET = Budget("acme", "", Period.DAY, 1000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def direct(server: RedisServer) -> Iterator["Redis"]:
    """The data itself, empty at the start and known to be complete."""
    with Redis(port=server.port, decode_responses=True) as client:
        client.flushall()
        client.set(f"{PREFIX}:run", str(client.info("server")["run_id"]))
        yield client


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Workers:
    """Workers of one budget. They keep nothing between two claims but what `Account` would."""

    def __init__(self, server: RedisServer) -> None:
        self.clock = Clock()
        self._config = RedisConfig(url=server.url, timeout_seconds=5.0)  # a slow answer is no absence here
        self._open: dict[str, RedisBudgets] = {}

    def start(self, name: str, ledger: str = "") -> RedisBudgets:
        """Or start again: what the process knew is gone. ledger: that it shares with others."""
        budgets = RedisBudgets(self._config, "", ledger or name, self.clock, worker=name)
        self._open[name + str(len(self._open))] = budgets
        return budgets

    async def close(self) -> None:
        for budgets in self._open.values():
            await budgets.close()


@pytest.fixture
async def workers(server: RedisServer) -> AsyncIterator[Workers]:
    workers = Workers(server)
    yield workers
    await workers.close()


async def claim(
    at: RedisBudgets, share: int = 0, more: int = 0, spent: int = 0, held: int = 0, budget: Budget = BUDGET
) -> Grant:
    [grant] = await at.claim([(budget, Claim(DAY, spent, held, share, more))])
    return grant


@pytest.mark.usefixtures("direct")
async def test_what_one_has_another_has_not(workers: Workers) -> None:
    a, b = workers.start("a"), workers.start("b")
    assert await claim(a, more=600) == Grant(600, 0, 0)
    assert await claim(b, more=600) == Grant(400, 0, 600)
    assert await claim(a, share=100, spent=50) == Grant(100, 0, 400)
    assert await claim(b, share=400, more=600) == Grant(850, 50, 100)


@pytest.mark.usefixtures("direct")
async def test_amounts_are_exact_up_to_the_largest(workers: Workers) -> None:
    a, b = workers.start("a"), workers.start("b")
    huge = Budget("acme", "", Period.DAY, LIMIT_NANOUSD_MAX)
    granted = await claim(a, more=LIMIT_NANOUSD_MAX - 2**53 - 3, budget=huge)
    assert granted.share_nanousd == LIMIT_NANOUSD_MAX - 2**53 - 3
    rest = await claim(b, more=LIMIT_NANOUSD_MAX, budget=huge)
    assert rest == Grant(2**53 + 3, 0, LIMIT_NANOUSD_MAX - 2**53 - 3)
    assert await claim(a, spent=LIMIT_NANOUSD_MAX - 2**53 - 3, more=1, budget=huge) == Grant(0, 0, 2**53 + 3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, LIMIT_NANOUSD_MAX), st.sampled_from([1, 7, 10**9, 10**17])), min_size=1, max_size=4
    ),
    st.integers(1, LIMIT_NANOUSD_MAX),
)
def test_lua_reckons_as_python_does(direct: "Redis", spent: list[tuple[int, int]], limit: int) -> None:
    amounts = [amount // divisor for amount, divisor in spent]
    script = direct.register_script(shared_budget.CLAIM)
    direct.delete("budget")
    total = 0
    for number, amount in enumerate(amounts):
        arguments = [f"w{number}", limit, amount, 0, 0, LIMIT_NANOUSD_MAX, "1", 0, 1000, f"w{number}"]
        answer = script(["budget", f"{PREFIX}:run", REBUILDING_KEY], arguments)
        assert int(answer[1]) == total
        total += amount
        assert int(answer[0]) == max(limit - total, 0)
        direct.hset("budget", f"l:w{number}", 0)


@pytest.mark.usefixtures("direct")
async def test_a_claim_that_is_told_twice_is_one(workers: Workers) -> None:
    a, b = workers.start("a"), workers.start("b")
    for _ in range(3):
        assert (await claim(a, more=300, spent=100)).share_nanousd == 300
    assert (await claim(b, more=1000)).share_nanousd == 600


@pytest.mark.usefixtures("direct")
async def test_what_was_spent_never_falls(workers: Workers) -> None:
    a, b = workers.start("a"), workers.start("b")
    await claim(a, spent=500)
    await claim(a, spent=200)
    assert (await claim(b)).elsewhere_spent_nanousd == 500


@pytest.mark.usefixtures("direct")
async def test_f29_a_worker_that_was_killed_takes_up_its_own_share_when_it_is_back(workers: Workers) -> None:
    a, b = workers.start("a"), workers.start("b")
    await claim(a, more=1000)
    assert (await claim(b, more=10)).share_nanousd == 0
    await claim(workers.start("a"), spent=30)
    assert (await claim(b, more=1000)).share_nanousd == 970


async def test_who_leaves_gives_all_back(workers: Workers, direct: "Redis") -> None:
    a, b = workers.start("a"), workers.start("b")
    await claim(a, more=1000)
    await a.leave([(BUDGET, Claim(DAY, 40, 0, 0, 0))])
    assert await claim(b, more=1000) == Grant(960, 40, 0)
    [key] = direct.keys(f"{PREFIX}:acme*")
    assert set(direct.hgetall(key)) == {"s:a", "s:b", "l:b", "b:b"}


@pytest.mark.usefixtures("direct")
async def test_the_share_of_the_silent_is_given_back_after_a_time_and_not_before(workers: Workers) -> None:
    a, b = workers.start("a"), workers.start("b")
    await claim(a, more=900, spent=10)
    for _ in range(10):
        assert (await claim(b, more=500)).share_nanousd == 90
        workers.clock.seconds += shared_budget.RECLAIM_SECONDS / 10
    workers.clock.seconds += 1
    await claim(b, share=90)  # notices
    assert (await claim(b, share=90, more=1000)).share_nanousd == 990


@pytest.mark.usefixtures("direct")
async def test_a_worker_that_was_taken_for_dead_has_only_what_it_holds(workers: Workers) -> None:
    a, b = workers.start("a"), workers.start("b")
    await claim(a, more=900)
    await claim(b)
    workers.clock.seconds += shared_budget.RECLAIM_SECONDS + 1
    await claim(b)
    assert (await claim(b, more=1000)).share_nanousd == 1000
    assert (await claim(a, share=900, held=20)).share_nanousd == 20


async def test_a14_the_share_of_a_worker_that_is_known_to_be_dead_is_freed_with_what_it_spent(
    workers: Workers, direct: "Redis"
) -> None:
    """What it spent and what is left of its share change places in one step: at no moment is there more than the limit."""
    a, b, c = (workers.start(name, ledger="shared") for name in "abc")
    await claim(a, more=900)
    await claim(b)
    assert (await claim(c, more=500)).share_nanousd == 100
    [grant] = await b.claim(
        [(BUDGET, Claim(DAY, 350, 0, 0, 1000))], dead=["a"]
    )  # 350 of a's 900 were spent, and are booked
    assert grant == Grant(1000 - 350 - 100, 0, 100)
    [key] = direct.keys(f"{PREFIX}:acme*")
    assert not {"l:a", "b:a"} & direct.hgetall(key).keys()
    [again] = await c.claim([(BUDGET, Claim(DAY, 350, 0, 100, 1000))], dead=["a"])
    assert again.share_nanousd == 100, "told twice, it frees nothing twice"


async def test_f28_redis_wall_clock_has_no_say_in_who_lives(workers: Workers, direct: "Redis") -> None:
    """Nothing that is given out depends on a time of Redis': the fields of a share have none, and no key of a budget that
    runs expires within its period."""
    a = workers.start("a")
    await claim(a, more=900)
    [key] = direct.keys(f"{PREFIX}:acme*")
    assert all(not field.startswith("t") for field in direct.hgetall(key))
    assert direct.ttl(key) > 2 * 86_400


async def test_f25_after_a_fail_over_shares_are_told_anew_before_more_is_given(
    workers: Workers, direct: "Redis"
) -> None:
    a, b = workers.start("a"), workers.start("b")
    a_has = await claim(a, more=700, spent=100)
    await claim(b, more=100, spent=20)
    direct.flushall()  # as a replica that has heard of nothing
    late = workers.start("c")
    grant = await claim(late, more=1000)
    assert (grant.share_nanousd, grant.is_rebuilding) == (0, True)
    assert (await claim(a, share=a_has.share_nanousd, more=300, spent=150, held=10)).share_nanousd == 700
    assert (await claim(b, share=100, more=300, spent=20)).share_nanousd == 100
    assert (await claim(late, more=1000)).share_nanousd == 0
    direct.delete(REBUILDING_KEY)  # its time is over
    assert await claim(late, more=1000) == Grant(1000 - 700 - 100 - 150 - 20, 170, 800)


async def test_f25_older_data_is_brought_up_to_date(workers: Workers, direct: "Redis") -> None:
    a, b = workers.start("a"), workers.start("b")
    await claim(a, more=100, spent=10)
    [key] = direct.keys(f"{PREFIX}:acme*")
    old = direct.hgetall(key)
    await claim(a, share=100, spent=400)
    direct.delete(key)
    direct.hset(key, mapping=old)
    direct.set(f"{PREFIX}:run", "that of the server before")
    await claim(a, share=80, spent=420)
    direct.delete(REBUILDING_KEY)
    assert await claim(b, more=1000) == Grant(500, 420, 80)


async def test_f22_f23_redis_that_is_away_is_not_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    with redis_server(tmp_path) as server:
        a = RedisBudgets(RedisConfig(url=server.url), "", "a", clock)
        loop = asyncio.get_running_loop()

        async def seconds_until_away() -> float:
            started = loop.time()
            with pytest.raises(SharedAway):
                await claim(a)
            return loop.time() - started

        await claim(a)
        server.pause()
        assert await seconds_until_away() < 0.3
        assert a.is_away, "and is not asked again for a while"
        server.resume()
        clock.seconds += RETRY_SECONDS
        assert not a.is_away
        await claim(a)
        server.kill()
        assert await seconds_until_away() < 0.3
        server.start()
        clock.seconds += RETRY_SECONDS
        assert (await claim(a, share=5)).is_rebuilding, "another run"
        await a.close()


async def test_f25_a_redis_that_was_started_again_has_lost_its_scripts_and_is_not_away(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        budgets = RedisBudgets(RedisConfig(url=server.url, timeout_seconds=5.0), "", "one", worker="one")
        try:
            await asyncio.gather(claim(budgets), claim(budgets))  # each on a connection of its own
            for _ in range(2):
                server.kill()
                server.start()
                with structlog.testing.capture_logs() as log:
                    grants = await asyncio.gather(claim(budgets, 300), claim(budgets, 300))
                assert [(grant.share_nanousd, grant.is_rebuilding) for grant in grants] == [(300, True)] * 2
                assert (budgets.is_away, budgets._link.failures, log) == (False, 0, [])
        finally:
            await budgets.close()


async def test_a_silent_workers_share_is_given_back_by_a_redis_that_has_forgotten_how(
    workers: Workers, direct: "Redis"
) -> None:
    one, other = workers.start("one"), workers.start("other")
    await claim(one, more=600)
    await claim(other)
    workers.clock.seconds += shared_budget.RECLAIM_SECONDS + 1
    direct.script_flush()
    direct.script_load(shared_budget.CLAIM)
    await claim(other)
    assert (await claim(other, more=1000)).share_nanousd == 1000
    assert other._link.failures == 0


@pytest.mark.usefixtures("direct")
async def test_what_a_shared_ledger_has_is_counted_once_however_many_workers_tell_it(workers: Workers) -> None:
    a, b = workers.start("a", "ledger"), workers.start("b", "ledger")
    assert await claim(a, more=100, spent=300) == Grant(100, 0, 0)
    assert await claim(b, more=1000, spent=200) == Grant(600, 0, 100)  # it has not heard of the last 100 yet
    assert (await claim(workers.start("c"), more=1000)).elsewhere_spent_nanousd == 300


OPS = st.lists(
    st.tuples(st.sampled_from(["hold", "settle", "book", "learn", "claim"]), st.integers(0, 2), st.integers(1, 400)),
    max_size=60,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ops=OPS)
def test_f27_workers_whose_ledger_is_behind_never_spend_and_hold_more_than_there_is(
    server: RedisServer, direct: "Redis", ops: list[tuple[str, int, int]]
) -> None:
    """Whatever is settled and not booked, booked and not learnt, learnt and not told."""
    direct.delete(*direct.keys(f"{PREFIX}:acme*"), "none")

    async def play() -> None:
        workers = Workers(server)
        asks = [workers.start(f"w{number}", "ledger") for number in range(3)]
        books = [Budgets(is_behind=True) for _ in asks]
        for one in books:
            one.configure([BUDGET], DAY.start_ns)
        [accounts] = zip(*(one.accounts for one in books), strict=True)
        for account in accounts:
            account.share_nanousd = 0
            account.learn(Spent(0, 0, 0), DAY)
        holds: list[list[Hold]] = [[], [], []]
        settled: list[list[int]] = [[], [], []]  # of each worker, what its reports came to, in order
        booked = [0, 0, 0]  # how many of them the ledger has

        def in_ledger() -> int:
            return sum(sum(costs[:count]) for costs, count in zip(settled, booked, strict=True))

        async def tell(who: int, more: int) -> None:
            told = accounts[who].claim(more)
            [grant] = await asks[who].claim([(BUDGET, told)])
            accounts[who].grant(told, grant)

        for what, who, nanousd in ops:
            if what == "hold":
                found = books[who].reserve([accounts[who]], nanousd, DAY.start_ns, 10**9)
                holds[who] += [found] if isinstance(found, Hold) else []
            elif what == "settle" and holds[who]:
                hold = holds[who].pop(nanousd % len(holds[who]))
                settled[who].append(hold.nanousd - nanousd % 3 % (hold.nanousd + 1))
                books[who].settle(hold, settled[who][-1], DAY.start_ns, len(settled[who]))
            elif what == "book":
                booked[who] = min(booked[who] + nanousd % 4, len(settled[who]))
            elif what == "learn":
                accounts[who].learn(Spent(in_ledger(), 0, booked[who]), DAY)
            elif what == "claim":
                await tell(who, nanousd)
            held = sum(account.held_nanousd for account in accounts)
            assert sum(map(sum, settled)) + held <= BUDGET.limit_nanousd
        # In the end nothing is lost: what nobody has spent or holds can be had.
        booked[:] = map(len, settled)
        for who in (0, 1, 2):
            accounts[who].learn(Spent(in_ledger(), 0, booked[who]), DAY)
            await tell(who, 0)
        await tell(0, BUDGET.limit_nanousd)
        held = sum(account.held_nanousd for account in accounts)
        assert accounts[0].free_nanousd == BUDGET.limit_nanousd - in_ledger() - held
        await workers.close()

    asyncio.run(play())
