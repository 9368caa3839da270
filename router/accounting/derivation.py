"""Everything in the ledger that follows from its journal: the charge of every attempt that ended, and every lease.

Fed with the journal's events in order, it does again what the accountant did: the meter of each lease is run from its start
(`pricing/meter.py`), metered attempts are priced by the snapshot that they name. The audit compares what comes out with what
is stored, a rebuild writes it down; neither has another way to a number.

What an older jeton journalled without detail is taken from the charge that stands in the ledger, and counted. What cannot be
is a finding: the row, what stands there, and what should.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

from router.domain.attempt import AttemptEnd, AttemptStatus, Charge, CostStatus
from router.domain.fleet import Billing
from router.domain.totals import Account, LineTotal
from router.ledger.database import Database
from router.ledger.pruned import Pruned, read_pruned
from router.ledger.reading import (
    JournalLine,
    read_journal,
    read_leases,
    read_position,
    read_prices,
    read_totals,
    summed_lines,
)
from router.ledger.rows import (
    BEYOND_BASELINE,
    CHARGE_COLUMNS,
    Closing,
    charge_from_row,
    charge_row,
    closing_from_json,
    event_from_row,
    opening_from_json,
    price_row,
    reweighing_from_text,
    terms_from_json,
)
from router.ledger.store import Correction, Event, EventKind, Lease, Opening, Terms
from router.ledger.workers import CORRECTION_COLUMNS
from router.pricing.amounts import estimated_usage, metered_amount
from router.pricing.cost import list_cost
from router.pricing.meter import MeterState, ReplicaMeter
from router.pricing.price import LeasedPrice, MeteredPrice, Price
from router.pricing.snapshot import price_from_snapshot

Stored = Callable[[], Charge | None]

UNREADABLE = (ValueError, TypeError, KeyError, IndexError)


class Finding(NamedTuple):
    """A row that is not as it should be. row: what names it within its table, or a metric's series."""

    table: str
    row: str
    what: str
    stored: str
    should_be: str


@dataclass(slots=True, eq=False)
class DerivedLease:
    """row: as the ledger should hold it. before: what of its bill ran up at prices that it no longer has, by their ids; None
    where the journal does not go back so far."""

    terms: Terms
    started_ns: int
    meter: ReplicaMeter
    row: Lease
    before: Counter[str] | None = None


@dataclass(slots=True, eq=False)
class _Opened:
    """opening: None where an older jeton did not journal it."""

    seq: int
    event: Event
    opening: Opening | None
    has_first_token: bool = False


