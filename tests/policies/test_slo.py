"""The objectives and what is done when nobody meets them."""

import pytest

from policies.slo import BEYOND, NEARLY, WITHIN, Slo

CASES = {
    "the cheapest within both objectives": (
        [("a/0", {"quote": 5, "ttft": 2.0, "tpot": 0.08}), ("b/0", {"quote": 4}), ("c/0", {"quote": 9})],
        [("b/0", WITHIN), ("a/0", WITHIN), ("c/0", WITHIN)],
    ),
    "a dear one on time before a cheap one that is slow in either": (
        [("a/0", {"quote": 1, "ttft": 2.1}), ("b/0", {"quote": 1, "tpot": 0.11}), ("c/0", {"quote": 900})],
        [("c/0", WITHIN), ("a/0", BEYOND), ("b/0", BEYOND)],
    ),
    "a time per token of which one answer in ten would be too slow is beyond": (
        [("a/0", {"quote": 1, "ttft": 0.1, "tpot": 0.09}), ("b/0", {"quote": 900, "ttft": 0.1, "tpot": 0.06})],
        [("b/0", WITHIN), ("a/0", BEYOND)],
    ),
    "the least violation when none is within, measured in multiples of the objective": (
        [("a/0", {"quote": 1, "ttft": 6.4}), ("b/0", {"ttft": 0.1, "tpot": 0.2}), ("c/0", {"ttft": 3.0, "tpot": 0.5})],
        [("b/0", NEARLY), ("a/0", BEYOND), ("c/0", BEYOND)],
    ),
    "the cheapest of those that hardly violate them more than the least": (
        [
            ("a/0", {"quote": 90, "ttft": 2.4}),
            ("b/0", {"quote": 900, "ttft": 1.99}),
            ("c/0", {"quote": 1, "tpot": 0.2}),
        ],
        [("a/0", NEARLY), ("b/0", WITHIN), ("c/0", BEYOND)],
    ),
    "the quality of the answer is not its business": (
        [("a/0", {"quote": 1, "quality": 0.0}), ("b/0", {"quote": 2})],
        [("a/0", WITHIN), ("b/0", WITHIN)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_order_is(case, candidate, request_) -> None:
    candidates, expected = CASES[case]
    ranking = Slo().rank(request_, [candidate(name, **traits) for name, traits in candidates])
    assert [(choice.candidate.replica.id, choice.reason) for choice in ranking] == expected
