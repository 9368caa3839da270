"""The audit names whatever is off, row by row, and nothing else; a rebuild from the journal equals the original."""

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from audited import assert_audit_is_clean
from bookkeeping import (
    CLOUD_PRICE,
    EDGE_PRICE,
    FLEET,
    LARGE,
    PRICES,
    PROFILES,
    SECOND,
    SMALL,
    answered,
    facts,
    make_version_2,
)

from router.accounting.accountant import Accountant
from router.accounting.audit import audit
from router.accounting.rebuild import rebuild
from router.domain.attempt import AttemptEnd, AttemptStatus
from router.domain.usage import Usage, UsageSource
from router.ledger.sqlite import SqliteLedger
from router.ledger.store import LedgerError
from router.pricing.price import ContextTier, LeasedPrice, MeteredPrice, Price, Purchase, TokenRates
from router.pricing.snapshot import price_from_snapshot, snapshot_text

START = 1_795_000_000 * SECOND
TABLES = ("journal", "prices", "charges", "totals", "leases", "position")
REPRICED = LeasedPrice("edge-l4@2026-11-25#00000009", 7_200_000_001, Purchase.SPOT)


def keep_books(path: Path, prices: dict[str, Price] | None = None, round_: int = 0) -> None:
    """Attempts of every kind, a new price, a replica that leaves and comes back, and three attempts that stay open."""
    now_ns = START + round_ * 1000 * SECOND
    prices = dict(PRICES) if prices is None else prices
    store = SqliteLedger(path, commit_seconds=0.0005)
    accountant = Accountant(store)
    accountant.set_fleet(FLEET, prices, PROFILES, now_ns)
    ends = [
        answered(),
        answered(provider_cost_nanousd=12_345),
        answered(cached_tokens=40, reasoning_tokens=7),
        AttemptEnd(AttemptStatus.CANCELLED, Usage(10, 3, source=UsageSource.RECOVERED), "client_gone"),
        AttemptEnd(AttemptStatus.FAILED, Usage(0, 0), "connect"),
        AttemptEnd(AttemptStatus.OK, Usage(0, 0, source=UsageSource.MISSING), http_status=200),
    ]
    open_ids: list[tuple[str, int]] = []
    for number in range(36):
        now_ns += number * SECOND // 7
        of = LARGE if number % 3 == 0 else SMALL
        price = None if number == 33 else prices[of.name]
        one = facts(f"k{round_}r{number}", of, replica=number % len(of.replicas))
        accountant.open(one, of, price, 100, 50, now_ns)
        open_ids.append((one.attempt_id, number))
        if number % 4:
            accountant.first_token(one.attempt_id, now_ns + SECOND // 9)
        if len(open_ids) > 4:
            attempt_id, which = open_ids.pop(number % 3)
            accountant.close(attempt_id, ends[which % len(ends)], now_ns + SECOND // 8)
        if number == 12:
            prices[SMALL.name] = REPRICED
            accountant.set_fleet(FLEET, prices, PROFILES, now_ns)
        if number == 20:
            accountant.set_fleet((replace(SMALL, replicas=SMALL.replicas[:1]), LARGE), prices, PROFILES, now_ns)
        if number == 25:
            accountant.set_fleet(FLEET, prices, PROFILES, now_ns)
        if number % 10 == 0:
            accountant.advance(now_ns + SECOND)
    for attempt_id, which in open_ids[3:]:
        accountant.close(attempt_id, ends[which % len(ends)], now_ns)
    store.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "ledger.sqlite"
    keep_books(path)
    keep_books(path, round_=1)
    return path


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copy(original, tmp_path / "ledger.sqlite"))


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows, in the order that their first two columns give."""
    with closing(sqlite3.connect(path)) as connection:
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}


def tamper(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement
        connection.commit()


def named(path: Path) -> set[tuple[str, str]]:
    """(table, what names the row) of all that is off."""
    return {(finding.table, finding.row) for finding in audit(path).findings}


def test_untouched_books_are_clean_and_accounted_for(path: Path) -> None:
    found = assert_audit_is_clean(path)
    assert found.attempts == 69
    assert found.open_attempts == 3
    assert found.taken_on_trust == 0
    assert sum(lease.bill_nanousd for lease in found.leases) > 0
    for lease in found.leases:
        assert 0 <= lease.residue_nanousd <= lease.open_attempts + 1


TAMPERINGS = {
    "a leased charge's cost": (
        "UPDATE charges SET cost_nanousd = cost_nanousd + 1 WHERE attempt_id = 'k0r4.1'", ("charges", "k0r4.1"),
    ),
    "a metered charge's cost": (
        "UPDATE charges SET cost_nanousd = cost_nanousd - 1 WHERE attempt_id = 'k0r6.1'", ("charges", "k0r6.1"),
    ),
    "an unknown cost made zero": (
        "UPDATE charges SET cost_nanousd = 0 WHERE attempt_id = 'k1r33.1'", ("charges", "k1r33.1"),
    ),
    "a cost status": ("UPDATE charges SET cost_status = 'unpriced' WHERE attempt_id = 'k0r4.1'", ("charges", "k0r4.1")),
    "a charge's tokens": (
        "UPDATE charges SET completion_tokens = 51 WHERE attempt_id = 'k0r6.1'", ("charges", "k0r6.1"),
    ),
    "a charge's tenant": ("UPDATE charges SET tenant = 'zeta' WHERE attempt_id = 'k0r6.1'", ("charges", "k0r6.1")),
    "a charge's status": ("UPDATE charges SET status = 'failed' WHERE attempt_id = 'k0r6.1'", ("charges", "k0r6.1")),
    "an estimate that calls itself measured": (
        "UPDATE charges SET usage_source = 'provider' WHERE attempt_id = 'k0r5.1'", ("charges", "k0r5.1"),
    ),
    "a saving": ("UPDATE charges SET baseline_nanousd = 9 WHERE attempt_id = 'k0r6.1'", ("charges", "k0r6.1")),
    "a lost charge": ("DELETE FROM charges WHERE attempt_id = 'k0r6.1'", ("charges", "k0r6.1")),
    "a lost end": (
        "DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal WHERE kind = 'closed')",
        ("charges", "k1r35.1"),
    ),
    "a lost beginning": (
        "DELETE FROM journal WHERE subject = 'k0r4.1' AND kind = 'opened'", ("charges", "k0r4.1"),
    ),
    "a lost first token": (
        "DELETE FROM journal WHERE subject = 'k0r5.1' AND kind = 'first_token'", ("charges", "k0r5.1"),
    ),
    "an event's weight": (
        "UPDATE journal SET amount = amount * 2 WHERE subject = 'k0r5.1' AND kind = 'first_token'", ("charges", "k0r5.1"),
    ),
    "how an event's weight grows": (
        "UPDATE journal SET detail = 2 * detail WHERE subject = 'k0r5.1' AND kind = 'first_token'", ("charges", "k0r5.1"),
    ),
    "a growth that is no number": (
        "UPDATE journal SET detail = 'much' WHERE subject = 'k0r5.1' AND kind = 'first_token'", ("charges", "k0r5.1"),
    ),
    "an event's time": (
        "UPDATE journal SET at_ns = at_ns + 5 WHERE subject = 'k0r5.1' AND kind = 'closed'", ("charges", "k0r5.1"),
    ),
    "an event's detail": (
        "UPDATE journal SET detail = NULL WHERE subject = 'k0r5.1' AND kind = 'closed'", ("journal", "event 30 (k0r5.1)"),
    ),
    "more spent than was charged": (
        "UPDATE spending SET cost_nanousd = cost_nanousd + 1 WHERE tenant = 'acme'",
        ("spending", "*"),
    ),
    "a doubled total": (
        "UPDATE totals SET cost_nanousd = 2 * cost_nanousd WHERE backend = 'cloud-large' AND status = 'ok'"
        " AND usage_source = 'provider'",
        ("totals", "cloud cloud-large metered model-of-cloud-large large acme ok provider"),
    ),
    "a lost total": (
        "DELETE FROM totals WHERE backend = 'edge-small' AND status = 'lost'",
        ("totals", "edge edge-small leased model-of-edge-small small acme lost estimated"),
    ),
    "a lease's idle money": ("UPDATE leases SET idle_nanousd = idle_nanousd - 1 WHERE replica = 'edge-small/0'", ("leases", "?")),
    "a lease's bill": ("UPDATE leases SET bill_nanousd = bill_nanousd + 1 WHERE replica = 'edge-small/0'", ("leases", "?")),
    "a lease's saved meter": (
        """UPDATE leases SET state = replace(state, '"pot":"', '"pot":"1') WHERE replica = 'edge-small/0'""", ("leases", "?"),
    ),
    "a lost lease": ("DELETE FROM leases WHERE replica = 'edge-small/0'", ("leases", "?")),
    "a metered price": (
        "UPDATE prices SET snapshot = replace(snapshot, '8000000000', '8000000001') WHERE price_id LIKE 'cloud%'",
        ("prices", CLOUD_PRICE.price_id),
    ),
    "a leased price": (
        "UPDATE prices SET snapshot = replace(snapshot, '3600000000', '3600000001') WHERE price_id LIKE 'edge%'",
        ("prices", EDGE_PRICE.price_id),
    ),
    "a lost price": ("DELETE FROM prices WHERE price_id LIKE 'cloud%'", ("prices", CLOUD_PRICE.price_id)),
    "a price that is none": ("UPDATE prices SET snapshot = '{}' WHERE price_id LIKE 'cloud%'", ("prices", CLOUD_PRICE.price_id)),
    "the position": ("UPDATE position SET at_ns = at_ns + 1000000000000", ("leases", "?")),
    "a charge's status that is none": (
        "UPDATE charges SET status = 'settled' WHERE attempt_id = 'k0r6.1'", ("charges", "k0r6.1"),
    ),
    "a charge's usage source that is none": (
        "UPDATE charges SET usage_source = 'guess' WHERE attempt_id = 'k0r6.1'", ("charges", "k0r6.1"),
    ),
    "a total's status that is none": (
        "UPDATE totals SET status = 'settled' WHERE backend = 'cloud-large' AND status = 'ok' AND usage_source = 'provider'",
        ("totals", "cloud cloud-large metered model-of-cloud-large large acme settled provider"),
    ),
    "a meter that cannot be read": (
        "UPDATE leases SET state = state || '}' WHERE replica = 'edge-small/0'", ("leases", "?"),
    ),
    "how far the hours go": ("DELETE FROM rolled", ("rolled", "1")),
    "whose an hour of a lease is": (
        "UPDATE lease_hours SET pool = 'central' WHERE replica = 'edge-small/0' AND hour = (SELECT max(hour) FROM lease_hours)",
        ("lease_hours", "*"),
    ),
    "at which replica an hour of a lease was": (
        "UPDATE lease_hours SET replica = 'edge-small/7' WHERE replica = 'edge-small/0'", ("lease_hours", "*"),
    ),
    "when an hour of a lease was": (
        "UPDATE lease_hours SET hour = hour - 24 WHERE replica = 'edge-small/0'", ("lease_hours", "*"),
    ),
    "at which price an hour of a lease was": (
        "UPDATE lease_hours SET price_id = price_id || '?' WHERE replica = 'edge-small/0'", ("lease_hours", "*"),
    ),
    "hours of a lease that never was": (
        "INSERT INTO lease_hours SELECT hour, 'x', price_id, replica, pool, backend, 0, 0, leased_ns FROM lease_hours LIMIT 1",
        ("lease_hours", "*"),
    ),
    "where open attempts begin": ("UPDATE position SET open_from_seq = 10000", ("position", "1")),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERINGS)
def test_what_was_tampered_with_is_named(path: Path, what: str) -> None:
    statement, (table, row) = TAMPERINGS[what]
    with closing(sqlite3.connect(path)) as connection:
        (lease_id,) = connection.execute("SELECT lease_id FROM leases WHERE replica = 'edge-small/0'").fetchone()
    tamper(path, statement)
    found = named(path)
    if row == "*":  # of that table, some row
        assert {name for name, _ in found} == {table}
    else:
        assert (table, row if row != "?" else lease_id) in found


SUMMED_UP = ("totals", "spending", "metrics", "leases", "charge_hours", "arm_hours")


@pytest.mark.parametrize("what", ["a leased charge's cost", "a metered charge's cost", "a charge's status", "a saving"])
def test_a_charge_that_is_off_is_off_alone_but_for_what_sums_it_up(path: Path, what: str) -> None:
    statement, row = TAMPERINGS[what]
    tamper(path, statement)
    assert {one for one in named(path) if one[0] not in SUMMED_UP} == {row}


def test_a_meter_that_an_older_jeton_saved_is_as_good_as_one_of_today(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    store = SqliteLedger(path)
    accountant = Accountant(store)
    accountant.set_fleet(FLEET, PRICES, PROFILES, 0)
    for number in range(5):
        accountant.open(facts(f"r{number}", SMALL, replica=0), SMALL, PRICES[SMALL.name], 100, 50, number * SECOND // 7)
    accountant.close("r1.1", AttemptEnd(AttemptStatus.OK, Usage(9, 9)), SECOND)
    accountant.advance(2 * SECOND)
    accountant.close("r2.1", AttemptEnd(AttemptStatus.OK, Usage(9, 9)), 3 * SECOND)
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        for lease_id, text in connection.execute("SELECT lease_id, state FROM leases").fetchall():
            state = json.loads(text)
            state["pot"] = str(int(state["pot"]) >> state.pop("grain_bits") - 32)
            state["open"] = {name: row[:3] for name, row in state["open"].items()}
            connection.execute("UPDATE leases SET state = ? WHERE lease_id = ?", (json.dumps(state), lease_id))
        connection.commit()
    assert assert_audit_is_clean(path).open_attempts == 3
    tamper(
        path,
        """UPDATE leases SET state = replace(state, '"virtual": "', '"virtual": "1') WHERE replica = 'edge-small/0'""",
    )
    assert {table for table, _ in named(path)} == {"leases"}


def test_a_lost_event_leaves_a_gap_that_is_named(path: Path, tmp_path: Path) -> None:
    tamper(path, "DELETE FROM journal WHERE seq = 30")
    assert ("journal", "event 30") in named(path)
    rebuilt = rebuild(path, tmp_path / "fresh.sqlite")
    assert ("journal", "event 30") in {(one.table, one.row) for one in rebuilt.findings}


def test_totals_that_are_off_show_in_the_metrics(path: Path) -> None:
    tamper(path, TAMPERINGS["a doubled total"][0])
    assert ("metrics", "jeton_cost_usd_total{pool=cloud, backend=cloud-large, basis=allocated}") in named(path)


def test_the_audit_runs_beside_a_writer_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    store = SqliteLedger(path, commit_seconds=0.0005)
    accountant = Accountant(store)
    accountant.set_fleet(FLEET, PRICES, PROFILES, START)
    for number in range(20):
        one = facts(f"r{number}")
        accountant.open(one, SMALL, EDGE_PRICE, 100, 50, START + number * SECOND)
        if number % 2:
            accountant.close(one.attempt_id, answered(), START + number * SECOND + SECOND // 2)
        asyncio.run(store.committed(store.append([]), 10.0))
        assert_audit_is_clean(path)
    store.close()


# Rebuild


def test_a_rebuilt_ledger_equals_the_original_row_by_row_and_is_clean(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "fresh.sqlite"
    rebuilt = rebuild(path, out)
    assert (rebuilt.charges, rebuilt.findings, rebuilt.taken_on_trust) == (69, [], 0)
    before, after = tables(path), tables(out)
    for table in TABLES:
        assert without_late_events(after[table]) == without_late_events(before[table]), table
    assert_audit_is_clean(out)


def without_late_events(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """How often the live meter was told a time too late: the journal has it set right, so it is not derived."""

    def cut(value: object) -> object:
        return (
            value.split('"late_events":')[0] + value.split('"bill":')[1]
            if isinstance(value, str) and '"late_events":' in value
            else value
        )

    return [tuple(map(cut, row)) for row in rows]


def test_what_was_tampered_with_is_right_again_in_the_rebuilt_ledger(
    path: Path, original: Path, tmp_path: Path
) -> None:
    for what in (
        "a leased charge's cost",
        "a lost charge",
        "a charge's tokens",
        "a doubled total",
        "a lost total",
        "a lost lease",
    ):
        statement, _ = TAMPERINGS[what]
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(statement)
            connection.commit()
    rebuild(path, tmp_path / "fresh.sqlite")
    fresh, sound = tables(tmp_path / "fresh.sqlite"), tables(original)
    for table in ("charges", "totals", "journal"):
        assert fresh[table] == sound[table], table
    assert_audit_is_clean(tmp_path / "fresh.sqlite")


def test_a_rebuilt_ledger_is_gone_on_with(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "fresh.sqlite"
    rebuild(path, out)
    for each in (path, out):
        keep_books(each, round_=2)
    assert tables(out)["charges"] == tables(path)["charges"]
    assert_audit_is_clean(out)


def test_a_rebuild_overwrites_nothing_and_leaves_nothing_when_it_fails(path: Path, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="a file already"):
        rebuild(path, path)
    with pytest.raises(LedgerError, match="no ledger here"):
        rebuild(tmp_path / "none.sqlite", tmp_path / "fresh.sqlite")
    assert not (tmp_path / "fresh.sqlite").exists()


def test_a_price_that_is_not_what_its_id_stands_for_is_logged_and_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    for round_, rate in enumerate((EDGE_PRICE.nanousd_per_hour, EDGE_PRICE.nanousd_per_hour + 1)):
        with structlog.testing.capture_logs() as events:
            keep_books(path, {SMALL.name: replace(EDGE_PRICE, nanousd_per_hour=rate), LARGE.name: CLOUD_PRICE}, round_)
        assert [event["price_id"] for event in events if event["log_level"] == "error"] == [
            EDGE_PRICE.price_id
        ] * round_
    assert ("prices", EDGE_PRICE.price_id) in named(path)


# Older ledgers


def test_a_ledger_of_version_2_is_brought_up_to_date_and_audits_clean(path: Path, tmp_path: Path) -> None:
    sums = tables(path)["totals"]
    make_version_2(path)
    with pytest.raises(LedgerError, match="older jeton"):
        audit(path)
    SqliteLedger(path).close()
    assert assert_audit_is_clean(path).taken_on_trust == 69
    assert tables(path)["totals"] == sums
    keep_books(path, round_=2)  # closes the three that were open
    found = assert_audit_is_clean(path)
    assert (found.taken_on_trust, found.attempts) == (69, 69 + 3 + 33)
    rebuild(path, tmp_path / "fresh.sqlite")
    assert tables(tmp_path / "fresh.sqlite")["charges"] == tables(path)["charges"]
    assert_audit_is_clean(tmp_path / "fresh.sqlite")


def test_of_an_older_ledger_too_a_share_that_is_off_is_named(path: Path) -> None:
    make_version_2(path)
    SqliteLedger(path).close()
    tamper(path, TAMPERINGS["a leased charge's cost"][0])
    assert ("charges", "k0r4.1") in named(path)


# Prices


@pytest.mark.parametrize(
    "price",
    [
        EDGE_PRICE,
        CLOUD_PRICE,
        MeteredPrice("p", TokenRates(1, 2, 3, 4), (ContextTier(200_000, TokenRates(5, 6, 7, 8)),), 9, 10),
        LeasedPrice("q", 10**13, Purchase.RESERVED, "H100"),
    ],
)
def test_a_price_survives_as_text(price: Price) -> None:
    assert price_from_snapshot(snapshot_text(price)) == price


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"kind": "leased", "price": {}}', '{"kind": "odd", "price": {}}']
)
def test_text_that_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a price"):
        price_from_snapshot(text)
