"""Ring by ring, from the edge outwards."""

import pytest
from pools import CLOUD as CLOUD_POOL
from pools import EDGE

from policies.edge_first import BELOW, CENTRAL, CLOUD, FULL, NEAR, EdgeFirst

CASES = {
    "the edge, then the centre, then the cloud, whatever they cost": (
        {},
        [
            ("cloud/0", {"pool": CLOUD_POOL, "quote": 1}),
            ("central/0", {"quote": 2}),
            ("edge/0", {"pool": EDGE, "quote": 3}),
        ],
        [("edge/0", NEAR), ("central/0", CENTRAL), ("cloud/0", CLOUD)],
    ),
    "a full or late edge is left": (
        {},
        [
            ("edge/0", {"pool": EDGE, "fill_ratio": 1.1}),
            ("edge/1", {"pool": EDGE, "ttft": 2.5, "quote": 900}),
            ("cloud/0", {"pool": CLOUD_POOL}),
        ],
        [("cloud/0", CLOUD), ("edge/1", FULL), ("edge/0", FULL)],
    ),
    "the cheapest within a ring": (
        {},
        [("edge/0", {"pool": EDGE, "quote": 5}), ("edge/1", {"pool": EDGE, "quote": 4})],
        [("edge/1", NEAR), ("edge/0", NEAR)],
    ),
    "below the floor comes last": (
        {"quality_min": 0.7},
        [("edge/0", {"pool": EDGE, "quality": 0.6}), ("cloud/0", {"pool": CLOUD_POOL, "ttft": 9.0})],
        [("cloud/0", FULL), ("edge/0", BELOW)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_order_is(case, candidate, request_) -> None:
    parameters, candidates, expected = CASES[case]
    ranking = EdgeFirst(**parameters).rank(request_, [candidate(name, **traits) for name, traits in candidates])
    order = [(choice.candidate.replica.id, choice.reason) for choice in ranking]
    assert sorted(order) == sorted(expected)
    assert order[0] == expected[0]
    assert [reason for _, reason in order] == [reason for _, reason in expected]
