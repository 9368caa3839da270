"""What the SQLite ledger tells: its totals, what the last process left open, and the journal from its beginning."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from router.domain.periods import ArmSums
from router.domain.totals import Account, Line, LineTotal, Totals
from router.ledger import rollups, rows
from router.ledger.store import Event, EventKind, Lease, LedgerError, Opening, Recovery


def read_totals(connection: sqlite3.Connection, open_nanousd: Mapping[Account, int], seq: int) -> Totals:
    """All totals; what is open is not in the tables but in the meters' states, so the caller brings it."""
    (at_ns,) = connection.execute("SELECT at_ns FROM position").fetchone()
    lines = connection.execute(f"SELECT {', '.join(rows.LINE_COLUMNS)} FROM totals ORDER BY rowid")
    leases = connection.execute("SELECT pool, backend, sum(bill_nanousd), sum(idle_nanousd) FROM leases GROUP BY 1, 2")
    return Totals(
        at_ns=at_ns,
        seq=seq,
        lines=dict(map(rows.line_from_row, lines)),
        open_nanousd=open_nanousd,
        leases=dict(map(rows.lease_total_from_row, leases)),
        arms=[ArmSums(*row) for row in connection.execute(rollups.READ_ARM_TOTALS)],
    )


def read_recovery(connection: sqlite3.Connection) -> Recovery:
    """What is still open: leases with the tail of their journal, and attempts, looked for from where the oldest may be."""
    leases = [
        rows.lease_from_row(row)
        for row in connection.execute(f"SELECT {', '.join(Lease._fields)} FROM leases WHERE ended_ns IS NULL")
    ]
    state_seqs = {lease.lease_id: lease.state_seq for lease in leases}
    tail: defaultdict[str, list[Event]] = defaultdict(list)
    if leases:
        for seq, *members in connection.execute(
            "SELECT seq, subject, kind, at_ns, lease_id, amount, detail FROM journal WHERE seq > ? ORDER BY seq",
            (min(state_seqs.values()),),
        ):
            event = rows.event_from_row(tuple(members[:-1]))
            if event.kind is EventKind.FIRST_TOKEN:
                event = event._replace(growth=rows.growth_from_text(members[-1]))
            if seq > state_seqs.get(event.lease_id, seq):
                tail[event.lease_id].append(event)
    openings: dict[str, tuple[Opening, int]] = {}
    for subject, at_ns, detail in connection.execute(
        """
        SELECT subject, at_ns, detail FROM journal AS opened
        WHERE seq >= (SELECT open_from_seq FROM position) AND kind = ?
        AND NOT EXISTS (SELECT 1 FROM journal WHERE subject = opened.subject AND kind = ?) ORDER BY seq
        """,
        (EventKind.OPENED.value, EventKind.CLOSED.value),
    ):
        openings[subject] = rows.opening_from_json(subject, detail), at_ns
    prices = {price_id: snapshot for price_id, snapshot, _ in read_prices(connection)}
    (at_ns,) = connection.execute("SELECT at_ns FROM position").fetchone()
    return Recovery(leases=leases, tail=tail, openings=openings, prices=prices, at_ns=at_ns)


class Position(NamedTuple):
    """As the table of that name, in `schema.py`."""

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


def read_position(connection: sqlite3.Connection) -> Position:
    """Raises LedgerError when the row is gone."""
    row = connection.execute(f"SELECT {', '.join(Position._fields)} FROM position").fetchone()
    if row is None:
        raise LedgerError("the ledger has lost its position, a table of one row; restore the file from a backup")
    return Position(*row)


def read_prices(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Every price's id, snapshot and the snapshot's hash."""
    return connection.execute("SELECT price_id, snapshot, sha256 FROM prices ORDER BY rowid").fetchall()


def read_journal(connection: sqlite3.Connection) -> Iterator[JournalLine]:
    """All of it in order. Raises LedgerError on a kind that is none."""
    charge = ", ".join(f"charges.{column}" for column in rows.CHARGE_COLUMNS)
    for row in connection.execute(
        f"""
        SELECT seq, subject, kind, at_ns, lease_id, amount, detail, {charge}
        FROM journal LEFT JOIN charges ON kind = ? AND attempt_id = subject ORDER BY seq
        """,
        (EventKind.CLOSED.value,),
    ):
        try:
            event = rows.event_from_row(row[1:6])
        except ValueError:
            raise LedgerError(f"event {row[0]} of the journal is of no kind that there is: {row[2]}") from None
        yield JournalLine(row[0], event, row[6], row[7:] if row[7] is not None else None)


def read_leases(connection: sqlite3.Connection) -> dict[str, Lease]:
    """All of them, ended ones too, by id."""
    return {
        row[0]: rows.lease_from_row(row) for row in connection.execute(f"SELECT {', '.join(Lease._fields)} FROM leases")
    }


def summed_lines(connection: sqlite3.Connection, seq_max: int | None = None) -> dict[Line, LineTotal]:
    """The totals as the charges have it, in the order of the first of each; seq_max: of those closed by then."""
    by_then = "EXISTS (SELECT 1 FROM journal WHERE subject = attempt_id AND kind = 'closed' AND seq <= ?)"
    where = "" if seq_max is None else f"WHERE {by_then}"
    found = connection.execute(
        f"SELECT {rows.LINES}, {', '.join(rows.SUMS.values())} FROM charges {where}"
        f" GROUP BY {rows.LINES} ORDER BY min(rowid)",
        () if seq_max is None else (seq_max,),
    )
    return dict(map(rows.line_from_row, found))


def charges_without_end(connection: sqlite3.Connection) -> list[str]:
    """Attempts that have a charge and no event that closed them."""
    found = connection.execute(
        "SELECT attempt_id FROM charges"
        " WHERE NOT EXISTS (SELECT 1 FROM journal WHERE subject = attempt_id AND kind = 'closed') ORDER BY rowid"
    )
    return [attempt_id for (attempt_id,) in found]
