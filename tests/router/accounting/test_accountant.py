"""The accountant: each attempt ends in one charge, and every nano-dollar of the bill is somewhere, once, whatever happens."""

import asyncio
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import structlog
from audited import assert_audit_is_clean, assert_what_is_told_is_the_audits
from bookkeeping import (
    CLOUD_PRICE,
    EDGE_PRICE,
    FLEET,
    HOUR,
    LARGE,
    PRICES,
    PROFILE,
    PROFILES,
    SECOND,
    SMALL,
    answered,
    assert_books_balance,
    assert_file_is_consistent,
    backend,
    facts,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.accounting.accountant import Accountant
from router.domain.attempt import AttemptEnd, AttemptStatus, Charge, CostStatus
from router.domain.fleet import Backend, ScaleToZero
from router.domain.money import NANOUSD_PER_USD
from router.domain.periods import NS_PER_HOUR
from router.domain.totals import Totals
from router.domain.usage import Usage, UsageSource
from router.errors import Unavailable
from router.ledger.periods import read_periods
from router.ledger.sqlite import SqliteLedger
from router.pricing.cost import list_cost
from router.pricing.price import LeasedPrice, MeteredPrice, Price, Purchase, TokenRates
from router.pricing.standard import standard_cost
from router.pricing.weigher import Weigher
from router.reporting.split import NOTHING, split_hours
from router.telemetry.labels import Vocabulary
from router.telemetry.money import MoneyCollector

START = 1_795_000_000 * SECOND
PATIENCE_SECONDS = 10.0


class Books:
    """An accountant over a real ledger, with a clock in hand."""

    def __init__(self, path: Path, **options: int) -> None:
        self.path = path
        self.now_ns = START
        self.options = options
        self.store = SqliteLedger(path, commit_seconds=0.0005, **options)  # type: ignore[arg-type]
        self.accountant = Accountant(self.store)
        self.set_fleet()

    def set_fleet(self, prices: dict[str, Price] | None = None, fleet: tuple[object, ...] = FLEET) -> None:
        self.accountant.set_fleet(fleet, PRICES if prices is None else prices, PROFILES, self.now_ns)  # type: ignore[arg-type]

    def open(self, request_id: str, of: object = SMALL, price: Price | None = EDGE_PRICE, **other: object) -> str:
        one = facts(request_id, of, **other)  # type: ignore[arg-type]
        self.accountant.open(one, of, price, 100, 50, self.now_ns)  # type: ignore[arg-type]
        return one.attempt_id

    def close(self, attempt_id: str, end: AttemptEnd | None = None) -> Charge:
        return self.accountant.close(attempt_id, end or answered(), self.now_ns)

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)

    def posted(self) -> Totals:
        self.accountant.advance(self.now_ns)
        return asyncio.run(self.store.published(PATIENCE_SECONDS))

    def restart(self, down_seconds: float = 0.0, fleet: tuple[object, ...] = FLEET) -> None:
        """The process ends without closing anything, and another comes up later."""
        self.store.close()
        self.wait(down_seconds)
        self.store = SqliteLedger(self.path, commit_seconds=0.0005, **self.options)  # type: ignore[arg-type]
        self.accountant = Accountant(self.store)
        self.set_fleet(fleet=fleet)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    kept = Books(tmp_path / "ledger.sqlite")
    yield kept
    kept.store.close()
    assert_file_is_consistent(kept.path)
    assert_audit_is_clean(kept.path)


def cost_of(totals: Totals, **wanted: str) -> int:
    """Σ cost of the lines whose account matches."""
    return sum(
        total.cost_nanousd
        for line, total in totals.lines.items()
        if all(getattr(line.account, name) == value for name, value in wanted.items())
    )


# Where each dollar went

