"""How far forecasts may be from measurements, on a fixed subset of the runs (data/README.md)."""

import re
from pathlib import Path

import pytest

from load.calibration.command import ERRORS
from load.calibration.fit import fit_constants, predict
from load.calibration.report import GOALS, Errors, Forecast, by_engine, errors_of, grouped
from load.calibration.rows import AMBIGUOUS_MODELS, Run, read_runs
from router.profiles import shipped

DATA = Path(__file__).parent / "data"
# Of the subset: the goals, but for TTFT on TensorRT-LLM, whose runs of one model wait for each other in a way that the model
# knows nothing of. Over all runs the goals hold there too (load/calibration/errors.md).
IN_SAMPLE = {"vllm": (0.08, 0.20, 0.10), "sglang": (0.08, 0.20, 0.10), "trtllm": (0.08, 0.25, 0.10)}
LEFT_OUT = (0.12, 0.30, 0.15)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return read_runs(DATA / "e2e_agg.csv", shipped().models, shipped().gpus)


# A dozen fits, half a minute of one core that is free, are the fixture of whichever test comes first.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def left_out(runs: list[Run]) -> dict[str, Errors]:
    forecasts: list[Forecast] = []
    for group in sorted({run.group for run in runs}):
        constants = fit_constants([run for run in runs if run.group != group])
        unseen = [run for run in runs if run.group == group]
        forecasts += [Forecast(*row) for row in zip(unseen, *predict(unseen, constants), strict=True)]
    return {engine: errors_of(own) for engine, own in grouped(forecasts, by_engine).items()}


def test_the_subset_is_what_it_says(runs: list[Run]) -> None:
    assert len(runs) > 200
    assert {run.deployment.engine for run in runs} == {"vllm", "sglang", "trtllm"}
    assert not {run.deployment.model.name for run in runs} & AMBIGUOUS_MODELS
    assert len({run.group for run in runs}) > 10


@pytest.mark.parametrize("engine", IN_SAMPLE)
def test_shipped_profiles_are_as_near_to_measurements_as_they_should_be(runs: list[Run], engine: str) -> None:
    catalogue = shipped()
    own = [run for run in runs if run.deployment.engine == engine]
    corrections = [catalogue.fit_of(run.deployment).correction for run in own]
    errors = errors_of(
        Forecast(*row) for row in zip(own, *predict(own, dict(catalogue.constants), corrections), strict=True)
    )
    for found, bound in zip(errors.medians, IN_SAMPLE[engine], strict=True):
        assert found <= bound


@pytest.mark.parametrize("engine", IN_SAMPLE)
def test_a_model_and_gpu_that_nobody_measured_is_forecast_as_well_as_it_should_be(
    left_out: dict[str, Errors], engine: str
) -> None:
    for found, bound in zip(left_out[engine].medians, LEFT_OUT, strict=True):
        assert found <= bound


def test_a_correction_brings_a_deployment_nearer_to_its_own_runs(runs: list[Run]) -> None:
    catalogue = shipped()
    own = [run for run in runs if catalogue.fit_of(run.deployment).points]
    corrections = [catalogue.fit_of(run.deployment).correction for run in own]
    constants = dict(catalogue.constants)
    bare = errors_of(Forecast(*row) for row in zip(own, *predict(own, constants), strict=True))
    corrected = errors_of(Forecast(*row) for row in zip(own, *predict(own, constants, corrections), strict=True))
    assert corrected.medians[0] < bare.medians[0]


def test_the_table_that_comes_with_jeton_is_of_the_profiles_that_come_with_it() -> None:
    text, about = ERRORS.read_text(encoding="utf-8"), shipped().about
    assert f"Written by `{about['command']}` on {about['date']}; data: {about['data']}." in text
    rows = re.findall(r"^\| (\w+) \| \d+ \| (\w+) \| ([\d.]+)% \| \d+% \| ([\d.]+)% \| \d+% \| (\w+) \|$", text, re.M)
    assert {(engine, metric) for engine, metric, *_ in rows} == {
        (engine, metric) for engine in IN_SAMPLE for metric in GOALS
    }
    for _, metric, inside, outside, verdict in rows:
        goal_in, goal_out = GOALS[metric]
        assert (float(inside) / 100 <= goal_in and float(outside) / 100 <= goal_out) == (verdict == "holds")
