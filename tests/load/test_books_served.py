"""The bench of what books cost a worker that serves: both routers answer all, and one of them keeps books."""

import socket

import uvloop

from load.bench.books_served import WITHOUT, measure, router
from router.access.keys import new_api_key
from router.ledger.schema import reading
from router.ledger.workers import read_workers

RATE = 20
# Of an attempt at a streamed answer: opened, first token, closed.
EVENTS = 3


def test_both_routers_answer_all_and_one_of_them_writes_down_what_it_saw() -> None:
    key = new_api_key()
    with (
        socket.create_server(("127.0.0.1", 0), backlog=128) as engine,
        router(engine, key, None) as with_books,
        router(engine, key, None, WITHOUT) as without,
    ):
        found = uvloop.run(measure(engine, with_books, without, key, (RATE,), 1))
        told = []
        for one in with_books, without:
            with reading(one.file) as database:
                told.append([worker.reported_seq for worker in read_workers(database)])
    assert told == [[2 * RATE * EVENTS], [0]]  # it was warmed up by as many
    assert [min(pair) > 0 for pair in found[RATE]] == [True]
