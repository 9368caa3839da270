"""Fits the constants of `router/pricing/roofline.py` to measured runs: least squares on the logarithms of TPOT and TTFT.

Every constant has a prior, from kernel measurements where there are any, and a width; the fit pays for leaving it. What an
engine, a version or a model has of its own is a factor near 1, so that what only one of them shows stays with it, and the
physics stays shared. Needs scipy (`jeton[train]`); the router does not.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, log
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares  # type: ignore[import-untyped]  # scipy ships no types
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from load.calibration.closed_loop import CHUNK_TOKENS, Bench, Habits, habit_terms, measure
from load.calibration.open_loop import OpenLoad, measure_open
from load.calibration.rows import OpenRun, Run
from router.pricing.roofline import (
    Coefficients,
    Correction,
    Deployment,
    Efficiency,
    Ideal,
    coefficients,
    correct,
    derive,
    efficiency_terms,
    ideal,
    kv_capacity_tokens,
)

Column = NDArray[np.float64]

# Residuals in units of what identical runs differ by (README of the data), TTFT's counting half.
TPOT_WIDTH = 0.06
TTFT_WIDTH = 0.30
# The runs of one sweep share their errors: n of them tell as much as n × this that are independent.
INDEPENDENT_RATIO = 0.12
EVALUATIONS_MAX = 25


class Prior(NamedTuple):
    """A constant's value before the data, and how far its logarithm may leave it (one standard deviation)."""

    value: float
    width: float


