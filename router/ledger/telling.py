"""How a worker tells what it saw, and beats, in one statement that is a transaction of its own.

Both drivers let go of the interpreter's lock at every statement and must win it back from an event loop that is busy: a
commit in four statements cost the loop as much CPU as the thread that made it. In PostgreSQL each was a round trip, too.
"""

import sqlite3
from collections.abc import Mapping
from typing import Any

from router.ledger import workers
from router.ledger.database import Database, Engine

# In PostgreSQL one statement can do both.
TELL_POSTGRESQL = f"""
WITH beat AS ({workers.BEAT}), told AS (
    INSERT INTO reports ({", ".join(workers.REPORT_COLUMNS)})
    SELECT CAST(:worker AS TEXT), CAST(:seq AS BIGINT), CAST(:subject AS TEXT), CAST(:kind AS TEXT), CAST(:at_ns AS BIGINT),
        CAST(:detail AS TEXT)
    FROM beat WHERE CAST(:subject AS TEXT) IS NOT NULL AND CAST(:seq AS BIGINT) > booked_seq
    ON CONFLICT DO NOTHING
) SELECT booked_seq FROM beat
"""

# In SQLite a trigger does, of a view that is this connection's alone.
TOLD = ("worker", "watermark_ns", "seq", "in_flight", "awake", "state", "subject", "kind", "at_ns", "detail")
TELL_SQLITE = f"INSERT INTO telling ({', '.join(TOLD)}) VALUES ({', '.join(f':{name}' for name in TOLD)})"
MEANS_OF_SQLITE = (
    f"CREATE TEMP VIEW telling ({', '.join(TOLD)}) AS SELECT {', '.join(['NULL'] * len(TOLD))}",
    f"""
    CREATE TEMP TRIGGER tell INSTEAD OF INSERT ON telling BEGIN
        {workers.BEAT.partition("RETURNING")[0].replace(":", "NEW.")};
        SELECT RAISE(ABORT, 'the worker is not live') WHERE changes() = 0;
        INSERT INTO reports ({", ".join(workers.REPORT_COLUMNS)})
        SELECT NEW.worker, NEW.seq, NEW.subject, NEW.kind, NEW.at_ns, NEW.detail
        WHERE NEW.subject IS NOT NULL AND NEW.seq > (SELECT booked_seq FROM workers WHERE worker = NEW.worker)
        ON CONFLICT DO NOTHING;
    END
    """,
)


def prepare_to_tell(database: Database) -> None:
    """On a connection that is new."""
    if database.engine is Engine.SQLITE:
        for statement in MEANS_OF_SQLITE:
            database.execute(statement)


def tell_at_once(database: Database, beat: Mapping[str, Any], report: workers.ReportRow | None) -> bool:
    """Outside a transaction. beat: the parameters of `workers.BEAT`. Whether it is told: where the worker was taken for dead,
    nothing is. A report that was told before and is booked by now is not told again."""
    members: tuple[Any, ...] = report or (beat["seq"], None, None, None, None)
    told = {**beat, **dict(zip(workers.REPORT_MEMBERS, members, strict=True))}
    if database.engine is Engine.POSTGRESQL:
        return database.execute(TELL_POSTGRESQL, told).fetchone() is not None
    try:
        database.execute(TELL_SQLITE, told)
    except sqlite3.IntegrityError:
        return False
    return True
