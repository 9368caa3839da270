"""From outcomes to a learned model: ridge on the expected gain and on lengths, clusters of kinds, calibration of all three.

Needs scipy (`pip install 'jeton[train]'`); nothing that serves requests imports this file. The same outcomes in the same
order make the same arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy ships no types

from router.classify.category import COMPLETION_TOKENS, Category
from router.classify.estimators import (
    Doubles,
    Numbers,
    kind_clusters,
    kind_similarity,
    logistic_curve,
    ridge,
    spread,
    unit_rows,
    usual_similarity,
    weighted_median,
)
from router.classify.learned import FEATURE_BITS, KIND_BITS, Calibration, LearnedModel
from router.classify.outcomes import (
    Outcome,
    Pair,
    folds,
    kinds,
    mean_completion_tokens,
    mean_gains,
    mean_suffices,
)
from router.classify.rules import difficulty
from router.classify.words import word_buckets, words

# Ridge penalties on rows of unit length. Of 1, 3, 5, 10, 15 and 30, cross-validated APGR is flat from 5 on.
GAIN_PENALTY = 10.0
TOKENS_PENALTY = 3.0
CALIBRATION_FOLDS = 3
# Keeps what similarities are divided by away from zero.
SIMILARITY_MIN = 0.01


@dataclass(frozen=True, slots=True)
class _Corpus:
    """The outcomes as arrays, one row each. weight: such that every kind counts the same."""

    datasets: Sequence[str]
    kind: Numbers
    kinds_total: int
    weight: Doubles
    x: csr_array
    x_kind: csr_array
    points: Doubles
    gain: Doubles
    suffices: Doubles
    log_tokens: Doubles
    log_tokens_mean: float
    has_tokens: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Unseen:
    """What the models say of each row when they have not seen its question. kind_similarity: (rows, kinds)."""

    gain: Doubles
    log_tokens: Doubles
    kind_similarity: Doubles


def fit(outcomes: Sequence[Outcome], pairs: Sequence[Pair]) -> LearnedModel:
    """Train on all of `outcomes`; each must have a pair that applies to it.

    Raises ValueError when all of them are of one kind: nothing tells then what is unlike them.
    """
    corpus = _corpus(outcomes, pairs)
    unseen = _predict_unseen(corpus, outcomes)
    clusters, cluster_kind = kind_clusters(corpus.x_kind, corpus.kind)
    usual = usual_similarity(unseen.kind_similarity, corpus.kind)
    similarity = (unseen.kind_similarity / usual).max(axis=1)
    strangers = kind_similarity(corpus.x_kind, clusters, cluster_kind, corpus.kinds_total) / usual
    strangers[np.arange(len(outcomes)), corpus.kind] = 0.0
    return LearnedModel(
        weights=np.stack(
            (ridge(corpus.x, corpus.gain, GAIN_PENALTY), _tokens_ridge(corpus, np.arange(len(outcomes)))), axis=1
        ).astype(np.float32),
        clusters=np.asarray(clusters / usual[cluster_kind], np.float32),
        log_tokens_mean=corpus.log_tokens_mean,
        calibration=_calibrate(corpus, unseen, similarity, strangers.max(axis=1)),
    )


def _corpus(outcomes: Sequence[Outcome], pairs: Sequence[Pair]) -> _Corpus:
    names, kind = np.unique(kinds(outcomes), return_inverse=True)
    if len(names) < 2:
        raise ValueError("outcomes of at least two datasets are needed, to learn what is unlike what")
    datasets = [outcome.dataset for outcome in outcomes]
    found = [words(outcome.prompt.text) for outcome in outcomes]
    word_rows, feature_rows = zip(
        *(word_buckets(each, set(each), KIND_BITS, FEATURE_BITS) for each in found), strict=True
    )
    tokens = np.array([mean_completion_tokens(outcome, pairs) or np.nan for outcome in outcomes])
    has_tokens = ~np.isnan(tokens)
    log_tokens = np.log(np.where(has_tokens, tokens, 1.0))
    return _Corpus(
        datasets=datasets,
        kind=kind,
        kinds_total=len(names),
        weight=1 / np.bincount(kind)[kind],
        x=unit_rows(feature_rows, FEATURE_BITS),
        x_kind=unit_rows(word_rows, KIND_BITS),
        points=np.array([difficulty(outcome.prompt, each) for outcome, each in zip(outcomes, found, strict=True)]),
        gain=_centred(mean_gains(outcomes, pairs), datasets),
        suffices=mean_suffices(outcomes, pairs),
        log_tokens=log_tokens,
        log_tokens_mean=float(log_tokens[has_tokens].mean())
        if has_tokens.any()
        else log(COMPLETION_TOKENS[Category.OTHER]),
        has_tokens=has_tokens,
    )


def _predict_unseen(corpus: _Corpus, outcomes: Sequence[Outcome]) -> _Unseen:
    unseen = _Unseen(
        gain=np.zeros(len(outcomes)),
        log_tokens=np.full(len(outcomes), corpus.log_tokens_mean),
        kind_similarity=np.zeros((len(outcomes), corpus.kinds_total)),
    )
    for split in folds(outcomes, CALIBRATION_FOLDS):
        if not split.train or not split.test:
            continue
        train, test = np.array(split.train), np.array(split.test)
        unseen.gain[test] = corpus.x[test] @ ridge(corpus.x[train], corpus.gain[train], GAIN_PENALTY)
        unseen.log_tokens[test] += corpus.x[test] @ _tokens_ridge(corpus, train)
        clusters, cluster_kind = kind_clusters(corpus.x_kind[train], corpus.kind[train])
        unseen.kind_similarity[test] = kind_similarity(corpus.x_kind[test], clusters, cluster_kind, corpus.kinds_total)
    return unseen


def _calibrate(corpus: _Corpus, unseen: _Unseen, similarity: Doubles, stranger_similarity: Doubles) -> Calibration:
    strange = weighted_median(stranger_similarity, corpus.weight)
    known = max(weighted_median(similarity, corpus.weight), strange + SIMILARITY_MIN)
    near = np.clip((similarity - strange) / (known - strange), 0, 1)
    points = _centred(corpus.points, corpus.datasets)
    points_scale, gain_scale = spread(points, corpus.weight), spread(unseen.gain, corpus.weight)
    # The slope is fitted inside datasets, like the gain; the intercept is that of the average prompt.
    advantage = _centred(points / points_scale + near * unseen.gain / gain_scale, corpus.datasets)
    tokens_ratio = np.exp(corpus.log_tokens - unseen.log_tokens)[corpus.has_tokens]
    return Calibration(
        points_mean=float(np.average(corpus.points, weights=corpus.weight)),
        points_scale=points_scale,
        gain_scale=gain_scale,
        small_suffices=logistic_curve(advantage, corpus.suffices, corpus.weight),
        strange_similarity=strange,
        known_similarity=known,
        tokens_factor=float(tokens_ratio.mean()) if tokens_ratio.size else 1.0,
    )


def _tokens_ridge(corpus: _Corpus, rows: Numbers) -> Doubles:
    taught = rows[corpus.has_tokens[rows]]
    return ridge(corpus.x[taught], corpus.log_tokens[taught] - corpus.log_tokens_mean, TOKENS_PENALTY)


def _centred(values: Doubles, datasets: Sequence[str]) -> Doubles:
    """Less the dataset's mean: models differ between datasets, so only differences inside one are about the prompt."""
    number = np.unique(datasets, return_inverse=True)[1]
    return values - (np.bincount(number, values) / np.bincount(number))[number]
