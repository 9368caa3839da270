"""Old months go: the journal and the charges before a month are given up, and what they led to is kept.

Before anything goes it is audited: the journal that is to go is run through, each of its charges held against what it leads to,
and what stays is held against what goes, which it could not be any more: totals, hours and days of budgets before that month,
corrections. What comes out at the end, the balance of every lease and what was open then, is what later audits go on from. So
nothing goes that is off, and it takes what an audit of it takes. Totals, hours, days of budgets, leases and prices stay.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from router.accounting.derivation import (
    Derivation,
    Finding,
    derivation_of,
    off_corrections,
    off_totals,
    replay,
)
from router.domain.budget import DAY_NS
from router.domain.periods import NS_PER_HOUR, month_start_ns, month_text
from router.ledger import rollups
from router.ledger.address import Address
from router.ledger.database import Database
from router.ledger.pruned import Pruned, read_pruned
from router.ledger.reading import JournalLine, charges_without_end, read_position, strange_words, summed_lines
from router.ledger.retention import forget
from router.ledger.rows import charge_row
from router.ledger.schema import reading
from router.ledger.spending import spending_differences
from router.ledger.store import EventKind, Lease, LedgerError
from router.ledger.workers import read_correction_rows


@dataclass(slots=True)
class Pruning:
    """findings: what is off in what should have gone; then nothing went."""

    events: int = 0
    charges: int = 0
    findings: list[Finding] = field(default_factory=list)


def prune(address: Address, before: int) -> Pruning:
    """before: the first month (202611) that stays. Raises LedgerError where it may not go yet."""
    with reading(address) as database:
        until_seq = _end(database, before)
        pruned_already = read_pruned(database)
        pruning = Pruning()
        if pruned_already is not None and pruned_already.seq >= until_seq:
            pruned: Pruned | None = pruned_already  # rows may be left of one that was killed
        else:
            pruned = _replayed(database, before, until_seq, pruning)
    if pruned is not None and not pruning.findings:
        forget(address, pruned)
    return pruning


def _end(database: Database, before: int) -> int:
    """The last event before the month; 0 where there is none. Raises LedgerError."""
    (until_seq,) = database.execute(
        "SELECT coalesce(max(seq), 0) FROM journal WHERE month < :month", {"month": before}
    ).fetchone()
    (last_month,) = database.execute("SELECT coalesce(max(month), 0) FROM journal").fetchone()
    if until_seq and last_month < before:
        raise LedgerError(
            f"the ledger's last month is {month_text(last_month)}, which is still written: --before may be that at most"
        )
    position = read_position(database)
    (state_seq,) = database.execute(
        "SELECT coalesce(min(state_seq), :none) FROM leases WHERE ended_ns IS NULL", {"none": position.seq}
    ).fetchone()
    (rolled_seq,) = database.execute("SELECT seq FROM rolled").fetchone()
    (last_charge,) = database.execute(
        "SELECT coalesce(max(seq), 0) FROM charges WHERE month < :month", {"month": before}
    ).fetchone()
    if until_seq >= position.open_from_seq:
        raise LedgerError("an attempt is open that began before this month; try again when it has ended")
    if until_seq > min(position.seq, state_seq) or last_charge > rolled_seq:
        raise LedgerError("the ledger is not booked up to this month yet; let jeton run for a second, and try again")
    return int(until_seq)


def _replayed(database: Database, before: int, until_seq: int, pruning: Pruning) -> Pruned | None:
    derivation = derivation_of(database)
    pruning.findings = derivation.findings
    details: dict[str, list[tuple[object, ...]]] = {}
    for line, charge in replay(database, derivation, (), until_seq):
        pruning.events += 1
        event, subject, kind = line.event, line.event.subject, line.event.kind
        row = (line.seq, 0, subject, kind.value, event.at_ns, event.lease_id, event.amount, line.detail)
        if kind is EventKind.OPENED:
            details[subject] = [row]
        elif kind is EventKind.FIRST_TOKEN:
            details.setdefault(subject, []).append(row)
        elif kind is EventKind.CLOSED:
            details.pop(subject, None)
            pruning.charges += 1
            if charge is None or line.charge != charge_row(charge):
                derivation.findings.append(_off(line))
    if pruning.events:
        stored = {
            name: row
            for name, row in read_correction_rows(database, derivation.first_seq).items()
            if row[0] <= until_seq
        }
        derivation.findings += off_corrections(derivation.corrections, stored)
        derivation.findings += _off_beside(database, before, until_seq)
    before_that = read_pruned(database)
    carried = [] if before_that is None else [tuple(row) for row in before_that.open_events]
    still_open = [row for row in carried if row[2] in derivation.open]
    still_open += [row for rows in details.values() for row in rows]
    if not pruning.events or derivation.findings:
        return None
    return Pruned(
        month=before,
        seq=until_seq,
        leases=_balances(derivation),
        lost=list(derivation.lost.values()),
        open_events=sorted(still_open, key=lambda row: row[0]),
        lines=summed_lines(database, until_seq),
    )


def _off_beside(database: Database, before: int, until_seq: int) -> Iterator[Finding]:
    """What is held against the charges that go, and could not be any more."""
    for attempt_id in charges_without_end(database, until_seq):
        yield Finding("charges", attempt_id, "closed event in the journal", "missing", "there")
    strange = strange_words(database)
    for table, row, column, word in strange:
        yield Finding(table, row, column, word, "a word that there is")
    if not strange:
        yield from off_totals(database)
    end_ns = month_start_ns(before)
    for tenant, api_key_name, day, is_, should_be in spending_differences(database):
        if day < end_ns // DAY_NS:
            yield Finding("spending", f"{tenant} {api_key_name} day {day}", "cost_nanousd", str(is_), str(should_be))
    for table, row, column, is_here, expected in (*rollups.differences(database), *rollups.arm_differences(database)):
        if table not in ("charge_hours", "arm_hours") or int(row.split()[0]) < end_ns // NS_PER_HOUR:
            yield Finding(table, row, column, str(is_here), str(expected))


def _balances(derivation: Derivation) -> list[Lease]:
    return [one.row._replace(state=one.meter.state()) for one in derivation.leases.values()]


def _off(line: JournalLine) -> Finding:
    stored = "missing" if line.charge is None else "not what its journal leads to"
    return Finding("charges", line.event.subject, "the row", stored, "as the audit says")
