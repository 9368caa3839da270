"""Quality by tier: the safe side is the higher tier."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.decision import Prediction
from router.selection.quality import tier_qualities


@pytest.mark.parametrize(
    ("small_suffices", "uncertainty", "tiers", "expected"),
    [
        (0.9, 0.0, 2, [0.9, 1.0]),
        (0.9, 0.5, 2, [0.75, 1.0]),
        (0.9, 1.0, 2, [0.6, 1.0]),
        (0.5, 1.0, 2, [0.0, 1.0]),
        (0.2, 1.0, 2, [0.0, 1.0]),
        (1.0, 1.0, 2, [1.0, 1.0]),
        (0.0, 0.0, 2, [0.0, 1.0]),
        (0.4, 0.0, 3, [0.4, 0.7, 1.0]),
        (0.4, 0.0, 4, [0.4, 0.6, 0.8, 1.0]),
        (0.1, 1.0, 1, [1.0]),
    ],
)
def test_the_qualities_are(small_suffices, uncertainty, tiers, expected) -> None:
    assert tier_qualities(Prediction(small_suffices, 1.0, "chat", uncertainty), tiers) == pytest.approx(expected)


def test_where_nothing_is_predicted_the_tiers_are_alike() -> None:
    assert tier_qualities(None, 3) == [1.0, 1.0, 1.0]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(2, 6))
def test_quality_rises_with_the_tier_and_falls_with_what_is_not_known(suffices, less, more, tiers) -> None:
    less, more = sorted((less, more))
    sure = tier_qualities(Prediction(suffices, 1.0, "chat", less), tiers)
    unsure = tier_qualities(Prediction(suffices, 1.0, "chat", more), tiers)
    assert sure == sorted(sure)
    assert all(0 <= quality <= 1 for quality in sure)
    assert all(worse <= better + 1e-12 for worse, better in zip(unsure, sure, strict=True))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_likelier_the_small_tier_suffices_the_better_it_is_however_little_is_known(
    likely, likelier, unknown
) -> None:
    likely, likelier = sorted((likely, likelier))
    worse, _ = tier_qualities(Prediction(likely, 1.0, "chat", unknown), 2)
    better, _ = tier_qualities(Prediction(likelier, 1.0, "chat", unknown), 2)
    assert worse <= better + 1e-12