# Ratios of achieved to peak by kernel_efficiency_summary.csv and kernel_moe.csv.gz (experts: power-law routing, 8,192 tokens for
# the rate, 64–256 for bandwidth, 1 for the launch), seconds of all-reduces by kernel_allreduce.csv.gz. The rest are guesses,
# and as wide as guesses are.
PRIORS: dict[str, Prior] = {
    "bandwidth_bf16": Prior(0.85, 0.12),
    "bandwidth_fp8": Prior(0.80, 0.12),
    "bandwidth_fp4": Prior(0.62, 0.12),
    "rate_hopper_bf16": Prior(0.68, 0.2),
    "rate_hopper_fp8": Prior(0.60, 0.2),
    "rate_hopper_fp4": Prior(0.50, 0.2),
    "rate_blackwell_bf16": Prior(0.65, 0.2),
    "rate_blackwell_fp8": Prior(0.50, 0.2),
    "rate_blackwell_fp4": Prior(0.45, 0.2),
    "expert_rate_hopper_bf16": Prior(0.35, 0.25),
    "expert_rate_hopper_fp8": Prior(0.24, 0.25),
    "expert_rate_hopper_mxfp4": Prior(0.40, 0.25),
    "expert_rate_hopper_int4": Prior(0.23, 0.25),
    "expert_rate_blackwell_bf16": Prior(0.25, 0.25),
    "expert_rate_blackwell_fp8": Prior(0.20, 0.25),
    "expert_rate_blackwell_fp4": Prior(0.22, 0.25),
    "expert_rate_blackwell_mxfp4": Prior(0.22, 0.25),
    "expert_rate_blackwell_int4": Prior(0.11, 0.25),
    "expert_bandwidth_hopper_bf16": Prior(0.90, 0.1),
    "expert_bandwidth_hopper_fp8": Prior(0.93, 0.1),
    "expert_bandwidth_hopper_mxfp4": Prior(0.83, 0.1),
    "expert_bandwidth_hopper_int4": Prior(0.75, 0.1),
    "expert_bandwidth_blackwell_bf16": Prior(0.90, 0.1),
    "expert_bandwidth_blackwell_fp8": Prior(0.80, 0.1),
    "expert_bandwidth_blackwell_fp4": Prior(0.93, 0.1),
    "expert_bandwidth_blackwell_mxfp4": Prior(0.80, 0.15),
    "expert_bandwidth_blackwell_int4": Prior(0.55, 0.1),
    "expert_layer_hopper_bf16": Prior(50e-6, 0.25),
    "expert_layer_hopper_fp8": Prior(30e-6, 0.25),
    "expert_layer_hopper_mxfp4": Prior(38e-6, 0.25),
    "expert_layer_hopper_int4": Prior(40e-6, 0.25),
    "expert_layer_blackwell_bf16": Prior(25e-6, 0.25),
    "expert_layer_blackwell_fp8": Prior(24e-6, 0.25),
    "expert_layer_blackwell_fp4": Prior(14e-6, 0.25),
    "expert_layer_blackwell_mxfp4": Prior(18e-6, 0.25),
    "expert_layer_blackwell_int4": Prior(40e-6, 0.25),
    "expert_spread": Prior(1.0, 0.15),
    "kv_bandwidth": Prior(0.70, 0.3),
    "attention_rate": Prior(0.45, 0.3),
    "link": Prior(0.60, 0.4),
    "reduce": Prior(5e-6, 0.5),
    "activation_passes": Prior(12.0, 0.5),
    "layer": Prior(50e-6, 0.5),
    "quantize": Prior(6e-6, 0.5),
    "norm": Prior(6e-6, 0.5),
    "step": Prior(0.5e-3, 0.7),
    "sequence": Prior(12e-6, 0.7),
    "prefill": Prior(4e-3, 0.7),
    "request": Prior(8e-3, 0.7),
    "request_token": Prior(5e-6, 1.0),
    "request_live": Prior(6e-3, 0.7),
    # Six deployments of open_loop_vllm_h100.csv whose KV blocks were recorded: 0.872 to 0.886, median 0.875.
    "memory": Prior(0.875, 0.005),
    "admitted": Prior(0.6, 0.4),
    "random_burst": Prior(0.055, 0.3),
    "fixed_burst": Prior(0.05, 0.5),
    "fixed_burst_sglang": Prior(8.0, 0.4),  # it prefills first: clients in step wait for half of all prompts
    "fixed_group": Prior(0.4, 0.6),
    "interference_sglang": Prior(0.5, 0.15),
}
# Of factors near 1: how far an engine, a GPU family, a version or a model may go from what it shares with others.
FACTOR_WIDTHS = {
    "efficiency": 0.05, "launch": 0.1, "interference": 0.15, "step": 0.4, "sequence": 0.4, "prefill": 0.4, "request": 0.7,
    "request_token": 0.5, "random_burst": 0.3, "fixed_burst": 0.4, "fixed_group": 0.4, "admitted": 0.2,
    "kv_bandwidth": 0.1, "link": 0.2, "reduce": 0.25,
}  # fmt: skip

# Of a deployment's own runs: how far they may move it from the shared constants.
CORRECTION_WIDTHS = Correction(overhead=0.10, read=0.10, compute=0.15, request=0.40)
POINTS_MIN = 6


def prior_of(name: str) -> Prior:
    if name in PRIORS:
        return PRIORS[name]
    return Prior(1.0, max((w for head, w in FACTOR_WIDTHS.items() if name.startswith(f"{head}_")), default=0.05))


