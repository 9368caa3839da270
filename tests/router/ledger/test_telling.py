"""A worker tells and beats in one statement, in either engine: all of it or nothing, and each report once."""

from collections.abc import Iterator
from typing import Any

import pytest
from ledgers import Place

from router.ledger.database import Database, transaction
from router.ledger.schema import open_shared
from router.ledger.telling import prepare_to_tell, tell_at_once
from router.ledger.workers import REGISTER, SEVERAL, SILENCE, write_booked

REPORT = (3, "1", SEVERAL, 70, "[1, 2, 3]")


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """With one worker, w, that has told nothing."""
    opened = open_shared(place.address)
    with transaction(opened):
        opened.execute(REGISTER, {"worker": "w", "at_ns": 10, "seq": 0})
    prepare_to_tell(opened)
    yield opened
    opened.close()


def beat(seq: int, watermark_ns: int = 80) -> dict[str, Any]:
    members = {"in_flight": '{"r": 1}', "awake": "{}", "state": "live"}
    return {"worker": "w", "watermark_ns": watermark_ns, "seq": seq, **members}


def workers(place: Place) -> list[tuple[Any, ...]]:
    return place.rows("SELECT state, watermark_ns, beats, reported_seq, booked_seq, in_flight, awake FROM workers")


def reports(place: Place) -> list[tuple[Any, ...]]:
    return place.rows("SELECT worker, seq, subject, kind, at_ns, detail FROM reports")


def test_a_report_comes_with_the_beat(place: Place, database: Database) -> None:
    assert tell_at_once(database, beat(3), REPORT)
    assert workers(place) == [("live", 80, 1, 3, 0, '{"r": 1}', "{}")]
    assert reports(place) == [("w", *REPORT)]


def test_a_beat_alone_takes_nothing_back(place: Place, database: Database) -> None:
    tell_at_once(database, beat(3), REPORT)
    assert tell_at_once(database, beat(0, 90), None)
    assert workers(place) == [("live", 90, 2, 3, 0, '{"r": 1}', "{}")]
    assert reports(place) == [("w", *REPORT)]


def test_what_was_told_before_and_not_confirmed_is_there_once(place: Place, database: Database) -> None:
    for _ in range(2):
        assert tell_at_once(database, beat(3), REPORT)
    assert reports(place) == [("w", *REPORT)]


def test_what_is_booked_by_now_is_not_told_again(place: Place, database: Database) -> None:
    tell_at_once(database, beat(3), REPORT)
    with transaction(database):
        write_booked(database, {"w": 3}, ())
    assert tell_at_once(database, beat(3), REPORT)
    assert reports(place) == []
    assert tell_at_once(database, beat(4), (4, "4", SEVERAL, 85, "[4]"))
    assert reports(place) == [("w", 4, "4", SEVERAL, 85, "[4]")]


def test_of_a_worker_that_was_taken_for_dead_nothing_is_told(place: Place, database: Database) -> None:
    with transaction(database):
        database.execute(SILENCE, {"worker": "w"})
    assert not tell_at_once(database, beat(3), REPORT)
    assert workers(place) == [("silent", 10, 0, 0, 0, "{}", "{}")]
    assert reports(place) == []


def test_of_a_worker_that_was_never_heard_of_nothing_is_told(place: Place, database: Database) -> None:
    assert not tell_at_once(database, beat(3) | {"worker": "another"}, REPORT)
    assert reports(place) == []
