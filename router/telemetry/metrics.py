"""The registry and the metrics of serving: how many, how long, how it ended, what the fleet looks like. Money is `money.py`'s.

Label values come from configuration and enumerations alone (`labels.py`); counting an attempt costs a few microseconds.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.domain.attempt import OTHER, AttemptStatus, Charge
from router.domain.fleet import IDLE, HealthState, Load, Snapshot
from router.domain.request import Endpoint
from router.domain.totals import Totals
from router.errors import BudgetRefusal, Refusal
from router.telemetry.budgets import Accounts, BudgetCollector
from router.telemetry.exposition import Exposition
from router.telemetry.health import HealthCollector
from router.telemetry.labels import Vocabulary
from router.telemetry.money import MoneyCollector
from router.telemetry.price_state import feed_polls_counter
from router.telemetry.prices import RecentPrices
from router.telemetry.tally import Count, Counter, Distribution, Histogram

VERSION = version("jeton")
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
NS_PER_SECOND = 1e9
TENANTS_MAX = 100
# Words that our own code makes up are few; this holds if one day some are not.
WORDS_MAX = 64

# There from the start, at 0: what Prometheus sees first with a 1 has not risen in its eyes, and these are rare.
RELOAD_RESULTS = ("applied", "refused", "failed")
CACHE_RESULTS = ("hit", "shared", "miss", "bypass")

# Client closed request, as nginx logs it: there was nobody left to send a status to.
CLIENT_GONE_STATUS = "499"
CLIENT_GONE_FAULTS = frozenset({"client_gone", "shutdown"})

# Around what people notice and what the objectives say (1–2 s to a first token), up to the longest time-outs.
TTFT_BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60)
REQUEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 600, 3600)
# Our own time: a fraction of a millisecond, unless the process is overloaded.
# From the quickest engines to half a second, where people stop reading along (5 to 10 tokens a second are reading speed).
TPOT_BUCKETS = (0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)
# Floors are asked for in the upper half.
QUALITY_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)
OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)


class Books(Protocol):
    """What is read from the accountant."""

    @property
    def unrecorded_attempts(self) -> int: ...
    @property
    def is_accepting(self) -> bool: ...
    def totals(self) -> Totals: ...


class FleetState(Protocol):
    """What is read from the fleet, at a scrape, from another thread. clock: monotonic seconds, as in `Scrape`."""

    @property
    def snapshot(self) -> Snapshot: ...
    @property
    def loads(self) -> Mapping[str, Load]: ...
    def clock(self) -> float: ...
    def meter_drift_ratios(self) -> Mapping[str, float]: ...


class Metrics:
    """One registry of its own, for the event loop's thread."""

    def __init__(
        self,
        books: Books,
        fleet: FleetState,
        budgets: Accounts | None = None,
        *,
        recent_prices: RecentPrices | None = None,
        shows_money: Callable[[], bool] = lambda: True,
        tenants_max: int = TENANTS_MAX,
    ) -> None:
        """recent_prices: counted by whoever keeps the books of several processes; None: here. shows_money: whether the ledger's
        totals are this process's to show."""
        self.registry = CollectorRegistry()
        self._exposition = Exposition()
        self._fleet = fleet
        self._codes = frozenset(_refusal_codes(Refusal))
        self._faults = Vocabulary(WORDS_MAX, [""])
        self._reasons = Vocabulary(WORDS_MAX)
        self._policies = Vocabulary(WORDS_MAX)
        self._attempts: dict[tuple[str, ...], _AttemptSeries] = {}
        prices = recent_prices or RecentPrices()
        self._prices = prices if recent_prices is None else None
        money = MoneyCollector(books.totals, Vocabulary(tenants_max))
        self.registry.register(LedgersMoney(shows_money, money, prices))
        self.registry.register(_StateCollector(books, fleet))
        self._health = HealthCollector(fleet)
        self.registry.register(self._health)
        self._tenants = Vocabulary(tenants_max)
        if budgets is not None:
            self.registry.register(BudgetCollector(budgets, Vocabulary(tenants_max)))
        self._budget_refusals_total = self._counter(
            "jeton_budget_refusals", "Requests that a budget could not take, by whose it is.", "tenant", "code"
        )
        self._budget_degraded_total = self._counter(
            "jeton_budget_degraded", "Requests kept to cheaper tiers or pools by a budget under pressure.", "tenant"
        )
        self._requests_total = self._counter(
            "jeton_requests", "Requests by the status of the answer; 499: the client left.",
            "endpoint", "pool", "backend", "tier", "status",
        )  # fmt: skip
        self._attempts_total = self._counter(
            "jeton_attempts",
            "Attempts at a replica that have ended, and what went wrong.",
            "backend",
            "status",
            "fault",
        )
        self._decisions_total = self._counter(
            "jeton_decisions", "Where requests were sent first, and why.", "policy", "tier", "reason"
        )
        self._refusals_total = self._counter("jeton_refusals", "Requests that ended without an answer.", "code")
        self._repeats_total = self._counter(
            "jeton_repeats", "Requests answered with what was kept under their Idempotency-Key."
        ).labels()
        self._reloads_total = self._counter("jeton_reloads", "Configurations read after the first.", "result")
        for result in RELOAD_RESULTS:
            self._reloads_total.labels(result)
        self._cache_requests_total = self._counter(
            "jeton_cache_requests",
            "Deterministic requests by what the response cache had for them. shared: the answer of an identical request that was"
            " under way. bypass: the client did not want a kept one.",
            "result",
        )
        for result in CACHE_RESULTS:
            self._cache_requests_total.labels(result)
        self._feed_polls_total = feed_polls_counter(self.registry)
        self._ttft_seconds = self._histogram(
            "jeton_ttft_seconds", "From the request's arrival to the first token of its answer, where it is streamed.",
            TTFT_BUCKETS, "pool", "backend",
        )  # fmt: skip
        self._tpot_seconds = self._histogram(
            "jeton_tpot_seconds",
            "From the first token of a streamed answer to its end, for each token after the first: a mean of each request, as"
            " the client took it. Several choices count together.",
            TPOT_BUCKETS, "pool", "backend",
        )  # fmt: skip
        self._predicted_quality_ratio = self._histogram(
            "jeton_predicted_quality_ratio",
            "What the classifier predicted for where a request was sent first, times the backend's quality_ratio: 1 is as good as"
            " the highest tier.",
            QUALITY_BUCKETS, "policy", "tier",
        )  # fmt: skip
        self._request_seconds = self._histogram(
            "jeton_request_seconds", "From the request's arrival to the end of its answer.",
            REQUEST_BUCKETS, "pool", "backend",
        )  # fmt: skip
        self._overhead_seconds = self._histogram(
            "jeton_overhead_seconds", "From the request's arrival to its first dispatch: jeton's own time.",
            OVERHEAD_BUCKETS,
        ).labels()  # fmt: skip

    def attempt(self, charge: Charge, overhead_seconds: float, quality: float | None = None) -> None:
        """An attempt has ended. overhead_seconds: from the request's arrival until the attempt was opened. quality: what was
        predicted for its answer, 0–1; None where nothing was."""
        facts = charge.facts
        if self._prices is not None:
            self._prices.count(charge)
        place = (facts.pool, facts.backend, facts.tier)
        raw = (facts.endpoint, *place, facts.policy, facts.reason, charge.status, charge.fault)
        series = self._attempts.get(raw) or self._attempt_series(raw, charge)
        series.attempts.value += 1
        if facts.number == 1:
            series.decisions.value += 1
            self._overhead_seconds.observe(overhead_seconds)
            if quality is not None:
                series.predicted_quality_ratio.observe(quality)
        if series.requests is not None:
            series.requests.value += 1
        if series.request_seconds is not None:
            series.request_seconds.observe(overhead_seconds + (charge.ended_ns - charge.opened_ns) / NS_PER_SECOND)
        if series.ttft_seconds is not None and charge.first_token_ns is not None:
            ttft_ns = charge.first_token_ns - charge.opened_ns
            series.ttft_seconds.observe(overhead_seconds + ttft_ns / NS_PER_SECOND)
            gaps = charge.usage.completion_tokens - 1
            if gaps > 0 and series.tpot_seconds is not None:
                series.tpot_seconds.observe((charge.ended_ns - charge.first_token_ns) / (gaps * NS_PER_SECOND))

    def refused(self, endpoint: Endpoint, refusal: Refusal) -> None:
        """A request ended without an answer, or in the middle of one."""
        code = refusal.code or type(refusal).__name__
        self._refusals_total.labels(code if code in self._codes else OTHER).value += 1
        if isinstance(refusal, BudgetRefusal):
            self._budget_refusals_total.labels(self._tenants.fold(refusal.tenant), code).value += 1
        status = str(refusal.status) if 400 <= refusal.status <= 599 else OTHER
        self._requests_total.labels(endpoint.value, "", "", "", status).value += 1

    def degraded(self, tenant: str) -> None:
        """A budget under pressure has left out dearer tiers or pools."""
        self._budget_degraded_total.labels(self._tenants.fold(tenant)).value += 1

    def repeated(self) -> None:
        """A request was answered once more with the answer that was kept of it."""
        self._repeats_total.value += 1

    def reloaded(self, result: str) -> None:
        """A configuration was read again; result: one of a few words, such as `applied`."""
        self._reloads_total.labels(str(result)).value += 1

    def cache_asked(self, result: str) -> None:
        """A deterministic request has come by the response cache; result: one of a few words."""
        self._cache_requests_total.labels(result).value += 1

    def feed_polled(self, feed: str, result: str) -> None:
        """A price feed was read; both words are the configuration's and ours."""
        self._feed_polls_total.labels(feed, str(result)).value += 1

    def replica_became(self, backend: str, state: HealthState) -> None:
        """A replica's health is another than before."""
        self._health.became(backend, state)

    async def scrape(self) -> tuple[bytes, str]:
        """As `render`, in turns with whatever else the event loop has to do.

        Not in a thread: whoever comes back from waiting for a socket would wait for the interpreter's lock each time, 5 ms,
        and streams do little else. The longest turn with 10,000 label sets takes 5 ms of CPU (`load/bench/scrapes.py`).
        """
        pieces = []
        for piece in self._exposition.pieces(self.registry.collect()):
            pieces.append(piece)
            await asyncio.sleep(0)
        return b"".join(pieces), CONTENT_TYPE

    def render(self) -> tuple[bytes, str]:
        """The exposition text and its content type. At once: thousands of series take milliseconds."""
        return self._exposition.write(self.registry.collect()), CONTENT_TYPE

    def _attempt_series(self, raw: tuple[str, ...], charge: Charge) -> "_AttemptSeries":
        """What an attempt moves, looked up once. Kept only where no word was folded, so that what is kept stays few."""
        facts, status = charge.facts, charge.status
        policy, reason = self._policies.fold(facts.policy), self._reasons.fold(facts.reason)
        fault = self._faults.fold(charge.fault)
        place = (facts.pool, facts.backend)
        request_status = None
        if status is AttemptStatus.OK:
            request_status = "200"
        elif status is AttemptStatus.CANCELLED and charge.fault in CLIENT_GONE_FAULTS:
            request_status = CLIENT_GONE_STATUS  # cut short for any other reason, it is answered with a refusal
        series = _AttemptSeries(
            attempts=self._attempts_total.labels(facts.backend, status.value, fault),
            decisions=self._decisions_total.labels(policy, facts.tier, reason),
            requests=(
                None
                if request_status is None
                else self._requests_total.labels(facts.endpoint, *place, facts.tier, request_status)
            ),
            request_seconds=self._request_seconds.labels(*place) if status is AttemptStatus.OK else None,
            ttft_seconds=self._ttft_seconds.labels(*place) if status is AttemptStatus.OK else None,
            tpot_seconds=self._tpot_seconds.labels(*place) if status is AttemptStatus.OK else None,
            predicted_quality_ratio=self._predicted_quality_ratio.labels(policy, facts.tier),
        )
        if (policy, reason, fault) == (facts.policy, facts.reason, charge.fault):
            self._attempts[raw] = series
        return series

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(self.registry, name, text, *labels)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(self.registry, name, text, buckets, *labels)


