"""The hours equal the ledger they are made of, wherever a process died and whoever wrote it."""

import asyncio
import dataclasses
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from audited import assert_audit_is_clean
from bookkeeping import (
    CLOUD_PRICE,
    EDGE_PRICE,
    FLEET,
    HOUR,
    LARGE,
    PRICES,
    PROFILES,
    SECOND,
    SMALL,
    answered,
    facts,
    make_version_2,
    make_version_3,
    make_version_4,
)
from hypothesis import given
from hypothesis import strategies as st
from ledgers import Place

from router.accounting.accountant import Accountant
from router.accounting.audit import audit
from router.accounting.rebuild import rebuild
from router.domain.attempt import AttemptEnd, AttemptStatus
from router.domain.periods import NS_PER_HOUR
from router.domain.usage import Usage
from router.ledger import rollups
from router.ledger.periods import Period, read_periods
from router.ledger.store import LedgerError
from router.ledger.writer import BatchedLedger
from router.pricing.price import LeasedPrice

FIRST_HOUR = 498_648
START = FIRST_HOUR * HOUR + 600 * SECOND


def assert_hours_equal_the_ledger(place: Place) -> None:
    for name in ("cost_nanousd", "standard_nanousd", "prompt_tokens", "completion_tokens", "cost_prompt_nanousd"):
        hours = place.rows(f"SELECT coalesce(sum({name}), 0) FROM charge_hours")
        assert hours == place.rows(f"SELECT coalesce(sum({name}), 0) FROM charges"), name
    assert place.rows("SELECT coalesce(sum(attempts), 0) FROM charge_hours") == place.rows(
        "SELECT count(*) FROM charges"
    )
    leases = "SELECT coalesce(sum(bill_nanousd), 0), coalesce(sum(idle_nanousd), 0) FROM"
    assert place.rows(f"{leases} lease_hours") == place.rows(f"{leases} leases")


def opened(place: Place) -> tuple[BatchedLedger, Accountant]:
    store = place.open(commit_seconds=0.0005)
    return store, Accountant(store)


def post(store: BatchedLedger, accountant: Accountant, at_ns: int) -> None:
    accountant.advance(at_ns)
    asyncio.run(store.published(10.0))


def answer(accountant: Accountant, request_id: str, at_ns: int, **members: object) -> None:
    one = facts(request_id, **members)  # type: ignore[arg-type]
    price = CLOUD_PRICE if one.backend == LARGE.name else EDGE_PRICE
    accountant.open(one, LARGE if one.backend == LARGE.name else SMALL, price, 100, 50, at_ns)
    accountant.first_token(one.attempt_id, at_ns + SECOND)
    accountant.close(one.attempt_id, answered(), at_ns + 2 * SECOND)


def keep_a_day(place: Place) -> Place:
    """Six hours with a request in each; the process died once in between, and was away for two hours."""
    store, accountant = opened(place)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START)
    for hour in range(3):
        answer(accountant, f"req_{hour}", START + hour * HOUR, tenant="acme")
        answer(accountant, f"req_c{hour}", START + hour * HOUR, of=LARGE, tenant="zeta")
        post(store, accountant, START + hour * HOUR + 300 * SECOND)
    answer(accountant, "req_unrolled", START + 2 * HOUR + 400 * SECOND)
    store.close()
    store, accountant = opened(place)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START + 5 * HOUR)
    answer(accountant, "req_after", START + 5 * HOUR)
    post(store, accountant, START + 5 * HOUR + 300 * SECOND)
    store.close()
    return place


@pytest.fixture
def day(place: Place) -> Place:
    return keep_a_day(place)


@pytest.fixture
def day_in_a_file(tmp_path: Path) -> Place:
    return keep_a_day(Place(tmp_path / "ledger.sqlite", tmp_path))


def test_a02_the_hours_are_the_sums_of_the_charges_and_the_leases(day: Place) -> None:
    assert_hours_equal_the_ledger(day)


def test_a17_what_was_committed_but_not_rolled_when_the_process_died_is_rolled_once(day: Place) -> None:
    with read_periods(day.address) as periods:
        rows = periods.spent(periods.whole(), by=("tenant",))
        assert periods.waiting == 0
    assert [(row.hour - FIRST_HOUR, row.tenant, row.attempts) for row in rows] == [
        (0, "acme", 1), (0, "zeta", 1), (1, "acme", 1), (1, "zeta", 1), (2, "acme", 2), (2, "zeta", 1), (5, "acme", 1),
    ]  # fmt: skip


