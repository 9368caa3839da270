"""The embedded store: nothing accepted is lost, nothing is there twice, a total is the sum of its parts."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bookkeeping import assert_file_is_consistent, facts, make_version_2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.domain.attempt import AttemptStatus, Charge, CostStatus
from router.domain.totals import Account, Line, LineTotal
from router.domain.usage import Usage, UsageSource
from router.ledger import schema, sqlite
from router.ledger.schema import open_reader
from router.ledger.sqlite import SqliteLedger
from router.ledger.store import Checkpoint, Event, EventKind, Lease, LedgerError, Opening

PATIENCE_SECONDS = 10.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    store = SqliteLedger(path, commit_seconds=0.001)
    yield store
    store.close()


def charge(request_id: str, cost: int | None = 7, status: AttemptStatus = AttemptStatus.OK, **usage: int) -> Charge:
    return Charge(
        facts=facts(request_id),
        billing="leased",
        price_id="p@2026-01-01#0",
        opened_ns=1,
        first_token_ns=None,
        ended_ns=2,
        status=status,
        fault="",
        http_status=200,
        usage=Usage(**{"prompt_tokens": 10, "completion_tokens": 5, **usage}),
        cost_status=CostStatus.UNPRICED if cost is None else CostStatus.PRICED,
        cost_nanousd=cost,
        standard_nanousd=cost,
    )


def closed(of: Charge) -> Event:
    return Event(of.facts.attempt_id, EventKind.CLOSED, of.ended_ns, "lease")


def opened(request_id: str) -> Event:
    opening = Opening(facts(request_id), "leased", "p@2026-01-01#0")
    return Event(f"{request_id}.1", EventKind.OPENED, 1, "lease", 100, opening)


def checkpoint(*leases: Lease, open_from_seq: int | None = None) -> Checkpoint:
    return Checkpoint(at_ns=3, leases=leases, open_nanousd={}, open_from_seq=open_from_seq)


def lease(**members: object) -> Lease:
    return Lease("lease", "edge-small/0", "edge", "edge-small", "p@2026-01-01#0", 1, 2)._replace(**members)


async def test_what_is_committed_is_on_disk_and_in_the_totals(ledger: SqliteLedger, path: Path) -> None:
    one = charge("r1")
    seq = ledger.append([closed(one)], one)
    await ledger.committed(seq, PATIENCE_SECONDS)
    ledger.checkpoint(checkpoint())
    totals = await ledger.published(PATIENCE_SECONDS)
    account = Account("edge", "edge-small", "leased", "model-of-edge-small", "small", "acme")
    line = Line(account, AttemptStatus.OK, UsageSource.PROVIDER)
    assert totals.lines == {
        line: LineTotal(attempts=1, prompt_tokens=10, completion_tokens=5, cost_nanousd=7, standard_nanousd=7)
    }
    assert_file_is_consistent(path)


async def test_a13_an_event_delivered_twice_counts_once(ledger: SqliteLedger, path: Path) -> None:
    one = charge("r1")
    for _ in range(3):
        seq = ledger.append([closed(one)], one)
        await ledger.committed(seq, PATIENCE_SECONDS)
    ledger.append([closed(one), closed(one)], one)
    ledger.checkpoint(checkpoint())
    totals = await ledger.published(PATIENCE_SECONDS)
    assert [total.attempts for total in totals.lines.values()] == [1]
    assert_file_is_consistent(path)


costs = st.one_of(st.none(), st.integers(0, 10**15))
counts = st.integers(0, 2**31)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(costs, st.sampled_from(AttemptStatus), counts, counts), max_size=40))
def test_a02_a_total_is_the_sum_of_its_parts(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int | None, AttemptStatus, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    store = SqliteLedger(path, commit_seconds=0.0001)
    for number, (cost, status, prompt, completion) in enumerate(parts):
        one = charge(f"r{number}", cost, status, prompt_tokens=prompt, completion_tokens=completion)
        store.append([closed(one)], one)
    store.close()
    assert_file_is_consistent(path)
    store = SqliteLedger(path)
    totals = store.totals()
    store.close()
    assert sum(total.cost_nanousd for total in totals.lines.values()) == sum(cost or 0 for cost, *_ in parts)
    assert sum(total.unpriced for total in totals.lines.values()) == sum(cost is None for cost, *_ in parts)
    assert sum(total.prompt_tokens for total in totals.lines.values()) == sum(prompt for _, _, prompt, _ in parts)


async def test_totals_are_of_the_checkpoint_and_nothing_later_is_in_them(ledger: SqliteLedger) -> None:
    ledger.checkpoint(checkpoint())
    later = charge("later")
    ledger.append([closed(later)], later)
    totals = await ledger.published(PATIENCE_SECONDS)
    assert totals.lines == {}


async def test_f31_a_commit_that_fails_is_tried_again_until_it_succeeds(ledger: SqliteLedger, path: Path) -> None:
    blocker = sqlite3.connect(path, isolation_level=None)
    try:
        blocker.execute("BEGIN IMMEDIATE")  # as a full disk does: every commit fails
        one = charge("r1")
        seq = ledger.append([closed(one)], one)
        with pytest.raises(TimeoutError):
            await ledger.committed(seq, schema.BUSY_SECONDS + 1)
        assert not ledger.is_accepting
        for number in range(50):
            ledger.append([opened(f"waiting-{number}")])
            ledger.checkpoint(checkpoint(lease(state={"number": number})))
    finally:
        blocker.close()
    await ledger.committed(seq, PATIENCE_SECONDS)
    await ledger.published(PATIENCE_SECONDS)
    assert ledger.is_accepting
    connection = open_reader(path)
    assert connection.execute("SELECT count(*) FROM journal").fetchone() == (51,)
    connection.close()


async def test_what_may_wait_is_bounded_and_said(path: Path) -> None:
    store = SqliteLedger(path, commit_seconds=0.001, events_waiting_max=10)
    blocker = sqlite3.connect(path, isolation_level=None)
    try:
        blocker.execute("BEGIN IMMEDIATE")
        for number in range(10):
            assert not store.is_full
            seq = store.append([opened(f"r{number}")])
        assert store.is_full
        assert not store.is_accepting
    finally:
        blocker.close()
    await store.committed(seq, PATIENCE_SECONDS)
    assert not store.is_full
    store.close()


async def test_a_disk_that_does_not_recover_is_reported_at_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "CLOSE_SECONDS", 0.0)
    store = SqliteLedger(path, commit_seconds=0.001)
    blocker = sqlite3.connect(path, isolation_level=None)
    try:
        blocker.execute("BEGIN IMMEDIATE")
        store.append([opened("r1")])
        with pytest.raises(LedgerError, match="1 events could not be written"):
            store.close()
    finally:
        blocker.close()


def test_closing_commits_what_waits(path: Path) -> None:
    store = SqliteLedger(path, commit_seconds=1.0)
    one = charge("r1")
    store.append([closed(one)], one)
    store.close()
    assert_file_is_consistent(path)
    store = SqliteLedger(path)
    assert sum(total.attempts for total in store.totals().lines.values()) == 1
    store.close()


def test_recovery_brings_leases_with_their_tail_and_openings_without_their_end(path: Path) -> None:
    store = SqliteLedger(path)
    store.append([opened("before")])
    store.checkpoint(checkpoint(lease(state={"saved": "1"}), open_from_seq=1))
    done = charge("done")
    store.append([opened("done")])
    store.append([Event("done.1", EventKind.FIRST_TOKEN, 2, "lease", 50, growth=7)])
    store.append([closed(done)], done, lease(at_ns=5, bill_nanousd=9))
    store.append([opened("after")])
    store.close()
    store = SqliteLedger(path)
    recovery = store.recover()
    store.close()
    assert [(one.state, one.state_seq, one.bill_nanousd, one.at_ns) for one in recovery.leases] == [
        ({"saved": "1"}, 1, 9, 5)
    ]
    assert [(event.subject, event.kind) for event in recovery.tail["lease"]] == [
        ("done.1", EventKind.OPENED),
        ("done.1", EventKind.FIRST_TOKEN),
        ("done.1", EventKind.CLOSED),
        ("after.1", EventKind.OPENED),
    ]
    assert [event.growth for event in recovery.tail["lease"]] == [0, 7, 0, 0]
    assert {name: opening for name, (opening, _) in recovery.openings.items()} == {
        "before.1": opened("before").detail,
        "after.1": opened("after").detail,
    }


def test_an_ended_lease_keeps_its_money_and_needs_no_state(path: Path) -> None:
    store = SqliteLedger(path)
    store.append([], lease=lease(state={"saved": "1"}))
    store.append([], lease=lease(ended_ns=8, bill_nanousd=5, idle_nanousd=5))
    store.checkpoint(checkpoint())
    store.close()
    store = SqliteLedger(path)
    assert not store.recover().leases
    assert store.totals().leases["edge", "edge-small"] == (5, 5)
    store.close()


def test_a_ledger_has_one_writer(ledger: SqliteLedger, path: Path) -> None:
    with pytest.raises(LedgerError, match="another jeton is writing this ledger"):
        SqliteLedger(path)
    program = (
        f"from pathlib import Path; from router.ledger.sqlite import SqliteLedger; SqliteLedger(Path({str(path)!r}))"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert other.returncode != 0
    assert "another jeton is writing this ledger" in other.stderr


def test_a_ledger_of_a_newer_schema_is_refused(path: Path) -> None:
    SqliteLedger(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    for open_it in (SqliteLedger, open_reader):
        with pytest.raises(LedgerError, match="newer jeton"):
            open_it(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    connection.close()
    SqliteLedger(path).close()  # the refusal let go of the lock


async def test_a_ledger_of_version_1_counts_no_charge_twice(path: Path) -> None:
    """Its trigger moved the totals by itself."""
    SqliteLedger(path).close()
    make_version_2(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1")
    connection.execute(
        "CREATE TRIGGER charges_total AFTER INSERT ON charges BEGIN"
        " UPDATE totals SET attempts = attempts + 1, cost_nanousd = cost_nanousd + new.cost_nanousd; END"
    )
    connection.close()
    for number in (1, 2):
        store = SqliteLedger(path)
        one = charge(f"req_{number}", cost=5)
        store.append((closed(one),), one)
        store.checkpoint(checkpoint())
        (line,) = (await store.published(PATIENCE_SECONDS)).lines.values()
        store.close()
        assert (line.attempts, line.cost_nanousd) == (number, 5 * number)


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.sqlite"
    text.write_text("not a database, " * 100)
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = other.read_bytes()
    for path in (text, other):
        for open_it in (SqliteLedger, open_reader):
            with pytest.raises(LedgerError):
                open_it(path)
    assert other.read_bytes() == before


def test_a_ledger_is_read_while_it_is_written_and_after(ledger: SqliteLedger, path: Path) -> None:
    connection = open_reader(path)
    assert connection.execute("SELECT count(*) FROM charges").fetchone() == (0,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM journal")
    connection.close()


def test_a_missing_ledger_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger here"):
        open_reader(tmp_path / "none.sqlite")
    assert not list(tmp_path.iterdir())


def test_others_on_the_machine_cannot_read_the_ledger(ledger: SqliteLedger, path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0