@dataclass(frozen=True, slots=True)
class _AttemptSeries:
    """The series of one kind of attempt. requests: None where the request goes on or ends as a refusal; the histograms:
    None where there was no answer."""

    attempts: Count
    decisions: Count
    requests: Count | None
    request_seconds: Distribution | None
    ttft_seconds: Distribution | None
    tpot_seconds: Distribution | None
    predicted_quality_ratio: Distribution


class LedgersMoney(Collector):
    """The families that are the ledger's, shown by one process of those that share it: so that they are right when all are
    scraped and summed."""

    def __init__(self, shows_money: Callable[[], bool], *families: MoneyCollector | RecentPrices) -> None:
        self._shows_money = shows_money
        self._families = families

    def describe(self) -> Iterable[Metric]:
        return [metric for one in self._families for metric in one.describe()]

    def collect(self) -> Iterable[Metric]:
        if self._shows_money():
            for one in self._families:
                yield from one.collect()


class _StateCollector(Collector):
    """What is so at the moment of the scrape: read from the fleet and the books, not counted."""

    def __init__(self, books: Books, fleet: FleetState) -> None:
        self._books = books
        self._fleet = fleet

    def describe(self) -> Iterable[Metric]:
        return self._families()

    def collect(self) -> Iterable[Metric]:
        in_flight, up, age, drift, accepting, unrecorded, build = families = self._families()
        snapshot, loads, now_seconds = self._fleet.snapshot, self._fleet.loads, self._fleet.clock()
        for backend in snapshot.backends.values():
            for replica in backend.replicas:
                labels = (backend.name, replica.id)
                health, scrape = snapshot.health.get(replica.id), snapshot.scrapes.get(replica.id)
                in_flight.add_metric(labels, loads.get(replica.id, IDLE).attempts)
                up.add_metric(labels, health is not None and health.admits(now_seconds))
                if scrape is not None:  # never scraped is not scraped just now
                    age.add_metric(labels, max(now_seconds - scrape.at_seconds, 0.0))
        for backend_name, ratio in self._fleet.meter_drift_ratios().items():
            drift.add_metric((backend_name,), ratio)
        accepting.add_metric((), self._books.is_accepting)
        unrecorded.add_metric((), self._books.unrecorded_attempts)
        build.add_metric((VERSION,), 1)
        return families

    def _families(self) -> tuple[GaugeMetricFamily | CounterMetricFamily, ...]:
        by_replica = ("backend", "replica")
        return (
            GaugeMetricFamily("jeton_in_flight", "Attempts in flight.", labels=by_replica),
            GaugeMetricFamily("jeton_replica_up", "1 while new work may be sent.", labels=by_replica),
            GaugeMetricFamily("jeton_scrape_age_seconds", "Since the last scrape of the replica.", labels=by_replica),
            GaugeMetricFamily(
                "jeton_meter_drift_ratio",
                "Tokens booked for ended attempts ÷ what the replicas' own counters (vllm:prompt_tokens_total and"
                " vllm:generation_tokens_total) rose by, since this process has read both, as of the last scrape. Below 1:"
                " work in flight, tokens made after a client had left, prompts with several choices, which vLLM counts for"
                " each, or traffic at the replicas that is not ours. Above 1: tokens booked that were not made, or a restart"
                " of a replica, which hides what it made since the scrape before. Absent: not known.",
                labels=("backend",),
            ),
            GaugeMetricFamily(
                "jeton_ledger_accepting", "0 while the ledger cannot be written: metered traffic is refused.", labels=()
            ),
            CounterMetricFamily(
                "jeton_unrecorded_attempts",
                "Attempts on leased replicas that were not written down because the ledger was full.",
                labels=(),
            ),
            GaugeMetricFamily("jeton_build_info", "The version that runs.", labels=("version",)),
        )


def _refusal_codes(kind: type[Refusal]) -> Iterable[str]:
    yield kind.code or kind.__name__
    for narrower in kind.__subclasses__():
        yield from _refusal_codes(narrower)
