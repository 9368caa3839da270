"""The arithmetic of training: sparse ridge, logistic curves, spherical k-means. Knows arrays, and nothing of prompts.

Needs scipy. The only randomness, where k-means starts, is seeded.
"""

from collections.abc import Sequence
from math import log

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy ships no types
from scipy.sparse.linalg import LinearOperator, cg  # type: ignore[import-untyped]

from router.classify.learned import Floats
from router.classify.words import Buckets

Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.intp]

RIDGE_STEPS_MAX = 60
RIDGE_TOLERANCE = 1e-5
# Pulls a logistic curve that few rows determine towards flat.
CURVE_PENALTY = 1e-3
NEWTON_STEPS_MAX = 25
# Clusters in all, shared evenly among the kinds, so that a small kind is known as well as a large one.
CLUSTERS = 64
CLUSTER_STEPS = 8
# Keeps what similarities are divided by away from zero.
USUAL_MIN = 0.01
SEED = 20240611


def unit_rows(rows: Sequence[Buckets], bits: int) -> csr_array:
    """(rows, 2^bits), sparse: n distinct buckets weigh 1/√n each."""
    sizes = np.array([len(row) for row in rows])
    ends = np.concatenate(([0], np.cumsum(sizes)))
    values = np.repeat(1 / np.sqrt(np.maximum(1, sizes)), sizes).astype(np.float32)
    return csr_array((values, np.concatenate(rows).astype(np.int32), ends), shape=(len(rows), 1 << bits))


def logistic_curve(value: Doubles, target: Doubles, weight: Doubles) -> tuple[float, float]:
    """Intercept and slope of P(target) = 1 / (1 + e^-(intercept + slope · value)) by Newton's method on the weighted log
    likelihood. Targets may be fractions."""
    weight = weight / weight.mean()
    centre, scale = float(np.average(value, weights=weight)), spread(value, weight)
    design = np.column_stack((np.ones_like(value), (value - centre) / scale))
    mean = min(0.999, max(0.001, float(np.average(target, weights=weight))))
    beta = np.array([log(mean / (1 - mean)), 0.0])
    penalty = np.diag([0.0, CURVE_PENALTY * len(value)])
    for _ in range(NEWTON_STEPS_MAX):
        predicted = 1 / (1 + np.exp(-np.clip(design @ beta, -50, 50)))
        gradient = design.T @ (weight * (target - predicted)) - penalty @ beta
        curvature = (design.T * (weight * np.maximum(predicted * (1 - predicted), 1e-9))) @ design + penalty
        step = np.clip(np.linalg.solve(curvature, gradient), -2, 2)
        beta += step
        if np.abs(step).max() < 1e-10:
            break
    intercept, slope = float(beta[0]), float(beta[1]) / scale
    return intercept - slope * centre, slope


def weighted_median(value: Doubles, weight: Doubles) -> float:
    """The smallest value with half of the weight at or below it."""
    order = np.argsort(value, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    return float(value[order][min(len(value) - 1, int(np.searchsorted(share, 0.5)))])


def spread(value: Doubles, weight: Doubles) -> float:
    """Weighted standard deviation; 1 where nothing varies, so that it can be divided by."""
    mean = np.average(value, weights=weight)
    return float(np.sqrt(np.average((value - mean) ** 2, weights=weight))) or 1.0


def ridge(x: csr_array, y: Doubles, penalty: float) -> Doubles:
    """The minimum of |y − x b|² + penalty · |b|², by conjugate gradients on the normal equations."""
    if not x.shape[0]:
        return np.zeros(x.shape[1])
    transposed = x.T.tocsr()
    normal = LinearOperator(
        (x.shape[1], x.shape[1]), matvec=lambda b: transposed @ (x @ b) + penalty * b, dtype=np.float64
    )
    solution, _ = cg(normal, transposed @ y, rtol=RIDGE_TOLERANCE, maxiter=RIDGE_STEPS_MAX)
    return np.asarray(solution, np.float64)


def kind_clusters(x: csr_array, kind: Numbers) -> tuple[Floats, Numbers]:
    """Centres of spherical k-means within each kind: (columns of x, number), unit columns; and each one's kind."""
    names = np.unique(kind)
    number = max(1, CLUSTERS // len(names))
    centres = [_spherical_means(x[np.flatnonzero(kind == name)], number) for name in names]
    return np.concatenate(centres, axis=1), np.repeat(names, [each.shape[1] for each in centres])


def kind_similarity(x: csr_array, clusters: Floats, cluster_kind: Numbers, kinds_total: int) -> Doubles:
    """(rows, kinds): cosine to the nearest cluster of each kind, 0 to a kind without one."""
    cosine: Doubles = np.asarray(x @ clusters, np.float64)
    nearest = [cosine[:, cluster_kind == each].max(axis=1, initial=0.0) for each in range(kinds_total)]
    return np.asarray(np.stack(nearest, axis=1), np.float64)


def usual_similarity(similarity: Doubles, kind: Numbers) -> Doubles:
    """The median similarity of rows to their own kind, by kind: some kinds are tighter than others."""
    medians = [np.median(similarity[kind == each, each]) for each in range(similarity.shape[1])]
    return np.asarray(np.maximum(medians, USUAL_MIN), np.float64)


def _spherical_means(x: csr_array, number: int) -> Floats:
    number = min(number, x.shape[0])
    start = np.random.default_rng(SEED).choice(x.shape[0], number, replace=False)
    centres = _unit_columns(x[np.sort(start)].toarray().T)
    for _ in range(CLUSTER_STEPS):
        nearest = (x @ centres).argmax(axis=1)
        members = csr_array(
            (np.ones(len(nearest), np.float32), (nearest, np.arange(len(nearest)))), shape=(number, len(nearest))
        )
        centres = _unit_columns((members @ x).toarray().T)
    return centres


def _unit_columns(columns: npt.NDArray[np.floating]) -> Floats:
    length = np.linalg.norm(columns, axis=0, keepdims=True)
    return np.asarray(columns / np.maximum(length, 1e-9), np.float32)
