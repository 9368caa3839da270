"""What is left to say of months whose journal and charges are gone: from where on the ledger still has all of them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from router.domain.attempt import Charge
from router.domain.immutable import immutable
from router.domain.periods import month_start_ns
from router.domain.totals import Line, LineTotal
from router.ledger import rows
from router.ledger.database import Database
from router.ledger.store import Lease


@immutable
class Pruned:
    """All that was booked before `month`, the journal's events up to `seq`, is gone. What the rest goes on from:

    leases: every lease that there was, each with its meter's state as of that event, also where it had ended. open_events: of the
    attempts that were open, by EVENT_COLUMNS up to the detail. lost: charges of attempts that were closed as lost, which a late
    worker's word may still correct. lines: the sums of the charges that are gone.
    """

    month: int
    seq: int
    leases: Sequence[Lease]
    open_events: Sequence[Sequence[Any]]
    lost: Sequence[Charge]
    lines: Mapping[Line, LineTotal]


def read_pruned(database: Database) -> Pruned | None:
    row = database.execute("SELECT month, seq, kept FROM pruned").fetchone()
    if row is None:
        return None
    kept = json.loads(row[2])
    return Pruned(
        month=row[0],
        seq=row[1],
        leases=[Lease(*lease) for lease in kept["leases"]],
        open_events=kept["open_events"],
        lost=[rows.charge_from_row(dict(zip(rows.CHARGE_COLUMNS, row, strict=True))) for row in kept["lost"]],
        lines=dict(rows.line_from_row(tuple(line)) for line in kept["lines"]),
    )


def write_pruned(database: Database, pruned: Pruned) -> None:
    kept = {
        "leases": list(pruned.leases),
        "open_events": [list(event) for event in pruned.open_events],
        "lost": list(map(rows.charge_row, pruned.lost)),
        "lines": [
            [*line.account, line.status.value, line.usage_source.value, *total] for line, total in pruned.lines.items()
        ],
    }
    database.execute(
        "INSERT INTO pruned (id, month, seq, kept) VALUES (1, :month, :seq, :kept)"
        " ON CONFLICT (id) DO UPDATE SET month = excluded.month, seq = excluded.seq, kept = excluded.kept",
        {"month": pruned.month, "seq": pruned.seq, "kept": json.dumps(kept)},
    )


def pruned_ns(database: Database) -> int:
    """Since when all charges are there, by the time of their end; 0 where nothing was pruned."""
    row = database.execute("SELECT month FROM pruned").fetchone()
    return 0 if row is None else month_start_ns(row[0])