@dataclass(slots=True)
class Derivation:
    """prices: every snapshot that could be read. whole_from_seq: up to there the journal may lack details. stored_leases: the
    rows of the ledger, for what the journal lacks. first_seq: of the events that are still there.

    open: attempts that are, by id. corrections: each with the event it goes with, in order. lost: charges of lost
    attempts that were not corrected. taken_on_trust: attempts of which
    the charge itself was the only record.
    """

    prices: Mapping[str, Price]
    whole_from_seq: int = 0
    stored_leases: Mapping[str, Lease] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    leases: dict[str, DerivedLease] = field(default_factory=dict)
    open: dict[str, _Opened] = field(default_factory=dict)
    corrections: list[tuple[int, Correction]] = field(default_factory=list)
    lost: dict[str, Charge] = field(default_factory=dict)
    metered_nanousd: int = 0
    taken_on_trust: int = 0
    first_seq: int = 1
    _prices_named: set[str] = field(default_factory=set)

    def event(self, seq: int, event: Event, detail: str | None, stored: Stored) -> Charge | None:
        """The next event; the charge it leads to, if any. stored: reads the charge that is in the ledger for it."""
        try:
            match event.kind:
                case EventKind.LEASED | EventKind.REPRICED:
                    self._priced(seq, event, detail)
                case EventKind.RELEASED:
                    self._released(seq, event)
                case EventKind.OPENED:
                    self._opened(seq, event, detail)
                case EventKind.FIRST_TOKEN:
                    self._first_token(seq, event, detail)
                case EventKind.CLOSED:
                    return self._closed(seq, event, detail, stored)
                case EventKind.CORRECTED:
                    self._corrected(seq, event, detail)
        except UNREADABLE as error:
            self._event_is_off(seq, event, f"cannot be booked ({error})")
        return None

    def go_on_from(self, pruned: Pruned) -> None:
        """What was before is gone, and taken as it was kept."""
        self.first_seq = pruned.seq + 1
        for lease in pruned.leases:
            assert lease.state is not None
            meter = ReplicaMeter.restore(cast(MeterState, lease.state))
            terms = Terms(lease.replica, lease.pool, lease.backend, lease.price_id)
            row = lease._replace(state=None) if meter.is_ended else lease
            self.leases[lease.lease_id] = DerivedLease(terms, lease.started_ns, meter, row)
        self.lost |= {charge.facts.attempt_id: charge for charge in pruned.lost}
        for seq, _, *members, detail in pruned.open_events:
            event = event_from_row(tuple(members))
            if event.kind is EventKind.OPENED:
                opening = None if detail is None else opening_from_json(event.subject, detail)
                self.open[event.subject] = _Opened(seq, event, opening)
            else:
                self.open[event.subject].has_first_token = True

    def checkpoint(self, seq: int, at_ns: int) -> None:
        """After the event at `seq` all running leases were booked up to `at_ns`, and their meters saved."""
        for lease in self.leases.values():
            if not lease.meter.is_ended:
                lease.meter.advance(at_ns)
                self._keep(lease, state_seq=seq)

    def open_nanousd(self) -> dict[Account, int]:
        """What open attempts owe, as of the last event or checkpoint of each lease."""
        owed: dict[Account, int] = {}
        for lease in self.leases.values():
            for attempt_id, nanousd in lease.meter.accrued_nanousd.items():
                opening = self.open[attempt_id].opening if attempt_id in self.open else None
                if opening is not None:
                    facts = opening.facts
                    account = Account(facts.pool, facts.backend, opening.billing, facts.model, facts.tier, facts.tenant)
                    owed[account] = owed.get(account, 0) + nanousd
        return owed

    # Leases

    def _priced(self, seq: int, event: Event, detail: str | None) -> None:
        terms = self._terms(seq, event, detail)
        lease = self.leases.get(event.lease_id)
        if event.kind is EventKind.LEASED:
            meter = ReplicaMeter(event.amount, event.at_ns)
            row = Lease(event.lease_id, *_members(terms), event.at_ns, event.at_ns)
            before = Counter[str]() if seq > self.whole_from_seq else None
            lease = self.leases[event.lease_id] = DerivedLease(terms, event.at_ns, meter, row, before)
        elif lease is None:
            self._event_is_off(seq, event, "belongs to a lease that never started")
            return
        else:
            self._check_time(seq, event, lease)
            lease.meter.reprice(event.amount, event.at_ns)
            if lease.before is not None:
                lease.before[lease.terms.price_id] += lease.meter.bill_nanousd - lease.before.total()
            lease.terms = terms
        price = self._price(terms.price_id, seq, event.subject)
        if detail is not None and isinstance(price, LeasedPrice) and price.nanousd_per_hour != event.amount:
            what = f"nano-dollars an hour, against event {seq} of lease {event.lease_id}"
            self._found("prices", terms.price_id, what, price.nanousd_per_hour, event.amount)
        self._keep(lease, state_seq=seq)

    def _released(self, seq: int, event: Event) -> None:
        lease = self._lease(seq, event)
        if lease is not None:
            lease.meter.end(event.at_ns)
            self._keep(lease)

    def _terms(self, seq: int, event: Event, detail: str | None) -> Terms:
        if detail is not None:
            return terms_from_json(detail)
        if seq > self.whole_from_seq:
            self._event_is_off(seq, event, "has lost its detail")
        stored = self.stored_leases.get(event.lease_id)
        if stored is None:
            raise ValueError("of which lease is not known")
        price_id = stored.price_id
        if event.kind is EventKind.REPRICED:  # version 2 named it <lease>~<price>~<time>
            price_id = event.subject.removeprefix(event.lease_id + "~").rpartition("~")[0]
        return Terms(stored.replica, stored.pool, stored.backend, price_id)

    def _keep(self, lease: DerivedLease, state_seq: int | None = None) -> None:
        """The row as it is written now: with its state at checkpoints and changes of price, else the money alone."""
        meter, before = lease.meter, lease.row
        state, saved_seq = before.state, before.state_seq
        if meter.is_ended:
            state, saved_seq = None, 0
        elif state_seq is not None:
            state, saved_seq = meter.state(), state_seq
        lease.row = Lease(
            before.lease_id,
            *_members(lease.terms),
            lease.started_ns,
            meter.last_ns,
            meter.last_ns if meter.is_ended else None,
            meter.bill_nanousd,
            meter.idle_nanousd,
            state,
            saved_seq,
        )

    # Attempts

    def _opened(self, seq: int, event: Event, detail: str | None) -> None:
        opening = None if detail is None else opening_from_json(event.subject, detail)
        if opening is None and seq > self.whole_from_seq:
            self._event_is_off(seq, event, "has lost its detail")
        self.open[event.subject] = _Opened(seq, event, opening)
        if event.lease_id and (lease := self._lease(seq, event)) is not None:
            lease.meter.open(event.subject, event.amount, event.at_ns)
        if opening is not None and opening.billing == Billing.METERED:
            self._check_estimate(seq, event, opening)

    def _check_estimate(self, seq: int, event: Event, opening: Opening) -> None:
        """What the usage was expected to cost is journalled, so that a snapshot has a witness."""
        price = self._price(opening.price_id, seq, event.subject)
        if isinstance(price, MeteredPrice):
            usage = estimated_usage(opening.facts)
            expected = list_cost(price, usage)
            if usage.audio_seconds and opening.estimate_nanousd == list_cost(price, replace(usage, audio_seconds=0.0)):
                return  # an older jeton did not estimate how long a sound is
            if expected != opening.estimate_nanousd and opening.price_id not in self._prices_named:
                self._prices_named.add(opening.price_id)
                what = f"cost of what {event.subject} was expected to use, against its opening"
                self._found("prices", opening.price_id, what, expected, opening.estimate_nanousd)

    def _first_token(self, seq: int, event: Event, detail: str | None) -> None:
        opened = self.open.get(event.subject)
        if opened is None:
            self._event_is_off(seq, event, "without an attempt that is open")
            return
        opened.has_first_token = True
        if (lease := self._lease(seq, event)) is not None:
            lease.meter.reweigh(event.subject, event.amount, event.at_ns, *reweighing_from_text(detail))

    def _closed(self, seq: int, event: Event, detail: str | None, stored: Stored) -> Charge | None:
        attempt_id = event.subject
        opened = self.open.pop(attempt_id, None)
        if opened is None:
            self._event_is_off(seq, event, "without the event that opened the attempt")
        closing = None if detail is None else closing_from_json(detail, event.at_ns)
        if closing is None and seq > self.whole_from_seq:
            self._event_is_off(seq, event, "has lost its detail")
        cost: int | None = None
        lease_id = event.lease_id if opened is None else opened.event.lease_id
        if lease_id != event.lease_id:
            self._event_is_off(seq, event, f"is on lease {event.lease_id}, was opened on {lease_id}")
        if event.lease_id and (lease := self._lease(seq, event)) is not None:
            cost = lease.meter.close(attempt_id, event.at_ns, event.amount)
            self._keep(lease)
        opening = None if opened is None else opened.opening
        if (opening is None or closing is None) and (charge := stored()) is not None:
            self.taken_on_trust += 1
            opening = opening or Opening(charge.facts, charge.billing, charge.price_id)
            closing = closing or _closing_of(charge)
        if opening is None or closing is None:
            return None
        is_told = closing.first_token_ns is not None or closing.end.status is AttemptStatus.LOST
        if opened is not None and opened.has_first_token and not is_told:
            self._event_is_off(seq, event, "knows of no first token, but there is an event of it")
        standard = closing.standard_nanousd
        if not event.lease_id and opening.billing == Billing.METERED and opening.price_id:
            price = self._price(opening.price_id, seq if opened is None else opened.seq, attempt_id)
            if isinstance(price, MeteredPrice):
                cost = standard = metered_amount(price, closing.end.usage, closing.end.status)
            elif price is None and (charge := stored()) is not None:  # what it was is not known, and said so already
                cost = charge.cost_nanousd
            self.metered_nanousd += cost or 0
        charge = _charge(opening, closing, cost, standard)
        if charge.status is AttemptStatus.LOST:
            self.lost[attempt_id] = charge
        return charge

    def _corrected(self, seq: int, event: Event, detail: str | None) -> None:
        """What was closed as lost, and what its worker said of it after all."""
        lost = self.lost.pop(event.subject, None)
        if lost is None or detail is None:
            self._event_is_off(seq, event, "without an attempt that was lost" if detail else "has lost its detail")
            return
        closing = closing_from_json(detail, event.at_ns)
        cost, standard = lost.cost_nanousd, closing.standard_nanousd
        price = self._price(lost.price_id, seq, event.subject)
        if lost.billing == Billing.METERED and isinstance(price, MeteredPrice):
            cost = standard = metered_amount(price, closing.end.usage, closing.end.status)
        corrected_nanousd = (cost or 0) - (lost.cost_nanousd or 0)
        if event.amount != corrected_nanousd:
            self._event_is_off(seq, event, f"corrects by {event.amount}, should by {corrected_nanousd} nano-dollars")
        charge = _charge(Opening(lost.facts, lost.billing, lost.price_id), closing, cost, standard)
        self.corrections.append((seq, Correction(charge, corrected_nanousd, event.at_ns)))
        self.metered_nanousd += corrected_nanousd

    # Both

    def _lease(self, seq: int, event: Event) -> DerivedLease | None:
        lease = self.leases.get(event.lease_id)
        if lease is None:
            self._event_is_off(seq, event, f"belongs to lease {event.lease_id}, which never started")
            return None
        self._check_time(seq, event, lease)
        return lease

    def _check_time(self, seq: int, event: Event, lease: DerivedLease) -> None:
        if event.at_ns < lease.meter.last_ns:
            self._found("journal", f"event {seq} ({event.subject})", "at_ns", event.at_ns, f">= {lease.meter.last_ns}")

    def _price(self, price_id: str, seq: int, user: str) -> Price | None:
        price = self.prices.get(price_id)
        if price is None and price_id and seq > self.whole_from_seq and price_id not in self._prices_named:
            self._prices_named.add(price_id)
            self._found("prices", price_id, f"snapshot, used by {user}", "missing or unreadable", "there")
        return price

    def _event_is_off(self, seq: int, event: Event, what: str) -> None:
        self._found("journal", f"event {seq} ({event.subject})", event.kind.value, what, "whole and in its place")

    def _found(self, table: str, row: str, what: str, stored: object, should_be: object) -> None:
        self.findings.append(Finding(table, row, what, str(stored), str(should_be)))


