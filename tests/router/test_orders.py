"""An administrator's orders: what comes of them where several workers obey."""

from router.orders import leave, merged, notices


def replica(name: str, state: str = "up", in_flight: int = 0, seconds: float | None = None) -> dict[str, object]:
    why = "is leaving: its node is drained" if state == "leaving" else ""
    return {"id": name, "state": state, "why": why, "in_flight": in_flight, "given_up_in_seconds": seconds}


def test_replicas_of_all_workers_are_one_list_with_what_is_in_flight_at_all_of_them() -> None:
    found = merged([[replica("a", in_flight=2), replica("b")], [replica("a", in_flight=3), replica("c")]])
    assert [(one["id"], one["in_flight"]) for one in found] == [("a", 5), ("b", 0), ("c", 0)]


def test_a_worker_that_begins_is_told_of_those_that_are_leaving_and_for_how_long_still() -> None:
    told = notices([replica("a"), replica("b", "leaving", seconds=7.5), replica("c", "leaving"), replica("d", "down")])
    assert told == [leave("b", 7.5, "its node is drained"), leave("c", 0.0, "its node is drained")]
