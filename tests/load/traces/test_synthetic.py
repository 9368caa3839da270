"""Arrivals that are made up have the rate and the burstiness that was asked for."""

from itertools import pairwise
from random import Random
from statistics import fmean, pstdev

import pytest

from load.traces import read_trace
from load.traces.synthetic import diurnal, gamma, made_up, poisson, ramp, shaped, spikes, steady, times


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def test_poisson_times_have_the_rate_and_gaps_that_vary_as_much_as_their_mean() -> None:
    times = list(poisson(steady(5.0), 5.0, 4000.0, Random(1)))
    assert len(times) == pytest.approx(20_000, rel=0.03)
    assert pstdev(gaps(times)) / fmean(gaps(times)) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("variation", [0.5, 1.0, 3.0])
def test_gamma_gaps_have_the_mean_and_the_variation_asked_for(variation: float) -> None:
    between = gaps(list(gamma(5.0, variation, 8000.0, Random(2))))
    assert fmean(between) == pytest.approx(0.2, rel=0.08)
    assert pstdev(between) / fmean(between) == pytest.approx(variation, rel=0.08)


def test_a_day_has_its_peak_at_noon_its_trough_at_midnight_and_its_mean() -> None:
    rate = diurnal(2.0, 1.8, day_seconds=1000.0)
    assert rate(0) == pytest.approx(0.4)
    assert rate(500) == pytest.approx(3.6)
    times = list(poisson(rate, 3.6, 20_000.0, Random(3)))
    assert len(times) == pytest.approx(40_000, rel=0.02)
    noon = sum(250 <= at % 1000 < 750 for at in times) / len(times)
    assert noon == pytest.approx(0.5 + 0.8 / 3.14159, abs=0.01)  # the integral of the sine over its upper half


def test_ramps_and_spikes_have_their_corners() -> None:
    rising = ramp(1.0, 3.0, 10.0)
    assert [rising(at) for at in (0, 5, 10, 99)] == [1.0, 2.0, 3.0, 3.0]
    on_off = spikes(1.0, 9.0, on_seconds=2.0, off_seconds=8.0)
    assert [on_off(at) for at in (0, 7.9, 8.0, 9.9, 10.0)] == [1.0, 1.0, 9.0, 9.0, 1.0]


def test_a_rate_above_its_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="above the 1"):
        list(poisson(steady(2.0), 1.0, 100.0, Random(1)))


def test_the_seed_decides_and_lengths_come_from_the_trace_in_pairs() -> None:
    lengths = read_trace().arrivals
    one, again, other = (made_up(poisson(steady(1.0), 1.0, 200.0, Random(9)), lengths, Random(s)) for s in (1, 1, 2))
    assert one == again != other
    pairs = {(arrival.prompt_tokens, arrival.completion_tokens) for arrival in lengths}
    assert all((arrival.prompt_tokens, arrival.completion_tokens) in pairs for arrival in one.arrivals)


def test_a_shape_is_read_with_the_bound_of_its_rate() -> None:
    rate, most = shaped("spikes:20:10:50", 2.0)
    assert (rate(49.0), rate(51.0), most) == (2.0, 20.0, 20.0)
    rate, most = shaped("ramp:1:100", 5.0)
    assert (rate(0.0), rate(50.0), rate(200.0), most) == (5.0, 3.0, 1.0, 5.0)
    rate, most = shaped("diurnal:1.5:240", 4.0)
    assert (rate(0.0), rate(120.0), most) == (pytest.approx(2.0), pytest.approx(6.0), 6.0)


@pytest.mark.parametrize("shape", ["", "spikes:20:10:50", "ramp:8:600", "diurnal:2:300"])
def test_every_shape_makes_times_in_order_that_its_seed_decides(shape: str) -> None:
    made = [list(times(4.0, 600.0, Random(seed), shape=shape)) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    assert made[0] == sorted(made[0])
    assert 0 < made[0][0] < made[0][-1] < 600


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ("sawtooth:1", "none of diurnal:"),
        ("ramp:1", "none of diurnal:"),
        ("ramp:fast:10", "none of"),
        ("ramp:-1:10", "none of"),
        ("diurnal:3:600", "1 to 2 times"),
    ],
)
def test_a_shape_that_is_none_is_refused_with_those_there_are(shape: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        times(4.0, 600.0, Random(1), shape=shape)


def test_gaps_that_vary_and_a_rate_that_does_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="leave one out"):
        times(4.0, 600.0, Random(1), variation=2.0, shape="ramp:8:600")