def _missing_events(expected_seq: int, seq: int) -> Finding:
    """Numbers have no gap; there is one before seq."""
    missing = f"{expected_seq}" if seq == expected_seq + 1 else f"{expected_seq} to {seq - 1}"
    return Finding("journal", f"event {missing}", "seq", "missing", "there: numbers have no gap")


def off_corrections(
    corrections: Iterable[tuple[int, Correction]], stored: Mapping[str, tuple[Any, ...]]
) -> Iterator[Finding]:
    """What workers said of attempts after they had been closed as lost. stored: rows by attempt, in CORRECTION_COLUMNS."""
    derived = {one.charge.facts.attempt_id: (seq, one) for seq, one in corrections}
    for attempt_id in stored.keys() - derived.keys():
        yield Finding("corrections", attempt_id, "corrected event in the journal", "missing", "there")
    for attempt_id, (seq, one) in derived.items():
        row = stored.get(attempt_id)
        if row is None:
            yield Finding("corrections", attempt_id, "the row", "missing", "there: the journal corrects the attempt")
            continue
        expected = (seq, one.booked_ns, one.corrected_nanousd, *charge_row(one.charge))
        for column, is_, should_be in zip(CORRECTION_COLUMNS, row, expected, strict=True):
            if is_ != should_be:
                yield Finding("corrections", attempt_id, column, str(is_), str(should_be))


