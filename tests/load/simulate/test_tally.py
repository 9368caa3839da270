"""What is remembered tells percentiles to half a per cent, however many values there were."""

from random import Random

import numpy as np
import pytest

from load.drive.result import Objectives
from load.simulate.tally import Distribution, Tally


def answered(tally: Tally, **changes: object) -> None:
    told = {
        "due_seconds": 10.0, "first_seconds": 11.0, "ended_seconds": 16.0, "backend": "small", "prompt_tokens": 100,
        "cached_tokens": 0, "completion_tokens": 11, "cost_nanousd": 5, "is_metered": False, "quality": 0.8,
    }  # fmt: skip
    tally.answered(**{**told, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", [1, 25, 50, 90, 99, 100])
def test_percentiles_are_within_half_a_per_cent_of_the_true_ones(rank: int) -> None:
    random = Random(1)
    values = [random.lognormvariate(0, 2) for _ in range(20_000)]
    found = Distribution()
    for value in values:
        found.add(value)
    true = float(np.percentile(values, rank, method="inverted_cdf"))
    assert found.percentile(rank) == pytest.approx(true, rel=0.0051)
    assert found.mean == pytest.approx(float(np.mean(values)))


def test_of_nothing_there_is_no_percentile() -> None:
    assert Distribution().percentile(50) is None
    assert Distribution().mean is None
    assert Distribution().told() == {"unit": "ms", "count": 0}


def test_zero_is_a_value() -> None:
    found = Distribution()
    found.add(0.0)
    assert found.percentile(50) == 0.0


def test_money_is_added_where_it_was_paid_and_latencies_from_when_a_request_was_due() -> None:
    tally = Tally(Objectives(ttft_seconds_max=1.5, tpot_seconds_max=0.5))
    answered(tally)
    answered(tally, backend="cloud", cost_nanousd=7, is_metered=True, ended_seconds=21.0)  # 1 s a token: too slow
    assert (tally.useful_nanousd, tally.metered_nanousd) == (5, 7)
    assert tally.ttft.mean == 1.0
    assert tally.met == 1
    assert tally.duration_seconds == 11.0
    assert tally.backends == {"small": 1, "cloud": 1}
