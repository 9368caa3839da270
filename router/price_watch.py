"""What the prices of the fleet are just now and how far each can be believed: the book's rows, moved by its feeds.

The one place that the log, `/ready`, the metrics and the deployment learn it from. A price that becomes stale or unknown is told
in the log when it does, and stands in `/ready` and the metrics for as long as it is.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress

import structlog

from router.config_file import LoadedConfig
from router.feeds import Feeds, PollResult
from router.pricing.feed import NS_PER_SECOND, fed_price_of
from router.pricing.freshness import PriceState, Standing, Told, standing

log = structlog.get_logger("jeton.prices")

# How often it is looked whether a price has become stale.
LOOK_SECONDS = 5.0


class PriceWatch:
    """Creating one takes up the configuration; `running` polls its feeds. on_change, count: as of `Feeds`."""

    def __init__(
        self,
        loaded: LoadedConfig,
        now_ns: Callable[[], int],
        on_change: Callable[[], None],
        count: Callable[[str, PollResult], None],
    ) -> None:
        self._now_ns = now_ns
        self._feeds = Feeds(now_ns, on_change, count)
        self._states: dict[str, PriceState] = {}
        self.fed = self._feeds.fed
        self.follow(loaded)

    def follow(self, loaded: LoadedConfig) -> None:
        """A configuration has been put into effect."""
        self._book = loaded.book
        self._price_names = {backend.name: backend.price for backend in loaded.backends}
        self._feeds.follow(loaded.book, loaded.prices_path.parent)

    def remember(self, price_ids: Iterable[str]) -> None:
        """The prices of leases that an earlier process left running: what its feeds had told last stays in force, too."""
        for price_id in price_ids:
            if (fed := fed_price_of(price_id)) is not None:
                self._feeds.remember(fed)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self._feeds.running():
            watching = asyncio.create_task(self._watch_for_ever())
            try:
                yield
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching

    def standings(self) -> Mapping[str, Standing]:
        """By backend."""
        now_seconds = self._now_ns() / NS_PER_SECOND
        return {
            backend: standing(self._book, name, now_seconds, self._told(name))
            for backend, name in self._price_names.items()
        }

    def rows(self) -> Iterator[tuple[str, str, float | None]]:
        """For the metrics: backend, state, age in seconds."""
        for backend, one in self.standings().items():
            yield backend, one.state.value, one.age_seconds

    def warnings(self) -> list[str]:
        """A sentence for each price that is not current."""
        return [
            f"the price `{one.name}` of `{backend}` is {one.state.value}: {one.why}"
            for backend, one in self.standings().items()
            if one.state is not PriceState.CURRENT
        ]

    def _told(self, name: str) -> Told | None:
        hearing = self._feeds.hearings.get(name)
        if hearing is None:
            return None
        return Told(hearing.feed, hearing.heard_ns / NS_PER_SECOND, hearing.fed is not None, hearing.trouble)

    async def _watch_for_ever(self) -> None:
        while True:
            try:
                self._tell()
            except Exception:
                log.exception("prices could not be looked at")
            await asyncio.sleep(LOOK_SECONDS)

    def _tell(self) -> None:
        standings = self.standings()
        for backend, one in standings.items():
            if self._states.get(backend, PriceState.CURRENT) is one.state:
                continue
            say = {PriceState.CURRENT: log.info, PriceState.STALE: log.warning, PriceState.UNKNOWN: log.error}[
                one.state
            ]
            say("price", backend=backend, price=one.name, state=one.state.value, why=one.why)
        self._states = {backend: one.state for backend, one in standings.items()}
