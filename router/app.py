"""Builds every room from the configuration and joins them; the only file that knows all."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI

from router.access.repeats import Repeats
from router.accounting.books import ADVANCE_SECONDS, Books
from router.accounting.bursar import Bursar
from router.admin import AdminDoor, admin_keys, admin_port, build_admin
from router.api import build_api
from router.cache.responses import ResponseCache
from router.clock import Clock
from router.cohort import Cohort
from router.config.stores import AccountantPlace, LedgerConfig
from router.config_file import LoadedConfig
from router.config_source import ConfigRefused, read_source
from router.departures import Departures
from router.deployment import Deployment, deploy
from router.discovery import Discovery
from router.dispatch.names import BackendNames, StrangersNames
from router.dispatch.outbox import Outbox
from router.dispatch.relay import Relay
from router.dispatch.retries import RetryBudget
from router.dispatch.watchdog import Watchdog
from router.domain.fleet import Backend, Health, HealthState, Replica
from router.failover import Failover
from router.fleet.scraper import Scraper
from router.fleet.state import Fleet
from router.gateway import Gateway
from router.group import Member
from router.ledger.address import configured_address
from router.ledger.shared_budget import RedisBudgets
from router.leftovers import Leftovers
from router.orders import Order, Orders
from router.pipeline import Pipeline
from router.preemption_record import PreemptionRecord
from router.prefix_news import PrefixNewsExchange
from router.price_watch import PriceWatch
from router.recall import Recall
from router.recount import Recount
from router.reload import Reloader
from router.selection.lessons import Lessons
from router.shadows import Shadows
from router.telemetry.cache import CacheCollector
from router.telemetry.discoveries import DiscoveryCollector
from router.telemetry.drift import DriftCollector
from router.telemetry.experience import ExperienceCollector
from router.telemetry.gathered import Tally, tally_row
from router.telemetry.keeping import KeeperCollector
from router.telemetry.metrics import CONTENT_TYPE, Metrics
from router.telemetry.preemption import PreemptionCollector
from router.telemetry.prefixes import PrefixCollector
from router.telemetry.price_state import PriceStateCollector
from router.telemetry.prices import RecentPrices
from router.telemetry.sleep import SleepCollector
from router.telemetry.spool import SpoolCollector
from router.telemetry.yields import YieldCollector

log = structlog.get_logger("jeton.app")


class App:
    """One router. `asgi` is what a server runs; `drain` makes it not ready while it still serves; `lessons` is what it has
    learned of its fleet."""

    def __init__(
        self, loaded: LoadedConfig, channel: int | None = None, admin_listening: socket.socket | None = None
    ) -> None:
        """channel: the socket to the supervisor, where this is one worker of a group; admin_listening: of the group's admin
        port."""
        self._loaded = loaded
        self._day = _today()
        self._is_draining = False
        self._closing: list[asyncio.Task[None]] = []
        self._scraper: Scraper
        self._reloader: Reloader
        self._clock = Clock()
        self._watchdog = Watchdog()
        self.lessons = Lessons()
        self._discovery = Discovery(self._replicas_moved, time.monotonic)
        self._discovery.follow(loaded)
        self._discovery.look_first()  # before the ledger goes on: the leases of replicas that are still there shall, too
        self._loaded = loaded = self._discovery.filled(loaded)
        self._price_watch = PriceWatch(loaded, self._clock.now_ns, self._prices_moved, self._feed_polled)
        config = loaded.config
        self._burying: set[asyncio.Task[None]] = set()
        self._member = (
            None if channel is None else Member(channel, self._tally, self._identity, self._heed_death, self._obey)
        )
        ledger, recent_prices = _placed(config.ledger, in_group=channel is not None), RecentPrices()
        password = loaded.secrets.ledger_password.get_secret_value()
        self._books = Books(ledger, password, self._clock.now_ns, recent_prices.count, in_group=channel is not None)
        self._accountant = self._books.accountant
        self._price_watch.remember(self._books.lease_prices())
        deployment = deploy(loaded, self._day, self.lessons, self._price_watch.fed)
        self.lessons.follow(deployment.backends, deployment.profiles, loaded.config.health.availability_min)
        self._fleet = Fleet(deployment.backends, deployment.tiers, deployment.rules, on_health=self._heed_health)
        self._preemption_record = PreemptionRecord(
            configured_address(ledger, password), self.lessons.preemptions, self._clock.now_ns, self._fleet.clock
        )
        shared_budgets = _shared_budgets(loaded, self._books)
        self._shares_budgets = shared_budgets is not None
        self._bursar = Bursar(
            self._books.store,
            self._clock,
            shared_budgets,
            is_behind=self._books.is_estimating,
        )
        self._bursar.configure(loaded.budgets)
        self._metrics = Metrics(
            self._books,
            self._fleet,
            self._bursar,
            recent_prices=recent_prices if self._books.is_estimating else None,
            shows_money=lambda: self._books.shows_money,
        )
        self._metrics.registry.register(DriftCollector(self._drift_ratios))
        self._metrics.registry.register(SleepCollector(self._sleeping))
        self._metrics.registry.register(ExperienceCollector(self.lessons.experiences))
        self._metrics.registry.register(PreemptionCollector(self.lessons.preemptions))
        self._metrics.registry.register(YieldCollector(self.lessons.yields.figures))
        self._metrics.registry.register(DiscoveryCollector(self._discovery))
        if self._books.keeper is not None:
            self._metrics.registry.register(KeeperCollector(self._books.keeper))
        self._metrics.registry.register(SpoolCollector(lambda: self._books.spool))
        self._names = BackendNames()
        self.outbox = Outbox()
        self._relay = Relay(self._watchdog, self._names, self.outbox)
        self._strangers_names = StrangersNames()
        self._metrics.registry.register(PriceStateCollector(self._price_watch.rows))
        self._repeats = Repeats(config.repeats, config.redis, loaded.secrets.redis_password.get_secret_value())
        self._cache = ResponseCache(config.redis, loaded.secrets.redis_password.get_secret_value())
        self._cache.configure(config.cache)
        self._metrics.registry.register(CacheCollector(self._cache))
        self._prefix_news = _prefix_news(loaded, deployment, self.lessons)
        self._metrics.registry.register(PrefixCollector(self.lessons.prefixes, self._prefix_news))
        cohort = Cohort()
        self._retries = RetryBudget(deployment.retries.budget_ratio, deployment.retries.budget_per_second)
        self._recount = Recount(self._relay)
        self._shadows = Shadows(self._relay)
        self._leftovers = Leftovers()
        self._failover = Failover(
            self._fleet,
            self._relay,
            self._accountant,
            self._bursar,
            self._metrics,
            self._clock,
            cohort,
            self._retries,
            self._recount,
            self._shadows,
            self._leftovers,
        )
        self._pipeline = Pipeline(
            deployment,
            self._fleet,
            self._bursar,
            loaded.classifier,
            self._metrics,
            self._clock,
            self._watchdog,
            self._repeats,
            self._strangers_names,
            Recall(self._cache, self._accountant, self._metrics, self._clock.now_ns),
            self._failover,
            cohort,
        )
        self._books.set_fleet(deployment)
        api = build_api(
            self._pipeline,
            is_ready=self._why_not_ready,
            warnings=self._price_watch.warnings,
            render_metrics=self._render_metrics,
        )
        api.router.lifespan_context = self._lifespan
        self._orders = Orders(Departures(self._fleet, self._failover.give_up), lambda: self._reloader.ask())
        self.admin: AdminDoor | None = None
        self._admin_listening = admin_listening
        if config.admin is not None:
            give = self._orders.give if self._member is None else self._member.give
            self.admin = build_admin(give, admin_keys(config.admin, _pepper(loaded)))
        self.admin_port: int | None = None
        self.asgi = Gateway(self._pipeline, api, self._watchdog)

    def drain(self) -> None:
        """From now on not ready: no new work, please. What is under way goes on."""
        self._is_draining = True

    def apply(self, loaded: LoadedConfig) -> None:
        """Put a checked configuration into effect. Requests in flight end on what they started with. Raises ConfigRefused where
        a start would be refused."""
        if self._member is not None and not self._shares_budgets and loaded.budgets:
            what = "there are budgets, and each of several workers would have all of them for itself"
            remedy = "they share them through Redis: set redis.url, and start jeton again"
            source = read_source(loaded.paths[0])
            raise ConfigRefused([source.finding(("tenants",), what, remedy, at_member=True)])
        day = _today()
        self._discovery.follow(loaded)
        loaded = self._discovery.filled(loaded)
        self._price_watch.follow(loaded)
        deployment = deploy(loaded, day, self.lessons, self._price_watch.fed)
        self.lessons.follow(deployment.backends, deployment.profiles, loaded.config.health.availability_min)
        self._day = day
        self._books.set_fleet(deployment)
        self._bursar.configure(loaded.budgets)
        self._cache.configure(loaded.config.cache)
        self._fleet.configure(deployment.backends, deployment.tiers, deployment.rules)
        if self._prefix_news is not None:
            self._prefix_news.follow(_with_choice(deployment))
        if loaded.config.health != self._loaded.config.health:
            self._closing.append(asyncio.create_task(self._scraper.close()))
            self._scraper = self._new_scraper(loaded)
        self._scraper.follow(deployment.backends)
        self._retries.configure(deployment.retries.budget_ratio, deployment.retries.budget_per_second)
        self._pipeline.deployment = deployment
        self._pipeline.classifier = loaded.classifier
        self._relay.vault.outdate()  # the files that credentials are made from may be what has changed
        if self.admin is not None and loaded.config.admin is not None:
            self.admin.keys = admin_keys(loaded.config.admin, _pepper(loaded))
        self._loaded = loaded

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._books.running(self._fleet, self.lessons.sleepers))
            await stack.enter_async_context(self._preemption_record.running())
            await stack.enter_async_context(self._bursar.running())
            await stack.enter_async_context(self._repeats.running())
            if self._prefix_news is not None:
                await stack.enter_async_context(self._prefix_news.running())
            stack.push_async_callback(self._cache.aclose)
            stack.push_async_callback(self._relay.aclose)
            stack.push_async_callback(self._names.aclose)
            await stack.enter_async_context(self._recount.running())
            await stack.enter_async_context(self._shadows.running())
            await stack.enter_async_context(self._leftovers.running())
            stack.callback(self._strangers_names.close)
            self._scraper = self._new_scraper(self._loaded)
            stack.push_async_callback(self._close_scrapers)
            self._scraper.follow(self._pipeline.deployment.backends)
            self._reloader = Reloader(self._loaded, self.apply, self._metrics.reloaded)
            await stack.enter_async_context(self._reloader.running())
            if self.admin is not None and self._loaded.config.admin is not None:
                door = admin_port(self.admin, self._loaded.config.admin, self._admin_listening)
                self.admin_port = await stack.enter_async_context(door)
                log.info("admin port", host=self._loaded.config.admin.host, port=self.admin_port)
            await stack.enter_async_context(self._price_watch.running())
            await stack.enter_async_context(self._discovery.running())
            advancing = asyncio.create_task(self._advance_for_ever())
            stack.push_async_callback(_cancelled, advancing)
            if self._member is not None:
                stack.push_async_callback(self._stop_burying)
                stack.push_async_callback(_cancelled, asyncio.create_task(self._member.hear()))
            log.info("ready", backends=len(self._pipeline.deployment.backends))
            yield
            log.info("ending", open_attempts=self._accountant.open_attempts)

    def _new_scraper(self, loaded: LoadedConfig) -> Scraper:
        health = loaded.config.health
        return Scraper(
            self._fleet,
            interval_seconds=health.interval_seconds,
            timeout_seconds=health.timeout_seconds,
            jitter_ratio=health.jitter_ratio,
            addresses=self._names.addresses,
        )

    async def _stop_burying(self) -> None:
        for burying in tuple(self._burying):
            await _cancelled(burying)

    async def _close_scrapers(self) -> None:
        await asyncio.gather(self._scraper.close(), *self._closing)

    async def _advance_for_ever(self) -> None:
        while True:
            await asyncio.sleep(ADVANCE_SECONDS)
            try:
                if _today() != self._day:  # another day's prices may be in force
                    self.apply(self._loaded)
                self._books.advance()
                self.lessons.advance(self._clock.now_ns(), self._fleet.clock())
            except Exception:
                log.exception("time could not be booked")

    def _prices_moved(self) -> None:
        self.apply(self._loaded)

    def _replicas_moved(self) -> None:
        self.apply(self._loaded)

    def _feed_polled(self, feed: str, result: str) -> None:
        self._metrics.feed_polled(feed, result)

    async def _render_metrics(self) -> tuple[bytes, str]:
        if self._member is not None:
            return await self._member.gather(), CONTENT_TYPE
        await self._books.post()
        return await self._metrics.scrape()

    async def _tally(self) -> Tally:
        """This worker's part of the group's metrics."""
        await self._books.post()
        families = []
        for family in self._metrics.registry.collect():
            families.append(tally_row(family))
            await asyncio.sleep(0)  # in turns with whatever else there is to do, as `Metrics.scrape`
        return families

    def _heed_health(self, replica: Replica, before: Health, after: Health) -> None:
        _log_health(replica, before, after)
        self._metrics.replica_became(replica.backend, after.state)
        self.lessons.preemptions.became(replica.backend, replica.id, after, self._fleet.clock())
        self._preemption_record.heed()
        if after.state is HealthState.DOWN:
            self.lessons.prefixes.restarted(replica.id)  # whatever comes back will have an empty cache

    def _obey(self, order: Order) -> Any:
        return self._orders.obey(order)

    def _identity(self) -> str:
        journal = self._books.journal
        return "" if journal is None else journal.identity

    def _heed_death(self, worker: str) -> None:
        """Another worker of the group has ended: its attempts are lost, and its part of the budgets is for the others."""
        if self._books.keeper is not None:
            self._books.keeper.hear_of_death(worker)
        if self._books.journal is not None:
            burying = asyncio.create_task(self._bursar.bury(worker, partial(self._books.journal.is_booked, worker)))
            self._burying.add(burying)
            burying.add_done_callback(self._burying.discard)

    def _drift_ratios(self) -> Iterator[tuple[str, str, str, float]]:
        backends = {
            replica.id: backend.name for backend in self._pipeline.deployment.backends for replica in backend.replicas
        }
        for replica, kind, ratio in self.lessons.drifts.ratios():
            yield backends.get(replica, ""), replica, kind, ratio

    def _sleeping(self) -> Iterator[tuple[str, str, bool, int]]:
        now_seconds = self._fleet.clock()
        for backend in self._pipeline.deployment.backends:
            for replica in backend.replicas if backend.scale_to_zero is not None else ():
                if (sleeper := self.lessons.sleepers.of(replica.id)) is not None:
                    yield backend.name, replica.id, sleeper.is_asleep(now_seconds), sleeper.wakes

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


def _placed(config: LedgerConfig, *, in_group: bool) -> LedgerConfig:
    """The workers of a group share their ledger, whether or not the configuration says so."""
    if in_group and config.accountant is AccountantPlace.ALONE:
        return config.model_copy(update={"accountant": AccountantPlace.INSIDE})
    return config


def _pepper(loaded: LoadedConfig) -> bytes:
    return loaded.secrets.pepper.get_secret_value().encode()


def _shared_budgets(loaded: LoadedConfig, books: Books) -> RedisBudgets | None:
    redis = loaded.config.redis
    if redis is None:
        return None
    password, worker = loaded.secrets.redis_password.get_secret_value(), books.journal
    return RedisBudgets(redis, password, books.store.ledger_id, worker="" if worker is None else worker.identity)


def _prefix_news(loaded: LoadedConfig, deployment: Deployment, lessons: Lessons) -> PrefixNewsExchange | None:
    redis = loaded.config.redis
    if redis is None or not redis.shares_prefixes:
        return None
    password = loaded.secrets.redis_password.get_secret_value()
    made = PrefixNewsExchange(lessons.prefixes, redis, password, deployment.marks_secret)
    made.follow(_with_choice(deployment))
    return made


def _with_choice(deployment: Deployment) -> tuple[Backend, ...]:
    """The backends, where it matters which replica holds what."""
    return deployment.backends if deployment.follows_prefixes else ()


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _log_health(replica: Replica, before: Health, after: Health) -> None:
    say: Callable[..., object] = log.info if after.is_usable else log.warning
    say("replica's health", replica=replica.id, before=before.state, after=after.state, why=after.why)


def _today() -> date:
    return datetime.now(UTC).date()
