"""Who has the least, by what it should have."""

import pytest
from pools import CLOUD

from policies.spread import LEASED, METERED, OVERFULL, Spread

CASES = {
    "the least full, not the one with the fewest attempts": (
        [("l4/0", {"fill_ratio": 0.5, "attempts": 5}), ("h100/0", {"fill_ratio": 0.3, "attempts": 10})],
        [("h100/0", LEASED), ("l4/0", LEASED)],
    ),
    "of equally full ones the cheapest": (
        [("a/0", {"fill_ratio": 0.5, "quote": 9}), ("b/0", {"fill_ratio": 0.5, "quote": 8})],
        [("b/0", LEASED), ("a/0", LEASED)],
    ),
    "what is bought by the token only when the leases are overfull": (
        [("cloud/0", {"pool": CLOUD, "quote": 1}), ("a/0", {"fill_ratio": 1.49}), ("b/0", {"fill_ratio": 1.5})],
        [("a/0", LEASED), ("cloud/0", METERED), ("b/0", OVERFULL)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_order_is(case, candidate, request_) -> None:
    candidates, expected = CASES[case]
    ranking = Spread().rank(request_, [candidate(name, **traits) for name, traits in candidates])
    assert [(choice.candidate.replica.id, choice.reason) for choice in ranking] == expected
