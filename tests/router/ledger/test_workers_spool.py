"""Workers on a PostgreSQL that goes away: they go on, and what they saw is booked once, whoever is there to tell it."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import orjson
import psycopg
import pytest
from audited import assert_audit_is_clean, assert_what_is_told_is_the_audits
from bookkeeping import CLOUD_PRICE, EDGE_PRICE, FLEET, LARGE, PRICES, PROFILES, SMALL, answered, facts
from busy_workers import Busy, booked_events, take_up, until
from ledgers import SPOOL_BYTES_MAX, Place
from postgres_server import PostgresServer

from router.accounting.accountant import Accountant
from router.accounting.bookkeeper import Bookkeeper
from router.accounting.reporter import Reporter
from router.errors import Unavailable
from router.ledger.batch import Batch
from router.ledger.journals import Journals, WorkerJournal
from router.ledger.schema import open_shared
from router.ledger.shared import SharedLedger
from router.ledger.spool import SpoolFile
from router.ledger.store import Checkpoint, LedgerError
from router.ledger.workers import EVENTS_PER_ROW, WorkerState

PATIENCE_SECONDS = 60.0


class Worker:
    """In this process, on the wall clock."""

    def __init__(
        self,
        place: Place,
        name: str,
        spool_bytes_max: int = SPOOL_BYTES_MAX,
        *,
        kind: type[Accountant] = Accountant,
        commit_seconds: float = 0.001,
    ) -> None:
        spool = place.directory / "spool", spool_bytes_max
        self.journal = WorkerJournal(place.address, time.time_ns, name, commit_seconds=commit_seconds, spool=spool)
        self.accountant = Reporter(self.journal) if kind is Reporter else Accountant(self.journal)
        self.accountant.set_fleet(FLEET, PRICES, PROFILES, time.time_ns())

    def serve(self, name: str, requests: int, *, left_open: int = 0) -> None:
        for number in range(requests):
            of, price = (LARGE, CLOUD_PRICE) if number % 2 else (SMALL, EDGE_PRICE)
            one = facts(f"{name}{number}", of, replica=number % len(of.replicas))
            self.accountant.open(one, of, price, 100, 50, time.time_ns())
            if number >= left_open:
                self.accountant.close(one.attempt_id, answered(), time.time_ns())

    def write(self) -> None:
        asyncio.run(self.journal.committed(self.journal.position, PATIENCE_SECONDS))

    @property
    def spooled_bytes(self) -> int:
        assert self.journal.spool is not None
        return self.journal.spool[0]


@pytest.fixture
def place(own_server: PostgresServer, tmp_path: Path) -> Iterator[Place]:
    made = Place(own_server.database(), tmp_path)
    with closing(open_shared(made.address)):
        pass  # there it is
    yield made
    asyncio.run(take_up(made.address))
    assert assert_what_is_told_is_the_audits(made.address).open_attempts == 0
    assert made.rows("SELECT count(*) FROM reports") == [(0,)]


@contextmanager
def held_back(worker: Worker) -> Iterator[None]:
    """Its thread does not look for PostgreSQL meanwhile."""
    shelf = worker.journal._shelf
    come_back = shelf._come_back
    shelf._come_back = lambda: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        shelf._come_back = come_back  # type: ignore[method-assign]


def statuses(place: Place) -> dict[str, str]:
    return dict(place.rows("SELECT request_id, status FROM charges"))


def test_what_a_worker_sees_while_postgresql_is_away_is_told_when_it_is_back(
    own_server: PostgresServer, place: Place
) -> None:
    worker = Worker(place, "w")
    worker.serve("before", 4, left_open=2)
    worker.write()
    own_server.kill()
    worker.serve("away", 6, left_open=2)
    worker.write()
    assert worker.spooled_bytes > 0
    assert worker.accountant.is_accepting, "what is in the spool is written down"
    with pytest.raises(LedgerError, match="away"):
        asyncio.run(worker.journal.spent([], PATIENCE_SECONDS))
    own_server.start_again()
    until(lambda: not worker.spooled_bytes)
    worker.serve("after", 2)
    worker.journal.close()
    asyncio.run(take_up(place.address))
    assert statuses(place) == {
        **{f"before{n}": "lost" if n < 2 else "ok" for n in range(4)},
        **{f"away{n}": "lost" if n < 2 else "ok" for n in range(6)},
        **{f"after{n}": "ok" for n in range(2)},
    }


async def test_a_scrape_while_the_ledger_is_away_shows_what_there_was(own_server: PostgresServer, place: Place) -> None:
    keeper = Bookkeeper(
        Journals(place.address), lambda: SharedLedger(place.address), time.time_ns, silence_seconds=PATIENCE_SECONDS
    )
    keeper.set_fleet(FLEET, PRICES, PROFILES)
    keeping = asyncio.create_task(keeper.keep())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not keeper.is_leading:
            await asyncio.sleep(0.01)
        before = await keeper.posted(PATIENCE_SECONDS)
        assert before.leases
        await asyncio.to_thread(own_server.kill)
        away = await keeper.posted()
        assert away.leases.keys() == before.leases.keys()
        await asyncio.to_thread(own_server.start_again)
        while not keeper.is_leading or (await keeper.posted()).at_ns <= away.at_ns:
            await asyncio.sleep(0.01)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await keeper.close()


def test_a_store_that_is_lost_is_let_go_of_though_a_commit_of_it_is_under_way(
    own_server: PostgresServer, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has it may lead again at once, and not after what a disk that is full is given."""
    store = SharedLedger(place.address)
    tries = 0
    commit = store._books.commit

    def counted(batch: Batch) -> None:
        nonlocal tries
        tries += 1
        commit(batch)

    monkeypatch.setattr(store._books, "commit", counted)
    own_server.kill()
    store.checkpoint(Checkpoint(time.time_ns(), (), {}, None))
    until(lambda: store.is_lost)
    before = tries
    store.abandon()
    assert tries <= before + 2
    own_server.start_again()


