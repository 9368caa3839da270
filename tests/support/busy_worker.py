"""One of several workers on a ledger, as busy as it can be until it is killed: `python busy_worker.py LEDGER SEED SPOOL`.

LEDGER is a file, or the URL of a PostgreSQL; SPOOL a path. With an odd seed it only reports (`router/accounting/reporter.py`).
Prints `durable <attempt>` for every metered attempt once its journal says that it is on disk, `refused <attempt>` where it
cannot, `told <attempt>` once its end is, and `posted <nano-dollars>`, the sum of all costs and corrections that the totals have
shown, while it keeps the books.
"""

import asyncio
import random
import sys
import time
from pathlib import Path

import structlog
from bookkeeping import CLOUD_PRICE, EDGE_PRICE, FLEET, LARGE, PRICES, PROFILES, SMALL, answered, facts

from router.accounting.bookkeeper import Bookkeeper
from router.accounting.books import Books
from router.config.stores import AccountantPlace, LedgerConfig, SpoolConfig
from router.domain.attempt import AttemptEnd, AttemptStatus
from router.domain.usage import Usage
from router.errors import Unavailable
from router.fleet.health import HealthRules
from router.fleet.state import Fleet
from router.ledger.address import Address, PostgresAddress, address_from_text
from router.selection.sleep import Sleepers

SILENCE_SECONDS = 0.7
NOT_SENT = AttemptEnd(AttemptStatus.FAILED, Usage(0, 0), "internal")


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
            try:
                accountant.open(one, of, price, 100, 50, time.time_ns())
            except Unavailable:
                print("refused", one.attempt_id, flush=True)
                await asyncio.sleep(0.1)
                continue
            if of is LARGE:
                try:
                    await accountant.durable(one.attempt_id)
                except Unavailable:
                    accountant.close(one.attempt_id, NOT_SENT, time.time_ns())
                    print("refused", one.attempt_id, flush=True)
                    continue
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


async def work(address: Address, seed: int, spool: Path) -> None:
    config = LedgerConfig.model_construct(
        path=address,
        url=address.url if isinstance(address, PostgresAddress) else None,
        commit_seconds=0.002,
        accountant=AccountantPlace.INSIDE,
        silence_seconds=SILENCE_SECONDS,
        spool=SpoolConfig(path=spool),
    )
    books = Books(config, "", time.time_ns, lambda charge: None, in_group=seed % 2 == 1)
    fleet = Fleet(FLEET, ("small", "large"), HealthRules())
    assert books.keeper is not None
    books.accountant.set_fleet(FLEET, PRICES, PROFILES, time.time_ns())
    books.keeper.set_fleet(FLEET, PRICES, PROFILES)
    requests = Requests(books, seed)
    async with books.running(fleet, Sleepers()), asyncio.TaskGroup() as group:
        for client in range(6):
            group.create_task(requests.ask_for_ever(client))
        group.create_task(post_for_ever(books.keeper))


if __name__ == "__main__":
    # Not among what it says: another thread may log in the middle of a line.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(work(address_from_text(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