ENDS = (
    answered(),
    AttemptEnd(AttemptStatus.FAILED, Usage(0, 0), "connect"),
    AttemptEnd(AttemptStatus.FAILED, Usage(100, 7), "reset", 200),
    AttemptEnd(AttemptStatus.CANCELLED, Usage(100, 3), "client_gone"),
    *(AttemptEnd(AttemptStatus.CANCELLED, Usage(100, 9), why) for why in ("deadline", "not_accepted", "shutdown")),
    *(AttemptEnd(AttemptStatus.SHADOW, Usage(100, 5), why) for why in ("", "http_500")),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from([SMALL, LARGE]), st.sampled_from(ENDS), st.integers(0, 8 * HOUR), st.integers(0, 20)),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 3),
)
def test_a02_every_dollar_of_a_bill_is_useful_thin_idle_or_lost_and_only_one_of_them(
    tmp_path_factory: pytest.TempPathFactory, attempts: list[tuple[Backend, AttemptEnd, int, int]], killed: int
) -> None:
    path = tmp_path_factory.mktemp("books") / "ledger.sqlite"
    books = Books(path)
    by_end = {}
    for number, (of, end, after_ns, seconds) in enumerate(attempts):
        books.now_ns += after_ns
        price = EDGE_PRICE if of is SMALL else CLOUD_PRICE
        attempt_id = books.open(f"r{number}", of, price)
        books.wait(seconds)
        by_end[attempt_id] = books.close(attempt_id, end)
    for number in range(killed):
        books.open(f"lost{number}", LARGE if number else SMALL, CLOUD_PRICE if number else EDGE_PRICE)
    books.wait(2)
    books.posted()
    books.restart(down_seconds=3)
    totals = books.posted()
    books.store.close()

    assert_what_is_told_is_the_audits(path)
    with read_periods(path) as periods:
        whole = sum(split_hours(periods.spent(periods.whole()), periods.leased(periods.whole())).values(), NOTHING)
    residue = whole.in_flight
    assert 0 <= residue <= len(totals.leases) * len(SMALL.replicas)
    assert whole.unrated == 0
    assert whole.useful + whole.thin + whole.idle + whole.lost + residue == sum(totals.bills().values())
    lost = {"failed": 0, "cut_short": 0, "shadow": 0, "router_died": whole.lost}
    for charge in by_end.values():
        why = {"failed": "failed", "cancelled": "cut_short", "shadow": "shadow"}.get(charge.status.value, "")
        if why and charge.fault != "client_gone":
            lost[why] += charge.cost_nanousd or 0
            lost["router_died"] -= charge.cost_nanousd or 0
    shown = dict.fromkeys(lost, 0)
    for family in MoneyCollector(lambda: totals, Vocabulary(1)).collect():
        for sample in family.samples if family.name == "jeton_lost_usd" else ():
            shown[sample.labels["why"]] += round(sample.value * NANOUSD_PER_USD)
    assert shown == lost


# One attempt


def test_an_attempt_alone_on_a_replica_pays_for_its_time(books: Books) -> None:
    attempt = books.open("r1")
    books.wait(2)
    charge = books.close(attempt)
    assert charge.cost_nanousd == 2 * EDGE_PRICE.nanousd_per_hour // 3600
    assert charge.cost_status is CostStatus.PRICED
    assert charge.price_id == EDGE_PRICE.price_id
    assert charge.standard_nanousd == standard_cost(EDGE_PRICE, PROFILE, answered().usage)


def test_a_metered_attempt_costs_price_times_usage(books: Books) -> None:
    attempt = books.open("r1", LARGE, CLOUD_PRICE)
    charge = books.close(attempt, answered(1000, 500))
    assert charge.cost_nanousd == charge.standard_nanousd == list_cost(CLOUD_PRICE, Usage(1000, 500))


def test_a_long_prefill_pays_more_than_a_decode_beside_it(books: Books) -> None:
    decoding = books.open("r1")
    books.wait(1)
    books.accountant.first_token(decoding, books.now_ns)
    long = facts("r2")
    books.accountant.open(long, SMALL, EDGE_PRICE, 8000, 400, books.now_ns)
    books.wait(1)
    first, dear = books.close(decoding).cost_nanousd, books.close(long.attempt_id).cost_nanousd
    assert first is not None
    assert dear is not None
    assert first - 1_000_000 < dear
    assert first + dear in (1_999_999, 2_000_000)


def test_a_first_token_told_twice_or_too_late_changes_nothing(books: Books) -> None:
    attempt = books.open("r1")
    books.accountant.first_token(attempt, books.now_ns + 1)
    books.accountant.first_token(attempt, books.now_ns + 2)
    charge = books.close(attempt)
    books.accountant.first_token(attempt, books.now_ns + 3)
    assert charge.first_token_ns == START + 1


def test_an_attempt_is_opened_once(books: Books) -> None:
    attempt = books.open("r1")
    with pytest.raises(ValueError, match=r"r1\.1 was opened before"):
        books.open("r1")
    books.close(attempt)
    with pytest.raises(ValueError, match=r"r1\.1 was opened before"):
        books.open("r1")


def test_f26_a_second_close_is_the_first_ones_charge(books: Books) -> None:
    attempt = books.open("r1")
    books.wait(1)
    first = books.close(attempt)
    books.wait(1)
    assert books.close(attempt, AttemptEnd(AttemptStatus.FAILED, Usage(9, 9), "late")) is first
    totals = books.posted()
    assert sum(total.attempts for total in totals.lines.values()) == 1
    assert cost_of(totals) == first.cost_nanousd


