"""What all workers have seen of spot replicas that are taken away, in the ledger: remembered over restarts, the same for all.

*Preemptions* has a row for each time that a replica was taken. Several workers see it, seconds apart, and tell it each: one that
is away is not taken again, one that was back for less than a minute was away all the time, and whoever sees it first says when it
is back. *Watched days* has, by backend and day (UTC), for how long replicas were there, together: `until_ns` is up to when it is
told, so that time which several saw counts once.

It is written beside the books, on a connection of its own: no money depends on it, nothing of it is in the journal, so an audit
does not know it and a rebuild copies it. What it cost is with the charges.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from router.domain.budget import DAY_NS
from router.domain.preemption import Move, Remembered, Seen, Sighting, Watch
from router.ledger import rows
from router.ledger.address import Address
from router.ledger.beside import writing_beside
from router.ledger.database import Database, transaction
from router.ledger.schema import turns_of

# The learned rate is of so long as what AWS's Spot Instance Advisor tells, which is of the trailing month.
LEARNED_NS = 30 * DAY_NS
# For people: a year, and the same month of the year before beside this one's.
KEPT_NS = 400 * DAY_NS
# One that is back for less is not: a health check that passes once, or another worker that was slow to see it go.
BACK_NS = 60 * 10**9
BUSY_SECONDS = 10.0
TABLES = ("preemptions", "watched_days")

AGAIN = """
UPDATE preemptions SET until_ns = NULL, is_back = 0
WHERE replica = :replica AND taken_ns = (SELECT max(taken_ns) FROM preemptions WHERE replica = :replica)
AND taken_ns <= :at_ns AND until_ns > :at_ns - :back_ns
AND NOT EXISTS (SELECT 1 FROM preemptions WHERE replica = :replica AND until_ns IS NULL)
"""
TAKEN = """
INSERT INTO preemptions (replica, taken_ns, backend, pool, why, until_ns, is_back)
SELECT :replica, :at_ns, :backend, :pool, :why, NULL, 0 WHERE NOT EXISTS (
    SELECT 1 FROM preemptions
    WHERE replica = :replica AND taken_ns <= :at_ns AND (until_ns IS NULL OR until_ns > :at_ns - :back_ns)
) ON CONFLICT DO NOTHING
"""
OVER = """
UPDATE preemptions SET until_ns = :at_ns, is_back = :is_back
WHERE replica = :replica AND until_ns IS NULL AND taken_ns < :at_ns
"""
NEW_DAY = """
INSERT INTO watched_days (backend, day, until_ns, watched_ns)
SELECT :backend, :day, coalesce(max(until_ns), 0), 0 FROM watched_days WHERE backend = :backend AND day < :day
ON CONFLICT DO NOTHING
"""
# What of the time was told by nobody.
WATCHED = """
UPDATE watched_days SET until_ns = :until_ns,
    watched_ns = watched_ns + :replicas * (:until_ns - CASE WHEN until_ns > :since_ns THEN until_ns ELSE :since_ns END)
WHERE backend = :backend AND day = :day AND until_ns < :until_ns
"""
SUMS = """
SELECT backend, count(*), sum(is_back), coalesce(sum(CASE WHEN is_back = 1 THEN until_ns - taken_ns END), 0)
FROM preemptions WHERE taken_ns >= :since_ns GROUP BY backend
"""
HOURS = "SELECT backend, sum(watched_ns) FROM watched_days WHERE day >= :since_day GROUP BY backend"
AWAY = "SELECT backend, replica, taken_ns FROM preemptions WHERE until_ns IS NULL AND taken_ns >= :since_ns"

# Attempts that ended by no doing of their own around that time: a broken connection is seen before a health check is missed.
# None goes on for longer than an hour.
AROUND_NS = 30 * 10**9
CUT_NS = 3600 * 10**9
CUT = f"""
SELECT count(*), coalesce(sum(ended_ns - opened_ns), 0), coalesce(sum(cost_nanousd), 0) FROM charges
WHERE ended_ns >= :since_ns AND ended_ns <= :until_ns AND replica = :replica
AND fault IN ('leaving', 'reset', 'eof', 'stall', 'connect', 'aborted', 'unfinished') AND {rows.IS_LOST}
"""


class Preemption(NamedTuple):
    """until_ns: None while it is away. is_back: whether it came back, as far as anybody saw. cut_attempts: that ran there, with
    the time and the money that they had taken."""

    replica: str
    backend: str
    pool: str
    why: str
    taken_ns: int
    until_ns: int | None
    is_back: bool
    cut_attempts: int
    cut_ns: int
    cut_nanousd: int


def tell(address: Address, seen: Seen, backends: Sequence[str], now_ns: int | None = None) -> dict[str, Remembered]:
    """Write down what was seen, and read what is known of these backends. Blocks. Raises LedgerError, and nothing is written."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    turns = turns_of(address)
    try:
        with writing_beside(address, "jeton", "told of preemptions", BUSY_SECONDS) as database:
            if seen.sightings or seen.watches:
                with turns, transaction(database):
                    _write(database, seen)
                    _forget(database, now_ns)
            database.begin_reading()
            try:
                return remembered(database, backends, now_ns)
            finally:
                database.rollback()
    finally:
        turns.close()


