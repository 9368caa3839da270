"""The tables of several workers on one ledger, and the statements that read and move them; transactions are the caller's.

*Workers* has a row for every process that serves, or did. Up to its watermark it has reported all that it saw; it may be
silent, which the accountant finds. *Reports* are what the accountant has not booked yet: in the transaction that stores what
follows from a report, the report goes and `booked_seq` moves, so that each is booked once, whenever who dies. What a worker
commits together is one row, or a few: `seq` is that of its last event, `subject` says that of its first, and the row goes with
the last of them. *Corrections* are what a worker told after it had been taken for dead, of attempts that were closed as lost by
then.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from router.domain.budget import DAY_NS
from router.domain.immutable import immutable
from router.domain.sleep import Wake
from router.ledger import rows
from router.ledger.database import Database
from router.ledger.spending import ADD_SPENDING
from router.ledger.store import Correction, EventKind, Opening


class WorkerState(StrEnum):
    """left: it said so. silent: it was not heard of for too long; should it come back, it does so under another name."""

    LIVE = "live"
    LEFT = "left"
    SILENT = "silent"


def renamed(worker: str) -> str:
    """The next name of a process that was taken for dead under this one: a, a~2, a~3, …"""
    identity, _, number = worker.partition("~")
    return f"{identity}~{int(number or 1) + 1}"


def is_of(worker: str, identity: str) -> bool:
    """Whether a process that began under this name is meant."""
    return worker.partition("~")[0] == identity


Awake = Mapping[str, Sequence[Wake]]
"""By replica, what each worker knows of it."""


class Worker(NamedTuple):
    """watermark_ns: up to then all is reported. beats: how often it was heard of. in_flight: attempts by replica, as JSON."""

    worker: str
    state: str
    started_ns: int
    watermark_ns: int
    beats: int
    reported_seq: int
    booked_seq: int
    in_flight: str


class Report(NamedTuple):
    """One event as a worker has told it. said: of an opened, the opening; of a closed, how it ended."""

    seq: int
    subject: str
    kind: EventKind
    at_ns: int
    said: Opening | rows.Closing | None


@immutable
class Told:
    """What there is to book: the workers, what they told since (in order, and perhaps not all of it: `has_more` names those of
    whom there is more), and the prices that it was told at."""

    workers: Sequence[Worker]
    reports: Mapping[str, "deque[Report]"]
    has_more: frozenset[str]
    prices: Mapping[str, str]


TellsEvent = tuple[str, str, int, tuple[Any, ...] | None]
"""One event as a worker writes it down: subject, kind, at_ns, and what it says beyond that: an opened whether it is streamed and
then `rows.opening_members`, a closed `rows.told_closing_members`."""
ReportRow = tuple[int, str, str, int, str]
"""By REPORT_MEMBERS: whose it is, is known when it is written."""

# The kind of a row of `reports` that has many events, as a JSON list. So many at most: a journal that was stuck writes all
# that waited at once.
SEVERAL = "several"
EVENTS_PER_ROW = 500
REPORT_MEMBERS = ("seq", "subject", "kind", "at_ns", "detail")
REPORT_COLUMNS = ("worker", *REPORT_MEMBERS)
CORRECTION_COLUMNS = ("seq", "booked_ns", "corrected_nanousd", *rows.CHARGE_COLUMNS)
WORKER_COLUMNS = ", ".join(Worker._fields)
REGISTER = f"""
INSERT INTO workers ({WORKER_COLUMNS}) VALUES (:worker, '{WorkerState.LIVE}', :at_ns, :at_ns, 0, :seq, :seq, '{{}}')
ON CONFLICT DO NOTHING
"""
# A spool that has but prices takes nothing back of what was told.
BEAT = f"""
UPDATE workers SET watermark_ns = :watermark_ns, beats = beats + 1, in_flight = :in_flight, awake = :awake, state = :state,
    reported_seq = CASE WHEN reported_seq > :seq THEN reported_seq ELSE :seq END