def test_closing_what_was_never_opened_is_an_error(books: Books) -> None:
    with pytest.raises(KeyError):
        books.close("nobody.1")


def test_a06_a_cancelled_attempt_is_priced_at_the_tokens_it_shows(books: Books) -> None:
    attempt = books.open("r1", LARGE, CLOUD_PRICE)
    recovered = Usage(100, 37, source=UsageSource.RECOVERED)
    charge = books.close(attempt, AttemptEnd(AttemptStatus.CANCELLED, recovered, "client_gone"))
    assert (charge.usage, charge.cost_nanousd) == (recovered, list_cost(CLOUD_PRICE, recovered))


def test_a07_every_attempt_of_a_request_has_its_line(books: Books) -> None:
    first = books.open("r1")
    books.wait(1)
    failed = books.close(first, AttemptEnd(AttemptStatus.FAILED, Usage(0, 0), "reset"))
    second = books.open("r1", LARGE, CLOUD_PRICE, number=2)
    won = books.close(second)
    totals = books.posted()
    assert failed.cost_nanousd == 1_000_000
    assert cost_of(totals) == failed.cost_nanousd + (won.cost_nanousd or 0)
    assert {line.status: total.attempts for line, total in totals.lines.items()} == {
        AttemptStatus.FAILED: 1,
        AttemptStatus.OK: 1,
    }


def test_a09_an_attempt_keeps_the_price_it_was_opened_with(books: Books) -> None:
    free = replace(CLOUD_PRICE, price_id="free", rates=TokenRates(0, 0, 0, 0))
    dear = books.open("dear", LARGE, CLOUD_PRICE)
    books.set_fleet({**PRICES, LARGE.name: free})
    then_free = books.open("free", LARGE, free)
    books.set_fleet()
    assert books.close(then_free).cost_nanousd == 0
    charge = books.close(dear)
    assert charge.cost_nanousd == list_cost(CLOUD_PRICE, answered().usage) > 0
    assert charge.price_id == CLOUD_PRICE.price_id


def test_a12_without_a_price_the_cost_is_unknown_counted_and_never_zero(books: Books) -> None:
    for name, of in (("leased", SMALL), ("metered", LARGE)):
        charge = books.close(books.open(name, of, None))
        assert (charge.cost_status, charge.cost_nanousd, charge.standard_nanousd) == (CostStatus.UNPRICED, None, None)
    totals = books.posted()
    assert sum(total.unpriced for total in totals.lines.values()) == 2


@pytest.mark.parametrize(("hour_rate", "hour_nanousd"), [(None, 30 * 2000), (4_000_000_000, 30 * 4000)])
def test_what_is_written_to_be_kept_an_hour_has_its_price_and_the_journal_knows_it(
    books: Books, hour_rate: int | None, hour_nanousd: int
) -> None:
    assert isinstance(CLOUD_PRICE, MeteredPrice)
    dearer = replace(
        CLOUD_PRICE, price_id="dearer@2026-01-01#3", rates=replace(CLOUD_PRICE.rates, cache_write_hour=hour_rate)
    )
    books.set_fleet(prices=PRICES | {LARGE.name: dearer})
    attempt = books.open("r1", LARGE, dearer)
    charge = books.close(attempt, answered(100, 0, cache_write_tokens=50, cache_write_hour_tokens=30))
    assert charge.cost_nanousd == 50 * 2000 + 20 * 2000 + hour_nanousd
    assert charge.cost_prompt_nanousd == charge.cost_nanousd
    books.posted()
    assert_audit_is_clean(books.path)


def test_a20_subsets_of_tokens_are_not_added(books: Books) -> None:
    usage = Usage(100, 50, cached_tokens=40, reasoning_tokens=30)
    charge = books.close(books.open("r1", LARGE, CLOUD_PRICE), AttemptEnd(AttemptStatus.OK, usage))
    rates = CLOUD_PRICE.rates
    assert charge.cost_nanousd == (60 * rates.prompt + 40 * rates.cached + 50 * rates.completion) // 10**6
    (total,) = books.posted().lines.values()
    assert (total.prompt_tokens, total.cached_tokens, total.completion_tokens, total.reasoning_tokens) == (
        100,
        40,
        50,
        30,
    )