def test_every_full_hour_of_a_lease_costs_its_price_restart_or_not(day: Place) -> None:
    with read_periods(day.address) as periods:
        rows = periods.leased(periods.whole())
    by_hour: dict[int, int] = {}
    for row in rows:
        by_hour[row.hour - FIRST_HOUR] = by_hour.get(row.hour - FIRST_HOUR, 0) + row.bill_nanousd
        assert row.idle_nanousd <= row.bill_nanousd
        assert row.leased_ns <= NS_PER_HOUR
    price = len(SMALL.replicas) * EDGE_PRICE.nanousd_per_hour
    assert by_hour == {0: price * 5 // 6, 1: price, 2: price, 3: price, 4: price, 5: price // 4}


@pytest.mark.parametrize("is_restart", [False, True])
def test_what_ran_up_until_a_price_changed_has_the_price_before(place: Place, tmp_path: Path, is_restart: bool) -> None:
    """Told at once, by nobody's clock: whenever the ledger was looked at last, and were it before a restart."""
    dear = LeasedPrice("edge@dear", 3 * EDGE_PRICE.nanousd_per_hour, EDGE_PRICE.purchase)
    cheap = LeasedPrice("edge@cheap", EDGE_PRICE.nanousd_per_hour // 2, EDGE_PRICE.purchase)
    store, accountant = opened(place)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START)
    answer(accountant, "req_0", START + 10 * SECOND)
    post(store, accountant, START + 50 * SECOND)
    if is_restart:
        store.close()
        store, accountant = opened(place)
    accountant.set_fleet(FLEET, PRICES | {SMALL.name: dear}, PROFILES, START + 90 * SECOND)
    accountant.set_fleet(FLEET, PRICES | {SMALL.name: cheap}, PROFILES, START + 100 * SECOND)
    post(store, accountant, START + 130 * SECOND)
    answer(accountant, "req_1", START + 140 * SECOND)
    post(store, accountant, START + 150 * SECOND)
    store.close()
    with read_periods(place.address) as periods:
        rows = periods.leased(periods.whole())
    replicas = len(SMALL.replicas)
    for price, seconds in ((EDGE_PRICE, 90), (dear, 10), (cheap, 50)):
        of_price = [row for row in rows if row.price_id == price.price_id]
        assert sum(row.leased_ns for row in of_price) == replicas * seconds * SECOND
        assert sum(row.bill_nanousd for row in of_price) == replicas * price.nanousd_per_hour * seconds // 3600
    assert_hours_equal_the_ledger(place)
    assert_audit_is_clean(place.address)
    fresh = Place(tmp_path / "fresh.sqlite", tmp_path)
    assert not rebuild(place.address, fresh.address).findings
    hours = "SELECT hour, lease_id, price_id, bill_nanousd, idle_nanousd, leased_ns FROM lease_hours ORDER BY 1, 2, 3"
    assert place.rows(hours) == fresh.rows(hours)


def test_an_audit_names_what_has_another_price_than_it_ran_up_at(place: Place) -> None:
    dear = dataclasses.replace(EDGE_PRICE, price_id="dear", nanousd_per_hour=2 * EDGE_PRICE.nanousd_per_hour)
    store, accountant = opened(place)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START)
    accountant.set_fleet(FLEET, {**PRICES, SMALL.name: dear}, PROFILES, START + 100 * SECOND)
    post(store, accountant, START + 200 * SECOND)
    store.close()
    assert_audit_is_clean(place.address)
    for sign, price in (("-", EDGE_PRICE), ("+", dear)):
        place.change(f"UPDATE lease_hours SET bill_nanousd = bill_nanousd {sign} 7 WHERE price_id = '{price.price_id}'")
    found = audit(place.address).findings
    assert {(one.table, one.what, int(one.stored) - int(one.should_be)) for one in found} == {
        ("lease_hours", "bill_nanousd", -7)
    }
    assert len(found) == len(SMALL.replicas)
    assert all(one.row.endswith(f" {EDGE_PRICE.price_id}") for one in found)


