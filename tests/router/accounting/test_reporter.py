"""A worker that only reports: what clients are told, what is refused, and what the books say in the end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from audited import assert_audit_is_clean
from bookkeeping import CLOUD_PRICE, EDGE_PRICE, FLEET, LARGE, PRICES, PROFILES, SMALL, answered, facts
from ledgers import Place
from workers_at_work import SILENCE_SECONDS, AtWork, Clock, Keeping

from router.accounting.reporter import Reporter
from router.domain.attempt import Charge, CostStatus
from router.errors import Unavailable
from router.ledger.journals import WorkerJournal
from router.pricing.cost import list_cost
from router.pricing.price import MeteredPrice, ServiceTier, TokenRates


class Desk:
    """One reporter and the accountant that books what it tells."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.clock = Clock()
        self.keeping = Keeping(place.address, self.clock)
        self.worker = AtWork(place.address, self.clock, "w", Reporter)
        self.reporter = self.worker.accountant

    async def charges(self) -> dict[str, int | None]:
        await self.worker.flush()
        await self.keeping.book()
        return dict(self.place.rows("SELECT attempt_id, cost_nanousd FROM charges"))


@pytest.fixture
async def desk(place: Place) -> AsyncIterator[Desk]:
    made = Desk(place)
    yield made
    await asyncio.to_thread(made.worker.journal.close)
    await made.keeping.close()
    assert_audit_is_clean(place.address)


async def test_metered_attempts_are_told_to_the_nano_dollar_and_leased_ones_are_estimated(desk: Desk) -> None:
    metered, leased, other = desk.worker.begin("m", LARGE), desk.worker.begin("l"), desk.worker.begin("o")
    desk.clock.wait(1)
    desk.worker.first_token(leased)
    desk.clock.wait(3)
    told = {one: desk.worker.end(one) for one in (metered, leased, other)}
    booked = await desk.charges()
    assert told[metered].cost_nanousd == booked[metered] == list_cost(CLOUD_PRICE, told[metered].usage)
    estimates = [told[name].cost_nanousd or 0 for name in (leased, other)]
    assert sum(estimates) == pytest.approx(4 * EDGE_PRICE.nanousd_per_hour / 3600, abs=2)
    assert told[leased].first_token_ns is not None
    assert desk.place.rows("SELECT count(*) FROM journal WHERE kind = 'first_token'") == [(1,)]


async def test_closing_again_gives_the_same_charge_and_what_was_never_opened_is_an_error(desk: Desk) -> None:
    attempt = desk.worker.begin("r")
    first = desk.worker.end(attempt)
    assert desk.reporter.close(attempt, answered(), desk.clock.now_ns) is first
    desk.reporter.first_token(attempt, desk.clock.now_ns)
    with pytest.raises(ValueError, match="opened before"):
        desk.reporter.open(first.facts, SMALL, EDGE_PRICE, 1, 1, desk.clock.now_ns)
    with pytest.raises(KeyError):
        desk.reporter.close("nobody.1", answered(), desk.clock.now_ns)
    assert len(await desk.charges()) == 1


async def test_the_others_at_a_replica_pay_their_part_in_the_estimate(desk: Desk) -> None:
    attempt = desk.worker.begin("r")
    desk.reporter.estimate_among({SMALL.replicas[0].id: 3}, desk.clock.now_ns)
    desk.clock.wait(4)
    assert desk.worker.end(attempt).cost_nanousd == pytest.approx(EDGE_PRICE.nanousd_per_hour / 3600, abs=1)


async def test_a_fleet_that_changes_is_estimated_at_its_new_prices_and_forgets_who_has_left(desk: Desk) -> None:
    attempt = desk.worker.begin("r")
    desk.clock.wait(1)
    dearer = replace(
        EDGE_PRICE, price_id="edge-l4@2026-06-01#00000009", nanousd_per_hour=2 * EDGE_PRICE.nanousd_per_hour
    )
    desk.reporter.set_fleet(FLEET, {**PRICES, SMALL.name: dearer}, PROFILES, desk.clock.now_ns)
    desk.clock.wait(1)
    desk.reporter.set_fleet((LARGE,), PRICES, PROFILES, desk.clock.now_ns)  # and yet it goes on there
    desk.clock.wait(1)
    assert desk.worker.end(attempt).cost_nanousd == pytest.approx(5 * EDGE_PRICE.nanousd_per_hour / 3600, abs=1)
    desk.reporter.set_fleet((LARGE,), PRICES, PROFILES, desk.clock.now_ns)
    assert desk.reporter.open_attempts == 0


async def test_what_has_no_price_is_told_to_have_none(desk: Desk) -> None:
    one = facts("r", LARGE)
    desk.reporter.open(one, LARGE, None, 1, 1, desk.clock.now_ns)
    charge = desk.reporter.close(one.attempt_id, answered(), desk.clock.now_ns)
    assert (charge.cost_status, charge.cost_nanousd) == (CostStatus.UNPRICED, None)
    assert await desk.charges() == {one.attempt_id: None}