@pytest.mark.parametrize("is_noticed", [False, True])
def test_what_a_dead_worker_left_in_its_spool_is_told_by_the_next_that_starts(
    own_server: PostgresServer, place: Place, is_noticed: bool
) -> None:
    dead = Worker(place, "dead")
    dead.serve("before", 2, left_open=2)
    dead.write()
    own_server.kill()
    for number in range(2):
        dead.accountant.close(f"before{number}.1", answered(), time.time_ns())
    dead.serve("away", 2)
    dead.write()
    dead.journal.close()  # it could not say that it leaves
    with pytest.raises(LedgerError, match="cannot be opened"):
        Worker(place, "early")
    own_server.start_again()
    if is_noticed:  # its open attempts are closed as lost by then
        asyncio.run(take_up(place.address))
        assert set(statuses(place).values()) == {"lost"}
    following = Worker(place, "next")
    assert following.spooled_bytes == 0
    following.journal.close()
    asyncio.run(take_up(place.address))
    told = {f"{word}{n}": "ok" for word in ("before", "away") for n in range(2)}
    corrected = dict(place.rows("SELECT request_id, status FROM corrections"))
    assert statuses(place) | corrected == told
    assert set(corrected) == ({"before0", "before1"} if is_noticed else set())
    assert place.rows("SELECT count(*) FROM workers WHERE state = 'live'") == [(0,)]


def test_a14_a_dead_worker_is_not_booked_while_its_spool_has_something_to_tell(
    own_server: PostgresServer, place: Place
) -> None:
    living, dead = Worker(place, "living"), Worker(place, "dead")
    own_server.kill()
    dead.serve("away", 2)
    dead.write()
    dead.journal.close()
    own_server.start_again()

    def is_back() -> bool:
        with suppress(LedgerError):
            asyncio.run(living.journal.spent([], PATIENCE_SECONDS))
            return True
        return False

    def is_booked() -> bool:
        return asyncio.run(living.journal.is_booked(dead.journal.identity))

    until(is_back)
    asyncio.run(take_up(place.address))
    assert place.rows("SELECT count(*) FROM charges") == [(0,)]
    assert not is_booked()
    Worker(place, "next").journal.close()
    asyncio.run(take_up(place.address))
    assert is_booked()
    assert statuses(place) == {"away0": "ok", "away1": "ok"}
    living.journal.close()


def once_each(place: Place) -> list[tuple[str, str, int]]:
    """What was booked of each request, and how often; corrections apart."""
    return place.rows("SELECT request_id, status, count(*) FROM charges GROUP BY 1, 2 ORDER BY 1")


