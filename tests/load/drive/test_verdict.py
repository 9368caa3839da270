"""A run is believed unless its client fell behind, its load was not sent, or its queue still grew."""

from random import Random

import pytest

from load.drive.outcome import CUT_OFF, Outcome
from load.drive.verdict import objections, queue_growth_index
from load.traces.synthetic import poisson, ramp, steady

SECONDS = 200.0


def run(latency: float, *, growing: float = 0.0, late: float = 0.0, per_second: float = 5.0) -> list[Outcome]:
    """Requests at a steady rate, answered after `latency` and, for each second of the run, `growing` more."""
    times = poisson(steady(per_second), per_second, SECONDS, Random(5))
    return [
        Outcome(number, at, at + late, True, ended_seconds=at + latency + growing * at)
        for number, at in enumerate(times)
    ]


def said(outcomes: list[Outcome], planned: int | None = None) -> list[str]:
    return objections(
        outcomes, planned=len(outcomes) if planned is None else planned, warmup_seconds=0.0, seconds=SECONDS
    )


def test_a_steady_run_is_believed() -> None:
    assert said(run(3.0)) == []


def test_a_growing_queue_is_not() -> None:
    [objection] = said(run(1.0, growing=0.3))
    assert "not stationary" in objection


def test_a_load_that_grows_by_itself_is_no_growing_queue() -> None:
    times = poisson(ramp(1.0, 10.0, SECONDS), 10.0, SECONDS, Random(6))
    outcomes = [Outcome(number, at, at, True, ended_seconds=at + 3.0) for number, at in enumerate(times)]
    assert said(outcomes) == []


def test_a_client_that_fell_behind_says_by_how_much() -> None:
    [objection] = said(run(3.0, late=0.12))
    assert "fell behind" in objection
    assert "120 ms" in objection


def test_requests_that_were_not_sent_are_missed() -> None:
    outcomes = run(3.0)
    [objection] = said(outcomes, planned=2 * len(outcomes))
    assert f"only {len(outcomes):,} of {2 * len(outcomes):,}" in objection


def test_answers_that_were_cut_off_are_told() -> None:
    outcomes = run(3.0)
    outcomes[-1].error = CUT_OFF
    [objection] = said(outcomes)
    assert "1 answers were cut off" in objection


def test_a_run_that_was_all_warm_up_is_not_believed() -> None:
    assert objections(run(3.0), planned=5, warmup_seconds=SECONDS, seconds=SECONDS) != []


def test_too_few_requests_tell_no_trend() -> None:
    assert queue_growth_index(run(1.0)[:20], 0.0, SECONDS) is None


@pytest.mark.parametrize("growing", [0.05, 0.1, 0.2])
def test_the_index_grows_with_the_queue(growing: float) -> None:
    quicker = queue_growth_index(run(1.0, growing=growing / 2), 0.0, SECONDS)
    slower = queue_growth_index(run(1.0, growing=growing), 0.0, SECONDS)
    assert quicker is not None
    assert slower is not None
    assert 0.2 < quicker < slower
