"""What the default policy prefers, case by case: the candidates, and their order with the reasons."""

import pytest
from pydantic import ValidationError

from policies.quality_floor import BELOW, LATE, NEARLY, ON_TIME, QualityFloor

CASES = {
    "the cheapest of those that are good and on time": (
        [("large/0", {"quote": 900}), ("small/0", {"quote": 90, "quality": 0.9}), ("cloud/0", {"quote": 500})],
        [("small/0", ON_TIME), ("cloud/0", ON_TIME), ("large/0", ON_TIME)],
    ),
    "a good one before a cheap one": (
        [("small/0", {"quote": 1, "quality": 0.74}), ("large/0", {"quote": 900})],
        [("large/0", ON_TIME), ("small/0", BELOW)],
    ),
    "exactly at the floor is good, exactly at the objective is on time": (
        [("large/0", {"quote": 900}), ("small/0", {"quote": 90, "quality": 0.75, "ttft": 2.0})],
        [("small/0", ON_TIME), ("large/0", ON_TIME)],
    ),
    "the quickest of those that are good and late": (
        [("a/0", {"quote": 1, "ttft": 9.0}), ("b/0", {"quote": 900, "ttft": 3.0})],
        [("b/0", NEARLY), ("a/0", LATE)],
    ),
    "the cheapest of those that are hardly later than the quickest, where that is late": (
        [("a/0", {"quote": 90, "ttft": 2.5}), ("b/0", {"quote": 900, "ttft": 2.1}), ("c/0", {"quote": 1, "ttft": 2.7})],
        [("a/0", NEARLY), ("b/0", NEARLY), ("c/0", LATE)],
    ),
    "and where it is hardly on time": (
        [
            ("a/0", {"quote": 90, "ttft": 2.4}),
            ("b/0", {"quote": 900, "ttft": 1.99}),
            ("c/0", {"quote": 1, "ttft": 2.6}),
        ],
        [("a/0", NEARLY), ("b/0", ON_TIME), ("c/0", LATE)],
    ),
    "but not where somebody is clearly on time": (
        [("a/0", {"quote": 90, "ttft": 2.1}), ("b/0", {"quote": 900, "ttft": 1.5})],
        [("b/0", ON_TIME), ("a/0", LATE)],
    ),
    "good and late before bad and on time": (
        [("small/0", {"quality": 0.1, "ttft": 0.1}), ("large/0", {"ttft": 60.0})],
        [("large/0", NEARLY), ("small/0", BELOW)],
    ),
    "of those below the floor the best, of equals the cheapest": (
        [
            ("a/0", {"quality": 0.2, "quote": 1}),
            ("b/0", {"quality": 0.5, "quote": 900}),
            ("c/0", {"quality": 0.5, "quote": 90}),
        ],
        [("c/0", BELOW), ("b/0", BELOW), ("a/0", BELOW)],
    ),
    "equal replicas share the work": (
        [("a/0", {"attempts": 2}), ("a/1", {"attempts": 1}), ("a/2", {"attempts": 3})],
        [("a/1", ON_TIME), ("a/0", ON_TIME), ("a/2", ON_TIME)],
    ),
    "nothing to choose from": ([], []),
}


@pytest.mark.parametrize("case", CASES)
def test_the_order_is(case, candidate, request_) -> None:
    candidates, expected = CASES[case]
    ranking = QualityFloor().rank(request_, [candidate(name, **traits) for name, traits in candidates])
    assert [(choice.candidate.replica.id, choice.reason) for choice in ranking] == expected


def test_an_objective_for_the_time_per_token_counts_where_it_is_set(candidate, request_) -> None:
    candidates = [candidate("slow/0", quote=1, tpot=0.09), candidate("quick/0", quote=900, tpot=0.08)]
    unset = QualityFloor().rank(request_, candidates)
    assert [choice.candidate.replica.id for choice in unset] == ["slow/0", "quick/0"]
    # One answer in ten takes a quarter longer than the median.
    ranking = QualityFloor(tpot_seconds_max=0.1).rank(request_, candidates)
    assert [(choice.candidate.replica.id, choice.reason) for choice in ranking] == [
        ("quick/0", ON_TIME),
        ("slow/0", LATE),
    ]


def test_being_hardly_later_excuses_nobody_who_is_too_slow_after_that(candidate, request_) -> None:
    candidates = [candidate("slow/0", quote=1, ttft=2.1, tpot=0.2), candidate("quick/0", quote=900, ttft=2.1)]
    ranking = QualityFloor(tpot_seconds_max=0.1).rank(request_, candidates)
    assert [(choice.candidate.replica.id, choice.reason) for choice in ranking] == [
        ("quick/0", NEARLY),
        ("slow/0", LATE),
    ]


def test_of_those_that_are_all_too_slow_the_cheapest_of_the_soonest_is_first(candidate, request_) -> None:
    times = {"a/0": (900, 0.5), "b/0": (1, 0.6), "c/0": (1, 0.7)}
    candidates = [candidate(name, quote=quote, ttft=ttft, tpot=0.2) for name, (quote, ttft) in times.items()]
    ranking = QualityFloor(tpot_seconds_max=0.1).rank(request_, candidates)
    assert [(choice.candidate.replica.id, choice.reason) for choice in ranking] == [
        ("b/0", LATE),
        ("a/0", LATE),
        ("c/0", LATE),
    ]


def test_a10_a_price_of_zero_is_the_cheapest_and_not_unset(candidate, request_) -> None:
    ranking = QualityFloor().rank(request_, [candidate("a/0", quote=1), candidate("free/0", quote=0)])
    assert ranking[0].candidate.replica.id == "free/0"


def test_a10_the_expected_cost_of_this_request_decides_and_no_list_price(candidate, request_) -> None:
    """What a request is quoted differs by its length; the policy follows the quote, whichever backend that favours."""
    short = QualityFloor().rank(request_, [candidate("a/0", quote=10), candidate("b/0", quote=20)])
    long = QualityFloor().rank(request_, [candidate("a/0", quote=500), candidate("b/0", quote=300)])
    assert (short[0].candidate.backend.name, long[0].candidate.backend.name) == ("a", "b")


@pytest.mark.parametrize(
    "parameters", [{"quality_min": 1.01}, {"quality_min": -0.1}, {"ttft_seconds_max": 0}, {"quality": 0.9}]
)
def test_a_parameter_that_makes_no_sense_is_refused(parameters) -> None:
    with pytest.raises(ValidationError):
        QualityFloor(**parameters)
