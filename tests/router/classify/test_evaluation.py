from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.classify.classifier import Classifier
from router.classify.evaluation import (
    apgr,
    apgr_table,
    calibration,
    cells,
    length_error,
    length_scores,
    predict_unseen,
    random_scores,
    rule_scores,
    suffices,
)
from router.classify.outcomes import PUBLIC_PAIRS, Outcome, Pair, Split, folds
from router.domain.decision import Prediction
from router.domain.request import Prompt


@pytest.mark.parametrize(
    ("score", "gain", "expected"),
    [
        # Perfect: PGR climbs to 1 in the first half and stays: 1/4 + 1/2.
        ([2, 1], [1, 0], 0.75),
        # Worst: nothing in the first half.
        ([1, 2], [1, 0], 0.25),
        # All alike: a straight line.
        ([7, 7, 7], [1, 0, 0], 0.5),
        # Large helps twice and harms once; best order +1 +1 −1: areas (½ + 3/2 + 3/2) / 3 prompts / gap 1.
        ([3, 2, 1], [1, 1, -1], 3.5 / 3),
        # The second and third are tied, so each gains a half: cumulative 0, 1, 1½, 2 over gap 2.
        ([2, 1, 1], [1, 1, 0], (0.5 + 1.25 + 1.75) / 3 / 2),
        # A tie in front: cumulative 0, ½, 1, 1.
        ([5, 5, 1], [0, 1, 0], (0.25 + 0.75 + 1) / 3),
    ],
)
def test_apgr_is_the_area_under_the_recovered_gap(score: list[float], gain: list[float], expected: float) -> None:
    assert apgr(np.array(score, float), np.array(gain, float)) == pytest.approx(expected)


def test_apgr_of_equal_models_is_not_a_number() -> None:
    assert np.isnan(apgr(np.array([1.0, 2.0]), np.array([1.0, -1.0])))


GAINS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([-1.0, 0.0, 0.5, 1.0])), min_size=1, max_size=30).filter(
    lambda rows: abs(sum(gain for _, gain in rows)) > 0.1
)


@given(GAINS)
def test_the_reverse_order_recovers_the_rest(rows: list[tuple[int, float]]) -> None:
    score, gain = np.array(rows, float).T
    assert apgr(score, gain) + apgr(-score, gain) == pytest.approx(1)


@given(GAINS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows: list[tuple[int, float]], random: Random) -> None:
    score, gain = np.array(rows, float).T
    shuffled = random.sample(rows, len(rows))
    other_score, other_gain = np.array(shuffled, float).T
    assert apgr(score, gain) == pytest.approx(apgr(other_score, other_gain))


@given(GAINS)
def test_a_weight_of_two_is_the_row_twice(rows: list[tuple[int, float]]) -> None:
    score, gain = np.array(rows, float).T
    weight = 1.0 + np.arange(len(rows)) % 2
    twice = np.repeat(np.arange(len(rows)), weight.astype(int))
    if abs(gain[twice].sum()) > 0.1:
        assert apgr(score, gain, weight) == pytest.approx(apgr(score[twice], gain[twice]))


def outcome(number: int, dataset: str, small: float, large: float) -> Outcome:
    return Outcome(f"{dataset}/{number}", dataset, Prompt(f"question {number}"), {"small": small, "large": large}, {})


PAIR = Pair("small", "large")


def test_the_macro_average_is_the_mean_of_the_cells() -> None:
    rows = [outcome(0, "a", 0, 1), outcome(1, "a", 1, 1), outcome(2, "b", 0, 1), outcome(3, "b", 0, 0)]
    table = cells(rows, [PAIR])
    assert [(cell.dataset, cell.rows.tolist(), cell.gain.tolist()) for cell in table] == [
        ("a", [0, 1], [1, 0]),
        ("b", [2, 3], [1, 0]),
    ]
    each, macro = apgr_table(np.array([1.0, 0.0, 0.0, 1.0]), table)
    assert [interval.value for interval in each] == [0.75, 0.25]
    assert macro.value == 0.5


def test_intervals_hold_the_estimate_and_shrink_with_data(outcomes: list[Outcome]) -> None:
    few, many = cells(outcomes[::7], PUBLIC_PAIRS), cells(outcomes, PUBLIC_PAIRS)
    _, wide = apgr_table(length_scores(outcomes[::7]), few)
    _, narrow = apgr_table(length_scores(outcomes), many)
    assert narrow.low < narrow.value < narrow.high
    assert narrow.high - narrow.low < wide.high - wide.low


def test_random_is_one_half_without_doubt(outcomes: list[Outcome]) -> None:
    _, macro = apgr_table(random_scores(outcomes), cells(outcomes, PUBLIC_PAIRS))
    assert (macro.low, macro.value, macro.high) == pytest.approx((0.5, 0.5, 0.5))


def test_baselines_score_every_row(outcomes: list[Outcome]) -> None:
    assert length_scores(outcomes)[0] == len(outcomes[0].prompt.text)
    assert len(set(rule_scores(outcomes))) > 100


def test_calibration_by_hand() -> None:
    predictions = [Prediction(probability, 1, "chat", 0) for probability in (0.2, 0.2, 0.9, 0.5)]
    measured = calibration(predictions, np.array([0.0, 1.0, 1.0, np.nan]))
    assert measured.brier == pytest.approx((0.04 + 0.64 + 0.01) / 3)
    assert measured.brier_of_base_rate == pytest.approx((4 / 9 + 1 / 9 + 1 / 9) / 3)
    # Ten bins over three rows: each stands alone.
    assert measured.error == pytest.approx((0.2 + 0.8 + 0.1) / 3)


def test_lengths_by_hand() -> None:
    row = Outcome("a/1", "a", Prompt(""), {"small": 0, "large": 1}, {"small": 50.0, "large": 150.0})
    without = Outcome("a/2", "a", Prompt(""), {"small": 0, "large": 1}, {})
    measured = length_error([row, without], [PAIR], [Prediction(0.5, 200, "chat", 0)] * 2)
    assert (measured.ratio_of_means, measured.factor_median) == pytest.approx((2, 2))
    assert np.isnan(length_error([without], [PAIR], [Prediction(0.5, 200, "chat", 0)]).ratio_of_means)


def test_rows_that_may_not_teach_calibrate_nothing() -> None:
    shares = suffices([outcome(1, "a", 1, 0), outcome(2, "alpaca_eval1", 1, 0)], [PAIR])
    assert shares[0] == 1
    assert np.isnan(shares[1])


def test_no_row_is_predicted_by_what_it_taught(outcomes: list[Outcome], small_classifier: Classifier) -> None:
    taught: list[set[str]] = []

    def train(teachers: object, pairs: object) -> Classifier:
        assert isinstance(teachers, list)
        taught.append({teacher.question for teacher in teachers})
        return small_classifier

    splits: list[Split] = folds(outcomes, 4)
    assert len(predict_unseen(outcomes, splits, PUBLIC_PAIRS, train)) == len(outcomes)
    for split, questions in zip(splits, taught, strict=True):
        assert questions
        assert not questions & {outcomes[row].question for row in split.test}
