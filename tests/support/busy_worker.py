"""One of several workers on a ledger, as busy as it can be until it is killed: `python busy_worker.py LEDGER SEED`.

LEDGER is a file, or the URL of a PostgreSQL. With an odd seed it only reports (`router/reporter.py`). Prints `durable <attempt>`
for every metered attempt once its journal says that it is on disk, `told <attempt>` once its end is, and `posted <nano-dollars>`,
the sum of all costs and corrections that the totals have shown, while it keeps the books.
"""

import asyncio
import random
import sys
import time

from bookkeeping import CLOUD_PRICE, EDGE_PRICE, FLEET, LARGE, PRICES, PROFILES, SMALL, answered, facts

from router.bookkeeper import Bookkeeper
from router.books import Books
from router.config.stores import AccountantPlace, LedgerConfig
from router.fleet.health import HealthRules
from router.fleet.state import Fleet
from router.ledger.address import Address, PostgresAddress, address_from_text

SILENCE_SECONDS = 0.7


class Requests:
    """Clients that ask again as soon as they are answered."""

    def __init__(self, books: Books, seed: int) -> None:
        self.books = books
        self.seed = seed
        self.chance = random.Random(seed)

    async def ask_for_ever(self, client: int) -> None:
        accountant, journal, chance, number = self.books.accountant, self.books.store, self.chance, 0
        while True:
            number += 1
            of, price = (LARGE, CLOUD_PRICE) if chance.random() < 0.5 else (SMALL, EDGE_PRICE)
            one = facts(f"s{self.seed}-c{client}-{number}", of, replica=chance.randrange(len(of.replicas)))
            accountant.open(one, of, price, 100, 50, time.time_ns())
            if of is LARGE:
                await accountant.durable(one.attempt_id)
                print("durable", one.attempt_id, flush=True)
            await asyncio.sleep(chance.random() * 0.01)
            accountant.first_token(one.attempt_id, time.time_ns())
            await asyncio.sleep(chance.random() * 0.01)
            accountant.close(one.attempt_id, answered(), time.time_ns())
            if chance.random() < 0.1:
                await journal.committed(journal.position, 10)
                print("told", one.attempt_id, flush=True)


async def post_for_ever(keeper: Bookkeeper) -> None:
    while True:
        totals = await keeper.posted()
        if keeper.is_leading:
            shown = sum(total.cost_nanousd for total in totals.lines.values()) + sum(totals.open_nanousd.values())
            print("posted", shown, flush=True)
        await asyncio.sleep(0.05)


async def work(address: Address, seed: int) -> None:
    config = LedgerConfig.model_construct(
        path=address,
        url=address.url if isinstance(address, PostgresAddress) else None,
        commit_seconds=0.002,
        accountant=AccountantPlace.INSIDE,
        silence_seconds=SILENCE_SECONDS,
    )
    books = Books(config, "", time.time_ns, lambda charge: None, in_group=seed % 2 == 1)
    fleet = Fleet(FLEET, ("small", "large"), HealthRules())
    assert books.keeper is not None
    books.accountant.set_fleet(FLEET, PRICES, PROFILES, time.time_ns())
    books.keeper.set_fleet(FLEET, PRICES, PROFILES)
    requests = Requests(books, seed)
    async with books.running(fleet), asyncio.TaskGroup() as group:
        for client in range(6):
            group.create_task(requests.ask_for_ever(client))
        group.create_task(post_for_ever(books.keeper))


if __name__ == "__main__":
    asyncio.run(work(address_from_text(sys.argv[1]), int(sys.argv[2])))
