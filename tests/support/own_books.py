"""The books of one process over a real ledger, where the cloud has a price of the test's own."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from bookkeeping import FLEET, LARGE, PRICES, PROFILES, SECOND, answered, facts

from router.accounting.accountant import Accountant
from router.domain.attempt import Charge
from router.domain.fleet import Backend
from router.ledger.sqlite import SqliteLedger
from router.pricing.price import MeteredPrice

START = 1_795_000_000 * SECOND


class OwnBooks:
    """Attempts begin at START and last a second."""

    def __init__(self, path: Path, cloud_price: MeteredPrice) -> None:
        self.path = path
        self.store = SqliteLedger(path, commit_seconds=0.0005)
        self.accountant = Accountant(self.store)
        self._prices = PRICES | {LARGE.name: cloud_price}
        self.accountant.set_fleet(FLEET, self._prices, PROFILES, START)

    def opened(self, request_id: str, of: Backend, **asked: object) -> str:
        """asked: members of the facts. Returns the attempt's id."""
        one = facts(request_id, of, **asked)
        self.accountant.open(one, of, self._prices[of.name], 100, 50, START)
        return one.attempt_id

    def closed(self, attempt_id: str, **usage: object) -> Charge:
        return self.accountant.close(attempt_id, answered(**usage), START + SECOND)

    def end(self) -> None:
        self.accountant.advance(START + 2 * SECOND)
        asyncio.run(self.store.published(10.0))
        self.store.close()

    def details(self, kind: str) -> list[str]:
        """Of the journal's events of that kind, in order."""
        with closing(sqlite3.connect(self.path)) as connection:
            found = connection.execute("SELECT detail FROM journal WHERE kind = ? ORDER BY seq", (kind,))
            return [detail for (detail,) in found]