@pytest.mark.parametrize(
    "nonsense",
    [
        Usage(-1, 5),
        Usage(5, -1),
        Usage(2**40, 5),
        Usage(5, 2**63),
        Usage(5, 5, cached_tokens=6),
        Usage(5, 5, cached_tokens=3, cache_write_tokens=3),
        Usage(5, 5, reasoning_tokens=6),
        Usage(5, 5, audio_seconds=float("nan")),
        Usage(5, 5, audio_seconds=-1.0),
        Usage(0, 0, source=UsageSource.MISSING),
    ],
)
def test_a21_f13_usage_that_cannot_be_true_is_estimated_and_flagged(books: Books, nonsense: Usage) -> None:
    charge = books.close(books.open("r1", LARGE, CLOUD_PRICE), AttemptEnd(AttemptStatus.OK, nonsense))
    assert charge.usage == Usage(100, 50, source=UsageSource.ESTIMATED)
    assert charge.cost_nanousd == list_cost(CLOUD_PRICE, charge.usage)
    ((line, _),) = books.posted().lines.items()
    assert line.usage_source is UsageSource.ESTIMATED


def test_a_providers_impossible_cost_is_not_believed(books: Books) -> None:
    for number, claimed in enumerate((-1, 10**30)):
        attempt = books.open(f"r{number}", LARGE, CLOUD_PRICE)
        charge = books.close(attempt, answered(provider_cost_nanousd=claimed))
        assert charge.cost_nanousd == list_cost(CLOUD_PRICE, answered().usage)


def test_a_failure_that_made_nothing_costs_nothing_on_a_metered_backend(books: Books) -> None:
    price = replace(CLOUD_PRICE, price_id="cloud-large@2026-01-01#00000003", request_nanousd=10**6)
    failed = AttemptEnd(AttemptStatus.FAILED, Usage(0, 0), "connect")
    assert books.close(books.open("r1", LARGE, price), failed).cost_nanousd == 0
    assert books.close(books.open("r2", LARGE, price)).cost_nanousd == 10**6 + list_cost(CLOUD_PRICE, answered().usage)


# Savings


def test_what_was_saved_is_the_baselines_price_of_the_same_tokens_less_the_cost(books: Books) -> None:
    attempt = books.open("r1")
    books.wait(0.1)
    charge = books.close(attempt)
    assert charge.baseline_nanousd == list_cost(CLOUD_PRICE, answered().usage)
    (total,) = books.posted().lines.values()
    assert total.saved_nanousd == charge.baseline_nanousd - (charge.cost_nanousd or 0)


def test_served_by_the_baseline_nothing_is_saved(books: Books) -> None:
    charge = books.close(books.open("r1", baseline=SMALL.name))
    assert charge.baseline_nanousd == charge.cost_nanousd


def test_savings_are_net_of_failed_attempts(books: Books) -> None:
    attempt = books.open("r1")
    books.wait(1)
    charge = books.close(attempt, AttemptEnd(AttemptStatus.FAILED, Usage(0, 0), "reset"))
    assert (charge.baseline_nanousd, charge.cost_nanousd) == (0, 1_000_000)


def test_without_a_price_of_the_baseline_nothing_is_claimed(books: Books) -> None:
    charge = books.close(books.open("r1", baseline="gone"))
    assert charge.baseline_nanousd is None


# Leases


def test_an_idle_fleet_costs_its_time(books: Books) -> None:
    books.wait(3600)
    totals = books.posted()
    assert totals.leases["edge", "edge-small"] == (2 * EDGE_PRICE.nanousd_per_hour, 2 * EDGE_PRICE.nanousd_per_hour)
    assert totals.bills() == {("edge", "edge-small"): 2 * EDGE_PRICE.nanousd_per_hour}


def test_what_open_attempts_owe_is_posted_before_they_end(books: Books) -> None:
    attempt = books.open("r1")
    books.wait(10)
    totals = books.posted()
    assert sum(totals.open_nanousd.values()) in (9_999_999, 10_000_000)
    assert not totals.lines
    assert_books_balance(totals, open_attempts=1)
    books.close(attempt)
    totals = books.posted()
    assert not totals.open_nanousd
    assert cost_of(totals) == 10_000_000


def test_a_replica_that_leaves_is_paid_until_its_last_attempt_ends(books: Books) -> None:
    attempt = books.open("r1", replica=1)
    books.set_fleet(fleet=(replace(SMALL, replicas=SMALL.replicas[:1]), LARGE))
    books.wait(60)
    books.close(attempt)
    books.wait(60)
    totals = books.posted()
    assert cost_of(totals) == 60_000_000
    assert totals.leases["edge", "edge-small"] == (180_000_000, 120_000_000)