def test_an_audit_names_the_hours_between_which_a_leases_money_was_moved(day: Place) -> None:
    """Though all that it cost is right."""
    lease_id = day.rows(f"SELECT lease_id FROM lease_hours WHERE hour = {FIRST_HOUR + 1} ORDER BY 1 LIMIT 1")[0][0]
    for hour, sign in ((FIRST_HOUR + 1, "+"), (FIRST_HOUR + 3, "-")):
        day.change(
            f"UPDATE lease_hours SET bill_nanousd = bill_nanousd {sign} 10000 WHERE hour = {hour} AND lease_id = '{lease_id}'"
        )
    found = audit(day.address).findings
    assert [(one.table, int(one.row.split()[0]), int(one.stored) - int(one.should_be)) for one in found] == [
        ("lease_hours", FIRST_HOUR + 1, 10_000),
        ("lease_hours", FIRST_HOUR + 3, -10_000),
    ]


def test_vacuum_between_two_rolls_changes_nothing(day_in_a_file: Place) -> None:
    day = day_in_a_file
    day.change("DELETE FROM charges WHERE attempt_id = 'req_0.1'", "VACUUM")
    store, accountant = opened(day)
    answer(accountant, "req_late", START + 6 * HOUR)
    post(store, accountant, START + 6 * HOUR)
    store.close()
    with read_periods(day.address) as periods:
        assert sum(row.attempts for row in periods.spent(periods.whole(), by=())) == 9


def test_a_ledger_of_an_older_jeton_is_caught_up_with_bit_by_bit(
    day_in_a_file: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = day_in_a_file
    assert isinstance(day.address, Path)
    make_version_3(day.address)
    with pytest.raises(LedgerError, match="older jeton"), read_periods(day.address):
        pass
    monkeypatch.setattr(rollups, "CHARGES_PER_ROLL", 3)
    store, accountant = opened(day)
    for second in range(1, 5):
        post(store, accountant, START + 5 * HOUR + (300 + second) * SECOND)
    store.close()
    assert_hours_equal_the_ledger(day)


@pytest.mark.parametrize(("charges_per_roll", "is_catching_up"), [(5, False), (4, True)])
def test_what_waits_to_be_rolled_is_told_and_whether_it_is_more_than_the_newest(
    day: Place, monkeypatch: pytest.MonkeyPatch, charges_per_roll: int, is_catching_up: bool
) -> None:
    day.change("UPDATE rolled SET seq = (SELECT seq FROM charges WHERE attempt_id = 'req_1.1')")
    monkeypatch.setattr(rollups, "CHARGES_PER_ROLL", charges_per_roll)
    with read_periods(day.address) as periods:
        assert (periods.waiting, periods.is_catching_up) == (5, is_catching_up)


def make_version_1(path: Path) -> None:
    make_version_2(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 1")
        connection.execute(
            "CREATE TRIGGER charges_total AFTER INSERT ON charges BEGIN UPDATE totals SET attempts = attempts + 1; END"
        )


@pytest.mark.parametrize("make_older", [make_version_1, make_version_2, make_version_3, make_version_4])
def test_a_ledger_of_an_older_jeton_is_gone_on_with(day_in_a_file: Place, make_older: Callable[[Path], None]) -> None:
    day = day_in_a_file
    assert isinstance(day.address, Path)
    make_older(day.address)
    store, accountant = opened(day)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START + 6 * HOUR)
    answer(accountant, "req_new", START + 6 * HOUR)
    post(store, accountant, START + 6 * HOUR)
    store.close()
    with read_periods(day.address) as periods:
        last = periods.spent(periods.whole(), by=())[-1]
    assert last.cost_prompt_nanousd + last.cost_cached_nanousd + last.cost_completion_nanousd == last.cost_nanousd > 0
    assert_audit_is_clean(day.address)


def test_an_audit_names_the_hour_that_is_off(day: Place) -> None:
    day.change(
        f"UPDATE charge_hours SET cost_nanousd = cost_nanousd + 1 WHERE hour = {FIRST_HOUR + 1}",
        f"UPDATE lease_hours SET idle_nanousd = idle_nanousd - 1 WHERE hour = {FIRST_HOUR + 5}",
    )
    found = audit(day.address).findings
    assert {(one.table, one.what, int(one.stored) - int(one.should_be)) for one in found} == {
        ("charge_hours", "cost_nanousd", 1),
        ("lease_hours", "idle_nanousd", -1),
    }
    assert all(one.row.startswith(f"{FIRST_HOUR + 1} ") for one in found if one.table == "charge_hours")


def test_a_rebuilt_ledger_has_the_hours_of_the_old_one(day: Place, tmp_path: Path) -> None:
    dearer = dataclasses.replace(EDGE_PRICE, price_id="dearer", nanousd_per_hour=2 * EDGE_PRICE.nanousd_per_hour)
    store, accountant = opened(day)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START + 6 * HOUR)
    post(store, accountant, START + 8 * HOUR)
    accountant.set_fleet(FLEET, {**PRICES, SMALL.name: dearer}, PROFILES, START + 8 * HOUR)
    answer(accountant, "req_dear", START + 9 * HOUR)
    post(store, accountant, START + 9 * HOUR + 300 * SECOND)
    store.close()
    fresh = Place(tmp_path / "fresh.sqlite", tmp_path)
    assert not rebuild(day.address, fresh.address).findings
    assert_audit_is_clean(fresh.address)
    for what in (
        f"hour, {', '.join(rollups.KEYS)}, {', '.join(rollups.SUMS)} FROM charge_hours JOIN charge_keys USING (key)",
        "hour, lease_id, price_id, bill_nanousd, leased_ns FROM lease_hours",
        f"hour, tenant, arm, {', '.join(rollups.ARM_SUMS)} FROM arm_hours",
    ):
        assert day.rows(f"SELECT {what} ORDER BY 1, 2, 3, 4, 5") == fresh.rows(f"SELECT {what} ORDER BY 1, 2, 3, 4, 5")


