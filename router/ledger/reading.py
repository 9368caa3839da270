"""What a ledger tells: its totals, what the last process left open, and the journal from its beginning."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from operator import add
from typing import Any, NamedTuple

from router.domain.attempt import AttemptStatus
from router.domain.periods import ArmSums
from router.domain.totals import Account, Line, LineTotal, Totals
from router.domain.usage import UsageSource
from router.ledger import rollups, rows, workers
from router.ledger.database import Database
from router.ledger.pruned import read_pruned
from router.ledger.store import Event, EventKind, Lease, LedgerError, Opened, Recovery

SEQ_MAX = 2**63 - 1


def read_totals(database: Database, open_nanousd: Mapping[Account, int], seq: int) -> Totals:
    """All totals; what is open is not in the tables but in the meters' states, so the caller brings it."""
    (at_ns,) = database.execute("SELECT at_ns FROM position").fetchone()
    lines = database.execute(f"SELECT {', '.join(rows.LINE_COLUMNS)} FROM totals ORDER BY number")
    leases = database.execute("SELECT pool, backend, sum(bill_nanousd), sum(idle_nanousd) FROM leases GROUP BY 1, 2")
    return Totals(
        at_ns=at_ns,
        seq=seq,
        lines=dict(map(rows.line_from_row, lines)),
        open_nanousd=open_nanousd,
        leases=dict(map(rows.lease_total_from_row, leases)),
        arms=[ArmSums(*row) for row in database.execute(rollups.READ_ARM_TOTALS)],
        corrected_nanousd=workers.read_corrected(database),
    )


def read_recovery(database: Database) -> Recovery:
    """What is still open: leases with the tail of their journal, and attempts, looked for from where the oldest may be."""
    leases = [
        rows.lease_from_row(row)
        for row in database.execute(f"SELECT {', '.join(Lease._fields)} FROM leases WHERE ended_ns IS NULL")
    ]
    state_seqs = {lease.lease_id: lease.state_seq for lease in leases}
    tail: defaultdict[str, list[Event]] = defaultdict(list)
    if leases:
        for seq, *members in database.execute(
            "SELECT seq, subject, kind, at_ns, lease_id, amount, detail FROM journal WHERE seq > :after ORDER BY seq",
            {"after": min(state_seqs.values())},
        ):
            event = rows.event_from_row(tuple(members[:-1]))
            if event.kind is EventKind.FIRST_TOKEN:
                growth, shared, settled = rows.reweighing_from_text(members[-1])
                event = event._replace(growth=growth, shared=shared, settled=settled)
            if seq > state_seqs.get(event.lease_id, seq):
                tail[event.lease_id].append(event)
    openings: dict[str, Opened] = {}
    for seq, subject, at_ns, detail, worker, has_first_token, prefill in database.execute(
        """
        SELECT opened.seq, opened.subject, opened.at_ns, opened.detail, opened.worker, first.seq IS NOT NULL, first.detail
        FROM journal AS opened LEFT JOIN journal AS first ON first.subject = opened.subject AND first.kind = 'first_token'
        WHERE opened.seq >= (SELECT open_from_seq FROM position) AND opened.kind = 'opened'
        AND NOT EXISTS (SELECT 1 FROM journal WHERE subject = opened.subject AND kind = 'closed') ORDER BY opened.seq
        """
    ):
        opening = rows.opening_from_json(subject, detail)
        openings[subject] = Opened(opening, at_ns, seq, worker, bool(has_first_token), rows.prefill_from_text(prefill))
    prices = {price_id: snapshot for price_id, snapshot, _ in read_prices(database)}
    (at_ns,) = database.execute("SELECT at_ns FROM position").fetchone()
    return Recovery(leases=leases, tail=tail, openings=openings, prices=prices, at_ns=at_ns)


class Position(NamedTuple):
    """As the table of that name, in `tables.py`."""

    at_ns: int
    seq: int
    open_from_seq: int
    whole_from_seq: int


class JournalLine(NamedTuple):
    """One event as it is written. charge: the row that its attempt has, by CHARGE_COLUMNS; only where it closes."""

    seq: int
    event: Event
    detail: str | None
    charge: tuple[Any, ...] | None


def read_position(database: Database) -> Position:
    """Raises LedgerError when the row is gone."""
    row = database.execute(f"SELECT {', '.join(Position._fields)} FROM position").fetchone()
    if row is None:
        raise LedgerError("the ledger has lost its position, a table of one row; restore the file from a backup")
    return Position(*row)


def read_prices(database: Database) -> list[tuple[str, str, str]]:
    """Every price's id, snapshot and the snapshot's hash."""
    return database.execute("SELECT price_id, snapshot, sha256 FROM prices ORDER BY price_id").fetchall()


