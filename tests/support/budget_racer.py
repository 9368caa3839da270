"""One worker of several that race for a budget in Redis: `budget_racer.py <redis url> <directory> <how many> <limit> <hold>
<least cost> <start at>`. Prints how many it got, what they cost, and the milliseconds that asking took at most.

It has the ledger, the bursar and the Redis client of a router, and no requests around them.
"""

import asyncio
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from router.accounting.bursar import Bursar
from router.clock import Clock
from router.config.stores import RedisConfig
from router.domain.budget import Budget, Period
from router.domain.request import Endpoint
from router.errors import BudgetRefusal
from router.ledger.shared_budget import RedisBudgets
from router.ledger.sqlite import SqliteLedger

TERM_NS = 60 * 10**9


async def race(
    url: str, directory: str, count: str, limit: str, hold_nanousd: str, cost_least: str, start_at: str
) -> None:
    store = SqliteLedger(Path(directory) / "ledger.sqlite")
    # Two cores for five processes: a slow answer is no absence here.
    shared = RedisBudgets(RedisConfig(url=url, timeout_seconds=5.0), "", store.ledger_id)
    bursar = Bursar(store, clock := Clock(), shared)
    bursar.configure([Budget("acme", "", Period.TOTAL, int(limit))])
    chance = random.Random(directory)
    got: list[int] = []
    slowest = 0.0

    async def request() -> None:
        nonlocal slowest
        started = time.monotonic()
        try:
            hold = await bursar.reserve(bursar.of("acme", "key"), int(hold_nanousd), TERM_NS, Endpoint.CHAT)
        except BudgetRefusal:
            return
        finally:
            slowest = max(slowest, time.monotonic() - started)
        await asyncio.sleep(chance.uniform(0, 0.2))
        cost = chance.randint(int(cost_least), int(hold_nanousd))
        got.append(cost)
        charge: Any = SimpleNamespace(cost_nanousd=cost, ended_ns=clock.now_ns())
        bursar.settle(hold, charge)

    async with bursar.running():
        await asyncio.sleep(max(float(start_at) - time.time(), 0))
        await asyncio.gather(*(request() for _ in range(int(count))))
    print(len(got), sum(got), round(slowest * 1000))
    store.close()


if __name__ == "__main__":
    asyncio.run(race(*sys.argv[1:]))
