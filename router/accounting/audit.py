"""The audit of a ledger: its bill reckoned again from the journal, and every row and every metric held against that.

One read transaction, so a router may write meanwhile, or have died at any moment. What is compared, to the last nano-dollar:
each charge, column by column, with the one that the journal leads to (`derivation.py`); each lease, its meter's saved state
included; each total, what each API key has spent a day, and each hour that has been rolled up, with the sum of their charges;
what workers told late, with what was charged before; of what they have told and is not booked yet, that nothing is missing;
and, of every lease, its bill with what was charged, idle and is owed. Then the money metrics, as this code would render them and
as a running router does: those tell up to which event and time they reckon, so that they are compared with that very state,
whatever has been booked since.

Of a ledger that was pruned, the journal is what is left, and goes on from what was kept then: balances of leases, what was open
and the totals of what is gone, all of which were audited before it went. Hours and days before that month have no charges any
more that they could be held against; the totals still sum to what they did.

What this cannot see: a journal that was rewritten with everything that follows from it, and what was never journalled. What
the engine profile goes into is not reckoned again, for the profile is not in the ledger: the weights, a leased attempt's
standard price and the baseline's cost are held against what the journal says of them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest

from router.accounting.audited_metrics import off_metrics, position_of, read_samples
from router.accounting.derivation import (
    Finding,
    derivation_of,
    off_corrections,
    off_totals,
    replay,
)
from router.domain.attempt import AttemptStatus, Charge, CostStatus
from router.domain.periods import NS_PER_HOUR
from router.domain.totals import LeaseTotal, Totals
from router.domain.usage import UsageSource
from router.ledger import rollups
from router.ledger.address import Address
from router.ledger.database import Database
from router.ledger.pruned import read_pruned
from router.ledger.reading import (
    JournalLine,
    Position,
    charges_without_end,
    read_position,
    read_totals,
    strange_words,
    summed_lines,
)
from router.ledger.rows import CHARGE_COLUMNS, charge_row
from router.ledger.schema import reading
from router.ledger.spending import spending_differences
from router.ledger.store import EventKind, Lease
from router.ledger.workers import missing_reports, read_corrected, read_correction_rows
from router.pricing.meter import MeterState, ReplicaMeter
from router.pricing.price import LeasedPrice
from router.telemetry.labels import Vocabulary
from router.telemetry.metrics import TENANTS_MAX
from router.telemetry.money import POSITION, MoneyCollector

# Where so much is wrong, more of it says no more.
FINDINGS_MAX = 1000

# A lease's money is cut into whole nano-dollars at every look, of which there is one a second, and a few more where its price
# changes.
LOOKS_AN_HOUR_MAX = 4_000

DRIFT = "jeton_meter_drift_ratio"
COST = CHARGE_COLUMNS.index("cost_nanousd")


@dataclass(frozen=True, slots=True)
class LeaseAccount:
    """bill = charged + idle + open + residue, nano-dollars, as of the lease's last event or checkpoint."""

    lease_id: str
    pool: str
    backend: str
    bill_nanousd: int
    charged_nanousd: int
    idle_nanousd: int
    open_nanousd: int
    open_attempts: int

    @property
    def residue_nanousd(self) -> int:
        return self.bill_nanousd - self.charged_nanousd - self.idle_nanousd - self.open_nanousd


@dataclass(slots=True)
class Audit:
    """findings: what is off; clean when there is none. taken_on_trust: attempts of an older jeton that only their charges
    speak of. corrections: of attempts that were closed as lost, and what they come to. metrics_from: what the metrics compared
    were read from. drift: our tokens ÷ the replicas' own, by backend. pruned_before: the month before which all detail is gone;
    its attempts are in no other figure here but the leases'."""

    findings: list[Finding] = field(default_factory=list)
    events: int = 0
    attempts: int = 0
    open_attempts: int = 0
    metered_nanousd: int = 0
    taken_on_trust: int = 0
    corrections: int = 0
    corrected_nanousd: int = 0
    leases: list[LeaseAccount] = field(default_factory=list)
    metrics_from: list[str] = field(default_factory=list)
    drift: Mapping[str, float] = field(default_factory=dict)
    pruned_before: int | None = None
    pruned_attempts: int = 0
    is_cut_short: bool = False

    @property
    def is_clean(self) -> bool:
        return not self.findings