@pytest.mark.parametrize("kind", [Accountant, Reporter])
def test_f30_several_events_in_a_row_are_booked_once_each_when_their_worker_was_taken_for_dead_meanwhile(
    own_server: PostgresServer, place: Place, kind: type[Accountant]
) -> None:
    """It goes on under another name, whose first report has many events: none of them is skipped."""
    worker = Worker(place, "w", kind=kind, commit_seconds=0.02)
    worker.serve("before", 6, left_open=6)
    worker.write()
    own_server.kill()
    for number in range(4):
        worker.accountant.close(f"before{number}.1", answered(), time.time_ns())
    worker.serve("away", EVENTS_PER_ROW)
    worker.write()
    waiting = worker.journal.position
    with held_back(worker):
        own_server.start_again()
        asyncio.run(take_up(place.address))
    until(lambda: not worker.spooled_bytes)
    worker.serve("after", 6)
    worker.write()
    was, is_now = worker.journal.identity, worker.journal.worker
    assert is_now == f"{was}~2"
    ((reported,),) = place.rows(f"SELECT reported_seq FROM workers WHERE worker = '{is_now}'")
    assert reported == worker.journal.position > waiting > EVENTS_PER_ROW
    worker.journal.close()
    asyncio.run(take_up(place.address))
    requests = {"before": 6, "away": EVENTS_PER_ROW, "after": 6}
    expected = {
        f"{word}{n}": "lost" if word == "before" else "ok" for word, many in requests.items() for n in range(many)
    }
    assert once_each(place) == [(name, status, 1) for name, status in sorted(expected.items())]
    corrections = place.rows("SELECT request_id, status, count(*) FROM corrections GROUP BY 1, 2 ORDER BY 1")
    assert corrections == [(f"before{n}", "ok", 1) for n in range(4)]