def test_a_replica_that_comes_back_before_that_goes_on(books: Books) -> None:
    attempt = books.open("r1", replica=1)
    books.set_fleet(fleet=(replace(SMALL, replicas=SMALL.replicas[:1]), LARGE))
    books.set_fleet()
    books.close(attempt)
    books.wait(60)
    assert books.posted().leases["edge", "edge-small"].bill_nanousd == 120_000_000


SLEEPER = replace(SMALL, scale_to_zero=ScaleToZero(20.0, 60.0, billed_seconds_min=100.0))


def test_what_scales_to_zero_is_billed_from_its_first_attempt_until_its_idle_time_is_over(books: Books) -> None:
    """At $3.60 an hour: a thousandth of a dollar a second."""
    books.wait(500)
    books.set_fleet(fleet=(SLEEPER, LARGE))  # one that runs is stopped, too
    before_nanousd = books.posted().leases["edge", "edge-small"].bill_nanousd
    assert before_nanousd == 2 * 500_000_000
    books.wait(100)
    assert books.posted().leases["edge", "edge-small"].bill_nanousd == before_nanousd + 2 * 60_000_000
    for seconds, billed_seconds in ((30, 100), (80, 140)):  # at least a hundred; and sixty after the end
        before_nanousd = books.posted().leases["edge", "edge-small"].bill_nanousd
        attempt = books.open(f"r{seconds}", SLEEPER)
        books.wait(seconds)
        assert books.close(attempt).cost_nanousd == seconds * 1_000_000
        books.wait(1000)
        bill_nanousd = books.posted().leases["edge", "edge-small"].bill_nanousd
        assert bill_nanousd - before_nanousd == billed_seconds * 1_000_000


def test_whoever_comes_within_the_idle_time_keeps_the_lease_and_afterwards_begins_another(books: Books) -> None:
    books.set_fleet(fleet=(SLEEPER, LARGE))
    books.wait(1000)
    before_nanousd = books.posted().leases["edge", "edge-small"].bill_nanousd
    for number, pause_seconds in enumerate((0, 90, 59, 61)):  # nobody books the time between
        books.wait(pause_seconds)
        attempt = books.open(f"r{number}", SLEEPER)
        books.wait(10)
        books.close(attempt)
    books.wait(1000)
    # 10 s of work and 90 to the least that is billed; 10, 59 and 10, and 60 idle; 10 and 90.
    assert books.posted().leases["edge", "edge-small"].bill_nanousd - before_nanousd == (100 + 139 + 100) * 1_000_000


def test_a_restart_does_not_start_what_is_stopped_and_stops_what_was_idle(books: Books) -> None:
    books.set_fleet(fleet=(SLEEPER, LARGE))
    books.wait(1000)
    books.close(books.open("r1", SLEEPER))
    books.wait(10)
    bill_nanousd = books.posted().leases["edge", "edge-small"].bill_nanousd
    books.restart(fleet=(SLEEPER, LARGE))
    books.wait(1000)
    assert books.posted().leases["edge", "edge-small"].bill_nanousd == bill_nanousd + 90 * 1_000_000


def test_what_scales_to_zero_is_not_billed_while_no_router_was_there_to_ask_it(books: Books) -> None:
    books.set_fleet(fleet=(SLEEPER, LARGE))
    books.wait(1000)
    books.close(books.open("r1", SLEEPER))
    began_ns = books.now_ns
    books.wait(10)
    bill_nanousd = books.posted().leases["edge", "edge-small"].bill_nanousd
    books.restart(down_seconds=5, fleet=(SLEEPER, LARGE))
    [(replica, [wake])] = books.accountant.awake().items()
    assert (replica, wake.began_ns) == (SLEEPER.replicas[0].id, began_ns)
    assert wake.quiet_ns == began_ns + 40 * SECOND  # as of which its least billed time is over after sixty more
    books.restart(down_seconds=3600, fleet=(SLEEPER, LARGE))
    assert books.accountant.awake() == {}
    assert books.posted().leases["edge", "edge-small"].bill_nanousd == bill_nanousd + 90 * 1_000_000
    attempt = books.open("r2", SLEEPER)
    books.wait(1)
    assert books.close(attempt).cost_nanousd == 1_000_000


def test_an_attempt_at_a_replica_that_has_gone_is_billed_for_its_time(books: Books) -> None:
    books.set_fleet(fleet=(LARGE,))
    attempt = books.open("r1")
    books.wait(5)
    assert books.close(attempt).cost_nanousd == 5_000_000
    books.wait(5)
    totals = books.posted()
    assert totals.leases["edge", "edge-small"] == (5_000_000, 0)


