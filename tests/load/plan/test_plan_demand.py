"""A demand says how much comes, and refuses what cannot be."""

import pytest

from load.plan.demand import Demand, lengths_like, requests_per_second, shape_of
from load.traces import Arrival, Trace


def test_tokens_a_day_are_requests_a_second_of_so_many_tokens() -> None:
    rate = requests_per_second(86_400_000, 900, 100)
    assert rate == pytest.approx(1.0)
    assert Demand(rate, 900, 100).tokens_per_day == pytest.approx(86_400_000)


def test_the_peak_is_the_mean_times_its_ratio() -> None:
    assert Demand(10, 900, 100, peak_ratio=1.5).peak_per_second == pytest.approx(15)


@pytest.mark.parametrize(
    "change",
    [
        {"requests_per_second": 0.0},
        {"requests_per_second": float("inf")},
        {"prompt_tokens": 0.5},
        {"peak_ratio": 0.9},
        {"cached_ratio": 1.0},
        {"quality_min": 1.1},
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Demand(**{"requests_per_second": 1.0, "prompt_tokens": 100, "completion_tokens": 10, **change})  # type: ignore[arg-type]


def test_a_trace_tells_its_rate_lengths_and_busiest_minute() -> None:
    # 60 requests in the first minute, 120 in the second, one at its end
    times = [*range(60), *(60 + at / 2 for at in range(120)), 120.0]
    shape = shape_of(Trace([Arrival(at, 100, 10) for at in times]))
    assert shape.requests_per_second == pytest.approx(181 / 120)
    assert (shape.prompt_tokens, shape.completion_tokens) == (100, 10)
    assert shape.peak_ratio == pytest.approx(120 / (181 / 2))


def test_a_trace_of_one_moment_has_no_rate() -> None:
    with pytest.raises(ValueError, match="no rate"):
        shape_of(Trace([Arrival(1.0, 10, 1)]))


def test_lengths_keep_their_variety_and_get_the_means_asked_for() -> None:
    lengths = lengths_like([Arrival(0, 100, 10), Arrival(1, 300, 30)], 400, 40)
    assert lengths == [(200, 20), (600, 60)]