def test_days_are_sums_of_hours(day: Place) -> None:
    with read_periods(day.address) as periods:
        period = periods.whole()
        hours, days = periods.spent(period, by=("backend",)), periods.spent(period, by=("backend",), hours=24)
    for name in {row.backend for row in hours}:
        assert sum(row.cost_nanousd for row in hours if row.backend == name) == sum(
            row.cost_nanousd for row in days if row.backend == name
        )


def test_the_prompts_part_is_what_had_run_up_at_the_first_token(place: Place) -> None:
    store, accountant = opened(place)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START)
    answer(accountant, "req_1", START)  # alone: a second of prefill and one of decode
    post(store, accountant, START + 10 * SECOND)
    store.close()
    with read_periods(place.address) as periods:
        (row,) = periods.spent(periods.whole(), by=())
    assert row.cost_prompt_nanousd + row.cost_completion_nanousd == 2_000_000
    assert row.cost_prompt_nanousd == pytest.approx(1_000_000, abs=1)  # what has run up is rounded down


def test_arms_count_requests_and_a_failover_is_one_of_them(place: Place) -> None:
    """(a + b)² for a request of two attempts, across two rolls; requests before the hold-out began are left out."""
    store, accountant = opened(place)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START)
    answer(accountant, "req_before", START - 40 * HOUR)
    answer(accountant, "req_held", START, of=LARGE, reason="holdout")
    first = facts("req_two", LARGE, number=1)
    accountant.open(first, LARGE, CLOUD_PRICE, 100, 50, START)
    accountant.close(first.attempt_id, AttemptEnd(AttemptStatus.FAILED, Usage(100, 10), "reset"), START + SECOND)
    post(store, accountant, START + 2 * SECOND)
    answer(accountant, "req_two", START + 3 * SECOND, of=LARGE, number=2)
    answer(accountant, "req_named", START + 3 * SECOND, of=LARGE, asked_model="chat-small")
    post(store, accountant, START + 9 * SECOND)
    totals = store.totals()
    store.close()
    with read_periods(place.address) as periods:
        held, routed = periods.arms(periods.whole())
    once, twice = 600_000, 280_000 + 600_000
    assert held[:6] == ("holdout", "acme", 1, 0, once, float(once**2))
    assert routed[:6] == ("routed", "acme", 1, 0, twice, float(twice**2))
    assert {(one.arm, one.requests, one.allocated_nanousd) for one in totals.arms} == {
        ("holdout", 1, once),
        ("routed", 1, twice),
    }


