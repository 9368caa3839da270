"""A trace shaped keeps what it should: order, sessions whole, lengths as they were."""

import pytest

from load.traces import Arrival, Trace
from load.traces.shaping import clip, scale, spread, thin

TRACE = Trace([Arrival(float(at), 10 + at, 1, session=f"s{at % 3}" if at % 2 else "") for at in range(20)], 16)


def test_a_window_counts_from_its_beginning_and_ends_before_its_end() -> None:
    window = clip(TRACE, 5, 8)
    assert [arrival.seconds for arrival in window.arrivals] == [0, 1, 2]
    assert [arrival.prompt_tokens for arrival in window.arrivals] == [15, 16, 17]
    assert window.block_tokens == 16
    with pytest.raises(ValueError, match="no requests between 30 and 40 s"):
        clip(TRACE, 30, 40)


def test_a_speed_shortens_gaps_and_nothing_else() -> None:
    fast = scale(TRACE, 2)
    assert fast.seconds == TRACE.seconds / 2
    assert [arrival[1:] for arrival in fast.arrivals] == [arrival[1:] for arrival in TRACE.arrivals]
    with pytest.raises(ValueError, match="above 0"):
        scale(TRACE, 0)


def test_thinning_takes_sessions_whole() -> None:
    trace = Trace([Arrival(float(at), 1, 1, session=str(at % 50)) for at in range(1000)])
    thinned = thin(trace, 0.3, seed=1)
    sessions = {arrival.session for arrival in thinned.arrivals}
    assert 5 < len(sessions) < 25
    assert len(thinned) == 20 * len(sessions)
    assert thinned == thin(trace, 0.3, seed=1) != thin(trace, 0.3, seed=2)
    with pytest.raises(ValueError, match="no requests"):
        thin(trace, 0.0, seed=1)


def test_spread_sessions_keep_their_gaps_and_take_sub_agents_along() -> None:
    trace = Trace([
        Arrival(0.0, 1, 1, session="a"), Arrival(0.0, 1, 1, session="b"), Arrival(1.0, 1, 1, session="a/1"),
        Arrival(2.0, 1, 1, session="a", turn=1), Arrival(2.0, 5, 1),
    ])  # fmt: skip
    moved = spread(trace, 100.0, seed=3).arrivals
    at = {(arrival.session, arrival.turn): arrival.seconds for arrival in moved}
    assert at["a", 1] - at["a", 0] == pytest.approx(2.0)
    assert at["a/1", 0] - at["a", 0] == pytest.approx(1.0)
    assert at["a", 0] != at["b", 0]
    assert at["", 0] == 2.0
    assert [arrival.seconds for arrival in moved] == sorted(arrival.seconds for arrival in moved)