WHERE worker = :worker AND state = '{WorkerState.LIVE}' RETURNING booked_seq
"""
OTHERS = f"""
SELECT in_flight, awake FROM workers
WHERE worker <> :worker AND state = '{WorkerState.LIVE}' AND watermark_ns > :since_ns
"""
BOOKED = "UPDATE workers SET booked_seq = :seq WHERE worker = :worker AND booked_seq < :seq"
FORGET_REPORTS = "DELETE FROM reports WHERE worker = :worker AND seq <= :seq"
SILENCE = f"UPDATE workers SET state = '{WorkerState.SILENT}' WHERE worker = :worker AND state = '{WorkerState.LIVE}'"
# A worker that is gone, and of whom nothing waits, is remembered for so long, for people.
KEPT_NS = 30 * DAY_NS
FORGET_WORKERS = f"""
DELETE FROM workers WHERE state <> '{WorkerState.LIVE}' AND booked_seq >= reported_seq AND watermark_ns < :before_ns
"""
MARKS = ", ".join(f":{name}" for name in CORRECTION_COLUMNS)
CORRECT = f"""
INSERT INTO corrections ({", ".join(CORRECTION_COLUMNS)}) VALUES ({MARKS}) ON CONFLICT DO NOTHING
"""


def report_rows(first_seq: int, events: Sequence[TellsEvent], at_ns: int) -> list[ReportRow]:
    """events: from that position on; at_ns: when they were written down."""
    made: list[ReportRow] = []
    for at in range(0, len(events), EVENTS_PER_ROW):
        some = events[at : at + EVENTS_PER_ROW]
        first, last = first_seq + at, first_seq + at + len(some) - 1
        made.append((last, str(first), SEVERAL, at_ns, orjson.dumps(some).decode()))
    return made


def first_seq(report: Sequence[Any]) -> int:
    """Of the first event in a row by REPORT_MEMBERS, which may be of an older jeton: they are in spools, too."""
    seq, subject, kind = report[:3]
    return int(subject) if kind == SEVERAL else int(seq)


def reports_from_row(seq: int, subject: str, kind: str, at_ns: int, detail: str | None) -> list[Report]:
    """Raises ValueError or TypeError where it cannot be read. Older jetons wrote a row for each event."""
    said = None if detail is None else orjson.loads(detail)
    if kind != SEVERAL:
        return [_report(seq, subject, kind, at_ns, said)]
    if not isinstance(said, list) or int(subject) + len(said) != seq + 1:
        raise ValueError(f"report {seq} does not have the events from {subject} on")
    return [_report(number, *event) for number, event in enumerate(said, int(subject))]


def _report(seq: int, subject: str, kind: str, at_ns: int, members: Any) -> Report:
    said: Opening | rows.Closing | None = None
    if kind == EventKind.OPENED:
        is_streaming, opening = members
        said = rows.opening_from_members(subject, opening, is_streaming=is_streaming)
    elif kind == EventKind.CLOSED:
        said = rows.closing_from_members(members, at_ns)
    return Report(seq, subject, EventKind(kind), at_ns, said)


def read_workers(database: Database) -> list[Worker]:
    found = database.execute(f"SELECT {WORKER_COLUMNS} FROM workers ORDER BY started_ns, worker")
    return [Worker(*row) for row in found]


def read_told(database: Database, taken: Mapping[str, int], known_prices: Mapping[str, str], limit: int) -> Told:
    """taken: by worker, the last report that was read before; of others all that is not booked. limit: reports of each, or a
    row more.

    Raises ValueError or TypeError on a report that is none.
    """
    workers = read_workers(database)
    reports: dict[str, deque[Report]] = {}
    has_more = set()
    for one in workers:
        after = taken.get(one.worker, one.booked_seq)
        if one.reported_seq > after:
            found = database.execute(
                "SELECT seq, subject, kind, at_ns, detail FROM reports WHERE worker = :worker AND seq > :after"
                " ORDER BY seq LIMIT :limit",
                {"worker": one.worker, "after": after, "limit": limit},
            )
            queue = reports[one.worker] = deque()
            for row in found:
                queue.extend(report for report in reports_from_row(*row) if report.seq > after)
                if len(queue) >= limit:
                    break
            if queue and queue[-1].seq < one.reported_seq:
                has_more.add(one.worker)
    price_ids = {
        report.said.price_id for queue in reports.values() for report in queue if isinstance(report.said, Opening)
    }
    prices = {}
    for price_id in price_ids - known_prices.keys() - {""}:
        row = database.execute("SELECT snapshot FROM prices WHERE price_id = :id", {"id": price_id}).fetchone()
        if row is not None:
            prices[price_id] = row[0]
    return Told(workers, reports, frozenset(has_more), prices)


def is_booked(database: Database, identity: str) -> bool:
    """Whether the ledger has all that a process that is gone has told, and nothing of it is open."""
    its = [one for one in read_workers(database) if is_of(one.worker, identity)]
    if any(one.state == WorkerState.LIVE or one.booked_seq < one.reported_seq for one in its):
        return False
    return not any(
        database.execute(
            """
            SELECT 1 FROM journal AS opened WHERE seq >= (SELECT open_from_seq FROM position) AND worker = :worker
            AND kind = 'opened' AND NOT EXISTS (SELECT 1 FROM journal WHERE subject = opened.subject AND kind = 'closed')
            LIMIT 1
            """,
            {"worker": one.worker},
        ).fetchone()
        for one in its
    )


def waiting_events(database: Database, request_id: str) -> list[tuple[str, Report]]:
    """What is told of a request's attempts and not booked yet, in time: the worker, and what it told.

    Raises ValueError or TypeError on a report that is none.
    """
    found = database.execute(
        f"""
        SELECT reports.worker, booked_seq, seq, subject, kind, at_ns, detail FROM reports
        JOIN workers ON workers.worker = reports.worker
        WHERE seq > booked_seq AND (subject LIKE :single OR kind = '{SEVERAL}' AND detail LIKE :among)
        """,
        {"single": f"{request_id}.%", "among": f'%"{request_id}.%'},
    ).fetchall()
    waiting = [
        (worker, report)
        for worker, booked_seq, *row in found
        for report in reports_from_row(*row)
        if report.seq > booked_seq and report.subject.rpartition(".")[0] == request_id
    ]
    return sorted(waiting, key=lambda told: (told[1].at_ns, told[0], told[1].seq))


def unbooked_reports(database: Database) -> int:
    """How many reports wait for an accountant."""
    (waiting,) = database.execute("SELECT coalesce(sum(reported_seq - booked_seq), 0) FROM workers").fetchone()
    return int(waiting)


def read_elsewhere(database: Database, worker: str, since_ns: int) -> tuple[dict[str, int], Awake]:
    """Of the other workers that were heard of since then, by replica: attempts in flight, and what is awake."""
    elsewhere: dict[str, int] = {}
    awake: dict[str, list[Wake]] = {}
    for in_flight, text in database.execute(OTHERS, {"worker": worker, "since_ns": since_ns}):
        for replica, attempts in orjson.loads(in_flight).items():
            elsewhere[replica] = elsewhere.get(replica, 0) + attempts
        _add_awake(awake, text)
    return elsewhere, awake


def read_awake(database: Database) -> Awake:
    """What all workers there ever were knew last: replicas stay awake for a while when those end who woke them."""
    awake: dict[str, list[Wake]] = {}
    for (text,) in database.execute("SELECT awake FROM workers WHERE awake <> '{}'").fetchall():
        _add_awake(awake, text)
    return awake


def awake_text(awake: Mapping[str, Wake]) -> str:
    return orjson.dumps({replica: tuple(wake) for replica, wake in awake.items()}).decode() if awake else "{}"


def _add_awake(awake: dict[str, list[Wake]], text: str) -> None:
    if text != "{}":
        for replica, members in orjson.loads(text).items():
            awake.setdefault(replica, []).append(Wake(*members))


def write_booked(database: Database, booked: Mapping[str, int], silent: Iterable[str]) -> None:
    """How far the reports of each worker are booked, and who is taken for dead."""
    for worker, seq in booked.items():
        database.execute(BOOKED, {"worker": worker, "seq": seq})
        database.execute(FORGET_REPORTS, {"worker": worker, "seq": seq})
    for worker in silent:
        database.execute(SILENCE, {"worker": worker})


def write_corrections(database: Database, corrections: Sequence[tuple[int, Correction]]) -> None:
    """Each with the event that it goes with; budgets hear of the money on the day on which it was booked."""
    for seq, one in corrections:
        row = (seq, one.booked_ns, one.corrected_nanousd, *rows.charge_row(one.charge))
        written = database.execute(CORRECT, dict(zip(CORRECTION_COLUMNS, row, strict=True)))
        if written.rowcount and one.corrected_nanousd:
            facts = one.charge.facts
            database.execute(
                "INSERT INTO spending (tenant, api_key_name, day, cost_nanousd) VALUES (:tenant, :key, :day, :nanousd)"
                f" {ADD_SPENDING}",
                {
                    "tenant": facts.tenant,
                    "key": facts.api_key_name,
                    "day": one.booked_ns // DAY_NS,
                    "nanousd": one.corrected_nanousd,
                },
            )


def read_correction_rows(database: Database, first_seq: int = 0) -> dict[str, tuple[Any, ...]]:
    """By attempt, in CORRECTION_COLUMNS; of what was booked from that event on."""
    at = CORRECTION_COLUMNS.index("attempt_id")
    found = database.execute(
        f"SELECT {', '.join(CORRECTION_COLUMNS)} FROM corrections WHERE seq >= :first ORDER BY seq",
        {"first": first_seq},
    )
    return {row[at]: tuple(row) for row in found}


def read_corrected(database: Database, until_seq: int = 2**63 - 1) -> dict[tuple[str, str], int]:
    """Nano-dollars by (pool, backend), of what was booked up to that event."""
    found = database.execute(
        "SELECT pool, backend, sum(corrected_nanousd) FROM corrections WHERE seq <= :until GROUP BY 1, 2",
        {"until": until_seq},
    )
    return {(pool, backend): nanousd for pool, backend, nanousd in found}


def missing_reports(database: Database) -> list[tuple[str, int, int]]:
    """For an audit: of each worker that has told more than is booked, what should wait and does not: worker, how many wait,
    how many should."""
    return database.execute(
        """
        SELECT worker, waiting, should_wait FROM (
            SELECT worker, reported_seq - booked_seq AS should_wait, (
                SELECT coalesce(sum(reports.seq + 1 - CASE
                    WHEN kind <> 'several' THEN reports.seq
                    WHEN CAST(subject AS BIGINT) > workers.booked_seq THEN CAST(subject AS BIGINT)
                    ELSE workers.booked_seq + 1 END), 0)
                FROM reports WHERE reports.worker = workers.worker AND reports.seq > workers.booked_seq
            ) AS waiting FROM workers
        ) AS told WHERE waiting <> should_wait ORDER BY worker
        """
    ).fetchall()
