"""What is remembered tells percentiles to half a per cent, however many values there were."""

from random import Random

import numpy as np
import pytest

from load.drive.result import Objectives
from load.simulate.tally import Answer, Distribution, Tally

ANSWER = Answer(10.0, 11.0, 16.0, "small", 100, 0, 11, 5, False, 0.8)


@pytest.mark.parametrize("rank", [1, 25, 50, 90, 99, 100])
def test_percentiles_are_within_half_a_per_cent_of_the_true_ones(rank: int) -> None:
    random = Random(1)
    values = [random.lognormvariate(0, 2) for _ in range(20_000)]
    found = Distribution()
    found.add(np.array(values))
    true = float(np.percentile(values, rank, method="inverted_cdf"))
    assert found.percentile(rank) == pytest.approx(true, rel=0.0051)
    assert found.mean == pytest.approx(float(np.mean(values)))


def test_of_nothing_there_is_no_percentile() -> None:
    assert Distribution().percentile(50) is None
    assert Distribution().mean is None
    assert Distribution().told() == {"unit": "ms", "count": 0}


def test_zero_is_a_value() -> None:
    found = Distribution()
    found.add(np.zeros(1))
    assert found.percentile(50) == 0.0


def test_money_is_added_where_it_was_paid_and_latencies_from_when_a_request_was_due() -> None:
    tally = Tally(Objectives(ttft_seconds_max=1.5, tpot_seconds_max=0.5))
    slow = ANSWER._replace(backend="cloud", cost_nanousd=7, is_metered=True, ended_seconds=21.0)  # 1 s a token
    tally.answered([ANSWER, slow])
    assert (tally.useful_nanousd, tally.metered_nanousd) == (5, 7)
    assert tally.ttft.mean == 1.0
    assert tally.met == 1
    assert tally.duration_seconds == 11.0
    assert tally.backends == {"small": 1, "cloud": 1}


def test_figures_do_not_depend_on_the_order_in_which_answers_are_added() -> None:
    random = Random(2)
    answers = []
    for number in range(500):
        due = random.uniform(0, 100)
        first = due + random.lognormvariate(-2, 1)
        ended = first + random.lognormvariate(0, 1)
        answers.append(
            Answer(
                due, first, ended, random.choice("ab"), 9, 3, 1 + number % 7, number, number % 3 == 0, random.random()
            )
        )
    tallies = []
    for size in (1, 7, 500):
        tally = Tally(Objectives(ttft_seconds_max=0.2, tpot_seconds_max=0.5))
        random.shuffle(answers)
        for start in range(0, len(answers), size):
            tally.answered(answers[start : start + size])
        tallies.append(tally)
    told = [
        (one.quality, one.met, one.useful_nanousd, one.metered_nanousd, one.first_due_seconds, one.last_ended_seconds,
         one.tpot.told(), one.ttft.told(), one.latency.steps(), one.backends)
        for one in tallies
    ]  # fmt: skip
    assert told[0] == told[1] == told[2]
    objectives = tallies[0].objectives
    kept = [
        objectives.are_kept(
            one.first_seconds - one.due_seconds,
            (one.ended_seconds - one.first_seconds) / (one.completion_tokens - 1) if one.completion_tokens > 1 else 0.0,
            one.ended_seconds - one.due_seconds,
        )
        for one in answers
    ]
    assert tallies[0].met == sum(kept)
    assert 0 < tallies[0].met < len(answers)
