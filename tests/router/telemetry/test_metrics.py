"""What Prometheus is told: the ledger's money, bounded series, and the names that dashboards rely on."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from bookkeeping import CLOUD_PRICE, EDGE_PRICE, FLEET, LARGE, PRICES, PROFILES, SECOND, SMALL, answered, facts
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from router.accounting.accountant import Accountant
from router.domain.attempt import OTHER, AttemptEnd, AttemptStatus, Charge
from router.domain.fleet import Health, HealthState, Load, Scrape, Snapshot
from router.domain.periods import ArmSums
from router.domain.request import Endpoint
from router.domain.totals import NOTHING, Account, Line, LineTotal, Totals
from router.domain.usage import Usage, UsageSource
from router.errors import BackendRefused, RateLimited, UnknownModel
from router.ledger.sqlite import SqliteLedger
from router.recall import BYPASS, HIT, MISS, SHARED
from router.reload import ReloadResult
from router.telemetry.labels import Vocabulary
from router.telemetry.metrics import CACHE_RESULTS, WORDS_MAX, Metrics
from router.telemetry.money import MoneyCollector

START = 1_795_000_000 * SECOND

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class StillFleet:
    """A fleet as it is: nothing moves."""

    def __init__(self) -> None:
        first, second = (replica.id for replica in SMALL.replicas)
        self.snapshot = Snapshot(
            backends={one.name: one for one in FLEET},
            health={first: Health(), second: Health(is_usable=False, why="its health check fails")},
            scrapes={first: Scrape(at_seconds=98.5)},
            tiers=("small", "large"),
        )
        self.loads = {first: Load(attempts=3)}

    def clock(self) -> float:
        return 100.0

    def meter_drift_ratios(self) -> Mapping[str, float]:
        return {SMALL.name: 0.75}


class ShownBooks:
    """Books that show given totals."""

    unrecorded_attempts = 0
    is_accepting = True

    def __init__(self, totals: Totals = NOTHING) -> None:
        self.shown = totals

    def totals(self) -> Totals:
        return self.shown


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(ShownBooks(), StillFleet())


def samples(metrics: Metrics) -> Samples:
    text, content_type = metrics.render()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(of: Samples, name: str, **labels: str) -> float:
    """The sum of the series that have these labels."""
    found = [amount for (key, sample), amount in of.items() if key == name and labels.items() <= dict(sample).items()]
    assert found, (name, labels)
    return sum(found)


def names_and_labels(metrics: Metrics) -> dict[str, tuple[str, frozenset[str]]]:
    text, _ = metrics.render()
    return {
        family.name: (family.type, frozenset(name for sample in family.samples for name in sample.labels) - {"le"})
        for family in text_string_to_metric_families(text.decode())
    }


def charged(**members: object) -> Charge:
    """A charge as the accountant makes it, of one attempt of a second."""
    status = members.pop("status", AttemptStatus.OK)
    fault = members.pop("fault", "")
    return Charge(
        facts=facts("r1", **members),  # type: ignore[arg-type]
        billing="leased",
        price_id="",
        opened_ns=START,
        first_token_ns=START + SECOND // 4,
        ended_ns=START + SECOND,
        status=status,  # type: ignore[arg-type]
        fault=fault,  # type: ignore[arg-type]
        http_status=200,
        usage=Usage(1, 1),
        cost_status="priced",  # type: ignore[arg-type]
        cost_nanousd=1,
        standard_nanousd=1,
    )


# Money


@pytest.fixture
def accountant(tmp_path: Path) -> Iterator[Accountant]:
    store = SqliteLedger(tmp_path / "ledger.sqlite", commit_seconds=0.0005)
    kept = Accountant(store)
    kept.set_fleet(FLEET, PRICES, PROFILES, START)
    yield kept
    store.close()


def serve_a_little(accountant: Accountant, from_ns: int) -> int:
    """Some traffic on both backends, one attempt failed, one left open; until when."""
    for number in range(5):
        leased, metered = facts(f"{from_ns}-{number}"), facts(f"{from_ns}-m{number}", LARGE)
        accountant.open(leased, SMALL, EDGE_PRICE, 100, 50, from_ns)
        accountant.open(metered, LARGE, CLOUD_PRICE, 100, 50, from_ns)
        status = AttemptStatus.FAILED if number == 0 else AttemptStatus.OK
        accountant.close(leased.attempt_id, AttemptEnd(status, Usage(100, 50)), from_ns + (number + 1) * SECOND // 3)
        accountant.close(metered.attempt_id, answered(), from_ns + SECOND)
    accountant.open(facts(f"{from_ns}-open"), SMALL, EDGE_PRICE, 100, 50, from_ns + 2 * SECOND)
    return from_ns + 3 * SECOND


def test_a17_the_counters_are_the_ledger_to_the_nano_dollar_before_and_after_a_restart(tmp_path: Path) -> None:
    path, now_ns = tmp_path / "ledger.sqlite", START
    before: Samples = {}
    for _ in range(3):
        store = SqliteLedger(path, commit_seconds=0.0005)
        accountant = Accountant(store)
        metrics = Metrics(accountant, StillFleet())
        accountant.set_fleet(FLEET, PRICES, PROFILES, now_ns)
        now_ns = serve_a_little(accountant, now_ns)
        accountant.advance(now_ns)
        asyncio.run(store.published(10.0))
        totals, now = accountant.totals(), samples(metrics)
        cost = sum(total.cost_nanousd for total in totals.lines.values()) + sum(totals.open_nanousd.values())
        assert round(value(now, "jeton_cost_usd_total", basis="allocated") * 1e9) == cost
        assert round(value(now, "jeton_bill_usd_total") * 1e9) == sum(totals.bills().values())
        shown = value(now, "jeton_cost_usd_total", basis="allocated") + value(now, "jeton_idle_usd_total")
        assert abs(value(now, "jeton_bill_usd_total") - shown) < 1e-7  # some nano-dollars of residue
        money = {key: amount for key, amount in now.items() if key[0].endswith("_usd_total") and "saved" not in key[0]}
        assert all(amount <= money[key] for key, amount in before.items())
        before = money
        store.close()


def test_the_money_contract_names_types_and_labels(accountant: Accountant) -> None:
    metrics = Metrics(accountant, StillFleet())
    accountant.advance(serve_a_little(accountant, START))
    asyncio.run(accountant.posted(10.0))
    place, account = {"pool", "backend"}, {"pool", "backend", "model", "tier", "tenant"}
    contract = {
        "jeton_bill_usd": ("counter", place),
        "jeton_cost_usd": ("counter", account | {"basis"}),
        "jeton_idle_usd": ("counter", place),
        "jeton_lost_usd": ("counter", place | {"why"}),
        "jeton_saved_usd_total": ("gauge", {"tenant", "method"}),
        "jeton_tokens": ("counter", account | {"class"}),
        "jeton_usage": ("counter", {"source"}),
        "jeton_unpriced_attempts": ("counter", {"backend"}),
        "jeton_meter_drift_ratio": ("gauge", {"backend"}),
        "jeton_ledger_position": ("gauge", {"part"}),
    }
    exported = names_and_labels(metrics)
    assert {name: exported[name] for name in contract} == contract


def test_lost_money_is_a_part_of_the_cost(accountant: Accountant) -> None:
    accountant.advance(serve_a_little(accountant, START))
    asyncio.run(accountant.posted(10.0))
    now = samples(Metrics(accountant, StillFleet()))
    lost = value(now, "jeton_lost_usd_total", backend=SMALL.name, why="failed")
    assert 0 < lost < value(now, "jeton_cost_usd_total", backend=SMALL.name, basis="allocated")


def totals_of(tenants: int) -> Totals:
    lines = {
        Line(
            Account("edge", "edge-small", "leased", "m", "small", f"t{number}"), AttemptStatus.OK, UsageSource.PROVIDER
        ): LineTotal(attempts=1, prompt_tokens=2, cost_nanousd=10**9)
        for number in range(tenants)
    }
    return Totals(at_ns=1, lines=lines, open_nanousd={}, leases={})


def test_b54_a18_tenants_beyond_their_number_share_one_series_and_no_money_is_lost() -> None:
    books = ShownBooks(totals_of(300))
    metrics = Metrics(books, StillFleet(), tenants_max=20)
    now = samples(metrics)
    tenants = {dict(labels)["tenant"] for name, labels in now if name == "jeton_cost_usd_total"}
    assert tenants == {f"t{number}" for number in range(20)} | {OTHER}
    assert value(now, "jeton_cost_usd_total", basis="allocated") == 300
    assert value(now, "jeton_cost_usd_total", basis="allocated", tenant=OTHER) == 280
    books.shown = totals_of(400)
    assert len(samples(metrics)) == len(now)


# Serving


def test_an_answer_is_counted_with_its_times(metrics: Metrics) -> None:
    metrics.attempt(charged(), overhead_seconds=0.002)
    now = samples(metrics)
    assert value(now, "jeton_requests_total", endpoint="chat", pool="edge", backend=SMALL.name, status="200") == 1
    assert value(now, "jeton_attempts_total", backend=SMALL.name, status="ok", fault="") == 1
    assert value(now, "jeton_decisions_total", policy="quality_floor", tier="small", reason="cheapest") == 1
    assert value(now, "jeton_ttft_seconds_sum") == pytest.approx(0.252)
    assert value(now, "jeton_request_seconds_sum") == pytest.approx(1.002)
    assert value(now, "jeton_overhead_seconds_sum") == pytest.approx(0.002)


def test_the_time_for_each_token_after_the_first_is_a_mean_of_the_request(metrics: Metrics) -> None:
    metrics.attempt(replace(charged(), usage=Usage(10, 31)), overhead_seconds=0.0)
    metrics.attempt(charged(), overhead_seconds=0.0)  # one token has nothing after it
    metrics.attempt(replace(charged(), usage=Usage(10, 31), first_token_ns=None), overhead_seconds=0.0)
    metrics.attempt(replace(charged(status=AttemptStatus.FAILED), usage=Usage(10, 31)), overhead_seconds=0.0)
    now = samples(metrics)
    assert value(now, "jeton_tpot_seconds_count", pool="edge", backend=SMALL.name) == 1
    assert value(now, "jeton_tpot_seconds_sum") == pytest.approx(0.75 / 30)
    assert value(now, "jeton_tpot_seconds_bucket", le="0.02") == 0
    assert value(now, "jeton_tpot_seconds_bucket", le="0.03") == 1


def test_what_was_predicted_is_counted_once_for_each_decision(metrics: Metrics) -> None:
    metrics.attempt(charged(status=AttemptStatus.FAILED, fault="reset"), overhead_seconds=0.0, quality=0.72)
    metrics.attempt(charged(number=2), overhead_seconds=0.0, quality=1.0)
    metrics.attempt(charged(), overhead_seconds=0.0)  # an embedding: nobody predicts its quality
    now = samples(metrics)
    assert value(now, "jeton_predicted_quality_ratio_count", policy="quality_floor", tier="small") == 1
    assert value(now, "jeton_predicted_quality_ratio_sum") == pytest.approx(0.72)


def test_replicas_are_counted_by_state_and_so_is_each_change_from_zero_on(metrics: Metrics) -> None:
    before = samples(metrics)
    assert value(before, "jeton_replicas", backend=SMALL.name) == len(SMALL.replicas)
    for state in HealthState:
        assert value(before, "jeton_replica_changes_total", backend=SMALL.name, state=state.value) == 0
    metrics.replica_became(SMALL.name, HealthState.LEAVING)
    metrics.replica_became("a backend that is gone since", HealthState.EJECTED)
    now = samples(metrics)
    assert value(now, "jeton_replica_changes_total", backend=SMALL.name, state="leaving") == 1
    assert value(now, "jeton_replica_changes_total", state="ejected") == 1


def test_a_failed_over_request_is_one_request_and_one_decision_with_two_attempts(metrics: Metrics) -> None:
    metrics.attempt(charged(status=AttemptStatus.FAILED, fault="reset"), overhead_seconds=0.001)
    metrics.attempt(charged(number=2), overhead_seconds=0.5)
    now = samples(metrics)
    assert value(now, "jeton_requests_total") == 1
    assert value(now, "jeton_decisions_total") == 1
    assert value(now, "jeton_attempts_total") == 2
    assert value(now, "jeton_overhead_seconds_count") == 1
    assert value(now, "jeton_request_seconds_count") == 1


def test_a_client_that_left_is_a_request_without_an_answer(metrics: Metrics) -> None:
    metrics.attempt(charged(status=AttemptStatus.CANCELLED, fault="client_gone"), overhead_seconds=0.001)
    assert value(samples(metrics), "jeton_requests_total", status="499") == 1


def test_a_deadline_is_counted_by_its_refusal_alone(metrics: Metrics) -> None:
    metrics.attempt(charged(status=AttemptStatus.CANCELLED, fault="deadline"), overhead_seconds=0.001)
    metrics.refused(Endpoint.CHAT, RateLimited("slow down"))
    now = samples(metrics)
    assert value(now, "jeton_requests_total") == value(now, "jeton_requests_total", status="429") == 1
    assert value(now, "jeton_refusals_total", code="rate_limit_exceeded") == 1


def test_reloads_are_counted_by_result_from_zero_on(metrics: Metrics) -> None:
    for result in ReloadResult:
        assert value(samples(metrics), "jeton_reloads_total", result=result.value) == 0
    metrics.reloaded("refused")
    assert value(samples(metrics), "jeton_reloads_total", result="refused") == 1


def test_what_the_cache_had_is_counted_by_result_from_zero_on(metrics: Metrics) -> None:
    assert set(CACHE_RESULTS) == {HIT, SHARED, MISS, BYPASS}
    assert value(samples(metrics), "jeton_cache_requests_total", result=SHARED) == 0
    metrics.cache_asked(SHARED)
    assert value(samples(metrics), "jeton_cache_requests_total", result=SHARED) == 1


def test_the_fleet_is_shown_as_it_is(metrics: Metrics) -> None:
    now = samples(metrics)
    assert value(now, "jeton_in_flight", replica="edge-small/0") == 3
    assert value(now, "jeton_in_flight", replica="edge-small/1") == 0
    assert value(now, "jeton_replica_up", replica="edge-small/0") == 1
    assert value(now, "jeton_replica_up", replica="edge-small/1") == 0
    assert value(now, "jeton_scrape_age_seconds", replica="edge-small/0") == 1.5
    assert value(now, "jeton_meter_drift_ratio", backend=SMALL.name) == 0.75
    aged = {dict(labels)["replica"] for name, labels in now if name == "jeton_scrape_age_seconds"}
    assert aged == {"edge-small/0"}  # never scraped is not zero seconds ago


def test_a18_nothing_that_a_client_or_a_backend_sends_creates_a_series(metrics: Metrics) -> None:
    metrics.attempt(charged(), overhead_seconds=0.001)
    metrics.refused(Endpoint.CHAT, UnknownModel("no such model"))
    metrics.refused(Endpoint.CHAT, BackendRefused(400, "no", code="first"))
    before = len(samples(metrics))
    for number in range(1000):
        metrics.attempt(charged(asked_model=f"m{number}", api_key_name=f"k{number}", category=f"c{number}"), 0.001)
        metrics.refused(Endpoint.CHAT, UnknownModel(f"no model {number}"))
        metrics.refused(Endpoint.CHAT, BackendRefused(400, "no", code=f"code-{number}"))
    now = samples(metrics)
    assert len(now) == before
    assert value(now, "jeton_refusals_total", code=OTHER) == 1001


def test_words_beyond_their_number_share_one_series(metrics: Metrics) -> None:
    for number in range(3 * WORDS_MAX):
        metrics.attempt(charged(status=AttemptStatus.FAILED, fault=f"f{number}", reason=f"r{number}"), 0.001)
    now = samples(metrics)
    faults = [dict(labels)["fault"] for name, labels in now if name == "jeton_attempts_total"]
    assert len(faults) == WORDS_MAX  # the empty one is reserved, and `other` comes on top
    assert value(now, "jeton_attempts_total") == 3 * WORDS_MAX
    assert value(now, "jeton_attempts_total", fault=OTHER) > WORDS_MAX


def test_two_routers_in_one_process_do_not_share_a_registry() -> None:
    one, two = Metrics(ShownBooks(), StillFleet()), Metrics(ShownBooks(), StillFleet())
    one.reloaded("applied")
    assert value(samples(two), "jeton_reloads_total", result="applied") == 0


def test_rendering_beside_the_event_loop_reads_one_state(accountant: Accountant) -> None:
    """Scrapes from threads while the books move: every one of them adds up."""
    metrics = Metrics(accountant, StillFleet())

    async def scrape_while_serving() -> None:
        now_ns = START
        for _ in range(5):
            now_ns = serve_a_little(accountant, now_ns)
            accountant.advance(now_ns)
            rendering = asyncio.to_thread(samples, metrics)
            await accountant.posted(10.0)
            now = await rendering
            shown = [value(now, name) for name in ("jeton_bill_usd_total", "jeton_idle_usd_total")]
            cost = value(now, "jeton_cost_usd_total", basis="allocated")
            assert abs(shown[0] - shown[1] - cost) < 1e-7

    accountant.advance(serve_a_little(accountant, START - 10 * SECOND))
    asyncio.run(scrape_while_serving())


def test_a_measured_saving_is_told_once_enough_was_held_out() -> None:
    def arms(held_out: int) -> tuple[ArmSums, ...]:
        return (
            ArmSums("holdout", "acme", held_out, 0, held_out * 9, 0.0, held_out * 5, 0.0),
            ArmSums("routed", "acme", 1000, 0, 3_000, 0.0, 1_000, 0.0),
        )

    few, enough = (
        samples_of(MoneyCollector(lambda n=n: replace(NOTHING, arms=arms(n)), Vocabulary(10)))  # type: ignore[misc]
        for n in (29, 30)
    )
    labels = {"tenant": "acme", "method": "holdout"}
    assert few.get_sample_value("jeton_saved_usd_total", labels) is None
    # The baseline at its price, 5 a request, less what was routed at what it cost, 3.
    assert enough.get_sample_value("jeton_saved_usd_total", labels) == (5_000 - 3_000) / 1e9


def samples_of(collector: MoneyCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry
