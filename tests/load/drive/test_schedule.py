"""Between sessions the load is open, inside one it is closed."""

from itertools import chain

from load.drive.schedule import Turn, due_seconds, sessions, share
from load.traces import Arrival, Trace

TRACE = Trace([
    Arrival(0.0, 1, 1, session="a"), Arrival(1.0, 1, 1), Arrival(2.0, 1, 1, session="b"),
    Arrival(3.0, 1, 1, session="a", turn=1, think_seconds=0.5), Arrival(4.0, 1, 1), Arrival(5.0, 1, 1, session="b", turn=1),
])  # fmt: skip


def numbers(found: object) -> list[list[int]]:
    assert isinstance(found, list)
    return [[turn.number for turn in session] for session in found]


def test_requests_are_grouped_by_session_in_the_order_in_which_sessions_begin() -> None:
    assert numbers(sessions(TRACE)) == [[0, 3], [1], [2, 5], [4]]


def test_processes_share_the_sessions_and_split_none() -> None:
    parts = [share(sessions(TRACE), number, 3) for number in range(3)]
    assert sorted(chain.from_iterable(map(numbers, parts))) == sorted(numbers(sessions(TRACE)))


def test_a_turn_waits_for_the_answer_before_it_and_for_its_client_to_think() -> None:
    thinks = Turn(3, TRACE.arrivals[3])
    assert due_seconds(thinks, 10.0) == 10.5
    assert due_seconds(thinks, 0.1) == 0.6  # a server quicker than the recorded one is asked earlier


def test_a_turn_whose_thinking_was_not_recorded_keeps_its_time_unless_the_answer_comes_later() -> None:
    silent = Turn(5, TRACE.arrivals[5])
    assert due_seconds(silent, 2.5) == 5.0
    assert due_seconds(silent, 7.0) == 7.0