async def test_what_a_worker_tells_of_service_tiers_is_booked_so_by_the_accountant(desk: Desk) -> None:
    assert isinstance(CLOUD_PRICE, MeteredPrice)
    flex = ServiceTier("flex", TokenRates(1_000_000_000, 250_000_000, 1_000_000_000, 4_000_000_000))
    price = replace(CLOUD_PRICE, price_id="tiered@2026-01-01#3", service_tiers=(flex,))
    desk.reporter.set_fleet(FLEET, PRICES | {LARGE.name: price}, PROFILES, desk.clock.now_ns)
    told = {}
    for name, asked, served in (("a", "", ""), ("b", "", "flex"), ("c", "flex", "priority")):
        one = facts(name, LARGE, service_tier=asked)
        desk.reporter.open(one, LARGE, price, 100, 50, desk.clock.now_ns)
        charge = desk.reporter.close(one.attempt_id, answered(service_tier=served), desk.clock.now_ns)
        told[one.attempt_id] = charge.cost_nanousd
    assert list(told.values()) == [600_000, 300_000, None]
    assert await desk.charges() == told


async def test_what_a_worker_tells_of_calls_of_tools_is_booked_so_by_the_accountant(desk: Desk) -> None:
    assert isinstance(CLOUD_PRICE, MeteredPrice)
    price = replace(CLOUD_PRICE, price_id="tools@2026-01-01#4", tool_call_nanousd=(("web_search", 10_000_000),))
    desk.reporter.set_fleet(FLEET, PRICES | {LARGE.name: price}, PROFILES, desk.clock.now_ns)
    searched = (("web_search", 2),)
    told = {}
    for name, asked, calls in (("a", (), ()), ("b", (), searched), ("c", searched, ()), ("d", (), (("x_search", 1),))):
        one = facts(name, LARGE, tool_calls_estimate=asked)
        desk.reporter.open(one, LARGE, price, 100, 50, desk.clock.now_ns)
        charge = desk.reporter.close(one.attempt_id, answered(tool_calls=calls), desk.clock.now_ns)
        told[one.attempt_id] = charge.cost_nanousd
    assert list(told.values()) == [600_000, 20_600_000, 600_000, None]
    assert await desk.charges() == told


@pytest.mark.parametrize(("asked", "lost"), [("", 600_000), ("flex", 300_000), ("priority", None)])
async def test_what_a_worker_taken_for_dead_tells_later_is_corrected_from_the_tier_it_asked_for(
    desk: Desk, asked: str, lost: int | None
) -> None:
    assert isinstance(CLOUD_PRICE, MeteredPrice)
    flex = ServiceTier("flex", TokenRates(1_000_000_000, 250_000_000, 1_000_000_000, 4_000_000_000))
    price = replace(CLOUD_PRICE, price_id="tiered@2026-01-01#3", service_tiers=(flex,))
    desk.reporter.set_fleet(FLEET, PRICES | {LARGE.name: price}, PROFILES, desk.clock.now_ns)
    one = facts("r", LARGE, service_tier=asked)
    desk.reporter.open(one, LARGE, price, 100, 50, desk.clock.now_ns)
    assert await desk.charges() == {}
    desk.clock.wait(2 * SILENCE_SECONDS)
    await desk.keeping.book()
    assert desk.place.rows("SELECT attempt_id, cost_nanousd, status FROM charges") == [(one.attempt_id, lost, "lost")]
    desk.reporter.close(one.attempt_id, answered(service_tier="flex"), desk.clock.now_ns)
    await desk.charges()
    assert desk.place.rows("SELECT corrected_nanousd, cost_nanousd FROM corrections") == [
        (300_000 - (lost or 0), 300_000)
    ]


async def test_a_full_journal_refuses_metered_attempts_and_lets_leased_ones_go_unrecorded(tmp_path: Path) -> None:
    clock = Clock()
    journal = WorkerJournal(
        tmp_path / "ledger.sqlite",
        lambda: clock.now_ns,
        "w",
        commit_seconds=1e6,
        events_waiting_max=1,
        beat_seconds=1e6,
    )
    reporter = Reporter(journal)
    reporter.set_fleet(FLEET, PRICES, PROFILES, clock.now_ns)

    def served(name: str) -> Charge:
        one = facts(name)
        reporter.open(one, SMALL, EDGE_PRICE, 100, 50, clock.now_ns)
        clock.wait(1)
        return reporter.close(one.attempt_id, answered(), clock.now_ns)

    served("first")
    assert journal.is_full
    with pytest.raises(Unavailable):
        reporter.open(facts("m", LARGE), LARGE, CLOUD_PRICE, 100, 50, clock.now_ns)
    assert served("second").cost_nanousd is None
    assert reporter.unrecorded_attempts == 1
    await asyncio.to_thread(journal.close)
