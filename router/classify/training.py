"""From outcomes to a learned model: ridge on the expected gain, lengths, clusters, and the calibration of all three.

Needs scipy (`pip install 'jeton[train]'`); nothing that serves requests imports this file. The same outcomes in the same
order make the same arrays: the only randomness is seeded.
"""

from collections.abc import Sequence
from math import log

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy ships no types
from scipy.sparse.linalg import LinearOperator, cg  # type: ignore[import-untyped]

from router.classify.learned import FEATURE_BITS, KIND_BITS, Calibration, Floats, LearnedModel, features
from router.classify.outcomes import Outcome, Pair, folds, kinds
from router.classify.rules import difficulty
from router.classify.words import Hashes, buckets, word_hashes, words

Doubles = npt.NDArray[np.float64]

# Ridge penalties on features of unit length. Chosen by cross-validation over 1, 3, 10, 30: flat between 5 and 30.
GAIN_PENALTY = 10.0
TOKENS_PENALTY = 3.0
RIDGE_STEPS_MAX = 60
# Clusters of prompts in all, shared evenly among the kinds, so that a small kind is known as well as a large one.
CLUSTERS = 64
CLUSTER_STEPS = 8
CALIBRATION_FOLDS = 3
# Pulls a logistic curve that few rows determine towards flat.
CURVE_PENALTY = 1e-3
NEWTON_STEPS_MAX = 25
# Keeps what similarities are divided by away from zero.
SIMILARITY_MIN = 0.01
SEED = 20240611


def fit(outcomes: Sequence[Outcome], pairs: Sequence[Pair]) -> LearnedModel:
    """Train on all of `outcomes`; each must have a pair that applies to it.

    Raises ValueError when there is nothing to compare with: fewer than two kinds of prompts.
    """
    kind_names = kinds(outcomes)
    if len(set(kind_names)) < 2:
        raise ValueError("the outcomes come from one dataset only: at least two are needed to tell near from far")
    kind = np.unique(kind_names, return_inverse=True)[1]
    weight = 1 / np.bincount(kind)[kind]
    found = [words(outcome.prompt.text) for outcome in outcomes]
    single = [word_hashes(each) for each in found]
    x = unit_rows([features(each) for each in single], FEATURE_BITS)
    x_kind = unit_rows([buckets(each, KIND_BITS) for each in single], KIND_BITS)
    datasets = [outcome.dataset for outcome in outcomes]
    gain = _centred(mean_gains(outcomes, pairs), datasets)
    log_tokens, has_tokens = _log_tokens(outcomes, pairs)
    log_tokens_mean = float(log_tokens[has_tokens].mean()) if has_tokens.any() else 0.0

    # What the models say of prompts that they have not seen, to calibrate on.
    unseen_gain = np.zeros(len(outcomes))
    unseen_log_tokens = np.full(len(outcomes), log_tokens_mean)
    kind_similarity = np.zeros((len(outcomes), kind.max() + 1))
    for split in folds(outcomes, CALIBRATION_FOLDS):
        train, test = np.array(split.train), np.array(split.test)
        if not len(train) or not len(test):
            continue
        unseen_gain[test] = x[test] @ _ridge(x[train], gain[train], GAIN_PENALTY)
        taught = train[has_tokens[train]]
        unseen_log_tokens[test] += x[test] @ _ridge(x[taught], log_tokens[taught] - log_tokens_mean, TOKENS_PENALTY)
        kind_similarity[test] = _kind_similarity(x_kind[test], *_clusters(x_kind[train], kind[train]))

    clusters, cluster_kind = _clusters(x_kind, kind)
    # Some kinds are tighter than others: 1 is what is usual for a prompt of the cluster's own kind.
    usual = np.array([np.median(kind_similarity[kind == each, each]) for each in range(kind.max() + 1)])
    usual = np.maximum(usual, SIMILARITY_MIN)
    similarity = (kind_similarity / usual).max(axis=1)
    stranger_similarity = _kind_similarity(x_kind, clusters, cluster_kind) / usual
    stranger_similarity[np.arange(len(outcomes)), kind] = 0.0
    strange = _median(stranger_similarity.max(axis=1), weight)
    known = max(_median(similarity, weight), strange + SIMILARITY_MIN)
    nearness = np.clip((similarity - strange) / (known - strange), 0, 1)

    suffices = mean_suffices(outcomes, pairs)
    points = np.array([difficulty(outcome.prompt, each) for outcome, each in zip(outcomes, found, strict=True)])
    points_inside = _centred(points, datasets)
    points_mean, points_scale = float(np.average(points, weights=weight)), _spread(points_inside, weight)
    gain_scale = _spread(unseen_gain, weight)
    # The slope is fitted inside datasets, like the gain; the intercept is that of the average prompt.
    advantage = points_inside / points_scale + nearness * unseen_gain / gain_scale
    calibration = Calibration(
        points_mean=points_mean,
        points_scale=points_scale,
        gain_scale=gain_scale,
        small_suffices=logistic_curve(_centred(advantage, datasets), suffices, weight),
        strange_similarity=strange,
        known_similarity=known,
        tokens_factor=float(np.exp(log_tokens - unseen_log_tokens)[has_tokens].mean()) if has_tokens.any() else 1.0,
    )
    scaled = np.asarray(clusters / usual[cluster_kind], np.float32)
    weights = np.stack(
        (
            _ridge(x, gain, GAIN_PENALTY),
            _ridge(x[has_tokens], log_tokens[has_tokens] - log_tokens_mean, TOKENS_PENALTY),
        ),
        axis=1,
    )
    return LearnedModel(weights.astype(np.float32), scaled, log_tokens_mean, calibration)


