"""Old months go, and nothing that was summed up from them: the audit goes on from what was kept."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from audited import assert_audit_is_clean
from bookkeeping import (
    BACK_TO_VERSION_6,
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
)
from click.testing import CliRunner
from ledgers import ENGINES, Place
from postgres_server import PostgresServer

from router.__main__ import main
from router.accounting.accountant import Accountant
from router.accounting.audit import audit
from router.accounting.prune import prune
from router.accounting.rebuild import rebuild
from router.domain.attempt import AttemptEnd, AttemptStatus, Charge
from router.domain.usage import Usage
from router.ledger.address import PostgresAddress
from router.ledger.database import dicts
from router.ledger.periods import read_periods
from router.ledger.rows import LINE_COLUMNS, charge_from_row
from router.ledger.schema import open_reader, reading
from router.ledger.shared import SharedLedger
from router.ledger.store import Correction, Event, EventKind, LedgerError

DAY = 86_400 * SECOND
STEP = 2 * DAY
SEPTEMBER = int(datetime(2026, 9, 20, tzinfo=UTC).timestamp()) * SECOND
NOVEMBER_1 = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * SECOND
OCTOBER_1 = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp()) * SECOND
END = int(datetime(2026, 11, 25, tzinfo=UTC).timestamp()) * SECOND
SUMS = [f"sum --by {by} --csv" for by in ("tenant", "pool", "backend", "model", "tier")]
STAYS = ("totals", "spending", "charge_hours", "lease_hours", "arm_hours", "prices", "leases")


class Router:
    def __init__(self, place: Place, at_ns: int) -> None:
        self.store = place.open()
        self.accountant = Accountant(self.store)
        self.accountant.set_fleet(FLEET, PRICES, PROFILES, at_ns)
        self.number = 0

    def open(self, at_ns: int) -> str:
        self.number += 1
        of, price = (LARGE, CLOUD_PRICE) if self.number % 3 == 0 else (SMALL, EDGE_PRICE)
        one = facts(f"r{at_ns}-{self.number}", of, replica=self.number % len(of.replicas))
        self.accountant.open(one, of, price, 100, 50, at_ns)
        if self.number % 2:
            self.accountant.first_token(one.attempt_id, at_ns + SECOND // 10)
        return one.attempt_id

    def serve(self, at_ns: int, seconds: int = 1) -> None:
        """One in seven runs into its deadline, one in seven is left by its client."""
        attempt_id, end = self.open(at_ns), answered()
        if self.number % 7 in (1, 2):
            fault = "deadline" if self.number % 7 == 1 else "client_gone"
            end = AttemptEnd(AttemptStatus.CANCELLED, Usage(100, 20), fault)
        self.accountant.close(attempt_id, end, at_ns + seconds * SECOND)

    def post(self, at_ns: int) -> None:
        self.accountant.advance(at_ns)
        asyncio.run(self.store.published(30.0))

    def end(self) -> None:
        self.store.close()


def keep_books(place: Place) -> None:
    """September to November: attempts that are open at midnight of either month, and a replica that leaves in October."""
    router = Router(place, SEPTEMBER)
    at_ns = SEPTEMBER
    while at_ns < END:
        for midnight in (OCTOBER_1, NOVEMBER_1):
            if at_ns < midnight <= at_ns + STEP:
                over = [router.open(midnight - second * SECOND) for second in (5, 4, 3, 2)]
                for attempt_id in over:
                    router.accountant.close(attempt_id, answered(), midnight + 2 * SECOND)
        at_ns += STEP
        for second in range(4):
            router.serve(at_ns + second * SECOND, seconds=3)
        router.post(at_ns + 10 * SECOND)
        if at_ns - STEP < OCTOBER_1 + 10 * DAY <= at_ns:
            router.accountant.set_fleet((LARGE,), PRICES, PROFILES, at_ns + 20 * SECOND)
            router.accountant.set_fleet(FLEET, PRICES, PROFILES, at_ns + 3600 * SECOND)
    router.end()


@pytest.fixture(scope="module", params=ENGINES)
def original(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("original")
    if request.param == "sqlite":
        place = Place(directory / "ledger.sqlite", directory)
        keep_books(place)
        yield place
        return
    address = postgres_server.database()
    place = Place(address, directory)
    keep_books(place)
    yield place
    postgres_server.drop(address)


@pytest.fixture
def books(original: Place, tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Place]:
    """A copy to prune."""
    if isinstance(original.address, Path):
        yield Place(Path(shutil.copy(original.address, tmp_path / "ledger.sqlite")), tmp_path)
        return
    address = postgres_server.database(copy_of=original.address)
    yield Place(address, tmp_path)
    postgres_server.drop(address)


def told(place: Place, command: str) -> str:
    result = CliRunner().invoke(main, ["ledger", "--ledger", str(place.address), *command.split()])
    assert result.exit_code == 0, result.output
    return result.stdout


def everything_that_stays(place: Place) -> dict[str, list[tuple[object, ...]]]:
    """Totals without their numbers: PostgreSQL's have gaps."""
    columns = {"totals": ", ".join(LINE_COLUMNS)}
    return {table: sorted(place.rows(f"SELECT {columns.get(table, '*')} FROM {table}"), key=repr) for table in STAYS}


