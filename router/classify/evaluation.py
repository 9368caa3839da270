"""How good a classifier is: APGR, calibration, completion lengths, with confidence intervals, on prompts it has not seen.

Metrics are RouteLLM's (arXiv:2406.18665): send the share f of prompts with the highest scores to the large model, let Q(f)
be the mean quality; PGR(f) = (Q(f) − Q(0)) / (Q(1) − Q(0)), and APGR is its mean over f. A random router has 0.5.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from router.classify.classifier import Classifier
from router.classify.outcomes import (
    NON_COMMERCIAL,
    Outcome,
    Pair,
    Split,
    mean_completion_tokens,
    mean_suffices,
    trainable,
)
from router.classify.rules import difficulty
from router.classify.words import words
from router.domain.decision import Prediction

Doubles = npt.NDArray[np.float64]

RESAMPLES = 400
CONFIDENCE = 0.95
CALIBRATION_BINS = 10
SEED = 20240611


def apgr(score: Doubles, gain: Doubles, weight: Doubles | None = None) -> float:
    """Mean performance gap recovered when the highest scores go to the large model first; equal scores in random order.

    gain: score of large − score of small, per prompt. weight: how often each prompt counts. NaN where the models are
    equally good on the whole: then there is no gap to recover.
    """
    weight = np.ones_like(gain) if weight is None else weight
    value, group = np.unique(-score, return_inverse=True)
    mass = np.bincount(group, weight, len(value))
    recovered = np.concatenate(([0.0], np.cumsum(np.bincount(group, weight * gain, len(value)))))
    if recovered[-1] == 0:
        return float("nan")
    # Inside a tie the expected curve is a straight line, so the trapezium is exact.
    area = float(np.sum(mass * (recovered[:-1] + recovered[1:]) / 2))
    return area / float(mass.sum() * recovered[-1])


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its bootstrap percentile interval of CONFIDENCE."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One pair of models on one dataset: row numbers and gains."""

    pair: Pair
    dataset: str
    rows: npt.NDArray[np.intp]
    gain: Doubles


def cells(outcomes: Sequence[Outcome], pairs: Sequence[Pair]) -> list[Cell]:
    """Every pair on every dataset where it applies."""
    found = []
    for pair in pairs:
        for dataset in sorted({outcome.dataset for outcome in outcomes if pair.applies(outcome)}):
            rows = [row for row, outcome in enumerate(outcomes) if outcome.dataset == dataset and pair.applies(outcome)]
            gain = [outcomes[row].scores[pair.large] - outcomes[row].scores[pair.small] for row in rows]
            found.append(Cell(pair, dataset, np.array(rows), np.array(gain)))
    return found


def apgr_table(score: Doubles, table: Sequence[Cell]) -> tuple[list[Interval], Interval]:
    """APGR of each cell, and the macro average: the plain mean of the cells. Prompts are resampled inside each cell."""
    random = np.random.default_rng(SEED)
    estimates = np.array([apgr(score[cell.rows], cell.gain) for cell in table])
    resampled = np.array(
        [
            [
                apgr(
                    score[cell.rows],
                    cell.gain,
                    np.bincount(random.integers(0, size, size), minlength=size).astype(float),
                )
                for _ in range(RESAMPLES)
            ]
            for cell in table
            for size in [len(cell.rows)]
        ]
    )
    edges = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    each = [
        Interval(float(value), *map(float, np.nanquantile(samples, edges)))
        for value, samples in zip(estimates, resampled, strict=True)
    ]
    macro = Interval(
        float(_mean_over_cells(estimates)), *map(float, np.nanquantile(_mean_over_cells(resampled), edges))
    )
    return each, macro


def _mean_over_cells(values: Doubles) -> Doubles:
    """Along the first axis, over the cells that have a gap to recover; NaN where none has."""
    counts = np.sum(~np.isnan(values), axis=0)
    return np.asarray(np.nansum(values, axis=0) / np.where(counts, counts, np.nan))


