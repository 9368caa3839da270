"""Every store: nothing accepted is lost, nothing is there twice, a total is the sum of its parts."""

import asyncio
from collections.abc import Iterator

import pytest
from bookkeeping import assert_ledger_is_consistent
from entries import charge, checkpoint, closed, lease, opened
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledgers import Place

from router.domain.attempt import AttemptStatus
from router.domain.totals import Account, Line, LineTotal
from router.domain.usage import UsageSource
from router.ledger.rows import reweighing_from_text
from router.ledger.schema import VERSION, open_reader
from router.ledger.store import Event, EventKind, LedgerError
from router.ledger.writer import BatchedLedger

PATIENCE_SECONDS = 30.0


@pytest.fixture
def ledger(place: Place) -> Iterator[BatchedLedger]:
    store = place.open()
    yield store
    store.close()


async def test_what_is_committed_is_on_disk_and_in_the_totals(ledger: BatchedLedger, place: Place) -> None:
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
    assert_ledger_is_consistent(place.address)


async def test_a13_an_event_delivered_twice_counts_once(ledger: BatchedLedger, place: Place) -> None:
    one = charge("r1")
    for _ in range(3):
        seq = ledger.append([closed(one)], one)
        await ledger.committed(seq, PATIENCE_SECONDS)
    ledger.append([closed(one), closed(one)], one)
    ledger.checkpoint(checkpoint())
    totals = await ledger.published(PATIENCE_SECONDS)
    assert [total.attempts for total in totals.lines.values()] == [1]
    assert_ledger_is_consistent(place.address)


costs = st.one_of(st.none(), st.integers(0, 10**15))
counts = st.integers(0, 2**31)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(costs, st.sampled_from(AttemptStatus), counts, counts), max_size=40))
def test_a02_a_total_is_the_sum_of_its_parts(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int | None, AttemptStatus, int, int]]
) -> None:
    place = Place(tmp_path_factory.mktemp("ledger") / "ledger.sqlite", tmp_path_factory.mktemp("spool"))
    store = place.open(commit_seconds=0.0001)
    for number, (cost, status, prompt, completion) in enumerate(parts):
        one = charge(f"r{number}", cost, status, prompt_tokens=prompt, completion_tokens=completion)
        store.append([closed(one)], one)
    store.close()
    assert_ledger_is_consistent(place.address)
    store = place.open()
    totals = store.totals()
    store.close()
    assert sum(total.cost_nanousd for total in totals.lines.values()) == sum(cost or 0 for cost, *_ in parts)
    assert sum(total.unpriced for total in totals.lines.values()) == sum(cost is None for cost, *_ in parts)
    assert sum(total.prompt_tokens for total in totals.lines.values()) == sum(prompt for _, _, prompt, _ in parts)


async def test_totals_are_of_the_checkpoint_and_nothing_later_is_in_them(ledger: BatchedLedger) -> None:
    ledger.checkpoint(checkpoint())
    later = charge("later")
    ledger.append([closed(later)], later)
    totals = await ledger.published(PATIENCE_SECONDS)
    assert totals.lines == {}


def test_closing_commits_what_waits(place: Place) -> None:
    store = place.open(commit_seconds=1.0)
    one = charge("r1")
    store.append([closed(one)], one)
    store.close()
    assert_ledger_is_consistent(place.address)
    store = place.open()
    assert sum(total.attempts for total in store.totals().lines.values()) == 1
    store.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, (0, 0, 0)),
        ("7", (7, 0, 0)),
        ("7 19", (7, 0, 0)),
        ("7,11,-13", (7, 11, -13)),
        ("7,11,-13 19", (7, 11, -13)),
    ],
)
def test_what_any_jeton_wrote_of_a_first_token_is_read(text: str | None, told: tuple[int, int, int]) -> None:
    assert reweighing_from_text(text) == told


def test_recovery_brings_leases_with_their_tail_and_openings_without_their_end(place: Place) -> None:
    store = place.open()
    store.append([opened("before")])
    store.checkpoint(checkpoint(lease(state={"saved": "1"}), open_from_seq=1))
    done = charge("done")
    store.append([opened("done")])
    store.append([Event("done.1", EventKind.FIRST_TOKEN, 2, "lease", 50, growth=7, shared=11, settled=-13)])
    store.append([closed(done)], done, lease(at_ns=5, bill_nanousd=9))
    store.append([opened("after")])
    store.close()
    store = place.open()
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
    told = [(event.growth, event.shared, event.settled) for event in recovery.tail["lease"]]
    assert told == [(0, 0, 0), (7, 11, -13), (0, 0, 0), (0, 0, 0)]
    assert {name: one.opening for name, one in recovery.openings.items()} == {
        "before.1": opened("before").detail,
        "after.1": opened("after").detail,
    }


def test_an_ended_lease_keeps_its_money_and_needs_no_state(place: Place) -> None:
    store = place.open()
    store.append([], lease=lease(state={"saved": "1"}))
    store.append([], lease=lease(ended_ns=8, bill_nanousd=5, idle_nanousd=5))
    store.checkpoint(checkpoint())
    store.close()
    store = place.open()
    assert not store.recover().leases
    assert store.totals().leases["edge", "edge-small"] == (5, 5)
    store.close()


def test_a_ledger_is_one_of_its_own_and_stays_it(place: Place) -> None:
    ids = set()
    for _ in range(2):
        store = place.open()
        ids.add(store.ledger_id)
        store.close()
    assert len(ids) == 1


def test_months_follow_the_journal_and_never_go_back(place: Place) -> None:
    """Around midnight an event may be a little earlier than the one before it."""
    november, december = 1_796_083_199 * 10**9, 1_796_083_200 * 10**9
    store = place.open()
    for number, at_ns in enumerate((november, december, november + 1, december + 40 * 86_400 * 10**9)):
        store.append([opened(f"r{number}")._replace(at_ns=at_ns)])
    one = charge("r0")
    store.append([closed(one)], one)
    store.close()
    assert place.rows("SELECT month FROM journal ORDER BY seq") == [
        (202611,),
        (202612,),
        (202612,),
        (202701,),
        (202701,),
    ]
    assert place.rows("SELECT month, seq FROM charges") == [(202701, 5)]


def test_a_reader_sees_one_state_whatever_is_written_meanwhile(ledger: BatchedLedger, place: Place) -> None:
    reader = open_reader(place.address)
    reader.begin_reading()
    assert reader.execute("SELECT count(*) FROM charges").fetchone()[0] == 0
    one = charge("r1")
    asyncio.run(ledger.committed(ledger.append([closed(one)], one), PATIENCE_SECONDS))
    assert reader.execute("SELECT count(*) FROM charges").fetchone()[0] == 0
    reader.rollback()
    assert reader.execute("SELECT count(*) FROM charges").fetchone()[0] == 1
    reader.begin_reading()
    with pytest.raises(reader.error, match=r"read-?only"):
        reader.execute("DELETE FROM journal")
    reader.close()


def test_a_newer_ledger_is_refused_and_left_alone(place: Place) -> None:
    place.open().close()
    if place.address == place.directory / "var" / "ledger.sqlite":
        place.change(f"PRAGMA user_version = {VERSION + 1}")
    else:
        place.change(f"UPDATE alembic_version SET version_num = '{VERSION + 1}'")
    for open_it in (lambda _: place.open(), open_reader):
        with pytest.raises(LedgerError, match="newer jeton"):
            open_it(place.address)