def audit(address: Address, metrics_text: str | None = None, metrics_from: str = "") -> Audit:
    """metrics_text: scraped from the router that writes this ledger, before this is called. Raises LedgerError."""
    with reading(address) as database:
        return _Auditor(database).run(metrics_text, metrics_from)


class _Auditor:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._derivation = derivation_of(database)
        self._audit = Audit(self._derivation.findings)
        pruned = read_pruned(database)
        if pruned is not None:
            self._audit.pruned_before = pruned.month
            self._audit.pruned_attempts = sum(total.attempts for total in pruned.lines.values())
        # By lease, as the ledger has it.
        self._charged = Counter({name: lease.meter.charged_nanousd for name, lease in self._derivation.leases.items()})

    def run(self, metrics_text: str | None, metrics_from: str) -> Audit:
        audit, position = self._audit, read_position(self._database)
        checkpoints = [(position.seq, position.at_ns, lambda: None)]
        is_summable = self._check_words()
        scraped: list[Totals] = []
        if metrics_text is not None:
            samples = read_samples(metrics_text)
            audit.drift = {labels[0][1]: value for (name, labels), value in samples.items() if name == DRIFT}
            seq, at_ns = position_of(samples)
            if at_ns is None:
                self._found("metrics", POSITION, metrics_from, "absent", "there, in a router of this version")
            elif seq > position.seq:
                self._found(
                    "metrics", POSITION, f"event, {metrics_from}", seq, f"at most {position.seq}: another ledger?"
                )
            elif is_summable:
                checkpoints.insert(0, (seq, at_ns, lambda: scraped.append(self._derived_totals(seq, at_ns))))
        self._replay(checkpoints)
        if not audit.is_cut_short:
            self._check_what_is_open(position)
            self._check_charges_without_end()
            self._check_corrections()
            self._check_reports()
            self._check_leases()
            self._check_spending()
            self._check_hours()
            if is_summable:
                audit.findings += off_totals(self._database)
                self._check_own_rendering(position)
            for totals in scraped:
                assert metrics_text is not None
                audit.metrics_from.append(metrics_from)
                audit.findings += off_metrics(metrics_text, totals, metrics_from)
        audit.open_attempts = len(self._derivation.open)
        audit.metered_nanousd = self._derivation.metered_nanousd
        audit.taken_on_trust = self._derivation.taken_on_trust
        return audit

    def _check_words(self) -> bool:
        """Whether every word is one of ours: else totals and metrics cannot be summed up, and are not compared."""
        strange = strange_words(self._database)
        for table, row, column, word in strange:
            self._found(table, row, column, word, "a word that there is; totals and metrics are not compared")
        return not strange

    def _replay(self, checkpoints: Iterable[tuple[int, int, Callable[[], object]]]) -> None:
        audit = self._audit
        for line, charge in replay(self._database, self._derivation, checkpoints):
            audit.events += 1
            if line.event.kind is EventKind.CLOSED:
                audit.attempts += 1
                self._check_charge(line, charge)
            if len(audit.findings) > FINDINGS_MAX:
                audit.is_cut_short = True
                return

    def _check_charge(self, line: JournalLine, charge: Charge | None) -> None:
        stored, attempt_id, lease_id = line.charge, line.event.subject, line.event.lease_id
        if stored is None:
            self._found("charges", attempt_id, "the row", "missing", "there: the journal closes the attempt")
            return
        if lease_id:
            self._charged[lease_id] += stored[COST] or 0
        if charge is None:
            self._found("charges", attempt_id, "the row", "there", "derivable: its events say too little")
            return
        expected = charge_row(charge)
        if stored != expected:
            for column, is_, should_be in zip(CHARGE_COLUMNS, stored, expected, strict=True):
                if is_ != should_be:
                    basis = ""
                    if column in ("cost_nanousd", "standard_nanousd"):
                        basis = f" (share of lease {lease_id})" if lease_id else f" (usage x price {charge.price_id})"
                    self._found("charges", attempt_id, column + basis, is_, should_be)
        for contradiction in _contradictions(charge):
            self._found("charges", attempt_id, "the row", contradiction, "without contradiction")

    def _check_what_is_open(self, position: Position) -> None:
        for attempt_id, opened in self._derivation.open.items():
            if opened.seq < position.open_from_seq:
                what = f"open_from_seq, before open attempt {attempt_id}"
                self._found("position", "1", what, position.open_from_seq, f"at most {opened.seq}")

    def _check_charges_without_end(self) -> None:
        for attempt_id in charges_without_end(self._database):
            self._found("charges", attempt_id, "closed event in the journal", "missing", "there")

    def _check_corrections(self) -> None:
        """What workers said of attempts after they had been closed as lost."""
        audit, corrections = self._audit, self._derivation.corrections
        audit.corrections = len({one.charge.facts.attempt_id for _, one in corrections})
        audit.corrected_nanousd = sum(one.corrected_nanousd for _, one in corrections)
        audit.findings += off_corrections(corrections, read_correction_rows(self._database, self._derivation.first_seq))

    def _check_reports(self) -> None:
        """What workers have told and the accountant has not booked yet waits, whole."""
        for worker, waiting, should_wait in missing_reports(self._database):
            self._found("reports", worker, "reports that wait to be booked", waiting, should_wait)

    def _check_leases(self) -> None:
        stored_leases, derived_leases = self._derivation.stored_leases, self._derivation.leases
        for lease_id in stored_leases.keys() - derived_leases.keys():
            self._found("leases", lease_id, "leased event in the journal", "missing", "there")
        for lease_id, derived in derived_leases.items():
            stored, meter = stored_leases.get(lease_id), derived.meter
            if stored is None:
                self._found("leases", lease_id, "the row", "missing", "there: the journal starts the lease")
                continue
            for column, is_, should_be in zip(Lease._fields, stored, derived.row, strict=True):
                if column == "state":
                    self._check_state(lease_id, is_, should_be)
                elif is_ != should_be:
                    self._found("leases", lease_id, column, is_, should_be)
            owed = meter.accrued_nanousd
            account = LeaseAccount(
                lease_id, stored.pool, stored.backend, meter.bill_nanousd, self._charged[lease_id], meter.idle_nanousd,
                sum(owed.values()), len(owed),
            )  # fmt: skip
            self._audit.leases.append(account)
            if not 0 <= account.residue_nanousd <= account.open_attempts + 1:
                what = "bill - charges - idle - open"
                self._found("leases", lease_id, what, account.residue_nanousd, f"0 to {account.open_attempts + 1}")

    def _check_state(self, lease_id: str, stored: object, derived: object) -> None:
        """late_events is no money: the live meter counts what the journal has set right. What an older jeton saved is compared
        as this one would write it."""
        if isinstance(stored, Mapping) and "grain_bits" not in stored:
            with suppress(KeyError, TypeError, ValueError):
                stored = ReplicaMeter.restore(cast(MeterState, stored)).state()
        if not isinstance(stored, Mapping) or not isinstance(derived, Mapping):
            if stored != derived:
                self._found("leases", lease_id, "state", stored, derived)
            return
        for member in dict.fromkeys([*derived, *stored]):
            if member != "late_events" and stored.get(member) != derived.get(member):
                self._found("leases", lease_id, f"state.{member}", stored.get(member), derived.get(member))

    def _check_spending(self) -> None:
        """What budgets go by, against the charges."""
        for tenant, api_key_name, day, is_, should_be in spending_differences(self._database):
            self._found("spending", f"{tenant} {api_key_name} day {day}", "cost_nanousd", is_, should_be)

    def _check_hours(self) -> None:
        """What reports are made of, against the charges and what was looked at of the leases; what a lease ran up at a price,
        against the journal, where it has another now (what it runs up at that one is the rest); and each of its hours against the
        time at the price."""
        if not rollups.is_anything_rolled(self._database):
            self._found("rolled", "1", "the row", "missing", "there")
            return
        for table, row, column, is_, should_be in rollups.differences(self._database):
            self._found(table, row, column, is_, should_be)
        for table, row, column, squares, bound in rollups.arm_differences(self._database):
            self._found(table, row, column, squares, bound)
        rolled: Counter[tuple[str, str]] = Counter()
        leased: Counter[tuple[str, int]] = Counter()
        for one in rollups.lease_hours(self._database):
            rolled[one.lease_id, one.price_id] += one.bill_nanousd
            leased[one.lease_id, one.hour] += one.leased_ns
            self._check_lease_hour(one)
        self._check_leased_time(leased)
        for lease_id, derived in self._derivation.leases.items():
            for price_id, nanousd in {} if derived.before is None else derived.before.items():
                if price_id != derived.terms.price_id and (is_ := rolled[lease_id, price_id]) != nanousd:
                    self._found("lease_hours", f"{lease_id} {price_id}", "bill_nanousd", is_, nanousd)

    def _check_lease_hour(self, one: rollups.LeaseHour) -> None:
        name, lease = f"{one.hour} {one.lease_id} {one.price_id}", self._derivation.leases.get(one.lease_id)
        if lease is None:
            self._found("lease_hours", name, "leased event in the journal", "missing", "there")
            return
        terms, price = lease.terms, self._derivation.prices.get(one.price_id)
        place = terms.replica, terms.pool, terms.backend
        if one.place != place:
            self._found("lease_hours", name, "replica, pool and backend", " ".join(one.place), " ".join(place))
        # An older jeton had no hours, so that all of a lease was spread evenly under its last price.
        if lease.before is None:
            return
        if not isinstance(price, LeasedPrice):
            self._found("lease_hours", name, "snapshot of the price", "missing or unreadable", "there")
            return
        should_be = price.nanousd_per_hour * one.leased_ns // NS_PER_HOUR
        if abs(one.bill_nanousd - should_be) > LOOKS_AN_HOUR_MAX:
            what = f"bill_nanousd, against {one.leased_ns / 1e9:.3f} s at its price"
            self._found("lease_hours", name, what, one.bill_nanousd, should_be)

    def _check_leased_time(self, leased: Mapping[tuple[str, int], int]) -> None:
        """Each hour of a lease has what of it lies between its start and its last look."""
        until_ns = rollups.rolled_until(self._database)
        for (lease_id, hour), leased_ns in leased.items():
            lease = self._derivation.leases.get(lease_id)
            if lease is None or lease_id not in until_ns:
                continue
            end_ns = min((hour + 1) * NS_PER_HOUR, until_ns[lease_id])
            should_be = max(end_ns - max(hour * NS_PER_HOUR, lease.started_ns), 0)
            if leased_ns != should_be:
                self._found("lease_hours", f"{hour} {lease_id}", "leased_ns", leased_ns, should_be)

    def _check_own_rendering(self, position: Position) -> None:
        """What a router would show on this ledger."""
        open_nanousd = self._derivation.open_nanousd()
        totals = read_totals(self._database, open_nanousd, position.seq)
        registry = CollectorRegistry()
        registry.register(MoneyCollector(lambda: totals, Vocabulary(TENANTS_MAX)))
        text = generate_latest(registry).decode()
        expected = self._derived_totals(None, position.at_ns)
        self._audit.metrics_from.append("rendered from this ledger")
        self._audit.findings += off_metrics(text, expected, "rendered from this ledger")

    def _derived_totals(self, seq: int | None, at_ns: int) -> Totals:
        """Sums of charges up to seq, leases as they are derived by now."""
        leases: defaultdict[tuple[str, str], LeaseTotal] = defaultdict(LeaseTotal)
        for lease in self._derivation.leases.values():
            place, row = (lease.terms.pool, lease.terms.backend), lease.row
            before = leases[place]
            leases[place] = LeaseTotal(before.bill_nanousd + row.bill_nanousd, before.idle_nanousd + row.idle_nanousd)
        corrected: Counter[tuple[str, str]] = Counter(
            read_corrected(self._database, until_seq=self._derivation.first_seq - 1)
        )
        for corrected_seq, one in self._derivation.corrections:
            if seq is None or corrected_seq <= seq:
                corrected[one.charge.facts.pool, one.charge.facts.backend] += one.corrected_nanousd
        lines, owed = summed_lines(self._database, seq), self._derivation.open_nanousd()
        return Totals(at_ns, lines, owed, leases, seq or 0, corrected_nanousd=corrected)

    def _found(self, table: str, row: str, what: str, stored: object, should_be: object) -> None:
        self._audit.findings.append(Finding(table, row, what, str(stored), str(should_be)))


def _contradictions(charge: Charge) -> Iterator[str]:
    usage, source = charge.usage, charge.usage.source
    if (charge.cost_nanousd is None) != (charge.cost_status is CostStatus.UNPRICED):
        yield f"cost {charge.cost_nanousd}, cost_status {charge.cost_status}"
    if charge.status is AttemptStatus.LOST and source is not UsageSource.ESTIMATED:
        yield f"status lost, usage_source {source}"
    if charge.status is AttemptStatus.OK and source is UsageSource.MISSING:
        yield "status ok, usage_source missing"
    if usage.cached_tokens + usage.cache_write_tokens > usage.prompt_tokens:
        yield "more cached tokens than prompt tokens"
    if usage.reasoning_tokens > usage.completion_tokens:
        yield "more reasoning tokens than completion tokens"
