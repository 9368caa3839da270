"""When the cached prefix is worth the wait."""

import pytest

from policies.prefix_affinity import ELSEWHERE, HELD, PrefixAffinity

CASES = {
    "the longest prefix": (
        {},
        [("a/0", {"cached_tokens": 500}), ("b/0", {"cached_tokens": 900, "attempts": 9}), ("c/0", {})],
        [("b/0", HELD), ("a/0", HELD), ("c/0", ELSEWHERE)],
    ),
    "not when waiting there takes longer than computing it anew elsewhere": (
        {},
        [("a/0", {"cached_tokens": 900, "ttft": 0.6, "attempts": 9}), ("b/0", {"ttft": 0.5})],
        [("b/0", ELSEWHERE), ("a/0", ELSEWHERE)],
    ),
    "unless the difference is spared for it": (
        {"ttft_seconds_spare": 0.2},
        [("a/0", {"cached_tokens": 900, "ttft": 0.6}), ("b/0", {"ttft": 0.5})],
        [("a/0", HELD), ("b/0", ELSEWHERE)],
    ),
    "a scrap of a prefix is not worth sticking to": (
        {},
        [("a/0", {"cached_tokens": 63, "attempts": 1}), ("b/0", {})],
        [("b/0", ELSEWHERE), ("a/0", ELSEWHERE)],
    ),
    "where all hold it the longest goes first if it is not slower than the quickest": (
        {},
        [("a/0", {"cached_tokens": 900, "ttft": 0.5}), ("b/0", {"cached_tokens": 800, "ttft": 0.5})],
        [("a/0", HELD), ("b/0", HELD)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_order_is(case, candidate, request_) -> None:
    parameters, candidates, expected = CASES[case]
    ranking = PrefixAffinity(**parameters).rank(request_, [candidate(name, **traits) for name, traits in candidates])
    assert [(choice.candidate.replica.id, choice.reason) for choice in ranking] == expected