@pytest.mark.parametrize("rolls", [1, 2])
def test_an_attempt_that_was_discarded_and_ends_last_is_of_one_request_with_the_other(place: Place, rolls: int) -> None:
    """It is read on beside the next one. A shadow of the request is in no arm, and none of its cost."""
    store, accountant = opened(place)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START)
    answer(accountant, "req_held", START, of=LARGE, reason="holdout")
    first = facts("req_two", LARGE, number=1)
    accountant.open(first, LARGE, CLOUD_PRICE, 100, 50, START)
    answer(accountant, "req_two", START + SECOND, of=LARGE, number=3, asked_model="", tenant="shadow")
    answer(accountant, "req_two", START + 4 * SECOND, of=LARGE, number=2)
    if rolls == 2:
        post(store, accountant, START + 7 * SECOND)
    accountant.close(
        first.attempt_id, AttemptEnd(AttemptStatus.CANCELLED, Usage(100, 10), "not_accepted"), START + 8 * SECOND
    )
    post(store, accountant, START + 9 * SECOND)
    store.close()
    with read_periods(place.address) as periods:
        _, routed = periods.arms(periods.whole())
    twice = 280_000 + 600_000
    assert routed[:6] == ("routed", "acme", 1, 0, twice, float(twice**2))


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("UPDATE arm_totals SET own_nanousd = own_nanousd + 1 WHERE arm = 'holdout'", ("arm_totals", "acme holdout")),
        ("UPDATE arm_totals SET requests = 9 WHERE arm = 'routed'", ("arm_totals", "acme routed")),
        ("UPDATE arm_totals SET tenant = 'zeta' WHERE arm = 'holdout'", ("arm_totals", "zeta holdout")),
        ("DELETE FROM arm_totals WHERE arm = 'holdout'", ("arm_totals", "acme holdout")),
        (
            "UPDATE arm_hours SET own_squares = own_squares / 2 WHERE arm = 'holdout'",
            ("arm_hours", f"{FIRST_HOUR} acme holdout"),
        ),
        (
            "UPDATE arm_totals SET allocated_squares = 2 * allocated_squares WHERE arm = 'routed'",
            ("arm_totals", "acme routed"),
        ),
    ],
)
def test_an_audit_names_the_arm_that_is_off(place: Place, statement: str, row: tuple[str, str]) -> None:
    store, accountant = opened(place)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START)
    for number in range(3):
        answer(accountant, f"req_held{number}", START, of=LARGE, reason="holdout")
        answer(accountant, f"req_{number}", START + 10 * SECOND, of=LARGE)
        post(store, accountant, START + (20 + number) * SECOND)
    store.close()
    assert_audit_is_clean(place.address)
    place.change(statement)
    assert row in {(one.table, one.row) for one in audit(place.address).findings}


def test_without_a_hold_out_there_are_no_arms(day: Place) -> None:
    with read_periods(day.address) as periods:
        assert periods.arms(periods.whole()) == []


def test_an_empty_ledger_says_so(place: Place) -> None:
    place.open().close()
    with read_periods(place.address) as periods, pytest.raises(LedgerError, match="nothing is booked"):
        periods.whole()


@given(st.integers(0, 10**14), st.integers(0, 10**14), st.integers(0, 10**12), st.integers(0, 10**12))
def test_cutting_at_full_hours_loses_nothing(from_ns: int, elapsed_ns: int, bill: int, idle: int) -> None:
    pieces = list(rollups.by_hour(from_ns, from_ns + elapsed_ns, bill, idle))
    assert sum(piece[1] for piece in pieces) == bill
    assert sum(piece[2] for piece in pieces) == idle
    assert sum(piece[3] for piece in pieces) == elapsed_ns
    hours = [piece[0] for piece in pieces]
    assert hours == sorted(set(hours))


def test_a_period_asks_for_its_hours_only(day: Place) -> None:
    with read_periods(day.address) as periods:
        assert {row.hour for row in periods.spent(Period(FIRST_HOUR + 1, FIRST_HOUR + 2))} == {FIRST_HOUR + 1}
        assert {row.hour for row in periods.leased(Period(FIRST_HOUR + 1, FIRST_HOUR + 2))} == {FIRST_HOUR + 1}