def test_a_new_price_applies_from_its_reload(books: Books) -> None:
    double = LeasedPrice("double", 2 * EDGE_PRICE.nanousd_per_hour, Purchase.SPOT)
    books.wait(10)
    books.set_fleet({**PRICES, SMALL.name: double})
    books.wait(10)
    assert books.posted().leases["edge", "edge-small"].bill_nanousd == 2 * 30_000_000


def test_a_price_that_comes_and_goes_within_a_nanosecond_is_in_force_at_last(books: Books) -> None:
    dear = LeasedPrice("edge-l4@2026-11-18#00000004", 2 * EDGE_PRICE.nanousd_per_hour, Purchase.ON_DEMAND)
    for price in (dear, EDGE_PRICE, dear, EDGE_PRICE, dear):
        books.set_fleet(PRICES | {SMALL.name: price})
    books.wait(1)
    books.posted()
    books.restart()
    assert books.posted().leases["edge", "edge-small"].bill_nanousd == 2 * 2_000_000


def test_f28_with_the_clock_set_back_no_lease_is_billed_ahead(books: Books) -> None:
    books.set_fleet(fleet=(replace(SMALL, replicas=SMALL.replicas[:1]), LARGE))
    books.wait(100)
    before = books.posted()
    books.restart(down_seconds=-50)  # with both replicas
    assert books.posted().leases == before.leases
    books.wait(60)
    after = books.posted().leases["edge", "edge-small"]
    assert after.bill_nanousd - before.leases["edge", "edge-small"].bill_nanousd == 2 * 10 * 1_000_000


@pytest.mark.parametrize(("seconds", "is_told"), [(-50, False), (-3600, True)])
def test_f28_with_the_clock_set_back_by_far_it_is_told_that_leases_cost_nothing_for_so_long(
    books: Books, seconds: float, is_told: bool
) -> None:
    books.wait(100)
    books.posted()
    with structlog.testing.capture_logs() as events:
        books.restart(down_seconds=seconds)
    said = [(one["log_level"], one["seconds"]) for one in events if "yet to come" in one["event"]]
    assert said == ([("error", 3600)] if is_told else [])


def test_a_replica_without_a_profile_shares_its_bill_evenly(books: Books) -> None:
    plain = backend("plain")
    books.set_fleet({plain.name: EDGE_PRICE}, fleet=(plain,))
    one, two = books.open("r1", plain), books.open("r2", plain)
    books.accountant.first_token(one, books.now_ns)
    books.wait(2)
    assert {books.close(one).cost_nanousd, books.close(two).cost_nanousd} == {1_000_000}


def test_without_a_first_token_to_come_one_weight_stands_for_prefill_and_decode(books: Books) -> None:
    whole, streamed = facts("whole"), facts("streamed")
    weigher = Weigher()
    weights = [
        weigher.open("whole", PROFILE, books.now_ns, 4000, 400, is_streaming=False),
        weigher.open("streamed", PROFILE, books.now_ns, 4000, 400),
    ]
    books.accountant.open(whole, SMALL, EDGE_PRICE, 4000, 400, books.now_ns, is_streaming=False)
    books.accountant.open(streamed, SMALL, EDGE_PRICE, 4000, 400, books.now_ns)
    books.accountant.first_token(whole.attempt_id, books.now_ns)
    books.wait(1)
    assert books.close(whole.attempt_id).cost_nanousd == 1_000_000 * weights[0] // sum(weights)


# The ledger in trouble


async def test_a_metered_attempt_is_on_disk_before_it_goes_out(tmp_path: Path) -> None:
    books = Books(tmp_path / "ledger.sqlite")
    attempt = books.open("r1", LARGE, CLOUD_PRICE)
    await books.accountant.durable(attempt)
    connection = sqlite3.connect(books.path)
    assert connection.execute("SELECT subject FROM journal WHERE kind = 'opened'").fetchall() == [(attempt,)]
    connection.close()
    books.store.close()


