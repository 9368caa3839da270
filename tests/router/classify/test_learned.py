from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.classify.classifier import SHIPPED, Classifier
from router.classify.learned import FEATURE_BITS, KIND_BITS, Calibration, LearnedModel, logistic, nearness
from router.classify.outcomes import Outcome
from router.classify.words import FEW_WORDS, word_buckets, words

CALIBRATION = Calibration(
    points_mean=6.0,
    points_scale=1.5,
    gain_scale=0.1,
    small_suffices=(1.0, -0.2),
    strange_similarity=0.8,
    known_similarity=1.0,
    tokens_factor=1.5,
)


def test_an_estimate_is_the_sum_over_features_of_unit_length() -> None:
    found = words("one two one")
    kinds, features = word_buckets(found, set(found), KIND_BITS, FEATURE_BITS)
    weights = np.zeros((1 << FEATURE_BITS, 2), np.float32)
    weights[features] = (0.5, 0.25)
    clusters = np.zeros((1 << KIND_BITS, 2), np.float32)
    clusters[kinds, 1] = 1.0
    estimate = LearnedModel(weights, clusters, 4.0, CALIBRATION).estimate(found, set(found))
    # Two distinct words and two distinct pairs: four features of 1/√4, two words of 1/√2.
    assert estimate.gain == pytest.approx(4 * 0.5 / 2)
    assert estimate.log_tokens == pytest.approx(4.0 + 4 * 0.25 / 2)
    assert estimate.similarity == pytest.approx(2 / 2**0.5)


def test_of_no_words_the_intercepts_are_all_there_is_to_say() -> None:
    estimate = Classifier.load().learned.estimate([], set())
    assert (estimate.gain, estimate.similarity) == (0.0, 0.0)
    assert estimate.log_tokens == Classifier.load().learned.log_tokens_mean


@pytest.mark.parametrize(("similarity", "expected"), [(0.0, 0), (0.8, 0), (0.85, 0.25), (1.0, 1), (1.3, 1)])
def test_nearness_runs_from_strange_to_known(similarity: float, expected: float) -> None:
    assert nearness(CALIBRATION, similarity) == pytest.approx(expected)


def test_a_logistic_curve_does_not_overflow() -> None:
    assert logistic((0.0, 1.0), 0.0) == 0.5
    assert 0 < logistic((0.0, 1e9), -1e9) < 1e-20
    assert logistic((0.0, 1e9), 1e9) == pytest.approx(1)


def test_what_is_saved_is_what_is_loaded(small_classifier: Classifier, outcomes: list[Outcome], tmp_path: Path) -> None:
    small_classifier.learned.save(tmp_path / "model.npz")
    loaded = Classifier.load(tmp_path / "model.npz")
    assert loaded.learned.calibration == small_classifier.learned.calibration
    for outcome in outcomes[:50]:
        before, after = small_classifier.predict(outcome.prompt), loaded.predict(outcome.prompt)
        assert after.small_suffices == pytest.approx(before.small_suffices, abs=0.005)  # half precision
        assert after.completion_tokens == pytest.approx(before.completion_tokens, rel=0.02)


def test_a_trained_file_has_the_form_of_the_shipped_one(small_classifier: Classifier, tmp_path: Path) -> None:
    small_classifier.learned.save(tmp_path / "model.npz")

    def form(path: Path) -> dict[str, tuple[str, int, int]]:
        with np.load(path) as arrays:
            return {name: (str(arrays[name].dtype), arrays[name].ndim, arrays[name].shape[:1]) for name in arrays.files}

    assert form(tmp_path / "model.npz") == form(SHIPPED)


@pytest.mark.parametrize("content", [b"", b"not arrays", b"PK\x03\x04 truncated"])
def test_a_file_that_is_none_of_ours_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a classifier"):
        LearnedModel.load(path)


def test_arrays_of_another_size_are_refused(small_classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    replace(small_classifier.learned, weights=np.zeros((8, 2), np.float32)).save(path)
    with pytest.raises(ValueError, match="train it anew"):
        LearnedModel.load(path)
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(ValueError, match="not a classifier"):
        LearnedModel.load(path)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Classifier.load("nowhere.npz")


@given(st.lists(st.sampled_from([b"word%d" % n for n in range(FEW_WORDS)]), min_size=1, max_size=40))
def test_few_words_are_estimated_as_numpy_would(found: list[bytes]) -> None:
    learned = Classifier.load().learned
    kinds, features = word_buckets(found, set(found), KIND_BITS, FEATURE_BITS)
    gain, log_tokens = learned.weights[features].sum(axis=0) / len(features) ** 0.5
    estimate = learned.estimate(found, set(found))
    assert estimate.gain == pytest.approx(float(gain), abs=1e-5)
    assert estimate.log_tokens == pytest.approx(learned.log_tokens_mean + float(log_tokens), abs=1e-5)
    assert estimate.similarity == pytest.approx(
        float(learned.clusters[kinds].sum(axis=0).max()) / len(kinds) ** 0.5, abs=1e-5
    )