def off_totals(database: Database) -> Iterator[Finding]:
    """Where a total is not the sum of its charges, kept or here."""
    stored, summed = read_totals(database, {}, 0).lines, summed_lines(database)
    for line in dict.fromkeys([*summed, *stored]):
        is_, should_be = stored.get(line), summed.get(line)
        name = " ".join((*line.account, line.status, line.usage_source))
        if is_ is None or should_be is None:
            yield Finding("totals", name, "the row", "missing" if is_ is None else "there", "as its charges are")
            continue
        for column, one, other in zip(LineTotal._fields, is_, should_be, strict=True):
            if one != other:
                yield Finding("totals", name, f"{column}, against its charges", str(one), str(other))


class Replayed(NamedTuple):
    """A line of the journal and the charge it leads to, if any."""

    line: JournalLine
    charge: Charge | None


def derivation_of(database: Database) -> Derivation:
    """For the ledger behind the connection; nothing is derived yet, but for what a pruned one goes on from."""
    findings, prices = [], {}
    for price_id, text, sha256 in read_prices(database):
        expected = price_row(price_id, text)[2]
        if sha256 != expected:
            findings.append(Finding("prices", price_id, "sha256 of the snapshot", sha256, expected))
        try:
            prices[price_id] = price_from_snapshot(text)
        except ValueError as error:
            findings.append(Finding("prices", price_id, "snapshot", f"cannot be read ({error})", "a price"))
    whole_from_seq = read_position(database).whole_from_seq
    derivation = Derivation(prices, whole_from_seq, read_leases(database), findings)
    if (pruned := read_pruned(database)) is not None:
        derivation.go_on_from(pruned)
    return derivation