def test_detail_goes_and_all_that_it_adds_up_to_stays(books: Place) -> None:
    before, sums = everything_that_stays(books), [told(books, command) for command in SUMS]
    with read_periods(books.address) as periods:
        spent = periods.spent(periods.whole())
    charges = books.rows("SELECT count(*) FROM charges WHERE month < 202611")[0][0]
    pruning = prune(books.address, 202611)
    assert (pruning.findings, pruning.charges, charges > 50) == ([], charges, True)
    assert books.rows("SELECT min(month) FROM journal") == books.rows("SELECT min(month) FROM charges") == [(202611,)]
    assert everything_that_stays(books) == before
    assert [told(books, command) for command in SUMS] == sums
    with read_periods(books.address) as periods:
        assert periods.spent(periods.whole()) == spent
    found = assert_audit_is_clean(books.address)
    assert (found.pruned_before, found.pruned_attempts) == (202611, charges)
    assert "pruned   before 2026-11" in told(books, "audit")


def test_an_attempt_that_was_open_at_midnight_is_reckoned_from_what_was_kept(books: Place) -> None:
    prune(books.address, 202611)
    over = books.rows(f"SELECT count(*) FROM charges WHERE opened_ns < {NOVEMBER_1}")
    assert over == [(4,)]
    books.change(
        f"UPDATE charges SET cost_nanousd = cost_nanousd + 1 WHERE opened_ns < {NOVEMBER_1} AND billing = 'leased'"
    )
    assert any(one.table == "charges" for one in audit(books.address).findings)


def test_the_ledger_is_gone_on_with_and_pruned_again(books: Place) -> None:
    prune(books.address, 202610)
    router = Router(books, END + DAY)
    for day in range(1, 10):
        router.serve(END + day * DAY)
        router.post(END + day * DAY + 5 * SECOND)
    router.end()
    assert_audit_is_clean(books.address)
    pruning = prune(books.address, 202612)
    assert pruning.charges > 40
    assert_audit_is_clean(books.address)
    assert books.rows("SELECT min(month) FROM charges") == [(202612,)]


@pytest.mark.parametrize("is_pruned", [True, False])
def test_totals_of_before_learn_what_was_lost_of_them(books: Place, is_pruned: bool) -> None:
    if is_pruned:
        prune(books.address, 202611)
    kept = "SELECT kept FROM pruned"
    before, lines = books.rows("SELECT * FROM totals ORDER BY number"), books.rows(kept)
    lost = dict(books.rows("SELECT status, sum(lost_nanousd) FROM totals GROUP BY 1"))
    assert lost["cancelled"] > 0 == lost["ok"]
    books.change(*BACK_TO_VERSION_6)
    if isinstance(books.address, Path):
        books.change("PRAGMA user_version = 6")
    for (text,) in lines:
        members = json.loads(text)
        members["lines"] = [line[:-1] for line in members["lines"]]
        older = json.dumps(members).replace("'", "''")
        books.change(f"UPDATE pruned SET kept = '{older}'")
    books.open().close()
    assert books.rows("SELECT * FROM totals ORDER BY number") == before
    assert [json.loads(text) for (text,) in books.rows(kept)] == [json.loads(text) for (text,) in lines]
    assert_audit_is_clean(books.address)


