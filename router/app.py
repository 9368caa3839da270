"""Builds every room from the configuration and joins them; the only file that knows all."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, date, datetime

import structlog
from fastapi import FastAPI

from router.access.repeats import Repeats
from router.accountant import Accountant
from router.api import build_api
from router.bursar import Bursar
from router.cache.responses import ResponseCache
from router.classify.classifier import Classifier
from router.clock import Clock
from router.config_file import LoadedConfig
from router.deployment import Deployment, deploy
from router.discovery import Discovery
from router.dispatch.names import StrangersNames
from router.dispatch.relay import Relay
from router.dispatch.watchdog import Watchdog
from router.domain.fleet import Billing, Health, HealthState, Replica
from router.fleet.scraper import Scraper
from router.fleet.state import Fleet
from router.gateway import Gateway
from router.ledger.shared_budget import RedisBudgets
from router.ledger.sqlite import SqliteLedger
from router.pipeline import Pipeline
from router.price_watch import PriceWatch
from router.pricing.drift import Drifts
from router.pricing.profile import EngineProfile
from router.recall import Recall
from router.reload import Reloader
from router.telemetry.cache import CacheCollector
from router.telemetry.drift import DriftCollector
from router.telemetry.metrics import Metrics
from router.telemetry.price_state import PriceStateCollector

log = structlog.get_logger("jeton.app")

# How often time is booked to the leases and open attempts are posted, so that money counters move smoothly.
ADVANCE_SECONDS = 1.0


class App:
    """One router. `asgi` is what a server runs; `drain` makes it not ready while it still serves; `drifts` is what it has
    learned of its replicas."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self._loaded = loaded
        self._day = _today()
        self._is_draining = False
        self._closing: list[asyncio.Task[None]] = []
        self._scraper: Scraper
        self._clock = Clock()
        self._watchdog = Watchdog()
        self.drifts = Drifts()
        self._discovery = Discovery(self._replicas_moved, self._discovered, time.monotonic)
        self._discovery.follow(loaded)
        self._discovery.look_first()  # before the ledger goes on: the leases of replicas that are still there shall, too
        self._loaded = loaded = self._discovery.filled(loaded)
        self._price_watch = PriceWatch(loaded, self._clock.now_ns, self._prices_moved, self._feed_polled)
        config = loaded.config
        self._store = SqliteLedger(config.ledger.path, commit_seconds=config.ledger.commit_seconds)
        self._accountant = Accountant(self._store)
        self._price_watch.remember(self._accountant.lease_prices())
        deployment = deploy(loaded, self._day, self.drifts, self._price_watch.fed)
        self.drifts.follow(_replica_profiles(deployment))
        self._fleet = Fleet(deployment.backends, deployment.tiers, deployment.rules, on_health=_log_health)
        self._bursar = Bursar(self._store, self._clock, _shared_budgets(loaded, self._store.ledger_id))
        self._bursar.configure(loaded.budgets)
        self._metrics = Metrics(self._accountant, self._fleet, self._bursar)
        self._metrics.registry.register(DriftCollector(self._drift_ratios))
        self._metrics.registry.register(PriceStateCollector(self._price_watch.rows))
        self._relay = Relay(self._watchdog)
        self._names = StrangersNames()
        self._repeats = Repeats(config.repeats, config.redis, loaded.secrets.redis_password.get_secret_value())
        self._cache = ResponseCache(config.redis, loaded.secrets.redis_password.get_secret_value())
        self._cache.configure(config.cache)
        self._metrics.registry.register(CacheCollector(self._cache))
        self._pipeline = Pipeline(
            deployment,
            self._fleet,
            self._relay,
            self._accountant,
            self._bursar,
            Classifier.load(),
            self._metrics,
            self._clock,
            self._watchdog,
            self._repeats,
            self._names,
            Recall(self._cache, self._accountant, self._metrics, self._clock.now_ns),
        )
        self._accountant.set_fleet(deployment.backends, deployment.prices, deployment.profiles, self._clock.now_ns())
        api = build_api(
            self._pipeline,
            is_ready=self._why_not_ready,
            warnings=self._price_watch.warnings,
            render_metrics=self._render_metrics,
        )
        api.router.lifespan_context = self._lifespan
        self.asgi = Gateway(self._pipeline, api, self._watchdog)

    def drain(self) -> None:
        """From now on not ready: no new work, please. What is under way goes on."""
        self._is_draining = True

    def apply(self, loaded: LoadedConfig) -> None:
        """Put a checked configuration into effect. Requests in flight end on what they started with."""
        day = _today()
        self._discovery.follow(loaded)
        loaded = self._discovery.filled(loaded)
        self._price_watch.follow(loaded)
        deployment = deploy(loaded, day, self.drifts, self._price_watch.fed)
        self.drifts.follow(_replica_profiles(deployment))
        self._day = day
        self._accountant.set_fleet(deployment.backends, deployment.prices, deployment.profiles, self._clock.now_ns())
        self._bursar.configure(loaded.budgets)
        self._cache.configure(loaded.config.cache)
        self._fleet.configure(deployment.backends, deployment.tiers, deployment.rules)
        if loaded.config.health != self._loaded.config.health:
            self._closing.append(asyncio.create_task(self._scraper.close()))
            self._scraper = self._new_scraper(loaded)
        self._scraper.follow(deployment.backends)
        self._pipeline.deployment = deployment
        self._loaded = loaded

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(self._store.close)
            await stack.enter_async_context(self._bursar.running())
            await stack.enter_async_context(self._repeats.running())
            stack.push_async_callback(self._cache.aclose)
            stack.push_async_callback(self._relay.aclose)
            stack.callback(self._names.close)
            self._scraper = self._new_scraper(self._loaded)
            stack.push_async_callback(self._close_scrapers)
            self._scraper.follow(self._pipeline.deployment.backends)
            reloader = Reloader(self._loaded, self.apply, self._metrics.reloaded)
            await stack.enter_async_context(reloader.running())
            await stack.enter_async_context(self._price_watch.running())
            await stack.enter_async_context(self._discovery.running())
            advancing = asyncio.create_task(self._advance_for_ever())
            stack.push_async_callback(_cancelled, advancing)
            log.info("ready", backends=len(self._pipeline.deployment.backends))
            yield
            log.info("ending", open_attempts=self._accountant.open_attempts)
            self._accountant.advance(self._clock.now_ns())

    def _new_scraper(self, loaded: LoadedConfig) -> Scraper:
        health = loaded.config.health
        return Scraper(
            self._fleet,
            interval_seconds=health.interval_seconds,
            timeout_seconds=health.timeout_seconds,
            jitter_ratio=health.jitter_ratio,
        )

    async def _close_scrapers(self) -> None:
        await asyncio.gather(self._scraper.close(), *self._closing)

    async def _advance_for_ever(self) -> None:
        while True:
            await asyncio.sleep(ADVANCE_SECONDS)
            try:
                if _today() != self._day:  # another day's prices may be in force
                    self.apply(self._loaded)
                now_ns = self._clock.now_ns()
                self._accountant.advance(now_ns)
                self.drifts.advance(now_ns)
            except Exception:
                log.exception("time could not be booked")

    def _prices_moved(self) -> None:
        self.apply(self._loaded)

    def _replicas_moved(self) -> None:
        self.apply(self._loaded)

    def _discovered(self, backend: str, result: str) -> None:
        self._metrics.discovered(backend, result)

    def _feed_polled(self, feed: str, result: str) -> None:
        self._metrics.feed_polled(feed, result)

    async def _render_metrics(self) -> tuple[bytes, str]:
        self._accountant.advance(self._clock.now_ns())
        await self._accountant.posted()
        return await asyncio.to_thread(self._metrics.render)

    def _drift_ratios(self) -> Iterator[tuple[str, str, str, float]]:
        backends = {
            replica.id: backend.name for backend in self._pipeline.deployment.backends for replica in backend.replicas
        }
        for replica, kind, ratio in self.drifts.ratios():
            yield backends.get(replica, ""), replica, kind, ratio

    def _why_not_ready(self) -> str:
        if self._is_draining:
            return "shutting down"
        now_seconds = self._fleet.clock()
        for health in self._fleet.snapshot.health.values():
            if (
                health.admits(now_seconds) or health.state is HealthState.EJECTED
            ):  # an ejected one still serves in a panic
                return ""
        return "no replica is usable"


def _replica_profiles(deployment: Deployment) -> dict[str, EngineProfile]:
    """By replica's id, of leased backends."""
    return {
        replica.id: deployment.profiles[backend.name]
        for backend in deployment.backends
        if backend.pool.billing is Billing.LEASED and backend.name in deployment.profiles
        for replica in backend.replicas
    }


def _shared_budgets(loaded: LoadedConfig, ledger_id: str) -> RedisBudgets | None:
    redis = loaded.config.redis
    if redis is None:
        return None
    return RedisBudgets(redis, loaded.secrets.redis_password.get_secret_value(), ledger_id)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _log_health(replica: Replica, before: Health, after: Health) -> None:
    say: Callable[..., object] = log.info if after.is_usable else log.warning
    say("replica's health", replica=replica.id, before=before.state, after=after.state, why=after.why)


def _today() -> date:
    return datetime.now(UTC).date()