@dataclass(frozen=True, slots=True)
class Calibrated:
    """brier: mean squared error of the probability; brier_of_base_rate: of always saying the mean. error: expected
    calibration error over CALIBRATION_BINS equally full bins."""

    brier: float
    brier_of_base_rate: float
    error: float


def suffices(outcomes: Sequence[Outcome], pairs: Sequence[Pair]) -> Doubles:
    """The share of pairs whose small model did as well; NaN for rows that may not teach, which calibrate nothing."""
    shares = np.full(len(outcomes), np.nan)
    rows = [row for row, outcome in enumerate(outcomes) if trainable((outcome,), pairs)]
    shares[rows] = mean_suffices([outcomes[row] for row in rows], pairs)
    return shares


def calibration(predictions: Sequence[Prediction], target: Doubles) -> Calibrated:
    """Of P(small suffices) against targets in 0–1; rows whose target is NaN do not count."""
    counts = ~np.isnan(target)
    target = target[counts]
    probability = np.array([prediction.small_suffices for prediction in predictions])[counts]
    order = np.argsort(probability, kind="stable")
    error = sum(
        len(chunk) * abs(float(probability[chunk].mean() - target[chunk].mean()))
        for chunk in np.array_split(order, CALIBRATION_BINS)
        if len(chunk)
    )
    return Calibrated(
        brier=float(np.mean((probability - target) ** 2)),
        brier_of_base_rate=float(np.mean((target.mean() - target) ** 2)),
        error=error / len(order),
    )


@dataclass(frozen=True, slots=True)
class LengthError:
    """ratio_of_means: predicted ÷ actual tokens in all, 1 when costs add up. factor_median: of the larger ÷ the smaller of
    predicted and actual, per prompt. NaN when no lengths were recorded."""

    ratio_of_means: float
    factor_median: float


def length_error(outcomes: Sequence[Outcome], pairs: Sequence[Pair], predictions: Sequence[Prediction]) -> LengthError:
    """Of expected completion tokens, over the rows that may teach and have lengths."""
    predicted, actual = [], []
    for outcome, prediction in zip(outcomes, predictions, strict=True):
        tokens = mean_completion_tokens(outcome, pairs)
        if tokens is not None and outcome.dataset not in NON_COMMERCIAL:
            predicted.append(prediction.completion_tokens)
            actual.append(tokens)
    if not actual:
        return LengthError(float("nan"), float("nan"))
    factor = np.exp(np.abs(np.log(np.array(predicted) / np.array(actual))))
    return LengthError(sum(predicted) / sum(actual), float(np.median(factor)))


def random_scores(outcomes: Sequence[Outcome]) -> Doubles:
    """Equal scores, which count as every random order at once."""
    return np.zeros(len(outcomes))


def length_scores(outcomes: Sequence[Outcome]) -> Doubles:
    """The baseline that sends the longest prompts to the large model: characters."""
    return np.array([len(outcome.prompt.text) for outcome in outcomes], float)


def rule_scores(outcomes: Sequence[Outcome]) -> Doubles:
    """The hand-written rules alone."""
    return np.array([difficulty(outcome.prompt, words(outcome.prompt.text)) for outcome in outcomes])


def predict_unseen(
    outcomes: Sequence[Outcome],
    splits: Sequence[Split],
    pairs: Sequence[Pair],
    train: Callable[[Sequence[Outcome], Sequence[Pair]], Classifier],
) -> list[Prediction]:
    """Each row predicted by a classifier that was trained without its split's test rows, licences respected."""
    predictions: dict[int, Prediction] = {}
    for split in splits:
        teachers = trainable((outcomes[row] for row in split.train), pairs)
        classifier = train(teachers, pairs)
        for row in split.test:
            predictions[row] = classifier.predict(outcomes[row].prompt)
    return [predictions[row] for row in range(len(outcomes))]


def is_non_commercial(cell: Cell) -> bool:
    return cell.dataset in NON_COMMERCIAL
