"""When each request is due: open between sessions, closed inside one. Pure.

A request without a session, and the first of a session, is due at its time in the trace, whatever became of others. A later turn
is due when its predecessor has ended and the client has thought: for as long as was recorded, or, where that was not, until the
time it has in the trace, if that is later.
"""

from collections.abc import Sequence
from typing import NamedTuple

from load.traces import Arrival, Trace


class Turn(NamedTuple):
    """number: of the request in the trace."""

    number: int
    arrival: Arrival


Session = Sequence[Turn]


def sessions(trace: Trace) -> list[Session]:
    """The trace's requests by session, in the order in which sessions begin; a request without one is a session of one turn."""
    by_name: dict[str, list[Turn]] = {}
    found: list[list[Turn]] = []
    for number, arrival in enumerate(trace.arrivals):
        turn = Turn(number, arrival)
        if arrival.session and arrival.session in by_name:
            by_name[arrival.session].append(turn)
            continue
        session = [turn]
        found.append(session)
        if arrival.session:
            by_name[arrival.session] = session
    return list(found)


def share(all_sessions: Sequence[Session], process: int, processes: int) -> list[Session]:
    """What one of several processes sends: every n-th session."""
    return list(all_sessions[process::processes])


def due_seconds(turn: Turn, previous_ended_seconds: float) -> float:
    """Of a turn after the first of its session."""
    think_seconds = turn.arrival.think_seconds
    if think_seconds is not None:
        return previous_ended_seconds + think_seconds
    return max(previous_ended_seconds, turn.arrival.seconds)