class Table:
    """Runs as columns: all that does not depend on the constants, reckoned once."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        deployments = [run.deployment for run in runs]
        self.times: Ideal[Any] = Ideal._make(np.array(column) for column in zip(*map(ideal, deployments), strict=True))
        self.bench: Bench[Any] = bench_of(runs)
        self.tpot: Column = np.array([run.tpot_seconds for run in runs])
        self.ttft: Column = np.array([run.ttft_seconds for run in runs])
        efficiencies = [efficiency_terms(deployment) for deployment in deployments]
        habits = [habit_terms(one.engine, one.engine_version) for one in deployments]
        terms = [(*efficiency, *habit) for efficiency, habit in zip(efficiencies, habits, strict=True)]
        self._fields = len(terms[0])
        self.names = sorted({name for row in terms for names in row for name in names})
        place = {name: position for position, name in enumerate(self.names)}
        rows, columns = [], []
        for field in range(self._fields):
            for position, row in enumerate(terms):
                for name in row[field]:
                    rows.append(field * len(runs) + position)
                    columns.append(place[name])
        shape = (self._fields * len(runs), len(self.names))
        self._products = csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
        # Capacity is a straight line over the share of memory that weights and cache may have.
        self._capacity_0: Column = np.array([kv_capacity_tokens(one, 0.0) for one in deployments])
        self._capacity_1: Column = np.array([kv_capacity_tokens(one, 1.0) for one in deployments])

    def measure(
        self, logs: Column, memory_ratio: float, corrections: Sequence[Correction] | None = None
    ) -> tuple[Column, Column]:
        """TTFT and TPOT of every run. logs: of the constants, in the order of `names`."""
        fields = np.exp(self._products @ logs).reshape(self._fields, len(self.runs))
        efficiency: Efficiency[Any] = Efficiency._make(fields[: len(Efficiency._fields)])
        habits: Habits[Any] = Habits._make(fields[len(Efficiency._fields) :])
        table: Coefficients[Any] = coefficients(self.times, efficiency)
        if corrections is not None:
            factors = _columns(corrections)
            table = correct(table, factors)
            habits = habits._replace(
                request_seconds=habits.request_seconds * factors.request,
                request_token_seconds=habits.request_token_seconds * factors.request,
            )
        spread = np.clip(table.expert_miss_ratio, 0.0, 1.0)
        capacity = self._capacity_0 + (self._capacity_1 - self._capacity_0) * memory_ratio
        return measure(table._replace(expert_miss_ratio=spread), np.maximum(capacity, 1.0), self.bench, habits)


def bench_of(runs: Sequence[Run]) -> Bench[Any]:
    return Bench(
        np.array([run.prompt_tokens for run in runs]),
        np.array([run.completion_tokens for run in runs]),
        np.array([float(run.concurrency) for run in runs]),
        np.array([float(run.has_random_lengths) for run in runs]),
        np.array([float(ceil(run.prompt_tokens / CHUNK_TOKENS)) for run in runs]),
    )


def fit_constants(runs: Sequence[Run], start: dict[str, float] | None = None) -> dict[str, float]:
    """Every constant that these runs, or none, speak of, by name."""
    table = Table(runs)
    names = [*table.names, "memory"]
    priors = [prior_of(name) for name in names]
    centre = np.array([log(prior.value) for prior in priors])
    width = np.array([prior.width for prior in priors])
    first = np.array([log((start or {}).get(name, prior.value)) for name, prior in zip(names, priors, strict=True)])
    weight = INDEPENDENT_RATIO**0.5

    def residuals(logs: Column) -> Column:
        ttft, tpot = table.measure(logs[:-1], exp(logs[-1]))
        return np.concatenate(
            [
                weight * _robust(np.log(tpot / table.tpot) / TPOT_WIDTH),
                weight * _robust(np.log(ttft / table.ttft) / TTFT_WIDTH),
                (logs - centre) / width,
            ]
        )

    found = least_squares(residuals, first, x_scale=np.maximum(width, 0.05), max_nfev=EVALUATIONS_MAX)
    constants = {name: prior.value for name, prior in PRIORS.items()}  # what no run speaks of keeps its prior
    return constants | {name: exp(value) for name, value in zip(names, found.x, strict=True)}


def fit_correction(runs: Sequence[Run], constants: dict[str, float]) -> Correction:
    """What the runs of one deployment say beyond the shared constants: shrunken, so that few say little."""
    table = Table(runs)
    logs = logs_of(table, constants)
    width = np.array([getattr(CORRECTION_WIDTHS, name) for name in CORRECTION_WIDTHS.__dataclass_fields__])
    weight = INDEPENDENT_RATIO**0.5 * 2  # the runs of one deployment at hand, not a guess at others

    def residuals(moved: Column) -> Column:
        correction = Correction(*np.exp(moved))
        ttft, tpot = table.measure(logs, constants["memory"], [correction] * len(runs))
        return np.concatenate(
            [
                weight * _robust(np.log(tpot / table.tpot) / TPOT_WIDTH),
                weight * _robust(np.log(ttft / table.ttft) / TTFT_WIDTH),
                moved / width,
            ]
        )

    found = least_squares(residuals, np.zeros(len(width)), max_nfev=EVALUATIONS_MAX)
    return Correction(*(round(exp(value), 4) for value in found.x))


def logs_of(table: Table, constants: dict[str, float]) -> Column:
    return np.log([constants.get(name, prior_of(name).value) for name in table.names])


def predict(
    runs: Sequence[Run], constants: dict[str, float], corrections: Sequence[Correction] | None = None
) -> tuple[Column, Column]:
    """TTFT and TPOT that these constants forecast, seconds."""
    table = Table(runs)
    return table.measure(logs_of(table, constants), constants["memory"], corrections)


def fit_request_live(runs: Sequence[OpenRun], constants: dict[str, float]) -> float:
    """What a request waits before it is scheduled when requests come at a fixed rate, seconds: the median of what TTFT has
    beyond the queue, the step under way and the prefill."""
    bare = constants | {"request_live": 0.0}
    waits = [run.ttft_seconds - forecast_open(run, bare)[0] for run in runs]
    return max(median(waits), 0.0) if waits else constants["request_live"]


def forecast_open(run: OpenRun, constants: Mapping[str, float]) -> tuple[float, float, float]:
    """TTFT, TPOT and E2E of an open-loop run, seconds: means over its stages, which last equally long, so that requests weigh
    by their rate."""
    engine = derive(run.deployment, constants, chunk_tokens=run.chunk_tokens, sequences_max=run.sequences_max)
    total = sum(run.rates_per_second)
    ttft = tpot = 0.0
    for rate in run.rates_per_second:
        load = OpenLoad(rate, run.system_tokens + run.question_tokens, run.question_tokens, run.completion_tokens)
        outcome = measure_open(engine, load)
        ttft += outcome.ttft_seconds * rate / total
        tpot += outcome.tpot_seconds * rate / total
    return ttft, tpot, ttft + (run.completion_tokens - 1) * tpot


@dataclass(frozen=True, slots=True)
class Fitted:
    """A deployment with enough runs of its own, whatever the engine's version. version: the one most runs had."""

    deployment: Deployment
    points: int
    correction: Correction


