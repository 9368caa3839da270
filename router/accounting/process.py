"""The accountant as a process of its own: keeps the books that workers elsewhere report to, and serves its metrics.

For where the processes that serve are not to spend their time on it (`ledger.accountant: apart`). Several may run; one keeps the
books, the others wait for it to die.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import structlog
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry

from router.accounting.books import bookkeeper
from router.clock import Clock
from router.config_file import LoadedConfig
from router.deployment import deploy
from router.discovery import Discovery
from router.feeds import PollResult
from router.ledger.address import Address, configured_address
from router.ledger.reading import read_lease_prices
from router.ledger.schema import reading
from router.ledger.store import LedgerError
from router.price_watch import PriceWatch
from router.reload import Reloader, ReloadResult
from router.telemetry.discoveries import DiscoveryCollector
from router.telemetry.exposition import Exposition
from router.telemetry.keeping import KeeperCollector
from router.telemetry.labels import Vocabulary
from router.telemetry.metrics import CONTENT_TYPE, TENANTS_MAX, LedgersMoney
from router.telemetry.money import MoneyCollector
from router.telemetry.price_state import PriceStateCollector, feed_polls_counter
from router.telemetry.prices import RecentPrices
from router.telemetry.tally import Counter

log = structlog.get_logger("jeton.accounting")

DAY_LOOK_SECONDS = 1.0


def _lease_prices(address: Address) -> frozenset[str]:
    """By which the leases of the process before run; of a ledger that is not there yet, none."""
    try:
        with reading(address) as database:
            return read_lease_prices(database)
    except LedgerError:
        return frozenset()


class Accounting:
    """`asgi` is what a server runs: /metrics, and /health for whoever watches over it."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self._loaded = loaded
        clock, recent_prices = Clock(), RecentPrices()
        password = loaded.secrets.ledger_password.get_secret_value()
        self._keeper = bookkeeper(loaded.config.ledger, password, clock.now_ns, recent_prices.count)
        # Leases follow from the fleet and cost what their feeds say, so whoever books them looks for both, too.
        self._price_watch = PriceWatch(loaded, clock.now_ns, lambda: self._apply(self._loaded), self._count_poll)
        self._price_watch.remember(_lease_prices(configured_address(loaded.config.ledger, password)))
        self._discovery = Discovery(lambda: self._apply(self._loaded), time.monotonic)
        self._discovery.follow(loaded)
        self._discovery.look_first()
        self._registry, self._exposition = CollectorRegistry(), Exposition()
        self._feed_polls_total = feed_polls_counter(self._registry)
        self._apply(loaded)
        money = MoneyCollector(self._keeper.totals, Vocabulary(TENANTS_MAX))
        self._registry.register(LedgersMoney(lambda: self._keeper.is_leading, money, recent_prices))
        self._registry.register(KeeperCollector(self._keeper))
        self._reloads_total = Counter(self._registry, "jeton_reloads", "Configurations read after the first.", "result")
        self._registry.register(DiscoveryCollector(self._discovery))
        self._registry.register(PriceStateCollector(self._price_watch.rows))
        self.asgi = FastAPI(title="jeton accountant", docs_url=None, redoc_url=None, lifespan=self._lifespan)
        self.asgi.add_api_route("/metrics", self._metrics, summary="Prometheus metrics")
        self.asgi.add_api_route("/health", self._health, summary="Is the process alive, and does it keep the books")

    def _apply(self, loaded: LoadedConfig) -> None:
        self._day = datetime.now(UTC).date()
        self._discovery.follow(loaded)
        loaded = self._discovery.filled(loaded)
        self._price_watch.follow(loaded)
        deployment = deploy(loaded, self._day, fed=self._price_watch.fed)
        self._keeper.set_fleet(deployment.backends, deployment.prices, deployment.profiles)
        self._loaded = loaded

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        reloader = Reloader(self._loaded, self._apply, self._count)
        tasks = [asyncio.create_task(self._keeper.keep()), asyncio.create_task(self._turn_days())]
        async with reloader.running(), self._discovery.running(), self._price_watch.running():
            yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._keeper.close()

    async def _turn_days(self) -> None:
        """Another day's prices may be in force."""
        while True:
            await asyncio.sleep(DAY_LOOK_SECONDS)
            if datetime.now(UTC).date() != self._day:
                try:
                    self._apply(self._loaded)
                except Exception:
                    log.exception("the day's prices could not be applied")

    def _count(self, result: ReloadResult) -> None:
        self._reloads_total.labels(str(result)).value += 1

    def _count_poll(self, feed: str, result: PollResult) -> None:
        self._feed_polls_total.labels(feed, str(result)).value += 1

    async def _metrics(self) -> Response:
        await self._keeper.posted()
        text = self._exposition.write(self._registry.collect())
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def _health(self) -> dict[str, bool]:
        return {"keeps_the_books": self._keeper.is_leading}