async def test_f31_while_the_ledger_fails_metered_traffic_is_refused_and_leased_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.accounting.accountant.DURABLE_SECONDS_MAX", 1.5)
    books = Books(tmp_path / "ledger.sqlite", events_waiting_max=20)
    await books.store.published(PATIENCE_SECONDS)
    blocker = sqlite3.connect(books.path, isolation_level=None)
    try:
        blocker.execute("BEGIN IMMEDIATE")
        first = books.open("first", LARGE, CLOUD_PRICE)
        with pytest.raises(Unavailable):
            await books.accountant.durable(first)
        books.close(first, AttemptEnd(AttemptStatus.FAILED, Usage(0, 0), "ledger"))
        with pytest.raises(Unavailable):
            books.open("second", LARGE, CLOUD_PRICE)
        attempts = [books.open(f"leased-{number}") for number in range(40)]
        assert 0 < books.accountant.unrecorded_attempts < 40
        books.wait(1)
        charges = [books.close(attempt) for attempt in attempts]
    finally:
        blocker.close()
    books.accountant.advance(books.now_ns)
    totals = await books.store.published(PATIENCE_SECONDS)
    assert_books_balance(totals, open_attempts=0)
    unknown = [charge for charge in charges if charge.cost_nanousd is None]
    assert len(unknown) == books.accountant.unrecorded_attempts
    assert cost_of(totals, backend=SMALL.name) == sum(charge.cost_nanousd or 0 for charge in charges) == 1_000_000
    assert books.accountant.is_accepting
    books.store.close()
    assert_file_is_consistent(books.path, is_quiet=True)
    assert_audit_is_clean(books.path)


# Restart


def test_a17_totals_survive_a_restart_and_never_fall(books: Books) -> None:
    books.close(books.open("metered", LARGE, CLOUD_PRICE))
    attempt = books.open("leased")
    books.wait(5)
    books.close(attempt)
    before = books.posted()
    books.restart(down_seconds=100)
    after = books.posted()
    assert after.lines == before.lines
    assert_books_balance(after, open_attempts=0)
    lease_before, lease_after = before.leases["edge", "edge-small"], after.leases["edge", "edge-small"]
    assert lease_after.idle_nanousd - lease_before.idle_nanousd == 2 * 100_000_000  # both replicas, nobody there


def test_a17_what_open_attempts_had_run_up_stays_theirs_when_the_router_dies(books: Books) -> None:
    books.open("leased")
    books.wait(5)
    before = books.posted()
    books.restart(down_seconds=100)
    after = books.posted()
    assert not after.open_nanousd
    assert 0 <= cost_of(after) - sum(before.open_nanousd.values()) <= 1, "a nano-dollar of residue comes with the end"
    assert cost_of(after) == 5_000_000
    assert_books_balance(after, open_attempts=0)


def test_f29_attempts_that_the_dead_router_held_are_closed_once_as_lost(books: Books) -> None:
    books.open("metered", LARGE, CLOUD_PRICE)
    books.open("leased")
    books.wait(1)
    for _ in range(3):
        books.restart(down_seconds=1)
    totals = books.posted()
    assert {
        (line.account.backend, line.status, line.usage_source, total.attempts) for line, total in totals.lines.items()
    } == {
        ("cloud-large", AttemptStatus.LOST, UsageSource.ESTIMATED, 1),
        ("edge-small", AttemptStatus.LOST, UsageSource.ESTIMATED, 1),
    }
    assert cost_of(totals, backend="cloud-large") == list_cost(CLOUD_PRICE, Usage(100, 50))
    assert books.accountant.open_attempts == 0


def test_a_restart_without_a_replica_ends_its_lease(books: Books) -> None:
    books.wait(10)
    books.posted()
    books.store.close()
    books.store = SqliteLedger(books.path)
    books.accountant = Accountant(books.store)
    books.set_fleet(fleet=(LARGE,))
    books.wait(10)
    assert books.posted().leases["edge", "edge-small"] == (20_000_000, 20_000_000)


def test_a_crash_between_checkpoints_is_replayed_to_the_nano_dollar(books: Books, tmp_path: Path) -> None:
    """The file as a kill leaves it: copied while the writer runs, with charges that are newer than the meters' states."""
    books.wait(1)
    books.posted()
    attempts = [books.open(f"r{number}") for number in range(7)]
    for number, attempt in enumerate(attempts):
        books.wait(0.1 + number / 7)
        books.accountant.first_token(attempt, books.now_ns)
    charges = [books.close(attempt) for attempt in attempts[:5]]
    seq = books.store.append([])
    asyncio.run(books.store.committed(seq, PATIENCE_SECONDS))
    crashed = tmp_path / "crashed" / books.path.name
    crashed.parent.mkdir()
    for file in tmp_path.glob("ledger.sqlite*"):
        if not file.name.endswith(".lock"):
            shutil.copy(file, crashed.parent / file.name)
    expected = [books.close(attempt).cost_nanousd for attempt in attempts[5:]]
    store = SqliteLedger(crashed)
    accountant = Accountant(store)
    accountant.set_fleet(FLEET, PRICES, PROFILES, books.now_ns)
    totals = asyncio.run(store.published(PATIENCE_SECONDS))
    lost = sum(total.cost_nanousd for line, total in totals.lines.items() if line.status is AttemptStatus.LOST)
    assert lost == sum(cost or 0 for cost in expected)
    assert cost_of(totals) - lost == sum(charge.cost_nanousd or 0 for charge in charges)
    assert_books_balance(totals, open_attempts=0)
    store.close()
    assert_file_is_consistent(crashed, is_quiet=True)


