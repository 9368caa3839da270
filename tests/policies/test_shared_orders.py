"""The orders that policies share."""

from policies import on_time_first, soonest_first


def names(candidates) -> list[str]:
    return [candidate.replica.id for candidate in candidates]


def test_of_those_about_as_soon_as_the_quickest_the_cheapest_is_first(candidate) -> None:
    quick, near, far = (
        candidate("quick/0", quote=900, ttft=4.0),
        candidate("near/0", quote=90, ttft=5.0),
        candidate("far/0", quote=1, ttft=5.1),
    )
    assert names(soonest_first([far, near, quick])) == ["near/0", "quick/0", "far/0"]
    assert soonest_first([]) == []


def test_those_on_time_come_first_by_price_and_the_late_by_how_soon_they_are(candidate) -> None:
    on_time = [candidate("a/0", quote=900, ttft=1.9), candidate("b/0", quote=800, ttft=0.1)]
    late = [
        candidate("c/0", quote=2, ttft=2.2),
        candidate("d/0", quote=1, ttft=2.4),
        candidate("e/0", quote=0, ttft=9.0),
    ]
    assert names(on_time_first([*late, *on_time], 2.0)) == ["b/0", "a/0", "d/0", "c/0", "e/0"]
