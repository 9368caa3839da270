"""Scores and their weights."""

import pytest

from policies.weighted import Weighted

ZERO = dict.fromkeys(("cost", "ttft", "tpot", "quality", "fill", "queue", "prefix"), 0.0)
BETTER = {
    "cost": {"quote": 1},
    "ttft": {"ttft": 0.1},
    "tpot": {"tpot": 0.001},
    "quality": {"quality": 1.0},
    "fill": {"fill_ratio": 0.1},
    "queue": {"prefill": 0},
    "prefix": {"cached_tokens": 500},
}
WORSE = {"quote": 9, "ttft": 0.9, "tpot": 0.1, "quality": 0.4, "fill_ratio": 0.9, "prefill": 100, "cached_tokens": 1}


@pytest.mark.parametrize("scorer", BETTER)
def test_each_scorer_alone_prefers_what_is_better_by_it(scorer, candidate, request_) -> None:
    candidates = [candidate("a/0", **WORSE), candidate("b/0", **(WORSE | BETTER[scorer]))]
    ranking = Weighted(**(ZERO | {scorer: 1.0})).rank(request_, candidates)
    assert [choice.candidate.replica.id for choice in ranking] == ["b/0", "a/0"]


def test_weights_decide_between_scorers(candidate, request_) -> None:
    candidates = [candidate("cheap/0", quote=1, quality=0.1), candidate("good/0", quote=100, quality=1.0)]
    for cost, quality, first in ((2.0, 1.0, "cheap/0"), (1.0, 2.0, "good/0")):
        ranking = Weighted(**(ZERO | {"cost": cost, "quality": quality})).rank(request_, candidates)
        assert ranking[0].candidate.replica.id == first


def test_a_score_is_the_place_between_the_worst_and_the_best(candidate, request_) -> None:
    # By cost 1, 0.9 and 0; by time 0, 0.5 and 1: together the one in the middle is best.
    candidates = [
        candidate("a/0", quote=0, ttft=2.0),
        candidate("b/0", quote=10, ttft=1.0),
        candidate("c/0", quote=100, ttft=0.0),
    ]
    ranking = Weighted(**(ZERO | {"cost": 1.0, "ttft": 1.0})).rank(request_, candidates)
    assert ranking[0].candidate.replica.id == "b/0"
