"""A fresh ledger out of an old one's journal: charges, leases, totals and hours are derived, nothing of them is copied.

The record is taken over as it is: journal, prices, position, and what workers have told that is not booked yet; so is what is
remembered of preemptions, which is in no journal. The rest
follows (`derivation.py`), as in the audit, which is why the one passes what the other has made. Charges of an older jeton,
whose journal did not say how attempts ended, give what only they know; those are counted.

A ledger that was pruned is gone on from what it kept: of the months that are gone there is nothing to derive from, so their
totals and all hours are taken over as they are.

Hours are rolled up on the way, the leases looked at whenever an hour is full or a price changes, so that each hour's bill is
the old ledger's. What of it was idle may differ by what happened in the hour's last second (`rollups.py`), and the hold-out's
totals by the requests of the hour in which it began.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.accounting.derivation import Derivation, Finding, Replayed, derivation_of, replay
from router.domain.budget import DAY_NS
from router.domain.periods import NS_PER_HOUR
from router.ledger import preemptions, rollups
from router.ledger.address import Address
from router.ledger.batch import PRICE_COLUMNS, WRITE_PRICE, Months, write_charge_rows, write_lease_rows
from router.ledger.database import Database, Engine, dicts, transaction
from router.ledger.pruned import Pruned, pruned_ns, read_pruned, write_pruned
from router.ledger.reading import Position, read_position, read_prices, summed_lines
from router.ledger.rows import EVENT_COLUMNS, LINE_COLUMNS, charge_row, lease_row
from router.ledger.schema import make_room, open_writer, reading
from router.ledger.spending import prepare_spending
from router.ledger.store import LedgerError
from router.ledger.workers import write_corrections

EVENTS_AT_ONCE = 3000
# In the order in which rows may go: what refers to another first.
HOURS = ("charge_hours", "charge_keys", "lease_hours", "rolled_leases", "rolled", "arm_hours", "arm_totals")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """findings: what of the record is off, so that the fresh ledger lacks it too. taken_on_trust: as in the audit."""

    events: int
    charges: int
    leases: int
    taken_on_trust: int
    findings: list[Finding]


def rebuild(address: Address, out: Address) -> Rebuilt:
    """Write `out`, which must not exist (a file) or be empty (a database). Raises LedgerError, and leaves no file behind."""
    if isinstance(out, Path) and out.exists():
        raise LedgerError(f"{out}: there is a file already; name one that is not there")
    try:
        with reading(address) as source:
            target = open_writer(out)
            try:
                if target.execute("SELECT count(*) FROM journal").fetchone()[0]:
                    raise LedgerError(f"{out}: there is a ledger already; name a database that is empty")
                return _rebuild(source, target)
            except target.error as error:
                raise LedgerError(f"{out}: cannot be written ({error})") from None
            finally:
                target.close()
    except BaseException:
        _remove(out)
        raise
    finally:
        if isinstance(out, Path):
            out.with_name(out.name + ".lock").unlink(missing_ok=True)


class _Writer:
    """Lines and charges into the fresh ledger, many at a time."""

    def __init__(self, target: Database, first_month: int) -> None:
        self._target = target
        self._months = Months(first_month)
        self._events: list[tuple[Any, ...]] = []
        self._charges: list[tuple[Any, ...]] = []

    def put(self, replayed: Replayed) -> None:
        line, charge = replayed
        month = self._months.of(line.event.at_ns)
        self._events.append(
            (
                line.seq,
                month,
                line.event.subject,
                line.event.kind.value,
                *line.event[2:5],
                line.detail,
                line.event.worker,
            )
        )
        if charge is not None:
            self._charges.append((line.seq, month, *charge_row(charge)))
        if len(self._events) >= EVENTS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        self._target.insert_new("journal", EVENT_COLUMNS, self._events)
        write_charge_rows(self._target, self._charges)
        self._events, self._charges = [], []


def _rebuild(source: Database, target: Database) -> Rebuilt:
    derivation, position = derivation_of(source), read_position(source)
    make_room(target, [month for (month,) in source.execute("SELECT DISTINCT month FROM journal")])
    pruned = read_pruned(source)
    writer, events, charges = _Writer(target, 0 if pruned is None else pruned.month), 0, 0
    if target.engine is Engine.POSTGRESQL:
        target.execute("SET statement_timeout = 0")  # meant for a router's small commits
    with transaction(target):
        prepare_spending(target)
        for price in read_prices(source):
            target.execute(WRITE_PRICE, dict(zip(PRICE_COLUMNS, price, strict=True)))

        def look() -> None:
            writer.flush()
            _write_leases(target, derivation)
            rollups.roll(target)

        checkpoints = [(seq, at_ns, look) for seq, at_ns in _looks(source, position)]
        for replayed in replay(source, derivation, [*checkpoints, (position.seq, position.at_ns, look)]):
            writer.put(replayed)
            events += 1
            charges += replayed.charge is not None
        look()
        while rollups.roll(target):
            pass
        write_corrections(target, derivation.corrections)
        for table in ("workers", "reports", *preemptions.TABLES):
            _copy(source, target, f"SELECT * FROM {table}", table)
        if pruned is not None:
            _carry_over(source, target, pruned)
        target.execute(
            "UPDATE position SET at_ns = :at_ns, seq = :seq, open_from_seq = :open_from_seq, whole_from_seq = :whole_from_seq",
            position._asdict(),
        )
    return Rebuilt(events, charges, len(derivation.leases), derivation.taken_on_trust, derivation.findings)


def _carry_over(source: Database, target: Database, pruned: Pruned) -> None:
    """What cannot be derived any more: the hours, and what was kept of the months that are gone."""
    write_pruned(target, pruned)
    for table in HOURS:
        target.execute(f"DELETE FROM {table}")
    for table in reversed(HOURS):
        _copy(source, target, f"SELECT * FROM {table}", table)
    if target.engine is Engine.POSTGRESQL:  # which numbers new keys by a sequence of its own
        target.execute(
            "SELECT setval(pg_get_serial_sequence('charge_keys', 'key'), (SELECT max(key) + 1 FROM charge_keys))"
        )
    _copy(source, target, "SELECT * FROM corrections WHERE seq <= :seq", "corrections", {"seq": pruned.seq})
    first_day = {"first": pruned_ns(source) // DAY_NS}
    target.execute("DELETE FROM spending WHERE day < :first", first_day)
    _copy(source, target, "SELECT * FROM spending WHERE day < :first", "spending", first_day)
    target.execute("DELETE FROM totals")
    for line, total in summed_lines(target).items():
        row = (*line.account, line.status.value, line.usage_source.value, *total)
        _insert(target, "totals", LINE_COLUMNS, row)


def _copy(source: Database, target: Database, sql: str, table: str, parameters: Mapping[str, Any] = {}) -> None:
    for row in dicts(source.execute(sql, parameters)):
        _insert(target, table, tuple(row), tuple(row.values()))


def _insert(target: Database, table: str, columns: Sequence[str], row: Sequence[Any]) -> None:
    marks = ", ".join(f":{name}" for name in columns)
    target.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", dict(zip(columns, row, strict=True)))


def _write_leases(target: Database, derivation: Derivation) -> None:
    write_lease_rows(target, (lease_row(lease.row) for lease in derivation.leases.values()))


def _looks(source: Database, position: Position) -> list[tuple[int, int]]:
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


def _remove(out: Address) -> None:
    if not isinstance(out, Path):
        return
    for suffix in ("", "-wal", "-shm"):
        out.with_name(out.name + suffix).unlink(missing_ok=True)
