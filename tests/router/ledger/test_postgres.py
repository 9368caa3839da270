"""The store in PostgreSQL: one accountant, and a spool that loses nothing while the database is away."""

import asyncio
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from audited import assert_audit_is_clean, assert_what_is_told_is_the_audits
from bookkeeping import (
    CLOUD_PRICE,
    EDGE_PRICE,
    FLEET,
    LARGE,
    PRICES,
    PROFILES,
    SMALL,
    answered,
    assert_ledger_is_consistent,
    facts,
)
from entries import charge, closed, opened
from ledgers import Place
from postgres_server import PostgresServer

from router.accounting.accountant import Accountant
from router.domain.budget import Period, Span, span_at
from router.domain.totals import Totals
from router.errors import Unavailable
from router.ledger import writer
from router.ledger.address import PostgresAddress
from router.ledger.schema import open_reader
from router.ledger.store import Event, EventKind, LedgerError, SpentQuestion
from router.ledger.writer import BatchedLedger

PATIENCE_SECONDS = 60.0


@pytest.fixture
def place(postgres: PostgresAddress, tmp_path: Path) -> Place:
    return Place(postgres, tmp_path)


def keep(accountant: Accountant, name: str, requests: int, *, left_open: int = 0) -> None:
    for number in range(requests):
        of, price = (LARGE, CLOUD_PRICE) if number % 2 else (SMALL, EDGE_PRICE)
        one = facts(f"{name}{number}", of, replica=number % len(of.replicas))
        accountant.open(one, of, price, 100, 50, time.time_ns())
        accountant.first_token(one.attempt_id, time.time_ns())
        if number >= left_open:
            accountant.close(one.attempt_id, answered(), time.time_ns())


def kept(store: BatchedLedger) -> Accountant:
    accountant = Accountant(store)
    accountant.set_fleet(FLEET, PRICES, PROFILES, time.time_ns())
    return accountant


def written(store: BatchedLedger) -> None:
    """Until all that was appended is on disk, here or there."""
    asyncio.run(store.committed(store.position, PATIENCE_SECONDS))


def drained(store: BatchedLedger) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while store.spool is None or store.spool[0]:
        assert time.monotonic() < deadline, "the spool is not written"
        time.sleep(0.02)


# One accountant at a time


def test_a_ledger_has_one_accountant_and_says_so_to_the_second(place: Place) -> None:
    first = place.open()
    other = Place(place.address, place.directory / "other")
    with pytest.raises(LedgerError, match="another jeton is the accountant"):
        other.open_in_postgres(lock_seconds=0.2)
    first.close()
    other.open_in_postgres(lock_seconds=0.2).close()


def test_a_standby_takes_over_when_the_lock_is_free(place: Place) -> None:
    first = place.open()
    keep(kept(first), "r", 10)
    waiting = Place(place.address, place.directory / "other")
    threading.Timer(0.5, first.close).start()
    second = waiting.open_in_postgres(lock_seconds=PATIENCE_SECONDS)
    kept(second)
    second.close()
    assert_audit_is_clean(place.address)
    assert place.rows("SELECT term FROM position") == [(2,)]


def test_a_spool_has_one_owner(place: Place, postgres_server: PostgresServer) -> None:
    store = place.open()
    other = postgres_server.database()
    with pytest.raises(LedgerError, match="another jeton has this spool"):
        Place(other, place.directory).open()
    store.close()
    postgres_server.drop(other)


# What is unique, though no index of the whole table says so


async def test_an_event_is_one_whatever_month_its_neighbours_are_in(place: Place) -> None:
    store = place.open()
    one = charge("r1")
    late = Event("other.1", EventKind.CLOSED, 1_800_000_000 * 10**9)
    for events in ([closed(one)], [late], [closed(one)], [opened("r1")], [opened("r1")]):
        await store.committed(store.append(events, one if events[0].subject == "r1.1" else None), PATIENCE_SECONDS)
    store.close()
    assert place.rows("SELECT count(*) FROM charges") == [(1,)]
    assert place.rows("SELECT sum(attempts) FROM totals") == [(1,)]


# The spool