def fit_deployments(runs: Sequence[Run], constants: dict[str, float]) -> list[Fitted]:
    by_key: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        by_key.setdefault(deployment_key(run.deployment), []).append(run)
    fitted = []
    for own in by_key.values():
        if len(own) >= POINTS_MIN:
            version = Counter(run.deployment.engine_version for run in own).most_common(1)[0][0]
            deployment = next(run.deployment for run in own if run.deployment.engine_version == version)
            fitted.append(Fitted(deployment, len(own), fit_correction(own, constants)))
    return fitted


def deployment_key(deployment: Deployment) -> tuple[object, ...]:
    """All but the engine's version."""
    return (
        deployment.model.name,
        deployment.quantization,
        deployment.gpu.name,
        deployment.gpus,
        deployment.engine,
        deployment.attention_groups,
    )


def _columns(corrections: Sequence[Correction]) -> Any:
    names = Correction.__dataclass_fields__
    columns: Any = {name: np.array([getattr(one, name) for one in corrections]) for name in names}
    return Correction(**columns)


def _robust(residuals: Column) -> Column:
    """So that squares grow as |residual| far out: one broken run in ten must not steer the fit (soft L1)."""
    squares = 2 * (np.sqrt(1 + residuals * residuals) - 1)
    result: Column = np.sign(residuals) * np.sqrt(squares)
    return result
