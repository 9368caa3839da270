"""What goes to disk together, and the one transaction that puts it there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import Any

from router.domain.attempt import Charge
from router.domain.periods import month_after, month_of, month_start_ns
from router.ledger import rollups, rows
from router.ledger.database import Database
from router.ledger.spending import MOVE_SPENDING
from router.ledger.store import Checkpoint, Correction, Event, EventKind, Lease

CLOSED, CORRECTED, REPRICED = EventKind.CLOSED, EventKind.CORRECTED, EventKind.REPRICED

WRITE_LEASE = f"""
INSERT INTO leases ({", ".join(rows.LEASE_COLUMNS)}) VALUES ({", ".join(f":{name}" for name in rows.LEASE_COLUMNS)})
ON CONFLICT (lease_id) DO UPDATE SET
    price_id = excluded.price_id,
    at_ns = excluded.at_ns,
    ended_ns = excluded.ended_ns,
    bill_nanousd = excluded.bill_nanousd,
    idle_nanousd = excluded.idle_nanousd,
    state = CASE WHEN excluded.ended_ns IS NULL THEN coalesce(excluded.state, leases.state) END,
    state_seq = CASE WHEN excluded.ended_ns IS NULL AND excluded.state IS NULL THEN leases.state_seq ELSE excluded.state_seq END