def test_a_database_that_breaks_connections_loses_nothing(place: Place) -> None:
    store = place.open()
    accountant = kept(store)
    for round_ in range(5):
        keep(accountant, f"r{round_}-", 20)
        with psycopg.connect(str(place.address), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'jeton' AND datname = current_database()"
            )
        written(store)
    accountant.advance(time.time_ns())
    drained(store)
    store.close()
    assert_ledger_is_consistent(place.address, is_quiet=True)
    assert assert_audit_is_clean(place.address).attempts == 100


def test_f30_postgresql_killed_under_load_is_caught_up_with(own_server: PostgresServer, tmp_path: Path) -> None:
    place = Place(own_server.database(), tmp_path)
    store = place.open()
    accountant = kept(store)
    for round_ in range(3):
        keep(accountant, f"before{round_}-", 30)
        own_server.kill()
        keep(accountant, f"away{round_}-", 30, left_open=4)
        written(store)
        assert store.spool is not None
        assert store.spool[0] > 0
        assert accountant.is_accepting, "what is in the spool is written down"
        accountant.advance(time.time_ns())
        asyncio.run(store.published(PATIENCE_SECONDS))  # a scrape does not wait for the database
        with pytest.raises(LedgerError):
            asyncio.run(store.spent([SpentQuestion("acme", "", span())], PATIENCE_SECONDS))
        own_server.start_again()
        drained(store)
        assert_audit_is_clean(place.address)
    totals = asyncio.run(posted(accountant))
    assert sum(line.attempts for line in totals.lines.values()) == 3 * 56
    store.close()
    assert_ledger_is_consistent(place.address)


