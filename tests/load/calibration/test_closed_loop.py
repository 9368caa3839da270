"""What a closed-loop benchmark would measure of an engine."""

from math import inf
from typing import Any

import numpy as np
import pytest
from test_errors import DATA

from load.calibration.closed_loop import Bench, Habits, measure, step
from load.calibration.fit import Table, logs_of
from load.calibration.rows import read_runs
from load.calibration.show import _coefficients
from router.pricing.profile import EngineProfile
from router.profiles import shipped

HABITS: Habits[Any] = Habits(0.05, 0.05, 0.4, 1.0, 0.55, 0.01, 0.0)


def profile(name: str = "llama-3.1-70b-fp8-h200") -> EngineProfile:
    return shipped().named(name)


def bench(concurrency: int, prompt: int = 1000, completion: int = 1000, is_random: int = 1) -> Bench[Any]:
    return Bench(prompt, completion, concurrency, is_random, 1)


def measured(concurrency: int, capacity: float = inf, **shape: int) -> tuple[float, float]:
    room = 1e12 if capacity == inf else capacity
    ttft, tpot = measure(_coefficients(profile()), room, bench(concurrency, **shape), HABITS)
    return float(ttft), float(tpot)


def test_alone_a_token_takes_a_step_and_the_first_one_a_prefill() -> None:
    ttft, tpot = measured(1)
    engine = profile()
    assert tpot == pytest.approx(engine.step_seconds(1, 1500, 0))
    expected = (
        HABITS.request_seconds + engine.step_seconds(1, 1500, 0) / 2 + engine.step_seconds(1, 1500, 1000, 500_000)
    )
    assert ttft == pytest.approx(expected, rel=1e-6)


def test_more_clients_wait_longer() -> None:
    times = [measured(concurrency) for concurrency in (1, 4, 16, 64)]
    assert times == sorted(times)
    assert [tpot for _, tpot in times] == sorted(tpot for _, tpot in times)


def test_whoever_finds_no_room_in_the_cache_queues_and_slows_nobody_down() -> None:
    ttft, tpot = measured(64, capacity=1550 * 16)
    roomy_ttft, roomy_tpot = measured(16)
    assert tpot == pytest.approx(roomy_tpot)
    # Little's law: 48 wait while 16 run, so a request waits three times as long as it runs.
    assert ttft == pytest.approx(roomy_ttft + 3 * (roomy_ttft + 1000 * roomy_tpot))


def test_the_fit_steps_as_the_engine_does() -> None:
    catalogue = shipped()
    for name in ("llama-3.1-70b-fp8-h200-x4", "gpt-oss-120b-mxfp4-b200", "minimax-m2.5-fp8-b200-x2"):
        engine = catalogue.named(name)
        coefficients = _coefficients(engine)
        for decoding, context, prefill, pairs in ((1, 10, 1, 1), (64, 90_000, 7373, 10**7), (0, 0, 8192, 0)):
            assert step(coefficients, decoding, context, prefill, pairs) == pytest.approx(
                engine.step_seconds(decoding, context, prefill, pairs)
            )


def test_a_column_of_engines_is_forecast_as_each_of_them_is() -> None:
    catalogue = shipped()
    runs = read_runs(DATA / "e2e_agg.csv", catalogue.models, catalogue.gpus)[::9]
    constants = dict(catalogue.constants)
    together = Table(runs)
    ttft, tpot = together.measure(logs_of(together, constants), constants["memory"])
    for place, run in enumerate(runs):
        alone = Table([run])
        own_ttft, own_tpot = alone.measure(logs_of(alone, constants), constants["memory"])
        assert np.allclose([own_ttft[0], own_tpot[0]], [ttft[place], tpot[place]])
