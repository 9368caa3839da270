from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array  # type: ignore[import-untyped]

from router.classify.classifier import Classifier
from router.classify.estimators import (
    kind_clusters,
    kind_similarity,
    logistic_curve,
    ridge,
    spread,
    unit_rows,
    usual_similarity,
    weighted_median,
)
from router.classify.evaluation import apgr_table, cells
from router.classify.outcomes import PUBLIC_PAIRS, Outcome, Pair
from router.classify.training import fit
from router.domain.request import Prompt

RANDOM = np.random.default_rng(7)
PAIR = Pair("small", "large")


def test_ridge_is_the_solution_of_the_normal_equations() -> None:
    x, y = RANDOM.random((30, 8)), RANDOM.random(30)
    expected = np.linalg.solve(x.T @ x + 2.0 * np.eye(8), x.T @ y)
    assert ridge(csr_array(x), y, 2.0) == pytest.approx(expected, abs=1e-4)
    assert ridge(csr_array(x[:0]), y[:0], 2.0).tolist() == [0.0] * 8


def test_a_logistic_curve_finds_the_rates_of_two_groups() -> None:
    value = np.repeat([0.0, 2.0], 1000)
    target = np.concatenate((np.full(1000, 0.2), np.full(1000, 0.8)))  # fractions count as rates
    intercept, slope = logistic_curve(value, target, np.ones(2000))
    assert intercept == pytest.approx(-np.log(4), abs=0.02)
    assert intercept + 2 * slope == pytest.approx(np.log(4), abs=0.02)


def test_a_logistic_curve_of_one_answer_is_flat_and_finite() -> None:
    intercept, slope = logistic_curve(np.zeros(10), np.ones(10), np.ones(10))
    assert np.isfinite([intercept, slope]).all()
    assert intercept > 5


def test_weights_count_in_medians_and_spreads() -> None:
    value = np.array([3.0, 1.0, 2.0])
    assert weighted_median(value, np.ones(3)) == 2.0
    assert weighted_median(value, np.array([5.0, 1.0, 1.0])) == 3.0
    assert spread(np.array([0.0, 2.0]), np.array([3.0, 1.0])) == pytest.approx(0.75**0.5)
    assert spread(np.zeros(3), np.ones(3)) == 1.0


def test_rows_have_unit_length() -> None:
    rows = unit_rows([np.array([0, 3], np.uint32), np.array([], np.uint32), np.array([1], np.uint32)], bits=2)
    assert rows.toarray() == pytest.approx(np.array([[0.5**0.5, 0, 0, 0.5**0.5], [0, 0, 0, 0], [0, 1, 0, 0]]))


def test_prompts_are_nearest_to_the_clusters_of_their_own_kind() -> None:
    rows = [np.array([0, 1 + number % 3], np.uint32) for number in range(30)]
    rows += [np.array([8, 9 + number % 3], np.uint32) for number in range(30)]
    x, kind = unit_rows(rows, bits=4), np.repeat([0, 1], 30)
    clusters, cluster_kind = kind_clusters(x, kind)
    similarity = kind_similarity(x, clusters, cluster_kind, kinds_total=3)
    assert (similarity.argmax(axis=1) == kind).all()
    assert (similarity[:, 2] == 0).all()
    assert usual_similarity(similarity[:, :2], kind) == pytest.approx([1, 1], abs=0.1)


def made_up(dataset: str, hard_word: str, easy_word: str, length: float) -> list[Outcome]:
    """The large model is needed where one word stands, and its answers are as long as the dataset says."""
    rows = []
    for number in range(150):
        word, score = (hard_word, 0.0) if number % 2 else (easy_word, 1.0)
        text = f"{dataset} asks about {word} number {number}"
        rows.append(
            Outcome(f"{dataset}/{number}", dataset, Prompt(text), {"small": score, "large": 1.0}, {"large": length})
        )
    return rows


@pytest.fixture(scope="module")
def taught() -> Classifier:
    return Classifier(
        fit([*made_up("physics", "quarks", "levers", 400), *made_up("cooking", "soufflé", "toast", 50)], [PAIR])
    )


def test_what_is_taught_is_learned(taught: Classifier) -> None:
    hard = taught.predict(Prompt("physics asks about quarks number 1000"))
    easy = taught.predict(Prompt("physics asks about levers number 1000"))
    assert hard.small_suffices < 0.5 < easy.small_suffices
    assert hard.uncertainty == easy.uncertainty == 0
    toast = taught.predict(Prompt("cooking asks about toast number 1000"))
    assert toast.completion_tokens < 100 < 300 < easy.completion_tokens


def test_what_is_not_taught_is_not_known(taught: Classifier) -> None:
    assert taught.predict(Prompt("zebra xylophone yesterday quickly")).uncertainty == 1


def test_lengths_need_not_be_recorded() -> None:
    rows = [*made_up("physics", "quarks", "levers", 400), *made_up("cooking", "soufflé", "toast", 50)]
    without = [Outcome(row.id, row.dataset, row.prompt, row.scores, {}) for row in rows]
    assert Classifier(fit(without, [PAIR])).predict(without[0].prompt).completion_tokens == pytest.approx(211)


def test_one_kind_alone_teaches_no_difference() -> None:
    with pytest.raises(ValueError, match="at least two datasets"):
        fit(made_up("physics", "quarks", "levers", 400), [PAIR])


def test_training_twice_makes_the_same_file(
    outcomes: list[Outcome], small_classifier: Classifier, tmp_path: Path
) -> None:
    small_classifier.learned.save(tmp_path / "one.npz")
    fit(outcomes, PUBLIC_PAIRS).save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_a_classifier_knows_what_it_was_trained_on(small_classifier: Classifier, outcomes: list[Outcome]) -> None:
    """In sample, that is: a check that features, training and prediction fit together, not of quality."""
    score = np.array([1 - small_classifier.predict(outcome.prompt).small_suffices for outcome in outcomes])
    _, macro = apgr_table(score, cells(outcomes, PUBLIC_PAIRS))
    assert macro.value > 0.7