def remembered(database: Database, backends: Sequence[str], now_ns: int) -> dict[str, Remembered]:
    """Of the last thirty days."""
    since = {"since_ns": now_ns - LEARNED_NS}
    sums = {backend: found for backend, *found in database.execute(SUMS, since)}
    hours = dict(database.execute(HOURS, {"since_day": (now_ns - LEARNED_NS) // DAY_NS}).fetchall())
    away: dict[str, dict[str, int]] = {}
    for backend, replica, taken_ns in database.execute(AWAY, since):
        away.setdefault(backend, {})[replica] = taken_ns
    known = {}
    for backend in backends:
        count, returned, away_ns = sums.get(backend, (0, 0, 0))
        known[backend] = Remembered(count, hours.get(backend, 0), returned, away_ns, away.get(backend, {}))
    return known


def read_preemptions(database: Database, now_ns: int, limit: int) -> list[Preemption]:
    """The newest first, with what they cut short."""
    found = database.execute(
        "SELECT replica, backend, pool, why, taken_ns, until_ns, is_back FROM preemptions"
        " ORDER BY taken_ns DESC, replica LIMIT :limit",
        {"limit": limit},
    ).fetchall()
    preemptions = []
    for replica, backend, pool, why, taken_ns, until_ns, is_back in found:
        last_ns = min(until_ns or now_ns, taken_ns + CUT_NS)
        around = {"since_ns": taken_ns - AROUND_NS, "until_ns": last_ns, "replica": replica}
        cut = database.execute(CUT, around).fetchone()
        preemptions.append(Preemption(replica, backend, pool, why, taken_ns, until_ns, bool(is_back), *map(int, cut)))
    return preemptions


def _write(database: Database, seen: Seen) -> None:
    """In one order for all, that two workers do not wait for one another."""
    for one in sorted(seen.sightings, key=lambda one: (one.replica, one.at_ns)):
        _move(database, one)
    for watch in sorted(seen.watches):
        _watch(database, watch)


def _move(database: Database, one: Sighting) -> None:
    at = {"replica": one.replica, "at_ns": one.at_ns}
    if one.move is not Move.TAKEN:
        database.execute(OVER, {**at, "is_back": int(one.move is Move.BACK)})
        return
    at["back_ns"] = BACK_NS
    if database.execute(AGAIN, at).rowcount == 0:
        database.execute(TAKEN, {**at, "backend": one.backend, "pool": one.pool, "why": one.why})


def _watch(database: Database, watch: Watch) -> None:
    of = {"backend": watch.backend, "day": watch.until_ns // DAY_NS}
    database.execute(NEW_DAY, of)
    times = {"since_ns": watch.since_ns, "until_ns": watch.until_ns, "replicas": watch.replicas}
    database.execute(WATCHED, {**of, **times})


def _forget(database: Database, now_ns: int) -> None:
    since_ns = now_ns - KEPT_NS
    database.execute("DELETE FROM preemptions WHERE taken_ns < :since_ns", {"since_ns": since_ns})
    database.execute("DELETE FROM watched_days WHERE day < :day", {"day": since_ns // DAY_NS})
