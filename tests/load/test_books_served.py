"""The bench of what books cost a worker that serves: both routers answer all, and one of them keeps books."""

import socket

import pytest
import uvloop

from load.bench.books_served import WITHOUT, Router, measure, router
from router.access.keys import new_api_key
from router.config.stores import AccountantPlace
from router.ledger.schema import reading
from router.ledger.workers import read_workers

RATE = 20
# Of an attempt at a streamed answer: opened, first token, closed.
EVENTS = 3


@pytest.mark.parametrize("place", [AccountantPlace.ALONE, AccountantPlace.APART])
def test_both_routers_answer_all_and_one_of_them_writes_down_what_it_saw(place: AccountantPlace) -> None:
    key = new_api_key()
    with (
        socket.create_server(("127.0.0.1", 0), backlog=128) as engine,
        router(engine, key, None, place) as with_books,
        router(engine, key, None, place, WITHOUT) as without,
    ):
        found = uvloop.run(measure(engine, with_books, without, key, (RATE,), 1, 1))
        told = [events_of_attempts(one, place) for one in (with_books, without)]
    assert told == [2 * RATE * EVENTS, 0]  # it was warmed up by as many
    assert [min(pair) > 0 for pair in found[RATE]] == [True]


def events_of_attempts(one: Router, place: AccountantPlace) -> int:
    with reading(one.file) as database:
        if place is AccountantPlace.APART:
            return sum(worker.reported_seq for worker in read_workers(database))
        (events,) = database.execute("SELECT count(*) FROM journal WHERE kind <> 'leased'").fetchone()
        return int(events)
