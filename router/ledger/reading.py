"""What the SQLite ledger tells the process that writes it: its totals, and what the last one left open."""

import sqlite3
from collections import defaultdict
from collections.abc import Mapping

from router.domain.spending import ArmSums
from router.domain.totals import Account, Totals
from router.ledger import rollups, rows
from router.ledger.store import Event, EventKind, Lease, Opening, Recovery


def read_totals(connection: sqlite3.Connection, open_nanousd: Mapping[Account, int]) -> Totals:
    """All totals; what is open is not in the tables but in the meters' states, so the caller brings it."""
    (at_ns,) = connection.execute("SELECT at_ns FROM position").fetchone()
    lines = connection.execute(f"SELECT {', '.join(rows.LINE_COLUMNS)} FROM totals ORDER BY rowid")
    leases = connection.execute("SELECT pool, backend, sum(bill_nanousd), sum(idle_nanousd) FROM leases GROUP BY 1, 2")
    return Totals(
        at_ns=at_ns,
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
            "SELECT seq, subject, kind, at_ns, lease_id, amount FROM journal WHERE seq > ? ORDER BY seq",
            (min(state_seqs.values()),),
        ):
            event = rows.event_from_row(tuple(members))
            if seq > state_seqs.get(event.lease_id, seq):
                tail[event.lease_id].append(event)
    openings: dict[str, tuple[Opening, int]] = {}
    for subject, at_ns, opening in connection.execute(
        """
        SELECT subject, at_ns, opening FROM journal AS opened
        WHERE seq >= (SELECT open_from_seq FROM position) AND kind = ?
        AND NOT EXISTS (SELECT 1 FROM journal WHERE subject = opened.subject AND kind = ?) ORDER BY seq
        """,
        (EventKind.OPENED.value, EventKind.CLOSED.value),
    ):
        openings[subject] = rows.opening_from_json(opening), at_ns
    return Recovery(leases=leases, tail=tail, openings=openings)
