"""Several workers and one accountant: whoever tells what and when, each attempt is charged once, and the bill adds up."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from audited import assert_audit_is_clean, assert_what_is_told_is_the_audits
from bookkeeping import (
    CLOUD_PRICE,
    EDGE_PRICE,
    FLEET,
    LARGE,
    PRICES,
    PROFILE,
    PROFILES,
    SECOND,
    SMALL,
    answered,
    assert_file_is_consistent,
    facts,
)
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledgers import Place
from workers_at_work import SILENCE_SECONDS, START, AtWork, Clock, Keeping

from router.accounting.accountant import Accountant
from router.accounting.rebuild import rebuild
from router.accounting.reporter import Reporter
from router.commands.ledger import ledger
from router.config.stores import LedgerConfig
from router.domain.attempt import AttemptEnd, AttemptStatus
from router.domain.request import AUDIO_TOKENS_PER_SECOND
from router.domain.sleep import Wake
from router.domain.usage import Usage
from router.ledger import rollups
from router.ledger.address import Address, PostgresAddress
from router.ledger.corrections import ENTRIES
from router.ledger.database import dicts, transaction
from router.ledger.history import Filters, SumBy, read_history
from router.ledger.opening import open_ledger
from router.ledger.periods import read_periods
from router.ledger.rows import OUTCOME
from router.ledger.schema import open_reader, open_shared
from router.ledger.sqlite import SqliteLedger
from router.ledger.store import LedgerError
from router.ledger.workers import EVENTS_PER_ROW, REPORT_COLUMNS, WorkerState, missing_reports, read_told
from router.pricing.cost import list_cost
from router.pricing.weigher import Weigher
from router.reporting.focus import COLUMNS, focus_rows, restated
from router.reporting.focus_rules import broken_rules

WORKERS = 4


class Firm:
    """Four workers and an accountant on one ledger. Every second worker only reports: to the accountant that is all the same."""

    def __init__(self, address: Address, workers: int = WORKERS) -> None:
        self.address = address
        self.clock = Clock()
        self.keeping = Keeping(address, self.clock)
        kinds = (Accountant, Reporter)
        self.workers = [AtWork(address, self.clock, f"w{number}", kinds[number % 2]) for number in range(workers)]

    async def flush(self, *, but: AtWork | None = None) -> None:
        for worker in self.workers:
            if worker is not but:
                await worker.flush()

    async def book(self) -> None:
        await self.flush()
        await self.keeping.book()

    async def silence(self, worker: AtWork) -> None:
        """The others are heard of for so long that this one is taken for dead."""
        for _ in range(2):
            await self.flush(but=worker)
            await self.keeping.book()
            self.clock.wait(SILENCE_SECONDS + 1)
        await self.flush(but=worker)
        await self.keeping.book()

    async def close(self) -> None:
        for worker in self.workers:
            await asyncio.to_thread(worker.journal.close)
        await self.keeping.close()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with closing(open_reader(self.address)) as database:
            return dicts(database.execute(sql))

    def charges(self) -> dict[str, dict[str, Any]]:
        return {row["attempt_id"]: row for row in self.rows("SELECT * FROM charges")}


@pytest.fixture
async def firm(place: Place) -> AsyncIterator[Firm]:
    """On a file of SQLite, and on a real PostgreSQL."""
    made = Firm(place.address)
    yield made
    await made.close()
    if isinstance(place.address, Path):
        assert_file_is_consistent(place.address)
    found = assert_what_is_told_is_the_audits(made.address)
    fresh = place.directory / "rebuilt.sqlite"
    rebuilt = rebuild(made.address, fresh)
    assert (rebuilt.findings, rebuilt.events) == ([], found.events)
    again = assert_what_is_told_is_the_audits(fresh)
    assert (again.corrections, again.corrected_nanousd) == (found.corrections, found.corrected_nanousd)
    assert made.rows("SELECT * FROM reports") == []


async def test_attempts_of_several_workers_share_a_replica_and_its_bill(firm: Firm) -> None:
    begun = [(worker, worker.begin(f"r{number}")) for number, worker in enumerate(firm.workers)]
    await firm.book()
    firm.clock.wait(2)
    for worker, attempt_id in begun:
        worker.end(attempt_id)
    await firm.book()
    costs = [row["cost_nanousd"] for row in firm.charges().values()]
    assert len(costs) == WORKERS
    assert sum(costs) == pytest.approx(2 * EDGE_PRICE.nanousd_per_hour / 3600, abs=WORKERS)
    assert max(costs) < sum(costs) / 2


async def test_the_fold_waits_for_the_oldest_watermark(firm: Firm) -> None:
    """Else what the slow one tells later would come too late."""
    slow = firm.workers[0]
    await firm.book()
    attempt = slow.begin("slow")
    firm.clock.wait(1)
    slow.end(attempt)
    other = firm.workers[1].begin("other")
    firm.clock.wait(1)
    firm.workers[1].end(other)
    await firm.flush(but=slow)
    await firm.keeping.book()
    assert firm.charges() == {}
    await firm.book()
    assert set(firm.charges()) == {attempt, other}
    assert firm.keeping.keeper.late_events == 0


async def test_an_idle_worker_keeps_nobody_waiting(firm: Firm) -> None:
    await firm.book()
    attempt = firm.workers[0].begin("r")
    firm.clock.wait(1)
    firm.workers[0].end(attempt)
    await firm.book()  # the others have nothing to tell, and say so
    assert set(firm.charges()) == {attempt}


async def test_attempts_of_a_silent_worker_are_lost_as_of_its_last_word(firm: Firm) -> None:
    dead = firm.workers[0]
    leased, metered = dead.begin("leased"), dead.begin("metered", LARGE)
    await firm.book()
    firm.clock.wait(3)
    await firm.book()
    await firm.silence(dead)
    charges = firm.charges()
    assert {(row["status"], row["fault"], row["usage_source"]) for row in charges.values()} == {
        ("lost", "router_died", "estimated")
    }
    assert charges[leased]["cost_nanousd"] == 3 * EDGE_PRICE.nanousd_per_hour // 3600
    assert charges[leased]["ended_ns"] == START + 3 * SECOND
    assert charges[metered]["cost_nanousd"] == list_cost(CLOUD_PRICE, Usage(100, 50))
    assert [row["state"] for row in firm.rows("SELECT state FROM workers WHERE worker LIKE 'w0-%'")] == [
        WorkerState.SILENT.value
    ]


async def test_a14_a_worker_that_is_dead_is_booked_once_all_it_told_is_and_nothing_of_it_is_open(firm: Firm) -> None:
    dead, asking = firm.workers[0], firm.workers[1].journal
    name = dead.journal.identity

    async def is_booked() -> bool:
        asked = asyncio.create_task(asking.is_booked(name))
        await firm.flush(but=dead)
        return await asked

    dead.begin("open", LARGE)
    ended = dead.begin("ended", LARGE)
    await firm.book()
    assert not await is_booked()  # it lives, as far as the ledger knows
    dead.end(ended)
    await dead.flush()
    firm.keeping.keeper.hear_of_death(name)
    assert not await is_booked()  # what it told waits
    await firm.flush(but=dead)
    await firm.keeping.book()
    assert await is_booked()  # at once, not after its silence
    assert {row["request_id"]: row["status"] for row in firm.charges().values()} == {"open": "lost", "ended": "ok"}


async def test_a14_a_worker_that_went_on_under_another_name_is_booked_under_both(firm: Firm) -> None:
    back, asking = firm.workers[0], firm.workers[1].journal
    name = back.journal.identity
    await firm.book()
    await firm.silence(back)
    back.begin("late", LARGE)
    await firm.book()
    assert back.journal.worker == f"{name}~2"
    asked = asyncio.create_task(asking.is_booked(name))
    await firm.flush()
    assert not await asked
    firm.keeping.keeper.hear_of_death(name)
    await firm.flush(but=back)
    await firm.keeping.book()
    asked = asyncio.create_task(asking.is_booked(name))
    await firm.flush(but=back)
    assert await asked


async def test_a_worker_that_comes_back_is_heard_and_its_word_corrects_what_was_lost(firm: Firm) -> None:
    back = firm.workers[0]
    leased, metered = back.begin("leased"), back.begin("metered", LARGE)
    await firm.book()
    await firm.silence(back)
    before = firm.charges()
    back.end(leased, answered(100, 70))
    back.end(metered, answered(100, 20))
    await firm.book()
    assert firm.charges() == before  # what was booked stays as it was
    corrections = {row["attempt_id"]: row for row in firm.rows("SELECT * FROM corrections")}
    assert set(corrections) == {leased, metered}
    assert corrections[leased]["corrected_nanousd"] == 0
    assert corrections[leased]["completion_tokens"] == 70
    should_cost = list_cost(CLOUD_PRICE, Usage(100, 20))
    assert corrections[metered]["corrected_nanousd"] == should_cost - before[metered]["cost_nanousd"] < 0
    assert corrections[metered]["booked_ns"] >= before[metered]["ended_ns"]
    (spent,) = firm.rows("SELECT sum(cost_nanousd) AS nanousd FROM spending")
    assert (
        spent["nanousd"]
        == sum(row["cost_nanousd"] for row in before.values()) + should_cost - before[metered]["cost_nanousd"]
    )
    totals = firm.keeping.keeper.totals()
    assert totals.corrected_nanousd[LARGE.pool.name, LARGE.name] == should_cost - before[metered]["cost_nanousd"]
    states = [
        row["state"] for row in firm.rows("SELECT state FROM workers WHERE worker LIKE 'w0-%' ORDER BY started_ns")
    ]
    assert states == [WorkerState.SILENT.value, WorkerState.LIVE.value]
    with read_history(firm.address) as history:
        (cloud, edge) = history.sums(SumBy.POOL, Filters())
    assert (cloud.total.attempts, cloud.total.cost_nanousd, cloud.total.completion_tokens) == (1, should_cost, 20)
    assert (edge.total.attempts, edge.total.completion_tokens) == (1, 70)
    assert edge.total.cost_nanousd == before[leased]["cost_nanousd"]
    assert (cloud.total.lost_nanousd, edge.total.lost_nanousd) == (0, 0)  # it had served somebody after all


async def test_what_a_correction_takes_back_is_what_the_lost_charge_said(firm: Firm) -> None:
    back = firm.workers[0]
    begun = [back.begin("leased"), back.begin("metered", LARGE), back.begin("free", LARGE)]
    heard = back.begin("heard", LARGE, endpoint="transcriptions")
    await firm.book()
    await firm.silence(back)
    back.end(heard, answered(100, 20, audio_seconds=3.0))
    back.end(begun[0], answered(100, 70))
    back.end(begun[1], answered(100, 20))
    back.end(begun[2], AttemptEnd(AttemptStatus.FAILED, Usage(0, 0), "reset"))
    await firm.book()
    ((_, entered), (_, taken_back)) = ENTRIES
    names = ", ".join(f"{what} AS {name}" for name, what in {**rollups.SUMS, "heard": "sum(audio_seconds)"}.items())
    of = "attempt_id, outcome, status, fault, usage_source, billing, tenant, price_id"

    def sums(source: str) -> list[dict[str, Any]]:
        return firm.rows(
            f"SELECT {of}, {names} FROM (SELECT *, {OUTCOME} AS outcome FROM {source}) AS told GROUP BY {of} ORDER BY 1"
        )

    assert sums(taken_back) == sums("charges")
    assert [row["outcome"] for row in sums(entered)] == ["failed", "served", "served", "served"]
    assert sum(row["heard"] for row in sums("charges")) == 100 / AUDIO_TOKENS_PER_SECOND


async def test_what_is_told_on_a_later_day_is_booked_there_and_takes_its_loss_back(firm: Firm) -> None:
    back = firm.workers[0]
    begun = [back.begin("leased"), back.begin("metered", LARGE)]
    await firm.book()
    await firm.silence(back)
    firm.clock.wait(86_400)
    await firm.book()
    for attempt_id in begun:
        back.end(attempt_id, answered(100, 20))
    await firm.book()
    with read_periods(firm.address) as periods:
        whole = periods.whole()
        days = [periods.spent(whole, hours=24), periods.corrected(whole, hours=24)]
    (lost_then, told_later) = ([(row.hour, row.outcome, row.attempts) for row in day] for day in days)
    (day, *_) = {hour for hour, *_ in lost_then}
    assert {(outcome, attempts) for _, outcome, attempts in lost_then} == {("router_died", 1)}
    assert sorted(told_later) == [
        (day + 24, "router_died", -1), (day + 24, "router_died", -1), (day + 24, "served", 1), (day + 24, "served", 1)
    ]  # fmt: skip
    rows = list(focus_rows(restated(*days), [], {}, {}, first_hour=day, end_hour=whole.end_hour, account="a"))
    assert broken_rules(COLUMNS, rows) == []
    corrections = [row for row in rows if row["ChargeClass"] == "Correction"]
    assert corrections
    assert all(Decimal(str(row["BilledCost"])) <= 0 for row in corrections)
    assert all(row["x_Outcome"] == "router_died" for row in corrections)


async def test_what_a_silent_worker_had_not_told_is_charged_when_it_does(firm: Firm) -> None:
    back = firm.workers[0]
    await firm.book()
    untold = back.begin("untold", LARGE)
    back.end(untold)
    await firm.silence(back)
    assert firm.charges() == {}
    folded_ns = firm.clock.now_ns
    await firm.book()
    charge = firm.charges()[untold]
    assert charge["cost_nanousd"] == list_cost(CLOUD_PRICE, answered().usage)
    assert charge["status"] == "ok"
    assert charge["ended_ns"] >= folded_ns  # booked where the books were by then: no closed period is changed
    assert firm.keeping.keeper.late_events == 2
    assert firm.rows("SELECT * FROM corrections") == []


async def test_a_worker_that_leaves_is_not_waited_for_and_leaves_nothing_open(firm: Firm) -> None:
    leaving = firm.workers.pop()
    attempt = leaving.begin("r")
    await leaving.flush()
    await asyncio.to_thread(leaving.journal.close)
    firm.clock.wait(1)
    await firm.book()
    assert firm.charges()[attempt]["status"] == "lost"
    assert firm.keeping.keeper.open_attempts == 0


async def test_another_accountant_goes_on_with_what_is_open(firm: Firm) -> None:
    begun = [(worker, worker.begin(f"r{number}")) for number, worker in enumerate(firm.workers)]
    firm.clock.wait(1)
    begun[0][0].first_token(begun[0][1])
    await firm.book()
    await firm.keeping.take_over()
    await firm.keeping.book()
    assert firm.keeping.keeper.open_attempts == WORKERS
    newcomer = firm.workers[0].begin("newcomer")
    await firm.book()
    (weight,) = firm.rows(f"SELECT amount FROM journal WHERE subject = '{newcomer}'")
    alone = Weigher().open(newcomer, PROFILE, firm.clock.now_ns, 100, 50)
    assert weight["amount"] != alone  # it is weighed among those that are there
    firm.workers[0].end(newcomer)
    firm.clock.wait(1)
    for worker, attempt_id in begun:
        worker.end(attempt_id)
    await firm.book()
    charges = firm.charges()
    assert {row["status"] for row in charges.values()} == {"ok"}
    assert sum(row["cost_nanousd"] for row in charges.values()) == pytest.approx(
        2 * EDGE_PRICE.nanousd_per_hour / 3600, abs=WORKERS + 1
    )
    assert charges[begun[0][1]]["first_token_ns"] == START + SECOND
    assert 0 < charges[begun[0][1]]["cost_prompt_nanousd"] < charges[begun[0][1]]["cost_nanousd"]


async def test_a_second_accountant_waits_for_the_first_to_go(firm: Firm) -> None:
    await firm.keeping.book()
    second = Keeping(firm.address, firm.clock)
    assert not await second.keeper.lead()
    assert second.keeper.totals().lines == {}
    await firm.keeping.keeper.close()
    await second.lead()
    firm.keeping = second


async def test_what_is_told_twice_is_booked_once(firm: Firm) -> None:
    """A commit that was taken for failed is written again."""
    teller = firm.workers[0]
    attempt = teller.begin("r", LARGE)
    firm.clock.wait(1)
    teller.end(attempt)
    await teller.flush()
    told = firm.rows("SELECT * FROM reports")
    await firm.book()
    before = firm.charges()
    with closing(open_shared(firm.address)) as database:
        database.insert_new("reports", REPORT_COLUMNS, [tuple(row[name] for name in REPORT_COLUMNS) for row in told])
    firm.clock.wait(1)
    again = teller.begin("again", LARGE)
    teller.end(again)
    await firm.book()
    await firm.keeping.take_over()
    await firm.book()
    assert firm.charges().keys() == {attempt, again}
    assert firm.charges()[attempt] == before[attempt]


async def test_rows_with_one_event_as_an_older_jeton_wrote_them_are_booked_beside_rows_with_several(firm: Firm) -> None:
    teller = firm.workers[0]
    attempt, later = teller.begin("r"), teller.begin("later", LARGE)
    firm.clock.wait(0.5)
    teller.first_token(attempt)
    firm.clock.wait(0.5)
    told = teller.end(attempt)
    await teller.flush()
    (row,) = firm.rows("SELECT * FROM reports")
    assert (row["subject"], row["kind"], row["seq"]) == ("1", "several", 4)
    singles = [
        (row["worker"], number, subject, kind, at_ns, None if said is None else orjson.dumps(said).decode())
        for number, (subject, kind, at_ns, said) in enumerate(orjson.loads(row["detail"]), 1)
    ]
    with closing(open_shared(firm.address)) as database, transaction(database):
        database.execute("DELETE FROM reports")
        database.insert_new("reports", REPORT_COLUMNS, singles)
    teller.end(later)
    await firm.book()
    charges = firm.charges()
    assert charges.keys() == {attempt, later}
    assert charges[attempt]["cost_nanousd"] == told.cost_nanousd
    assert firm.rows("SELECT * FROM reports") == []


async def test_a_row_of_which_a_part_is_booked_stays_until_the_rest_is_and_the_audit_knows(firm: Firm) -> None:
    """The accountant may die between any two of its events."""
    teller = firm.workers[1]
    attempts = [teller.begin(f"r{number}", LARGE) for number in range(3)]
    await teller.flush()
    with closing(open_shared(firm.address)) as database:
        missing = "UPDATE workers SET booked_seq = 1 WHERE worker = :worker"
        database.execute(missing, {"worker": teller.journal.worker})
        assert missing_reports(database) == []
        told = read_told(database, {}, {}, 100)
        assert [report.subject for report in told.reports[teller.journal.worker]] == attempts[1:]
        database.execute(missing.replace("= 1", "= 0"), {"worker": teller.journal.worker})
        database.rollback()
    for attempt in attempts:
        teller.end(attempt)
    await firm.book()
    assert firm.charges().keys() == set(attempts)


async def test_what_was_committed_without_word_of_it_is_written_again_as_it_was(firm: Firm) -> None:
    """The session breaks between commit and answer; by the next try there is more to tell."""
    teller = firm.workers[1]
    first = teller.begin("first", LARGE)
    database = teller.journal._shelf._database
    assert database is not None
    commit = database.commit

    def commit_and_break() -> None:
        commit()
        database.commit = commit  # type: ignore[method-assign]
        firm.clock.wait(0.1)
        later.append(teller.begin("later", LARGE))
        raise database.error("the answer is lost")

    later: list[str] = []
    database.commit = commit_and_break  # type: ignore[method-assign]
    await teller.flush()
    rows = firm.rows(f"SELECT seq, subject FROM reports WHERE worker = '{teller.journal.worker}' ORDER BY seq")
    assert rows == [{"seq": 1, "subject": "1"}, {"seq": 2, "subject": "2"}]
    with closing(open_shared(firm.address)) as other:
        assert missing_reports(other) == []
    for attempt in (first, *later):
        teller.end(attempt)
    await firm.book()
    assert firm.charges().keys() == {first, *later}
    assert firm.keeping.keeper.late_events == 0


async def test_more_than_fits_into_a_row_is_told_in_several_and_read_a_part_at_a_time(firm: Firm) -> None:
    teller = firm.workers[1]
    attempts = [teller.begin(f"r{number}") for number in range(EVENTS_PER_ROW + 1)]
    await teller.flush()
    with closing(open_shared(firm.address)) as database:
        told = read_told(database, {}, {}, 10)
        database.rollback()
    assert len(told.reports[teller.journal.worker]) == EVENTS_PER_ROW
    assert told.has_more == {teller.journal.worker}
    for attempt in attempts:
        teller.end(attempt)
    await firm.book()
    assert firm.charges().keys() == set(attempts)


async def test_a_change_of_the_fleet_takes_effect_where_it_belongs_in_time(firm: Firm) -> None:
    attempt = firm.workers[0].begin("r")
    await firm.book()
    firm.clock.wait(1)
    dearer = type(EDGE_PRICE)("edge-l4@2026-06-01#00000009", 2 * EDGE_PRICE.nanousd_per_hour, EDGE_PRICE.purchase)
    firm.keeping.keeper.set_fleet(FLEET, {**PRICES, SMALL.name: dearer}, PROFILES)
    firm.clock.wait(1)
    firm.workers[0].end(attempt)
    await firm.book()
    assert firm.charges()[attempt]["cost_nanousd"] == 3 * EDGE_PRICE.nanousd_per_hour // 3600


async def test_the_answer_of_a_worker_that_is_alone_says_what_is_charged(firm: Firm) -> None:
    """Its estimate is the same fold; what it lacks are the others."""
    worker = firm.workers[0]
    attempt = worker.begin("r")
    firm.clock.wait(0.5)
    worker.first_token(attempt)
    firm.clock.wait(1.5)
    told = worker.end(attempt)
    await firm.book()
    assert firm.charges()[attempt]["cost_nanousd"] == told.cost_nanousd
    assert firm.charges()[attempt]["cost_prompt_nanousd"] == told.cost_prompt_nanousd


async def test_a_worker_that_knows_of_others_takes_its_part_of_the_lease_for_its_estimate(firm: Firm) -> None:
    worker = firm.workers[0]
    attempt = worker.begin("r")
    worker.accountant.estimate_among({SMALL.replicas[0].id: 3}, firm.clock.now_ns)
    firm.clock.wait(4)
    assert worker.end(attempt).cost_nanousd == EDGE_PRICE.nanousd_per_hour // 3600


async def test_workers_hear_what_is_in_flight_at_the_others_while_those_live(firm: Firm) -> None:
    first, second, third, fourth = firm.workers
    replica = SMALL.replicas[0].id
    first.journal.tell({replica: 3})
    second.journal.tell({replica: 2, "another": 1})
    await firm.flush()
    await fourth.flush()
    assert fourth.journal.elsewhere == {replica: 5, "another": 1}
    firm.clock.wait(5)
    await second.flush()
    await third.flush()
    assert third.journal.elsewhere == {replica: 2, "another": 1}  # the first was not heard of lately


async def test_workers_hear_what_the_others_keep_awake_and_those_that_begin_what_all_have_kept(
    firm: Firm, place: Place
) -> None:
    first, second, third, _ = firm.workers
    replica, began_ns = SMALL.replicas[0].id, firm.clock.now_ns
    one, other = Wake(began_ns, began_ns + SECOND, began_ns + 2 * SECOND, 0, 0), Wake(0, 0, 0, 7, began_ns)
    first.journal.tell({}, {replica: one})
    second.journal.tell({}, {replica: other, "another": other})
    await firm.flush()
    await third.flush()
    assert third.journal.awake == {replica: [one, other], "another": [other]}
    firm.clock.wait(5)
    await third.flush()
    assert third.journal.awake == {}
    fifth = AtWork(place.address, firm.clock, "fifth")
    try:
        before = fifth.journal.awake_before
        assert {name: sorted(wakes) for name, wakes in before.items()} == {replica: [other, one], "another": [other]}
    finally:
        fifth.journal.close()


async def test_a_ledger_that_is_shared_cannot_be_opened_alone(firm: Firm, place: Place) -> None:
    with pytest.raises(LedgerError, match=r"ledger\.accountant: inside"):
        place.open()


async def test_a_ledger_that_one_has_alone_cannot_be_shared(place: Place) -> None:
    alone = place.open()
    with pytest.raises(LedgerError, match=r"ledger\.accountant: inside"):
        Firm(place.address, workers=1)
    alone.close()


async def test_one_process_alone_does_not_start_over_what_others_have_told_and_nobody_has_booked(
    firm: Firm, place: Place
) -> None:
    config = LedgerConfig.model_construct(
        path=place.address, url=place.address.url if isinstance(place.address, PostgresAddress) else None
    )
    firm.workers[0].begin("r")
    await firm.flush()
    with pytest.raises(LedgerError, match=r"1 events that workers have told are not booked yet.*inside"):
        open_ledger(config, "")


async def test_a_requests_story_tells_its_worker_and_what_was_said_later(firm: Firm) -> None:
    told = firm.address.url if isinstance(firm.address, PostgresAddress) else str(firm.address)

    async def show() -> Result:
        return await asyncio.to_thread(CliRunner().invoke, ledger, ["--ledger", told, "show", "r9"])

    back = firm.workers[0]
    await firm.book()
    metered = back.begin("r9", LARGE)
    firm.workers[1].begin("r99")
    back.begin("r8")
    assert (await show()).exit_code == 1
    await back.flush()
    waiting = await show()
    assert waiting.exit_code == 0
    for part in ("told, not booked yet", "opened", "r9.1", "w0-"):
        assert part in waiting.output
    assert "r8" not in waiting.output
    assert "r99" not in waiting.output
    await firm.book()
    await firm.silence(back)
    back.end(metered, answered(100, 20))
    await firm.book()
    shown = await show()
    assert shown.exit_code == 0
    assert "told, not booked yet" not in shown.output
    for part in ("w0-", "opened", "closed", "corrected", "router_died", "told later", "corrected_usd"):
        assert part in shown.output


# Whatever happens

OPS = st.one_of(
    st.tuples(st.just("begin"), st.integers(0, WORKERS - 1), st.integers(0, 3)),
    st.tuples(st.just("token"), st.integers(0, WORKERS - 1), st.integers(0, 20)),
    st.tuples(st.just("end"), st.integers(0, WORKERS - 1), st.integers(0, 20)),
    st.tuples(st.just("flush"), st.integers(0, WORKERS - 1), st.just(0)),
    st.tuples(st.just("book"), st.just(0), st.just(0)),
    st.tuples(st.just("take over"), st.just(0), st.just(0)),
)
DEATHS = st.tuples(st.just("silence"), st.integers(0, WORKERS - 1), st.just(0))
TIMES = st.integers(1, 2 * SECOND)


async def play(
    firm: Firm, script: list[tuple[tuple[str, int, int], int]], also: Accountant | None = None
) -> Counter[str]:
    """Do what the script says; `also` sees the same attempts, told by one process that saw it all. Counts what was begun and
    ended by outcome."""
    seen: Counter[str] = Counter()
    for (what, who, which), after_ns in script:
        worker, clock = firm.workers[who], firm.clock
        clock.now_ns += after_ns
        if what == "begin":
            of = LARGE if which == 3 else SMALL
            one = facts(f"r{seen['begun']}", of, replica=which % len(of.replicas))
            price = CLOUD_PRICE if of is LARGE else EDGE_PRICE
            worker.begin(one.request_id, of, which, is_streaming=which != 1)
            if also is not None:
                also.open(one, of, price, 100, 50, clock.now_ns, is_streaming=which != 1)
            seen["begun"] += 1
        elif what in ("token", "end") and worker.open:
            attempt_id = worker.open[which % len(worker.open)]
            if what == "token":
                worker.first_token(attempt_id)
                if also is not None:
                    also.first_token(attempt_id, clock.now_ns)
            else:
                worker.end(attempt_id)
                if also is not None:
                    also.close(attempt_id, answered(), clock.now_ns)
                seen["ended"] += 1
        elif what == "flush":
            await worker.flush()
        elif what == "book":
            await firm.keeping.book()
        elif what == "take over":
            await firm.keeping.take_over()
        elif what == "silence":
            await firm.silence(worker)
            seen["silenced"] += 1
    return seen


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(script=st.lists(st.tuples(OPS, TIMES), min_size=8, max_size=60))
def test_a13_several_workers_come_to_what_one_process_would_have_charged_whoever_told_first(
    script: list[tuple[tuple[str, int, int], int]],
) -> None:
    """Column by column, weights and shares of leases included."""
    directory = Path(tempfile.mkdtemp(prefix="jeton-a13-"))

    async def run() -> None:
        firm = Firm(directory / "shared.sqlite")
        store = SqliteLedger(directory / "alone.sqlite", commit_seconds=0.0005)
        alone = Accountant(store)
        alone.set_fleet(FLEET, PRICES, PROFILES, START)
        await firm.book()
        no_takeover = [step for step in script if step[0][0] != "take over"]
        await play(firm, no_takeover, alone)
        firm.clock.wait(1)
        for worker in firm.workers:
            for attempt_id in list(worker.open):
                worker.end(attempt_id)
                alone.close(attempt_id, answered(), firm.clock.now_ns)
                firm.clock.wait(1e-6)
        await firm.close()
        store.close()

    try:
        asyncio.run(run())
        columns = ", ".join(f'"{name}"' for name in charge_columns(directory / "alone.sqlite"))
        for name in ("shared", "alone"):
            assert_audit_is_clean(directory / f"{name}.sqlite")
        assert all_charges(directory / "shared.sqlite", columns) == all_charges(directory / "alone.sqlite", columns)
    finally:
        shutil.rmtree(directory)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(script=st.lists(st.tuples(st.one_of(OPS, OPS, OPS, DEATHS), TIMES), min_size=8, max_size=60))
def test_a13_under_deaths_takeovers_and_late_words_each_attempt_is_charged_once_and_the_bill_adds_up(
    script: list[tuple[tuple[str, int, int], int]],
) -> None:
    directory = Path(tempfile.mkdtemp(prefix="jeton-a13-"))
    path = directory / "ledger.sqlite"

    async def run() -> tuple[Counter[str], int]:
        firm = Firm(path)
        await firm.book()
        seen = await play(firm, script)
        assert_audit_is_clean(path)
        still_open = sum(len(worker.open) for worker in firm.workers)
        await firm.close()
        return seen, still_open

    try:
        seen, still_open = asyncio.run(run())
        found = assert_audit_is_clean(path)
        assert_file_is_consistent(path, is_quiet=True)
        assert found.attempts == seen["begun"]
        assert found.open_attempts == 0
        with closing(sqlite3.connect(path)) as connection:
            statuses = Counter(status for (status,) in connection.execute("SELECT status FROM charges"))
            (waiting,) = connection.execute("SELECT count(*) FROM reports").fetchone()
        assert waiting == 0
        assert statuses["lost"] == still_open + found.corrections if not seen["silenced"] else True
        assert statuses["ok"] + found.corrections == seen["ended"]
        rebuild(path, directory / "rebuilt.sqlite")
        assert_what_is_told_is_the_audits(directory / "rebuilt.sqlite")
    finally:
        shutil.rmtree(directory)


def charge_columns(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[1] for row in connection.execute("PRAGMA table_info(charges)")]


def all_charges(path: Path, columns: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {columns} FROM charges ORDER BY attempt_id").fetchall()