# Anything at all


def shown_by_counters(totals: Totals) -> dict[object, int]:
    """Every amount that Prometheus shows as a counter."""
    shown: Counter[object] = Counter(totals.bills())
    shown.update({(place, "idle"): lease.idle_nanousd for place, lease in totals.leases.items()})
    for line, total in totals.lines.items():
        shown[line.account] += total.cost_nanousd
    for account, owed in totals.open_nanousd.items():
        shown[account] += owed
    return dict(shown)


gaps_ns = st.one_of(st.just(0), st.integers(-SECOND, SECOND), st.integers(0, HOUR))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(0, 11), gaps_ns),
        st.tuples(st.just("first_token"), st.integers(0, 11), gaps_ns),
        st.tuples(st.just("close"), st.integers(0, 11), gaps_ns),
        st.tuples(st.just("cancel"), st.integers(0, 11), gaps_ns),
        st.tuples(st.just("reprice"), st.integers(0, 3), gaps_ns),
        st.tuples(st.just("shrink"), st.integers(0, 2), gaps_ns),
        st.tuples(st.just("post"), st.just(0), gaps_ns),
        st.tuples(st.just("restart"), st.just(0), gaps_ns),
    ),
    max_size=50,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_whatever_happens_the_bill_is_the_costs_and_the_idle_time_and_nothing_stays_open(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, int, int]]
) -> None:
    books = Books(tmp_path_factory.mktemp("books") / "ledger.sqlite")
    is_open: dict[int, str] = {}
    charges: list[Charge] = []
    prices: dict[str, Price] = dict(PRICES)
    leased_at = {price.price_id: price.nanousd_per_hour for price in PRICES.values() if isinstance(price, LeasedPrice)}
    seen: dict[object, int] = {}
    for number, (verb, choice, gap_ns) in enumerate(script):
        books.now_ns += gap_ns
        if verb == "open" and choice not in is_open:
            of = LARGE if choice % 3 == 0 else SMALL
            price = None if choice == 11 else prices[of.name]
            is_open[choice] = books.open(f"r{number}", of, price, replica=choice % len(of.replicas))
        elif verb == "first_token" and choice in is_open:
            books.accountant.first_token(is_open[choice], books.now_ns)
        elif verb in ("close", "cancel") and choice in is_open:
            end = answered() if verb == "close" else AttemptEnd(AttemptStatus.CANCELLED, Usage(10, 3), "client_gone")
            charges.append(books.close(is_open.pop(choice), end))
        elif verb == "reprice":
            per_hour_nanousd = (0, 1, 7, 10**13)[choice]
            leased_at[f"p{choice}"] = per_hour_nanousd
            prices[SMALL.name] = LeasedPrice(f"p{choice}", per_hour_nanousd, Purchase.SPOT)
            books.set_fleet(prices)
        elif verb == "shrink":
            books.set_fleet(prices, (replace(SMALL, replicas=SMALL.replicas[:choice]), LARGE))
        elif verb == "restart":
            books.restart()
            is_open.clear()
            prices = dict(PRICES)
        elif verb == "post":
            totals = books.posted()
            assert_books_balance(totals, len(is_open))
            shown = shown_by_counters(totals)
            assert all(amount <= shown[what] for what, amount in seen.items())
            seen = shown
    charges += [books.close(attempt) for attempt in is_open.values()]
    assert books.accountant.open_attempts == 0
    totals = books.posted()
    assert_books_balance(totals, 0)
    assert not totals.open_nanousd
    kept = cost_of(totals) - sum(
        total.cost_nanousd for line, total in totals.lines.items() if line.status is AttemptStatus.LOST
    )
    assert kept == sum(charge.cost_nanousd or 0 for charge in charges)
    books.store.close()
    assert_file_is_consistent(books.path, is_quiet=True)
    assert_audit_is_clean(books.path)
    with closing(sqlite3.connect(books.path)) as database:
        by_price = database.execute(
            "SELECT price_id, sum(bill_nanousd), sum(leased_ns), count(DISTINCT lease_id) FROM lease_hours GROUP BY 1"
        ).fetchall()
    for price_id, bill, leased_ns, leases in by_price:  # whatever was below a nano-dollar went with the next price
        assert abs(bill - Fraction(leased_at[price_id] * leased_ns, NS_PER_HOUR)) <= leases * (len(script) + 1)
