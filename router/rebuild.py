"""A fresh ledger out of an old one's journal: charges, leases, totals and hours are derived, nothing of them is copied.

The record is taken over as it is: journal, prices, position, and what workers have told that is not booked yet. The rest
follows (`derivation.py`), as in the audit, which is why the one passes what the other has made. Charges of an older jeton,
whose journal did not say how attempts ended, give what only they know; those are counted.

Hours are rolled up on the way, the leases looked at whenever an hour is full or a price changes, so that each hour's bill is
the old ledger's. What of it was idle may differ by what happened in the hour's last second (`rollups.py`), and the hold-out's
totals by the requests of the hour in which it began.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from router.derivation import Derivation, Finding, derivation_of, replay
from router.domain.attempt import Charge
from router.domain.periods import NS_PER_HOUR
from router.ledger import rollups, sqlite, workers
from router.ledger.reading import Position, read_position, read_prices
from router.ledger.rows import EVENT_COLUMNS
from router.ledger.schema import open_reader, open_writer
from router.ledger.spending import prepare_spending
from router.ledger.store import LedgerError

CHARGES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """findings: what of the record is off, so that the fresh ledger lacks it too. taken_on_trust: as in the audit."""

    events: int
    charges: int
    leases: int
    taken_on_trust: int
    findings: list[Finding]


def rebuild(path: Path, out: Path) -> Rebuilt:
    """Write `out`, which must not exist. Raises LedgerError, and leaves no file behind."""
    if out.exists():
        raise LedgerError(f"{out}: there is a file already; name one that is not there")
    try:
        with closing(open_reader(path)) as source:
            source.execute("BEGIN")
            target, lock = open_writer(out)
            with lock, closing(target):
                prepare_spending(target)
                return _rebuild(source, target)
    except sqlite3.Error as error:
        _remove(out)
        raise LedgerError(f"{path}: cannot be rebuilt ({error})") from None
    except BaseException:
        _remove(out)
        raise
    finally:
        out.with_name(out.name + ".lock").unlink(missing_ok=True)


def _rebuild(source: sqlite3.Connection, target: sqlite3.Connection) -> Rebuilt:
    derivation, position = derivation_of(source), read_position(source)
    events = charges = 0
    waiting: list[Charge] = []
    target.execute("BEGIN IMMEDIATE")
    target.executemany(sqlite.WRITE_PRICE, read_prices(source))
    for table in ("workers", "reports"):
        for row in source.execute(f"SELECT * FROM {table}"):
            target.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def look() -> None:
        _write_leases(target, derivation)
        rollups.roll(target)

    checkpoints = [(seq, at_ns, look) for seq, at_ns in _looks(source, position)]
    for line, charge in replay(source, derivation, [*checkpoints, (position.seq, position.at_ns, look)]):
        target.execute(
            f"INSERT INTO journal ({', '.join(EVENT_COLUMNS)}) VALUES ({', '.join('?' * len(EVENT_COLUMNS))})",
            (line.seq, line.event.subject, line.event.kind.value, *line.event[2:5], line.detail, line.event.worker),
        )
        events += 1
        if charge is not None:
            charges += 1
            waiting.append(charge)
        if len(waiting) == CHARGES_AT_ONCE:
            sqlite.write_charges(target, waiting)
            waiting.clear()
    sqlite.write_charges(target, waiting)
    workers.write_corrections(target, derivation.corrections)
    _write_leases(target, derivation)
    while rollups.roll(target):
        pass
    target.execute(
        "UPDATE position SET at_ns = ?, seq = ?, open_from_seq = ?, whole_from_seq = ?",
        (position.at_ns, position.seq, position.open_from_seq, position.whole_from_seq),
    )
    target.execute("COMMIT")
    return Rebuilt(events, charges, len(derivation.leases), derivation.taken_on_trust, derivation.findings)


def _write_leases(target: sqlite3.Connection, derivation: Derivation) -> None:
    sqlite.write_leases(target, (lease.row for lease in derivation.leases.values()))


def _looks(source: sqlite3.Connection, position: Position) -> list[tuple[int, int]]:
    """(seq, at_ns), in order: every full hour around which something happened on a lease and every change of a price, each
    after the last event before it, so that no event comes too late."""
    hours = source.execute(
        f"SELECT at_ns / {NS_PER_HOUR}, max(seq) FROM journal WHERE lease_id <> '' GROUP BY 1 ORDER BY 1"
    )
    looks, last_seq = [], 0
    for hour, seq in hours:
        looks.append((last_seq, hour * NS_PER_HOUR))
        last_seq = max(last_seq, seq)
        looks.append((last_seq, (hour + 1) * NS_PER_HOUR))
    looks += source.execute(
        """
        SELECT (SELECT max(seq) FROM journal WHERE lease_id <> '' AND at_ns < repriced.at_ns), at_ns
        FROM journal AS repriced WHERE kind = 'repriced'
        """
    ).fetchall()
    return sorted(
        (look for look in looks if look[0] <= position.seq and look[1] < position.at_ns), key=lambda look: look[1]
    )


def _remove(out: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        out.with_name(out.name + suffix).unlink(missing_ok=True)
