"""Preemptions in the ledger, in either engine: told by several workers, counted once, remembered for so long and no longer."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from random import Random

import pytest
from bookkeeping import SECOND
from entries import charge, closed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledgers import Place

from router.accounting.rebuild import rebuild
from router.domain.attempt import AttemptStatus
from router.domain.budget import DAY_NS
from router.domain.preemption import Move, Remembered, Seen, Sighting, Watch
from router.ledger.preemptions import BACK_NS, KEPT_NS, LEARNED_NS, read_preemptions, tell
from router.ledger.schema import open_reader
from router.ledger.store import LedgerError
from router.ledger.writer import BatchedLedger

NOW = 20_000 * DAY_NS + DAY_NS // 2
MINUTE = 60 * SECOND


@pytest.fixture
def ledger(place: Place) -> Iterator[BatchedLedger]:
    """Kept meanwhile by its one writer, as always."""
    store = place.open()
    yield store
    store.close()


def taken(at_ns: int, replica: str = "spot/1") -> Sighting:
    return Sighting("spot", "cheap", replica, Move.TAKEN, at_ns, "down")


def back(at_ns: int, replica: str = "spot/1", move: Move = Move.BACK) -> Sighting:
    return Sighting("spot", "cheap", replica, move, at_ns)


def told(place: Place, *seen: Sighting | Watch, now_ns: int = NOW) -> Remembered:
    sightings = tuple(one for one in seen if isinstance(one, Sighting))
    watches = tuple(one for one in seen if isinstance(one, Watch))
    return tell(place.address, Seen(sightings, watches), ["spot"], now_ns)["spot"]


def test_what_was_told_is_known_to_whoever_asks(place: Place, ledger: BatchedLedger) -> None:
    assert told(place) == Remembered()
    known = told(
        place,
        taken(NOW - 20 * MINUTE),
        back(NOW - 15 * MINUTE),
        taken(NOW - MINUTE, "spot/2"),
        Watch("spot", NOW - 30 * MINUTE, NOW, 2),
    )
    assert known == Remembered(2, 60 * MINUTE, 1, 5 * MINUTE, {"spot/2": NOW - MINUTE})
    assert told(place) == known
    assert tell(place.address, Seen((), ()), ["other"], NOW) == {"other": Remembered()}


def test_what_several_workers_saw_counts_once(place: Place, ledger: BatchedLedger) -> None:
    """Each sees it some seconds later than the one before, and tells it some time after it saw it."""
    late = 2 * SECOND
    began = NOW - 30 * MINUTE
    for after in (0, late):
        told(place, taken(began + after), Watch("spot", began + after, began + MINUTE + after, 3))
    for after in (0, late):
        known = told(place, back(began + 10 * MINUTE + after), Watch("spot", began + MINUTE, began + 3 * MINUTE, 3))
    assert known == Remembered(1, 3 * 3 * MINUTE, 1, 10 * MINUTE)
    assert told(place, taken(began + 10 * MINUTE - SECOND), back(began + 10 * MINUTE + late)).count == 1


def test_one_that_is_back_for_less_than_a_minute_was_away_all_the_time(place: Place, ledger: BatchedLedger) -> None:
    first, second = NOW - 30 * MINUTE, NOW - 30 * MINUTE + BACK_NS
    told(place, taken(first), back(first + SECOND))
    known = told(place, taken(second), back(second + MINUTE))
    assert (known.count, known.returned, known.away_ns) == (1, 1, second + MINUTE - first)
    third = second + MINUTE + BACK_NS + SECOND
    assert told(place, taken(third)).count == 2


def test_one_that_is_gone_says_nothing_of_how_long_others_are_away(place: Place, ledger: BatchedLedger) -> None:
    known = told(place, taken(NOW - 20 * MINUTE), back(NOW - 10 * MINUTE, move=Move.GONE))
    assert known == Remembered(1, 0, 0, 0)
    assert told(place, back(NOW)) == known


def test_an_older_telling_that_comes_late_does_not_stop_those_that_follow(place: Place, ledger: BatchedLedger) -> None:
    """As of a worker that could not write for a while."""
    told(place, taken(NOW - 20 * MINUTE), back(NOW - 10 * MINUTE))
    told(place, taken(NOW - 40 * MINUTE), back(NOW - 10 * MINUTE + SECOND))
    assert told(place, taken(NOW - 10 * MINUTE + 2 * SECOND)).away == {"spot/1": NOW - 20 * MINUTE}


moves = st.lists(
    st.tuples(st.sampled_from(Move), st.sampled_from(("spot/1", "spot/2")), st.integers(0, 100)), max_size=12
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves, st.randoms())
def test_however_often_and_in_whichever_order_it_is_told_nothing_counts_twice(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[Move, str, int]], random: Random
) -> None:
    place = Place(tmp_path_factory.mktemp("ledger") / "ledger.sqlite", tmp_path_factory.mktemp("spool"))
    with closing(place.open()):
        seen = [Sighting("spot", "cheap", replica, move, NOW - DAY_NS + at * MINUTE) for move, replica, at in moves]
        watches = [Watch("spot", one.at_ns, one.at_ns + MINUTE, 1) for one in seen]
        known = told(place, *seen, *watches)
        assert known.count <= sum(one.move is Move.TAKEN for one in seen)
        assert known.returned <= known.count
        assert known.watched_ns <= len({one.at_ns for one in seen}) * MINUTE
        assert told(place, *seen, *watches) == known
        random.shuffle(seen)
        for one in seen:
            again = told(place, one)
        assert not seen or again.count <= 2 * len(seen)


def test_days_are_told_apart_and_what_is_older_than_thirty_is_not_learned_from(
    place: Place, ledger: BatchedLedger
) -> None:
    old = NOW - LEARNED_NS - DAY_NS
    told(place, taken(old), back(old + MINUTE), Watch("spot", old - MINUTE, old, 1))
    midnight = NOW // DAY_NS * DAY_NS
    for since in (midnight - MINUTE, midnight):  # by two, who told it in parts that are not the same
        known = told(place, Watch("spot", since - SECOND, since + MINUTE, 1), taken(NOW - MINUTE))
    assert known == Remembered(1, 2 * MINUTE + SECOND, 0, 0, {"spot/1": NOW - MINUTE})
    with closing(open_reader(place.address)) as database:
        assert [one.taken_ns for one in read_preemptions(database, NOW, 10)] == [NOW - MINUTE, old]
    later = old + KEPT_NS + DAY_NS
    assert told(place, Watch("spot", later - MINUTE, later, 1), now_ns=later).watched_ns == MINUTE
    assert place.rows("SELECT taken_ns FROM preemptions") == [(NOW - MINUTE,)]
    assert place.rows("SELECT day FROM watched_days ORDER BY 1") == [(NOW // DAY_NS,), (later // DAY_NS,)]


async def test_what_was_cut_short_is_told_with_it(place: Place, ledger: BatchedLedger) -> None:
    def ended(name: str, replica: str, fault: str, status: AttemptStatus, at_ns: int) -> None:
        one = charge(name, 7, status)
        of = replace(one.facts, replica=replica)
        one = replace(one, facts=of, fault=fault, opened_ns=at_ns - 4 * SECOND, ended_ns=at_ns)
        ledger.append([closed(one)], one)

    at_ns = NOW - 20 * MINUTE
    ended("cut", "spot/1", "reset", AttemptStatus.FAILED, at_ns - SECOND)
    ended("left", "spot/1", "leaving", AttemptStatus.FAILED, at_ns + SECOND)
    ended("refused", "spot/1", "refused", AttemptStatus.FAILED, at_ns)
    ended("served", "spot/1", "", AttemptStatus.OK, at_ns)
    ended("elsewhere", "spot/2", "reset", AttemptStatus.FAILED, at_ns)
    ended("later", "spot/1", "reset", AttemptStatus.FAILED, at_ns + 6 * MINUTE)
    await ledger.committed(ledger.position, 30.0)
    told(place, taken(at_ns), back(at_ns + 5 * MINUTE))
    with closing(open_reader(place.address)) as database:
        (one,) = read_preemptions(database, NOW, 10)
    assert (one.cut_attempts, one.cut_ns, one.cut_nanousd) == (2, 8 * SECOND, 14)
    assert (one.replica, one.pool, one.why, one.is_back) == ("spot/1", "cheap", "down", True)


def test_a_rebuilt_ledger_remembers_as_well(place: Place, ledger: BatchedLedger) -> None:
    known = told(place, taken(NOW - MINUTE), Watch("spot", NOW - MINUTE, NOW, 2))
    ledger.close()
    out = place.directory / "fresh.sqlite"
    rebuild(place.address, out)
    assert told(Place(out, place.directory)) == known


def test_a_ledger_that_is_not_there_is_said_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = Place(tmp_path_factory.mktemp("none") / "ledger.sqlite", tmp_path_factory.mktemp("spool"))
    with pytest.raises(LedgerError, match="no ledger here"):
        told(place, taken(NOW))