def test_beside_a_running_router(books: Place) -> None:
    router = Router(books, END + DAY)
    router.post(END + DAY)
    waiting = router.open(END + DAY + SECOND)
    assert prune(books.address, 202611).charges > 50
    router.accountant.close(waiting, answered(), END + DAY + 3 * SECOND)
    router.serve(END + DAY + 4 * SECOND)
    router.post(END + DAY + 9 * SECOND)
    router.end()
    assert_audit_is_clean(books.address)


def test_nothing_goes_that_is_off(books: Place) -> None:
    books.change("UPDATE charges SET prompt_tokens = prompt_tokens + 1 WHERE seq = (SELECT min(seq) FROM charges)")
    before = books.rows("SELECT count(*) FROM charges")
    result = CliRunner().invoke(main, ["ledger", "--ledger", str(books.address), "prune", "--before", "2026-11"])
    assert result.exit_code == 1
    assert "nothing was pruned" in result.output
    assert books.rows("SELECT count(*) FROM charges") == before
    assert books.rows("SELECT * FROM pruned") == []


# What an audit names, and could not any more once its month is gone.
OFF = {
    "an attempt of which nothing is left": (
        "DELETE FROM charges WHERE seq = (SELECT max(seq) FROM charges WHERE month = 202609 AND billing = 'metered')",
        "DELETE FROM journal WHERE month = 202609 AND lease_id = '' AND subject NOT IN (SELECT attempt_id FROM charges)",
    ),
    "a charge that no event leads to": (
        "DELETE FROM journal WHERE kind = 'closed' AND seq = (SELECT max(seq) FROM charges WHERE month = 202609)",
    ),
    "an hour": (
        "UPDATE charge_hours SET cost_nanousd = cost_nanousd + 1 WHERE hour = (SELECT min(hour) FROM charge_hours)",
    ),
    "a day of a budget": (
        "UPDATE spending SET cost_nanousd = cost_nanousd + 1 WHERE day = (SELECT min(day) FROM spending)",
    ),
    "a total": ("UPDATE totals SET cost_nanousd = cost_nanousd + 1 WHERE number = (SELECT min(number) FROM totals)",),
}


@pytest.mark.parametrize("what", OFF)
def test_nothing_goes_of_which_something_else_is_off(books: Place, what: str) -> None:
    books.change(*OFF[what])
    before = books.rows("SELECT count(*) FROM journal")
    assert prune(books.address, 202610).findings
    assert books.rows("SELECT count(*) FROM journal") == before
    assert books.rows("SELECT * FROM pruned") == []


def test_what_is_off_in_a_month_that_stays_keeps_nothing_from_going(books: Place) -> None:
    books.change(
        "UPDATE charge_hours SET cost_nanousd = cost_nanousd + 1 WHERE hour = (SELECT max(hour) FROM charge_hours)",
        "UPDATE spending SET cost_nanousd = cost_nanousd + 1 WHERE day = (SELECT max(day) FROM spending)",
    )
    off = [(one.table, one.row) for one in audit(books.address).findings]
    assert not prune(books.address, 202610).findings
    assert [(one.table, one.row) for one in audit(books.address).findings] == off


def test_the_month_that_is_written_stays(books: Place) -> None:
    with pytest.raises(LedgerError, match="last month is 2026-11"):
        prune(books.address, 202612)


def test_what_an_open_attempt_needs_stays(place: Place) -> None:
    router = Router(place, OCTOBER_1 - 5 * DAY)
    router.open(OCTOBER_1 - SECOND)
    router.serve(OCTOBER_1 + SECOND)
    router.post(OCTOBER_1 + 9 * SECOND)
    with pytest.raises(LedgerError, match="an attempt is open"):
        prune(place.address, 202610)
    router.end()


