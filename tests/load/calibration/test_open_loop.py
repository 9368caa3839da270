"""What an open-loop load would meet."""

import pytest

from load.calibration.open_loop import OpenLoad, measure_open
from router.profiles import shipped

ENGINE = shipped().named("llama-3.1-70b-fp8-h200")


def load(requests_per_second: float, uncached: float = 500) -> OpenLoad:
    return OpenLoad(requests_per_second, prompt_tokens=600, uncached_tokens=uncached, completion_tokens=200)


def test_a_load_of_next_to_nothing_meets_an_idle_engine() -> None:
    outcome = measure_open(ENGINE, load(1e-6))
    assert outcome.tpot_seconds == pytest.approx(ENGINE.step_seconds(1, 0, 0), rel=0.01)
    assert outcome.ttft_seconds > ENGINE.request_overhead_seconds + ENGINE.step_seconds(0, 0, 500)


def test_the_batch_is_the_rate_times_how_long_requests_decode() -> None:
    outcome = measure_open(ENGINE, load(1.0))
    assert outcome.running == pytest.approx(1.0 * 200 * outcome.tpot_seconds, rel=0.02)
    assert outcome.e2e_seconds(200) == pytest.approx(outcome.ttft_seconds + 199 * outcome.tpot_seconds)


def test_the_more_come_the_longer_all_wait_and_a_cached_prefix_helps() -> None:
    outcomes = [measure_open(ENGINE, load(rate)) for rate in (0.1, 0.5, 1.0, 2.0)]
    assert [one.ttft_seconds for one in outcomes] == sorted(one.ttft_seconds for one in outcomes)
    assert [one.tpot_seconds for one in outcomes] == sorted(one.tpot_seconds for one in outcomes)
    assert measure_open(ENGINE, load(2.0, uncached=50)).ttft_seconds < outcomes[-1].ttft_seconds


def test_a_load_beyond_what_the_engine_can_do_ends_in_a_full_batch() -> None:
    outcome = measure_open(ENGINE, load(1000.0))
    assert outcome.running == pytest.approx(ENGINE.sequences_max, rel=0.01)
    assert outcome.utilization_ratio < 1