def replay(
    database: Database,
    derivation: Derivation,
    checkpoints: Iterable[tuple[int, int, Callable[[], object]]],
    until_seq: int | None = None,
) -> Iterator[Replayed]:
    """Run the whole journal through, or up to an event; where events are missing in it, that is a finding. checkpoints: (seq,
    at_ns, what to do then), in order; the ledger's position is the last."""
    waiting, expected_seq = list(checkpoints), derivation.first_seq
    for line in read_journal(database, until_seq):
        if line.seq != expected_seq:
            derivation.findings.append(_missing_events(expected_seq, line.seq))
        expected_seq = line.seq + 1
        while waiting and line.seq > waiting[0][0]:
            seq, at_ns, then = waiting.pop(0)
            derivation.checkpoint(seq, at_ns)
            then()
        yield Replayed(line, derivation.event(line.seq, line.event, line.detail, lambda line=line: _stored(line)))  # type: ignore[misc]
    for seq, at_ns, then in waiting:
        derivation.checkpoint(seq, at_ns)
        then()


def _stored(line: JournalLine) -> Charge | None:
    return None if line.charge is None else charge_from_row(dict(zip(CHARGE_COLUMNS, line.charge, strict=True)))


def _charge(opening: Opening, closing: Closing, cost: int | None, standard: int | None) -> Charge:
    return Charge(
        facts=opening.facts,
        billing=opening.billing,
        price_id=opening.price_id,
        opened_ns=closing.opened_ns,
        first_token_ns=closing.first_token_ns,
        ended_ns=closing.ended_ns,
        status=closing.end.status,
        fault=closing.end.fault,
        http_status=closing.end.http_status,
        usage=closing.end.usage,
        cost_status=CostStatus.UNPRICED if cost is None else CostStatus.PRICED,
        cost_nanousd=cost,
        standard_nanousd=standard,
        baseline_nanousd=closing.baseline_nanousd,
        **closing.beyond,
    )


def _members(terms: Terms) -> tuple[str, str, str, str]:
    return terms.replica, terms.pool, terms.backend, terms.price_id


def _closing_of(charge: Charge) -> Closing:
    return Closing(
        end=AttemptEnd(charge.status, charge.usage, charge.fault, charge.http_status),
        opened_ns=charge.opened_ns,
        first_token_ns=charge.first_token_ns,
        ended_ns=charge.ended_ns,
        standard_nanousd=charge.standard_nanousd,
        baseline_nanousd=charge.baseline_nanousd,
        beyond={name: getattr(charge, name) for name in BEYOND_BASELINE},
    )
