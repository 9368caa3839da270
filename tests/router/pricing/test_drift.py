"""Drift: a factor that follows what a replica answers, slowly, within bounds, and not for one bad minute."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B, L4_8B

from router.pricing.drift import SAMPLES_MIN, WINDOW_NS, WINDOWS_KEPT, WINDOWS_MIN, Drifts, Track

START = 1_000


def live(track: Track, minutes: int, error: float, answers: int = 20, start: int = 0) -> None:
    """So many minutes, each with answers that took `error` times what the profile says."""
    for minute in range(start, start + minutes):
        for _ in range(answers):
            track.observe(track.ratio, error)
        track.close(START + minute, 1)


def test_nothing_is_learned_before_there_are_minutes_enough() -> None:
    track = Track()
    live(track, WINDOWS_MIN - 1, 1.5)
    assert track.ratio == 1.0
    live(track, 1, 1.5, start=WINDOWS_MIN - 1)
    assert track.ratio > 1.0


def test_nor_from_minutes_with_hardly_an_answer() -> None:
    track = Track()
    live(track, 30, 1.5, answers=SAMPLES_MIN - 1)
    assert track.ratio == 1.0


@pytest.mark.parametrize("error", [0.7, 1.0, 1.3])
def test_it_arrives_at_the_error_and_stays_there(error: float) -> None:
    track = Track()
    live(track, 40, error)
    assert track.ratio == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize(("error", "bound"), [(10.0, 2.0), (0.1, 0.5)])
def test_it_never_leaves_its_bounds(error: float, bound: float) -> None:
    track = Track()
    live(track, 100, error)
    assert track.ratio == pytest.approx(bound)


def test_one_bad_minute_moves_nothing() -> None:
    track = Track()
    live(track, 20, 1.0)
    live(track, 1, 15.0, answers=100, start=20)
    live(track, 5, 1.0, start=21)
    assert track.ratio == pytest.approx(1.0)


def test_nor_do_two_among_the_first_five() -> None:
    track = Track()
    live(track, 2, 15.0)
    live(track, 3, 1.0, start=2)
    assert track.ratio == pytest.approx(1.0)


def test_it_moves_by_a_few_per_cent_a_minute_at_most() -> None:
    track = Track()
    live(track, WINDOWS_MIN, 15.0)
    assert 1.0 < track.ratio < 1.06


def test_without_answers_it_goes_back_to_one() -> None:
    track = Track()
    live(track, 40, 1.4)
    track.close(START + 40, 1)
    assert track.ratio > 1.3  # a quiet minute is no reason
    track.close(START + 41, WINDOWS_KEPT + 30)
    assert track.ratio == 1.0


def test_what_no_engine_does_is_not_learned_from() -> None:
    track = Track()
    live(track, 40, 1000.0)
    track.observe(0.0, 1.0)
    track.observe(1.0, -1.0)
    assert track.ratio == 1.0


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), max_size=400))
def test_whatever_is_observed_the_factor_is_within_bounds(answers: list[tuple[float, float]]) -> None:
    track = Track()
    for number, (forecast, observed) in enumerate(answers):
        track.observe(forecast, observed)
        if number % 7 == 6:
            track.close(START + number, 1)
    assert 0.5 <= track.ratio <= 2.0


def test_a_replica_with_another_profile_starts_anew_and_the_others_go_on() -> None:
    drifts = Drifts()
    drifts.follow({"a": H100_8B, "b": H100_8B, "c": H100_8B})
    for replica in "abc":
        drift = drifts.of(replica)
        assert drift is not None
        live(drift.tpot, 40, 1.5)
    drifts.follow({"a": H100_8B, "b": L4_8B})
    assert {(replica, kind): round(ratio, 3) for replica, kind, ratio in drifts.ratios()} == {
        ("a", "ttft"): 1.0,
        ("a", "tpot"): 1.5,
        ("b", "ttft"): 1.0,
        ("b", "tpot"): 1.0,
    }
    assert drifts.of("c") is None


def test_a_window_ends_with_the_clock() -> None:
    drifts = Drifts()
    drifts.follow({"a": H100_8B})
    drift = drifts.of("a")
    assert drift is not None
    for minute in range(START, START + 30):
        drifts.advance(minute * WINDOW_NS)
        for _ in range(10):
            drift.ttft.observe(drift.ttft.ratio, 1.2)
        drifts.advance(minute * WINDOW_NS + WINDOW_NS // 2)  # the same window still
    assert drift.ttft.ratio == pytest.approx(1.2)