@pytest.mark.parametrize("is_noticed", [False, True])
def test_f30_what_a_process_told_of_a_spool_and_could_not_take_out_of_it_is_booked_once(
    own_server: PostgresServer, place: Place, is_noticed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies between the commit and the removal, and so does the next; if the first was taken for dead, each under its name."""
    dead = Worker(place, "dead", kind=Reporter, commit_seconds=0.02)
    dead.serve("before", 2)
    dead.write()
    own_server.kill()
    dead.serve("away", EVENTS_PER_ROW)
    dead.write()
    dead.journal.close()
    own_server.start_again()
    if is_noticed:
        asyncio.run(take_up(place.address))

    class Died(BaseException):
        pass

    def die(*_: object) -> None:
        raise Died

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(SpoolFile, "remove", die)
            with pytest.raises(Died):
                Worker(place, "dies too")
    following = Worker(place, "next")
    assert following.spooled_bytes == 0
    following.journal.close()
    asyncio.run(take_up(place.address))
    expected = [f"{word}{n}" for word, many in (("before", 2), ("away", EVENTS_PER_ROW)) for n in range(many)]
    assert once_each(place) == [(name, "ok", 1) for name in sorted(expected)]
    assert place.rows("SELECT * FROM corrections") == []


def test_f30_a_new_name_whose_commit_was_not_confirmed_is_found_again(place: Place) -> None:
    worker = Worker(place, "w", kind=Reporter)
    worker.serve("before", 2)
    worker.write()
    database = worker.journal._shelf._database
    assert database is not None
    commit = database.commit

    def commit_and_break() -> None:
        ((names,),) = place.rows("SELECT count(*) FROM workers")
        commit()
        if place.rows("SELECT count(*) FROM workers") != [(names,)]:  # it was renamed
            raise psycopg.OperationalError("the answer is lost")

    database.commit = commit_and_break  # type: ignore[method-assign]
    asyncio.run(take_up(place.address))
    worker.serve("after", 4)
    worker.write()
    until(lambda: not worker.spooled_bytes)
    until(lambda: worker.journal.worker.endswith("~2"))
    worker.journal.close()
    asyncio.run(take_up(place.address))
    assert statuses(place) == {f"{word}{n}": "ok" for word, many in (("before", 2), ("after", 4)) for n in range(many)}
    assert place.rows("SELECT count(*) FROM workers") == [(2,)]


def test_f30_a_spool_that_has_but_prices_takes_nothing_back_of_what_was_told(
    own_server: PostgresServer, place: Place
) -> None:
    dead = Worker(place, "dead", kind=Reporter)
    dead.serve("told", 4)
    dead.write()
    own_server.kill()
    dearer = replace(EDGE_PRICE, price_id="dearer", nanousd_per_hour=2 * EDGE_PRICE.nanousd_per_hour)
    dead.accountant.set_fleet(FLEET, {**PRICES, SMALL.name: dearer}, PROFILES, time.time_ns())
    until(lambda: dead.spooled_bytes > 0)
    dead.journal.close()
    own_server.start_again()
    Worker(place, "next").journal.close()
    asyncio.run(take_up(place.address))
    assert statuses(place) == {f"told{n}": "ok" for n in range(4)}
    assert place.rows("SELECT count(*) FROM prices WHERE price_id = 'dearer'") == [(1,)]


def test_f30_a_spool_that_an_older_jeton_left_is_told_under_another_name(
    own_server: PostgresServer, place: Place
) -> None:
    """It has a row for each event."""
    dead = Worker(place, "dead", kind=Reporter)
    own_server.kill()
    dead.serve("away", 3)
    dead.write()
    dead.journal.close()
    with closing(sqlite3.connect(place.directory / "spool.0")) as spool, spool:
        for number, text in spool.execute("SELECT number, rows FROM batches").fetchall():
            worker, watermark_ns, reports, prices = orjson.loads(text)
            singles = []
            for _, first, _, _, detail in reports:
                for seq, (subject, kind, at_ns, said) in enumerate(orjson.loads(detail), int(first)):
                    singles.append((seq, subject, kind, at_ns, None if said is None else orjson.dumps(said).decode()))
            older = orjson.dumps((worker, watermark_ns, singles, prices))
            spool.execute("UPDATE batches SET rows = ? WHERE number = ?", (older, number))
    own_server.start_again()
    asyncio.run(take_up(place.address))  # it is taken for dead
    Worker(place, "next").journal.close()
    asyncio.run(take_up(place.address))
    assert statuses(place) == {f"away{n}": "ok" for n in range(3)}


def test_workers_have_a_spool_each_and_take_one_that_is_free(place: Place) -> None:
    first, second = Worker(place, "a"), Worker(place, "b")
    assert {path.name for path in place.directory.glob("spool.?")} == {"spool.0", "spool.1"}
    first.journal.close()
    third = Worker(place, "c")
    assert {path.name for path in place.directory.glob("spool.?")} == {"spool.0", "spool.1"}
    for worker in (second, third):
        worker.journal.close()


def test_a_spool_of_another_ledger_is_refused(own_server: PostgresServer, place: Place) -> None:
    worker = Worker(place, "w")
    own_server.kill()
    worker.serve("away", 2)
    worker.write()
    worker.journal.close()
    own_server.start_again()
    other = Place(own_server.database(), place.directory)
    with closing(open_shared(other.address)), pytest.raises(LedgerError, match="belongs to another ledger"):
        Worker(other, "w")
    Worker(place, "w").journal.close()
    assert statuses(place) == {} or set(statuses(place)) == {"away0", "away1"}


def test_f31_a_workers_spool_that_is_full_refuses_metered_attempts_and_keeps_the_rest(
    own_server: PostgresServer, place: Place
) -> None:
    worker = Worker(place, "w", spool_bytes_max=2**15)
    own_server.kill()
    served = 0
    while worker.accountant.is_accepting:
        worker.serve(f"r{served}-", 1)
        served += 1
        time.sleep(0.002)
    with pytest.raises(Unavailable):
        worker.accountant.open(facts("refused", LARGE), LARGE, CLOUD_PRICE, 100, 50, time.time_ns())
    worker.serve("leased", 1)
    assert 0 < worker.spooled_bytes <= 2**15
    own_server.start_again()
    until(lambda: worker.accountant.is_accepting and not worker.spooled_bytes)
    worker.write()
    worker.journal.close()
    asyncio.run(take_up(place.address))
    assert len(statuses(place)) == served + 1


@pytest.mark.timeout(900)
def test_f30_a13_postgresql_killed_and_frozen_under_two_workers_loses_nothing_and_doubles_nothing(
    own_server: PostgresServer, place: Place
) -> None:
    busy = [Busy(place, seed) for seed in (1, 2)]
    said: list[tuple[str, str]] = []
    try:
        for goes, comes in ((own_server.kill, own_server.start_again), (own_server.freeze, own_server.thaw)):
            until(lambda: all(one.heard("told") for one in busy))  # a start needs PostgreSQL
            goes()
            marks = {one: one.heard("durable") for one in busy}
            until(lambda marks=marks: all(one.heard("durable") > mark + 5 for one, mark in marks.items()))
            victim = busy.pop(0)
            victim.kill()  # what it has is in its spool
            said += victim.said()
            comes()
            busy.append(Busy(place, 10 + len(said)))
            booked = booked_events(place)
            until(lambda booked=booked: booked_events(place) > booked + 20)
            assert_audit_is_clean(place.address)
        for one in busy:
            one.kill()
            said += one.said()
    finally:
        for one in busy:
            with suppress(ProcessLookupError):
                one.process.kill()
            one.process.wait()
    Worker(place, "last").journal.close()  # tells what they left in theirs
    asyncio.run(take_up(place.address))
    found = statuses(place)
    corrected = {request_id for (request_id,) in place.rows("SELECT request_id FROM corrections")}
    assert {name.rpartition(".")[0] for word, name in said if word == "durable"} <= found.keys()
    told = {name.rpartition(".")[0] for word, name in said if word == "told"}
    assert told
    assert {name for name in told if found[name] != "ok"} <= corrected
    assert place.rows(f"SELECT count(*) FROM workers WHERE state = '{WorkerState.LIVE}'") == [(0,)]
