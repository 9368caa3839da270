"""Keeps books as fast as it can until it is killed: `python busy_books.py LEDGER SEED DIRECTORY`. LEDGER: a
file, or a database's URL, whose spool is in DIRECTORY.

Prints `durable <attempt>` for every metered attempt once the ledger says that it is on disk, and `posted <nano-dollars>` for
the sum of all costs that the totals have shown.
"""

import asyncio
import random
import sys
import time
from pathlib import Path

import structlog
from bookkeeping import CLOUD_PRICE, EDGE_PRICE, FLEET, LARGE, PRICES, PROFILES, SMALL, answered, facts
from ledgers import Place

from router.accounting.accountant import Accountant
from router.errors import Unavailable
from router.ledger.address import address_from_text


async def keep(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    store = place.open(commit_seconds=0.002)
    accountant = Accountant(store)
    accountant.set_fleet(FLEET, PRICES, PROFILES, time.time_ns())
    async with asyncio.TaskGroup() as group:
        for worker in range(8):
            group.create_task(request_for_ever(accountant, f"s{seed}-w{worker}", chance))
        while True:
            accountant.advance(time.time_ns())
            totals = await accountant.posted()
            shown = sum(total.cost_nanousd for total in totals.lines.values()) + sum(totals.open_nanousd.values())
            print("posted", shown, flush=True)
            await asyncio.sleep(0.01)


async def request_for_ever(accountant: Accountant, name: str, chance: random.Random) -> None:
    number = 0
    while True:
        number += 1
        of, price = (LARGE, CLOUD_PRICE) if chance.random() < 0.5 else (SMALL, EDGE_PRICE)
        one = facts(f"{name}-{number}", of, replica=chance.randrange(len(of.replicas)))
        try:
            accountant.open(one, of, price, 100, 50, time.time_ns())
        except Unavailable:
            await asyncio.sleep(0.01)
            continue
        if of is LARGE:
            try:
                await accountant.durable(one.attempt_id)
            except Unavailable:  # refused: it is not dispatched
                accountant.close(one.attempt_id, answered(0, 0), time.time_ns())
                continue
            print("durable", one.attempt_id, flush=True)
        await asyncio.sleep(chance.random() * 0.004)
        accountant.first_token(one.attempt_id, time.time_ns())
        await asyncio.sleep(chance.random() * 0.004)
        accountant.close(one.attempt_id, answered(), time.time_ns())


if __name__ == "__main__":
    # Not among what it says: another thread may log in the middle of a line.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(keep(Place(address_from_text(sys.argv[1]), Path(sys.argv[3])), int(sys.argv[2])))