"""
READ_PRICES = "SELECT lease_id, price_id, at_ns FROM leases WHERE ended_ns IS NULL"
# The charges that a commit has added are those after the last one before: one that was there already is not added again.
LAST_CHARGE = "SELECT coalesce(max(seq), 0) FROM charges"
MOVE_TOTALS = f"""
INSERT INTO totals ({rows.LINES}, {", ".join(rows.SUMS)})
SELECT {rows.LINES}, {", ".join(rows.SUMS.values())} FROM charges WHERE month >= :month AND seq > :after
GROUP BY {rows.LINES} ORDER BY min(seq)
ON CONFLICT ({rows.LINES}) DO UPDATE SET {", ".join(f"{name} = totals.{name} + excluded.{name}" for name in rows.SUMS)}
"""
PRICE_COLUMNS = ("price_id", "snapshot", "sha256")
WRITE_PRICE = """
INSERT INTO prices (price_id, snapshot, sha256) VALUES (:price_id, :snapshot, :sha256) ON CONFLICT DO NOTHING
"""
WRITE_POSITION = "UPDATE position SET at_ns = :at_ns, seq = :seq, open_from_seq = :open_from_seq"


@dataclass(slots=True)
class Batch:
    """What goes to disk together. Leases by id: the last word on each counts. turns: what was to be said of a lease just before
    its price changed, and at that moment, in order. booked: by worker, how far its reports are in here; silent: workers taken
    for dead."""

    events: list[tuple[int, Event]] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    corrections: list[tuple[int, Correction]] = field(default_factory=list)
    booked: dict[str, int] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    leases: dict[str, Lease] = field(default_factory=dict)
    turns: list[Lease] = field(default_factory=list)
    prices: dict[str, str] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    checkpoint_number: int = 0
    last_seq: int = 0

    @property
    def is_empty(self) -> bool:
        return not (
            self.events or self.charges or self.leases or self.prices or self.checkpoint or self.booked or self.silent
        )

    def put(
        self,
        seq: int,
        events: Sequence[Event],
        charge: Charge | None,
        lease: Lease | None,
        correction: Correction | None,
    ) -> int:
        """See `LedgerStore.append`. seq: of the event before; returns that of the last one."""
        is_turn = False
        for event in events:
            seq += 1
            self.events.append((seq, event))
            if event.number:
                self.booked[event.worker] = event.number
            if event.kind is REPRICED:
                is_turn = True
        self.last_seq = seq
        if charge is not None:
            self.charges.append(charge)
        if correction is not None:
            self.corrections.append((seq, correction))
        if lease is not None:
            self.put_lease(lease if lease.state is None else lease._replace(state_seq=seq), is_turn=is_turn)
        return seq

    def put_lease(self, lease: Lease, *, is_turn: bool = False) -> None:
        """is_turn: from then on it costs another price."""
        before = self.leases.get(lease.lease_id)
        if is_turn:
            self.turns += [lease] if before is None else [before, lease]
        if before is not None and before.state is not None and lease.state is None:
            lease = lease._replace(state=before.state, state_seq=before.state_seq)
        self.leases[lease.lease_id] = lease

    def extend(self, later: "Batch") -> None:
        self.events += later.events
        self.charges += later.charges
        self.corrections += later.corrections
        self.booked |= later.booked
        self.silent += later.silent
        self.prices |= later.prices
        self.turns += [self.leases[turn.lease_id] for turn in later.turns if turn.lease_id in self.leases]
        self.turns += later.turns
        for lease in later.leases.values():
            self.put_lease(lease)
        self.last_seq = max(self.last_seq, later.last_seq)


@dataclass(slots=True)
class BatchRows:
    """A batch as rows, by the columns of `rows.py`. position: at_ns, seq, open_from_seq, where it carries a checkpoint."""

    events: list[Sequence[Any]]
    charges: list[Sequence[Any]]
    leases: list[Sequence[Any]]
    prices: list[Sequence[Any]]
    position: Sequence[int] | None = None

    @property
    def months(self) -> set[int]:
        """In which something is booked."""
        if not self.events:
            return set()
        first, last = self.events[0][1], self.events[-1][1]
        return {first} if first == last else {row[1] for row in self.events}


class Months:
    """In which month an event is booked: its own, but never one before that of the event before it.

    month: of the last one, for all before end_ns.
    """

    def __init__(self, month: int) -> None:
        self.month = month
        self.end_ns = month_start_ns(month_after(month)) if month else 0

    def of(self, at_ns: int) -> int:
        if at_ns >= self.end_ns:
            self.month = month_of(at_ns)
            self.end_ns = month_start_ns(month_after(self.month))
        return self.month


def batch_rows(batch: Batch, months: Months) -> BatchRows:
    checkpoint = batch.checkpoint
    charged = {charge.facts.attempt_id: charge for charge in batch.charges}
    corrected = {one.charge.facts.attempt_id: one.charge for _, one in batch.corrections}
    events: list[Sequence[Any]] = []
    charges: list[Sequence[Any]] = []
    for seq, event in batch.events:
        at_ns, kind = event.at_ns, event.kind
        month = months.month if at_ns < months.end_ns else months.of(at_ns)
        if kind is CLOSED and (charge := charged.get(event.subject)) is not None:
            events.append(rows.event_row(seq, month, event, charge))
            charges.append((seq, month, *rows.charge_row(charge)))
        else:
            said = corrected.get(event.subject) if kind is CORRECTED else None
            events.append(rows.event_row(seq, month, event, said))
    return BatchRows(
        events,
        charges,
        list(map(rows.lease_row, [*batch.turns, *batch.leases.values()])),
        list(starmap(rows.price_row, batch.prices.items())),
        None if checkpoint is None else _position(checkpoint, batch.last_seq),
    )


def _position(checkpoint: Checkpoint, seq: int) -> tuple[int, int, int]:
    open_from_seq = checkpoint.open_from_seq if checkpoint.open_from_seq is not None else seq + 1
    return checkpoint.at_ns, seq, open_from_seq


def write_rows(database: Database, batch: BatchRows) -> None:
    """Inside a transaction. What is there already is not written again, and moves nothing."""
    for price in batch.prices:
        database.execute(WRITE_PRICE, dict(zip(PRICE_COLUMNS, price, strict=True)))
    database.insert_new("journal", rows.EVENT_COLUMNS, batch.events)
    write_charge_rows(database, batch.charges)
    write_lease_rows(database, batch.leases)
    if batch.position is not None:
        database.execute(WRITE_POSITION, dict(zip(("at_ns", "seq", "open_from_seq"), batch.position, strict=True)))
        rollups.roll(database)


def write_charge_rows(database: Database, charges: Sequence[Sequence[Any]]) -> None:
    """Those that are not there yet, by PLACED_CHARGE_COLUMNS, and the sums that they move."""
    if charges:
        (after,) = database.execute(LAST_CHARGE).fetchone()
        database.insert_new("charges", rows.PLACED_CHARGE_COLUMNS, charges)
        bounds = {"after": after, "month": charges[0][1]}
        database.execute(MOVE_TOTALS, bounds)
        database.execute(MOVE_SPENDING, bounds)


def write_lease_rows(database: Database, leases: Iterable[Sequence[Any]]) -> None:
    """By LEASE_COLUMNS, in order: the last word on each counts, and what ran up until its price changed is rolled up at the price
    before."""
    named = [dict(zip(rows.LEASE_COLUMNS, lease, strict=True)) for lease in leases]
    if len({lease["lease_id"] for lease in named}) < len(named):
        named = _rolled_at_turns(database, named)
    if named:
        database.execute_many(WRITE_LEASE, named)


def _rolled_at_turns(database: Database, leases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is still to be written."""
    waiting: list[dict[str, Any]] = []
    now = {lease_id: (price_id, at_ns) for lease_id, price_id, at_ns in database.execute(READ_PRICES).fetchall()}
    for lease in leases:
        lease_id, price_id, at_ns = lease["lease_id"], lease["price_id"], lease["at_ns"]
        price_before, before_ns = now.get(lease_id, (price_id, at_ns))
        if at_ns >= before_ns:  # else it was written long ago, as all that follows of it until that moment
            if price_id != price_before:
                database.execute_many(WRITE_LEASE, [*waiting, lease | {"price_id": price_before}])
                waiting.clear()
                rollups.roll_lease(database, lease_id)
            now[lease_id] = price_id, at_ns
        waiting.append(lease)
    return waiting