def test_f30_a_postgresql_that_is_frozen_is_given_up_and_caught_up_with(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    """SIGSTOP: it keeps the connection, so that no time-out of TCP's or its own would end."""
    place = Place(own_server.database(), tmp_path)
    store = place.open()
    accountant = kept(store)
    keep(accountant, "before", 10)
    written(store)
    own_server.freeze()
    try:
        keep(accountant, "away", 30)
        written(store)
        assert store.spool is not None
        assert store.spool[0] > 0
        assert accountant.is_accepting
        with pytest.raises(LedgerError):
            open_reader(place.address)
    finally:
        own_server.thaw()
    drained(store)
    keep(accountant, "after", 10)
    written(store)
    store.close()
    assert_ledger_is_consistent(place.address, is_quiet=True)
    assert assert_what_is_told_is_the_audits(place.address).attempts == 50


def test_a_statement_may_take_long_while_the_server_answers_others(place: Place) -> None:
    place.open().close()
    with closing(open_reader(place.address)) as database:
        assert database.execute("SELECT 1 FROM pg_sleep(1.2)").fetchone() == (1,)


def test_f30_a_router_that_ends_with_a_spool_writes_it_at_the_next_start(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    place = Place(own_server.database(), tmp_path)
    store = place.open()
    accountant = kept(store)
    keep(accountant, "before", 10)
    written(store)
    own_server.kill()
    keep(accountant, "away", 30, left_open=4)
    store.close()
    with pytest.raises(LedgerError, match="cannot be opened"):
        place.open()
    own_server.start_again()
    store = place.open()
    kept(store)
    written(store)
    store.close()
    assert_ledger_is_consistent(place.address, is_quiet=True)
    assert assert_audit_is_clean(place.address).attempts == 40
    assert place.rows("SELECT count(*) FROM charges WHERE status = 'lost'") == [(4,)]


def test_f31_a_spool_that_is_full_refuses_metered_attempts_and_serves_leased_ones(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    place = Place(own_server.database(), tmp_path)
    store = place.open_in_postgres(spool_bytes_max=2**15)
    accountant = kept(store)
    written(store)
    own_server.kill()
    served = 0
    while accountant.is_accepting:
        keep(accountant, f"r{served}-", 1)
        served += 1
        time.sleep(0.002)
    refused = facts("refused", LARGE)
    with pytest.raises(Unavailable):
        accountant.open(refused, LARGE, CLOUD_PRICE, 100, 50, time.time_ns())
    keep(accountant, "leased", 1)
    assert store.spool is not None
    assert 0 < store.spool[0] <= store.spool[1] == 2**15
    own_server.start_again()
    drained(store)
    written(store)
    assert accountant.is_accepting
    store.close()
    assert_ledger_is_consistent(place.address, is_quiet=True)
    assert assert_audit_is_clean(place.address).attempts == served + 1


def test_what_an_accountant_spooled_while_another_took_over_is_booked_behind(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    """Of metered attempts, whose money was spent; leased ones are in the other's bill."""
    first = Place(own_server.database(), tmp_path / "first")
    second = Place(first.address, tmp_path / "second")
    store = first.open()
    accountant = kept(store)
    keep(accountant, "before", 10, left_open=4)
    written(store)
    own_server.kill()
    keep(accountant, "away", 10)
    store.close()
    own_server.start_again()
    other = second.open()
    keep(kept(other), "meanwhile", 10)
    other.close()
    back = first.open()
    kept(back)
    back.close()
    assert_ledger_is_consistent(first.address, is_quiet=True)
    assert assert_audit_is_clean(first.address).attempts == 10 + 5 + 10
    away = first.rows("SELECT DISTINCT billing, count(*) FROM charges WHERE request_id LIKE 'away%' GROUP BY 1")
    assert away == [("metered", 5)]


def test_what_the_other_closed_as_lost_is_corrected_by_the_word_that_was_spooled(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    """It was under way when PostgreSQL went away, and whoever took over booked it at its estimate."""
    first = Place(own_server.database(), tmp_path / "first")
    second = Place(first.address, tmp_path / "second")
    store = first.open()
    accountant = kept(store)
    metered, leased = facts("metered", LARGE), facts("leased", SMALL)
    accountant.open(metered, LARGE, CLOUD_PRICE, 100, 50, time.time_ns())
    accountant.open(leased, SMALL, EDGE_PRICE, 100, 50, time.time_ns())
    written(store)
    own_server.kill()
    accountant.close(metered.attempt_id, answered(provider_cost_nanousd=777_777), time.time_ns())
    accountant.close(leased.attempt_id, answered(), time.time_ns())
    store.close()
    own_server.start_again()
    other = second.open()
    keep(kept(other), "meanwhile", 4)
    other.close()
    ((estimate,),) = first.rows("SELECT cost_nanousd FROM charges WHERE request_id = 'metered' AND status = 'lost'")
    back = first.open()
    kept(back)
    written(back)
    back.close()
    found = assert_what_is_told_is_the_audits(first.address)
    assert (found.corrections, found.corrected_nanousd) == (1, 777_777 - estimate)
    assert first.rows("SELECT request_id, status, cost_nanousd FROM corrections") == [("metered", "ok", 777_777)]


def test_an_accountant_that_was_deposed_keeps_what_comes(own_server: PostgresServer, tmp_path: Path) -> None:
    first = Place(own_server.database(), tmp_path / "first")
    store = first.open()
    accountant = kept(store)
    written(store)
    with psycopg.connect(str(first.address), autocommit=True) as connection:
        connection.execute("UPDATE position SET term = term + 1")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'jeton'")
    keep(accountant, "r", 10)
    written(store)
    assert store.spool is not None
    assert store.spool[0] > 0
    keep(accountant, "s", 10)
    written(store)
    store.close()
    again = first.open()
    kept(again)
    again.close()
    assert first.rows("SELECT count(*) FROM charges WHERE billing = 'metered'") == [(10,)]
    assert_audit_is_clean(first.address)


def test_a_spool_of_another_ledger_is_not_written_here(own_server: PostgresServer, tmp_path: Path) -> None:
    place = Place(own_server.database(), tmp_path)
    other = Place(own_server.database(), tmp_path)
    store = place.open()
    accountant = kept(store)
    written(store)
    own_server.kill()
    keep(accountant, "r", 4)
    store.close()
    own_server.start_again()
    with pytest.raises(LedgerError, match="another ledger"):
        other.open()
    place.open().close()
    other.open().close()


def test_data_that_postgresql_refuses_is_not_dropped(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never comes, but if it does, it is our fault and told, as with a disk that is stuck."""
    monkeypatch.setattr(writer, "CLOSE_SECONDS", 0.0)
    store = place.open()
    store.append([opened("r\0")])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while store.is_accepting:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(LedgerError, match="1 events could not be written"):
        store.close()


def span() -> Span:
    return span_at(Period.TOTAL, time.time_ns())


async def posted(accountant: Accountant) -> Totals:
    accountant.advance(time.time_ns())
    return await accountant.posted(PATIENCE_SECONDS)
