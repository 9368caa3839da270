"""What is reckoned from recorded outcomes: which share of the cost can be saved at which quality."""

import gzip
import json

import numpy as np
import pytest

from load.bench.quality_cost import PRICE_RATIO, agreements, cascade_saving, chance_saving, interval, qualities, saving

# Both right, only the small one, only the large one twice, neither.
SMALL = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
LARGE = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
EVEN = np.ones(5)
OF_SMALL = 1 - PRICE_RATIO  # what is saved where the small model answers all


def test_a_mixture_is_better_than_the_large_model_where_the_small_one_is_right_alone() -> None:
    share, quality = qualities(SMALL - LARGE, SMALL, LARGE, EVEN)
    assert share == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert quality == pytest.approx([1, 4 / 3, 4 / 3, 4 / 3, 1, 2 / 3])


def test_who_knows_the_answers_saves_the_most_that_keeps_the_quality() -> None:
    assert saving(1.0, SMALL - LARGE, SMALL, LARGE, EVEN) == pytest.approx(0.8 * OF_SMALL)
    assert saving(0.6, SMALL - LARGE, SMALL, LARGE, EVEN) == pytest.approx(OF_SMALL)
    assert saving(1.0, LARGE - SMALL, SMALL, LARGE, EVEN) == 0


def test_who_draws_lots_loses_quality_in_a_straight_line() -> None:
    assert chance_saving(1.0, SMALL, LARGE, EVEN) == 0
    assert chance_saving(5 / 6, SMALL, LARGE, EVEN) == pytest.approx(0.5 * OF_SMALL)
    assert chance_saving(0.1, SMALL, LARGE, EVEN) == pytest.approx(OF_SMALL)


def test_questions_that_weigh_more_count_more() -> None:
    weight = np.array([1.0, 1.0, 5.0, 1.0, 1.0])
    assert saving(0.9, SMALL - LARGE, SMALL, LARGE, weight) < saving(0.9, SMALL - LARGE, SMALL, LARGE, EVEN)


def test_the_better_the_test_the_more_a_cascade_saves_and_its_attempts_are_paid_for() -> None:
    saved = [cascade_saving(1.0, auc, SMALL, LARGE, EVEN) for auc in (0.6, 0.8, 0.99, 0.999999)]
    assert saved == sorted(saved)
    # All right answers of the small model are kept, of its wrong ones only what the large one gets wrong, too, would pay.
    assert saved[-1] >= 0.4 - PRICE_RATIO
    assert cascade_saving(0.0, 0.5, SMALL, LARGE, EVEN) == pytest.approx(OF_SMALL, abs=1e-3)


def test_an_interval_holds_the_estimate_and_is_none_where_all_questions_are_alike() -> None:
    assert interval(lambda weight: float(weight @ SMALL / weight.sum()), ["a"] * 5).startswith("40.0% [")
    assert (
        interval(lambda weight: float(weight @ EVEN / weight.sum()), ["a", "a", "b"] + ["b"] * 2)
        == "100.0% [100.0%, 100.0%]"
    )


def test_an_answer_is_kept_where_a_second_small_model_gives_the_same_and_no_answer_is_none(tmp_path) -> None:
    small, large = "llama-3.1-8b-instruct", "llama-3.1-70b-instruct"

    def row(mine: str | None, second: str | None, small_score: float) -> str:
        return json.dumps(
            {"scores": {small: small_score, large: 1.0}, "answers": {small: mine, "mathstral-7b": second}}
        )

    rows = [row("A", "A", 1.0), row("B", "B", 0.0), row("A", "B", 0.0), row(None, None, 0.0)]
    path = tmp_path / "mmlu_pro.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    saved = 0.5 - 2 * PRICE_RATIO
    assert agreements(path) == [f"| mmlu_pro | mathstral-7b | 50% | 75.0% | {saved:.0%} |"]