def read_journal(database: Database, until_seq: int | None = None) -> Iterator[JournalLine]:
    """All that is not pruned, or what of it is not after an event, in order; inside a transaction. Raises LedgerError on a kind
    that is none."""
    charge = ", ".join(f"charges.{column}" for column in rows.CHARGE_COLUMNS)
    for row in database.stream(
        f"""
        SELECT journal.seq, subject, kind, at_ns, lease_id, amount, detail, worker, {charge} FROM journal LEFT JOIN charges
        ON kind = 'closed' AND charges.seq = journal.seq AND charges.month = journal.month AND attempt_id = subject
        WHERE journal.seq > coalesce((SELECT seq FROM pruned), 0) AND journal.seq <= :until ORDER BY journal.seq
        """,
        {"until": SEQ_MAX if until_seq is None else until_seq},
    ):
        try:
            event = rows.event_from_row(row[1:6])._replace(worker=row[7])
        except ValueError:
            raise LedgerError(f"event {row[0]} of the journal is of no kind that there is: {row[2]}") from None
        yield JournalLine(row[0], event, row[6], row[8:] if row[8] is not None else None)


def read_lease_prices(database: Database) -> frozenset[str]:
    """The ids of the prices by which leases run."""
    running = database.execute("SELECT DISTINCT price_id FROM leases WHERE ended_ns IS NULL")
    return frozenset(price_id for (price_id,) in running)


def read_leases(database: Database) -> dict[str, Lease]:
    """All of them, ended ones too, by id. A meter's state that cannot be read is left as it is written."""
    leases = {}
    for row in database.execute(f"SELECT {', '.join(Lease._fields)} FROM leases"):
        try:
            leases[row[0]] = rows.lease_from_row(row)
        except ValueError:
            leases[row[0]] = Lease(*row)
    return leases


def strange_words(database: Database) -> list[tuple[str, str, str, str]]:
    """Where a charge or a total has a status or a usage source that is none: table, row, column, what stands there."""
    statuses, sources = set(AttemptStatus), set(UsageSource)
    listed = [", ".join(f"'{word}'" for word in words) for words in (AttemptStatus, UsageSource)]
    found: list[tuple[str, str, str, str]] = []
    for table, name in (("charges", "attempt_id"), ("totals", " || ' ' || ".join(rows.LINE_KEYS))):
        for row, status, source in database.execute(
            f"SELECT {name}, status, usage_source FROM {table}"
            f" WHERE status NOT IN ({listed[0]}) OR usage_source NOT IN ({listed[1]}) ORDER BY 1"
        ):
            found += [] if status in statuses else [(table, row, "status", status)]
            found += [] if source in sources else [(table, row, "usage_source", source)]
    return found


def summed_lines(database: Database, seq_max: int | None = None) -> dict[Line, LineTotal]:
    """The totals as the charges have it, in the order of the first of each; seq_max: of those closed by then. Of what was pruned
    there are sums alone, and they are as they were kept then."""
    pruned = read_pruned(database)
    bounds = {"after": 0 if pruned is None else pruned.seq, "until": SEQ_MAX if seq_max is None else seq_max}
    found = database.execute(
        f"SELECT {rows.LINES}, {', '.join(rows.SUMS.values())} FROM charges WHERE seq > :after AND seq <= :until"
        f" GROUP BY {rows.LINES} ORDER BY min(seq)",
        bounds,
    )
    lines = {} if pruned is None else dict(pruned.lines)
    for line, total in map(rows.line_from_row, found):
        before = lines.get(line)
        lines[line] = total if before is None else LineTotal(*map(add, before, total))
    return lines


def charges_without_end(database: Database, until_seq: int = SEQ_MAX) -> list[str]:
    """Attempts that have a charge and no event that closed them."""
    found = database.execute(
        """
        SELECT attempt_id FROM charges WHERE seq > coalesce((SELECT seq FROM pruned), 0) AND seq <= :until AND NOT EXISTS (
            SELECT 1 FROM journal WHERE journal.seq = charges.seq AND journal.month = charges.month
            AND subject = attempt_id AND kind = 'closed'
        ) ORDER BY seq
        """,
        {"until": until_seq},
    )
    return [attempt_id for (attempt_id,) in found]


def read_last_event(database: Database) -> tuple[int, int]:
    """Its position and the month in which it was booked; of what was pruned, if nothing came after. (0, 0): none yet."""
    last = database.execute("SELECT seq, month FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    if last is None:
        last = database.execute("SELECT seq, month FROM pruned").fetchone()
    return (0, 0) if last is None else (last[0], last[1])