def test_a_prune_that_died_half_way_is_finished_by_the_next(books: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    class Died(Exception):
        pass

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr("router.ledger.retention._delete_rows", die)
        patched.setattr("router.ledger.retention._drop_partitions", die)
        with pytest.raises(Died):
            prune(books.address, 202611)
    assert books.rows("SELECT count(*) FROM charges WHERE month < 202611")[0][0] > 50
    assert_audit_is_clean(books.address)
    prune(books.address, 202611)
    assert books.rows("SELECT count(*) FROM charges WHERE month < 202611") == [(0,)]
    assert_audit_is_clean(books.address)


def test_a_month_before_the_first_takes_nothing_away(books: Place) -> None:
    pruning = prune(books.address, 202609)
    assert (pruning.events, pruning.findings) == (0, [])
    assert books.rows("SELECT * FROM pruned") == []


@pytest.mark.parametrize("month", ["2026", "2026-13", "november", "26-11"])
def test_what_is_no_month_is_refused(tmp_path: Path, month: str) -> None:
    result = CliRunner().invoke(main, ["ledger", "--ledger", str(tmp_path / "none"), "prune", "--before", month])
    assert result.exit_code == 2
    assert "write it as in 2026-11" in result.output


def test_a_pruned_ledger_moves_with_all_that_it_kept(books: Place, tmp_path: Path, postgres: PostgresAddress) -> None:
    places = [books, Place(postgres, tmp_path / "middle"), Place(tmp_path / "two.sqlite", tmp_path / "last")]
    prune(books.address, 202611)
    for number in (1, 2):
        assert not rebuild(places[number - 1].address, places[number].address).findings
        assert_audit_is_clean(places[number].address)
    assert [told(places[2], command) for command in SUMS] == [told(places[0], command) for command in SUMS]
    first, last = everything_that_stays(places[0]), everything_that_stays(places[2])
    for table in STAYS:
        assert without_numbers(last[table]) == without_numbers(first[table]), table
    router = Router(places[1], END + DAY)
    for number in range(3):
        router.serve(END + DAY + number * SECOND)
    router.post(END + DAY + 9 * SECOND)
    router.end()
    assert_audit_is_clean(places[1].address)


def without_numbers(rows: list[tuple[object, ...]]) -> list[object]:
    """A meter's count of late events is not derived."""
    return [json.dumps(row).partition("late_events")[0] for row in rows]


def test_days_that_were_pruned_are_not_told_as_if_they_were_whole(books: Place) -> None:
    prune(books.address, 202611)
    for command, is_whole in (
        ("sum --by day", False),
        ("sum --by day --since 2026-11-01", True),
        ("sum --by pool", True),
    ):
        result = CliRunner().invoke(main, ["ledger", "--ledger", str(books.address), *command.split()])
        assert ("pruned" in result.stderr) is not is_whole, command


def test_a_reader_of_the_old_state_does_not_stop_a_prune_for_good(books: Place) -> None:
    """In PostgreSQL partitions are detached only once nobody reads them."""
    reader = open_reader(books.address)
    reader.begin_reading()
    assert reader.execute("SELECT count(*) FROM charges").fetchone()[0] > 50
    reader.rollback()
    prune(books.address, 202611)
    reader.close()


def test_a_late_word_corrects_an_attempt_whose_month_is_gone(place: Place) -> None:
    router = Router(place, OCTOBER_1 - 5 * DAY)
    router.number = 2  # the next one is metered
    attempt_id = router.open(OCTOBER_1 - 4 * DAY)
    router.end()
    router = Router(place, OCTOBER_1 - 3 * DAY)  # which closes it as lost
    router.post(OCTOBER_1 - 3 * DAY)
    router.serve(OCTOBER_1 + DAY)
    router.post(OCTOBER_1 + 2 * DAY)
    router.end()
    [lost] = lost_charges(place)
    assert prune(place.address, 202610).charges == 1
    store = SharedLedger(place.address)
    usage = Usage(100, 10)
    cost = 100 * 2000 + 10 * 8000
    charge = replace(
        lost, status=AttemptStatus.OK, fault="", http_status=200, usage=usage, cost_nanousd=cost, standard_nanousd=cost
    )
    corrected_nanousd = cost - (lost.cost_nanousd or 0)
    at_ns = OCTOBER_1 + 3 * DAY
    event = Event(attempt_id, EventKind.CORRECTED, at_ns, "", corrected_nanousd, worker="w", number=1)
    seq = store.append((event,), correction=Correction(charge, corrected_nanousd, at_ns))
    asyncio.run(store.committed(seq, 30.0))
    store.close()
    assert corrected_nanousd < 0
    assert assert_audit_is_clean(place.address).corrected_nanousd == corrected_nanousd


def lost_charges(place: Place) -> list[Charge]:
    with reading(place.address) as database:
        found = dicts(database.execute("SELECT * FROM charges WHERE status = 'lost'"))
    return [charge_from_row(row) for row in found]
