"""Who is filled first, and when the next one is woken."""

import pytest
from pools import CLOUD

from policies.pack import BELOW, COLD, METERED, OVERFULL, WARM, Pack

CASES = {
    "the fullest that has room": (
        {},
        [("a/0", {"fill_ratio": 0.2}), ("b/0", {"fill_ratio": 0.9}), ("c/0", {"fill_ratio": 0.5})],
        [("b/0", WARM), ("c/0", WARM), ("a/0", WARM)],
    ),
    "an idle one only when the warm ones are full": (
        {},
        [("a/0", {}), ("b/0", {"fill_ratio": 1.0}), ("c/0", {"fill_ratio": 0.99})],
        [("c/0", WARM), ("a/0", COLD), ("b/0", OVERFULL)],
    ),
    "of the idle always the same, whoever is the quicker": (
        {},
        [("b/0", {"ttft": 0.1}), ("a/0", {"ttft": 0.2}), ("c/0", {"quote": 1})],
        [("c/0", COLD), ("a/0", COLD), ("b/0", COLD)],
    ),
    "tokens are bought before a replica is overfilled": (
        {},
        [("a/0", {"fill_ratio": 1.2}), ("b/0", {"fill_ratio": 1.1}), ("cloud/0", {"pool": CLOUD, "quote": 10**9})],
        [("cloud/0", METERED), ("b/0", OVERFULL), ("a/0", OVERFULL)],
    ),
    "a full queue is full, too": (
        {"ttft_seconds_max": 1.0},
        [("a/0", {"fill_ratio": 0.5, "ttft": 1.1}), ("b/0", {})],
        [("b/0", COLD), ("a/0", OVERFULL)],
    ),
    "the floor comes before packing": (
        {"quality_min": 0.75},
        [("small/0", {"fill_ratio": 0.9, "quality": 0.5}), ("large/0", {})],
        [("large/0", COLD), ("small/0", BELOW)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_order_is(case, candidate, request_) -> None:
    parameters, candidates, expected = CASES[case]
    ranking = Pack(**parameters).rank(request_, [candidate(name, **traits) for name, traits in candidates])
    assert [(choice.candidate.replica.id, choice.reason) for choice in ranking] == expected