def mean_gains(outcomes: Sequence[Outcome], pairs: Sequence[Pair]) -> Doubles:
    """Score of large − score of small, the mean over the pairs that apply. NaN where none does."""
    return np.array(
        [
            np.mean(
                [outcome.scores[pair.large] - outcome.scores[pair.small] for pair in pairs if pair.applies(outcome)]
            )
            for outcome in outcomes
        ],
        np.float64,
    )


def mean_suffices(outcomes: Sequence[Outcome], pairs: Sequence[Pair]) -> Doubles:
    """The share of the pairs that apply in which the small model's score is no lower than the large one's."""
    return np.array(
        [
            np.mean(
                [outcome.scores[pair.small] >= outcome.scores[pair.large] for pair in pairs if pair.applies(outcome)]
            )
            for outcome in outcomes
        ],
        np.float64,
    )


def unit_rows(rows: Sequence[Hashes], bits: int) -> csr_array:
    """(rows, 2^bits), sparse: n distinct buckets weigh 1/√n each."""
    sizes = np.array([len(row) for row in rows])
    ends = np.concatenate(([0], np.cumsum(sizes)))
    values = np.repeat(1 / np.sqrt(np.maximum(1, sizes)), sizes).astype(np.float32)
    return csr_array((values, np.concatenate(rows).astype(np.int32), ends), shape=(len(rows), 1 << bits))


def logistic_curve(value: Doubles, target: Doubles, weight: Doubles) -> tuple[float, float]:
    """Intercept and slope of P(target) = 1 / (1 + e^-(intercept + slope · value)) by Newton's method on the weighted log
    likelihood. Targets may be fractions."""
    weight = weight / weight.mean()
    centre, scale = float(np.average(value, weights=weight)), _spread(value, weight)
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


def _median(value: Doubles, weight: Doubles) -> float:
    order = np.argsort(value, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    return float(value[order][np.searchsorted(share, 0.5)])


def _spread(value: Doubles, weight: Doubles) -> float:
    """Weighted standard deviation; 1 where nothing varies, so that it can be divided by."""
    mean = np.average(value, weights=weight)
    return float(np.sqrt(np.average((value - mean) ** 2, weights=weight))) or 1.0


def _ridge(x: csr_array, y: Doubles, penalty: float) -> Doubles:
    """The minimum of |y − x b|² + penalty · |b|², by conjugate gradients on the normal equations."""
    if not x.shape[0]:
        return np.zeros(x.shape[1])
    transposed = x.T.tocsr()
    normal = LinearOperator(
        (x.shape[1], x.shape[1]), matvec=lambda b: transposed @ (x @ b) + penalty * b, dtype=np.float64
    )
    solution, _ = cg(normal, transposed @ y, rtol=1e-5, maxiter=RIDGE_STEPS_MAX)
    return np.asarray(solution, np.float64)


def _clusters(x: csr_array, kind: npt.NDArray[np.intp]) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Centres of spherical k-means within each kind: unit columns, and the kind that each belongs to."""
    names = np.unique(kind)
    number = max(1, CLUSTERS // len(names))
    centres = [_spherical_means(x[np.flatnonzero(kind == name)], number) for name in names]
    owner = np.repeat(names, [centre.shape[1] for centre in centres])
    return np.concatenate(centres, axis=1), owner


def _kind_similarity(x: csr_array, clusters: Floats, cluster_kind: npt.NDArray[np.intp]) -> Doubles:
    """(rows, kinds): cosine to the nearest cluster of each kind."""
    cosine = x @ clusters
    number = int(cluster_kind.max()) + 1
    return np.stack([cosine[:, cluster_kind == each].max(axis=1, initial=0.0) for each in range(number)], axis=1)


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


def _centred(values: Doubles, datasets: Sequence[str]) -> Doubles:
    """Less the dataset's mean: models differ between datasets, so only differences inside one are about the prompt."""
    number = np.unique(datasets, return_inverse=True)[1]
    return values - (np.bincount(number, values) / np.bincount(number))[number]


def _log_tokens(outcomes: Sequence[Outcome], pairs: Sequence[Pair]) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Logarithm of the mean completion length over the models of the pairs that apply, and where there is one."""
    lengths = [
        [
            outcome.completion_tokens[model]
            for model in sorted(
                {model for pair in pairs if pair.applies(outcome) for model in (pair.small, pair.large)}
            )
            if model in outcome.completion_tokens
        ]
        for outcome in outcomes
    ]
    logarithms = np.array([log(max(1.0, sum(each) / len(each))) if each else 0.0 for each in lengths])
    return logarithms, np.array([bool(each) for each in lengths])
