"""Several journals become one in the order of time, however they are told, and the fold over it is exact."""

from collections import deque
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from router.pricing.merge import Source, horizon_ns, take_until
from router.pricing.meter import ReplicaMeter

RATE = 3_600_000_000_007


class Entry(NamedTuple):
    at_ns: int
    number: int


def queues(**times: list[int]) -> dict[str, deque[Entry]]:
    return {worker: deque(Entry(at_ns, number) for number, at_ns in enumerate(at)) for worker, at in times.items()}


def test_entries_come_in_the_order_of_time_and_of_equals_the_first_worker_by_name() -> None:
    told = queues(b=[1, 4, 5], a=[2, 4, 6])
    assert [(worker, entry.at_ns) for worker, entry in take_until(told, 9)] == [
        ("b", 1),
        ("a", 2),
        ("a", 4),
        ("b", 4),
        ("b", 5),
        ("a", 6),
    ]


def test_what_happened_later_stays_in_its_queue() -> None:
    told = queues(a=[1, 3], b=[2, 5])
    assert [entry.at_ns for _, entry in take_until(told, 3)] == [1, 2, 3]
    assert told == {"a": deque(), "b": deque([Entry(5, 1)])}


def test_a_journal_keeps_its_own_order_whatever_its_times_say() -> None:
    told = queues(a=[7, 3], b=[5, 8])
    assert [(worker, entry.number) for worker, entry in take_until(told, 9)] == [("b", 0), ("a", 0), ("a", 1), ("b", 1)]


def test_all_is_known_up_to_the_oldest_watermark() -> None:
    assert horizon_ns([Source(7), Source(5)], 0) == 5


def test_of_what_is_read_in_part_only_that_part_is_known() -> None:
    """Another entry of the very time that was read last may still wait."""
    assert horizon_ns([Source(7, 4), Source(5)], 0) == 3


def test_the_horizon_does_not_go_back() -> None:
    assert horizon_ns([Source(3)], 5) == 5


def test_without_workers_there_is_no_horizon() -> None:
    assert horizon_ns([], 5) is None


EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10**9), st.integers(1, 2**40)), min_size=1, max_size=40)
LOOKS = st.lists(st.integers(0, 3), max_size=20)


@given(events=EVENTS, looks=LOOKS)
def test_however_workers_tell_what_happened_each_attempt_pays_the_same_and_the_bill_adds_up(
    events: list[tuple[int, int, int]], looks: list[int]
) -> None:
    """Each event is the next of its worker and opens an attempt, or closes the one that it has open. A look flushes one worker
    and folds up to the oldest watermark."""
    at_ns, told = 0, []
    for worker, after_ns, weight in events:
        at_ns += after_ns
        told.append((worker, at_ns, weight))
    end_ns = at_ns + 1

    def apply(meter: ReplicaMeter, open_: dict[int, str], worker: int, at_ns: int, weight: int) -> int | None:
        if worker in open_:
            return meter.close(open_.pop(worker), at_ns)
        open_[worker] = f"{worker}-{at_ns}"
        meter.open(open_[worker], weight, at_ns)
        return None

    at_once, charges, open_ = ReplicaMeter(RATE, 0), [], {}
    for worker, at, weight in told:
        if (charge := apply(at_once, open_, worker, at, weight)) is not None:
            charges.append(charge)
    at_once.advance(end_ns)

    meter, folded, folded_open = ReplicaMeter(RATE, 0), [], {}
    journals: dict[str, deque[_Told]] = {str(worker): deque() for worker in range(4)}
    watermarks, flushed = dict.fromkeys(range(4), 0), dict.fromkeys(range(4), 0)
    each = {worker: [_Told(at, weight) for who, at, weight in told if who == worker] for worker in range(4)}
    for step, worker in enumerate([*looks, 0, 1, 2, 3], 1):
        # Of what its worker has seen by then, a flush tells all.
        until_ns = end_ns if step > len(looks) else end_ns * step // (len(looks) + 1)
        mine = [entry for entry in each[worker][flushed[worker] :] if entry.at_ns <= until_ns]
        journals[str(worker)].extend(mine)
        flushed[worker] += len(mine)
        watermarks[worker] = until_ns
        horizon = horizon_ns(map(Source, watermarks.values()), meter.last_ns)
        assert horizon is not None
        for who, entry in take_until(journals, horizon):
            if (charge := apply(meter, folded_open, int(who), entry.at_ns, entry.weight)) is not None:
                folded.append(charge)
        meter.advance(horizon)
        owed = sum(meter.accrued_nanousd.values())
        assert meter.bill == sum(folded) + owed + meter.idle_nanousd + meter.residue
    assert meter.late_events == 0
    assert folded == charges
    assert meter.state() == at_once.state()


class _Told(NamedTuple):
    at_ns: int
    weight: int
