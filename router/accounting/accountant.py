"""The accountant: turns what happens to attempts into money, by joining the meters of `pricing/` with the ledger.

One per process, called from the event loop, never waiting: meters are arithmetic, the ledger's own thread writes. It is the
only place where a cost is decided, once per attempt, at its end; everything else repeats what it said.

An attempt keeps the price snapshot it was opened with, whatever is reloaded meanwhile. On a leased replica it enters the
replica's meter with the weight of a prefill and goes on with that of a decode from its first token; what it cost is its share
of the lease. On a metered backend it costs price × usage, or what the provider says.

Only what is journalled is metered, so that journal and bill can always be reckoned from one another. After a crash the meters
go on from their saved state and the journal's tail. Attempts that the dead process held are closed as lost: at what they had
run up by then (counters have shown it, and counters do not fall), or on a metered backend at the estimate made when they were
opened. The time until the restart is idle.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import structlog

from router.accounting.charging import OpenAttempt, charge_of, lost_charge
from router.accounting.leases import Leases, RunningLease
from router.domain.attempt import AttemptEnd, AttemptFacts, Charge
from router.domain.fleet import Backend, Billing
from router.domain.sleep import Wake
from router.domain.totals import Account, Totals
from router.domain.usage import UsageSource
from router.errors import Unavailable
from router.ledger.store import Checkpoint, Event, EventKind, LedgerStore, Opened, Opening
from router.pricing.amounts import Basis, estimated_usage
from router.pricing.cost import list_cost
from router.pricing.price import LeasedPrice, MeteredPrice, Price
from router.pricing.profile import EngineProfile
from router.pricing.snapshot import price_from_snapshot, snapshot_text

log = structlog.get_logger(__name__)

# A replica without a profile: equal shares for all, of the size of a real weight (1 ms of a step) should one be added.
WEIGHT_WITHOUT_PROFILE = 1_000_000
# How many closed attempts are remembered, so that closing one again gives its charge again.
CLOSED_REMEMBERED = 256
# How long a metered attempt waits for its journal entry to be on disk before it is refused: two hundred commits, and more than it
# takes to give a frozen PostgreSQL up and write to the spool (`ledger/postgres_patience.py`).
DURABLE_SECONDS_MAX = 4.0
# By how much a clock may have been ahead of this one before it is said: more than hosts differ by.
AHEAD_NS_MAX = 60 * 10**9

NO_BASIS = Basis()
CANNOT_RECORD = "The router cannot record what this request would cost."


class Accountant:
    """Opens, follows and closes attempts. Times are wall-clock nanoseconds anchored to the monotonic clock.

    Creating one takes up what the last process left in the store; `set_fleet` comes next.
    unrecorded_attempts: how many went on without being written down, because the ledger was full.
    """

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._leases = Leases(store)
        self._bases: Mapping[str, Basis] = {}
        self._attempts: dict[str, OpenAttempt] = {}  # in the order of opening
        self._closed: OrderedDict[str, Charge] = OrderedDict()
        self._prices_kept: dict[str, str] = {}
        self._advanced_ns = 0
        self.unrecorded_attempts = 0
        self._take_up()

    @property
    def is_accepting(self) -> bool:
        """Whether a metered attempt may be opened: the ledger can write it down before money is spent."""
        return self._store.is_accepting

    @property
    def open_attempts(self) -> int:
        return len(self._attempts)

    def lease_prices(self) -> frozenset[str]:
        """The ids of the prices by which leases run."""
        return frozenset(lease.price_id for lease in self._leases)

    def awake(self) -> dict[str, list[Wake]]:
        """Which replicas that scale to zero are leased and at rest, as the last process left them."""
        return self._leases.awake()

    def totals(self) -> Totals:
        """The ledger's totals as of the last `advance` that is on disk."""
        return self._store.totals()

    async def posted(self, timeout_seconds: float = 1.0) -> Totals:
        """The totals once the last `advance` is on disk, for a scrape; the latest there are when that takes too long."""
        try:
            return await self._store.published(timeout_seconds)
        except TimeoutError:
            return self._store.totals()

    def set_fleet(
        self,
        backends: Iterable[Backend],
        prices: Mapping[str, Price],
        profiles: Mapping[str, EngineProfile],
        at_ns: int,
    ) -> None:
        """This is the fleet from now on. prices and profiles: by backend name, without those that have none.

        New replicas start a lease, changed prices apply from now, and the lease of a replica that is gone ends with its last
        attempt.
        """
        backends = tuple(backends)
        self.know(backends, prices, profiles)
        self.tell_if_ahead(at_ns)
        leased = []
        for backend in backends:
            price = prices.get(backend.name)
            if backend.pool.billing is Billing.LEASED and isinstance(price, LeasedPrice):
                leased.append((backend, price))
        at_ns = max(
            at_ns, self._advanced_ns
        )  # a lease that starts now must not be billed for time that others have had
        self._leases.set_fleet(leased, at_ns)
        self.advance(at_ns)

    def know(
        self, backends: Iterable[Backend], prices: Mapping[str, Price], profiles: Mapping[str, EngineProfile]
    ) -> None:
        """By these attempts are priced that are opened from now on. Leases stay as they are."""
        for one in prices.values():
            self._keep_price(one)
        self._bases = {one.name: Basis(prices.get(one.name), profiles.get(one.name)) for one in backends}

    def tell_if_ahead(self, now_ns: int) -> None:
        """A process before this one had a clock that was wrong: what it has booked is not booked again, so leases cost nothing
        until then."""
        ahead_ns = self._advanced_ns - now_ns
        if ahead_ns > AHEAD_NS_MAX:
            what = "the ledger is booked up to a time that is yet to come: leases cost nothing until then"
            log.error(what, seconds=round(ahead_ns / 1e9))

    def advance(self, at_ns: int) -> None:
        """Book the time until now and post what open attempts owe. About once a second, and before a scrape.

        Told a time before the last, as after a restart with the clock set back, it books nothing: it never unbooks.
        """
        at_ns = self._advanced_ns = max(at_ns, self._advanced_ns)
        self._leases.stop_idle(at_ns)
        open_nanousd: dict[Account, int] = {}
        leases = []
        for lease in self._leases:
            lease.meter.advance(at_ns)
            for attempt_id, owed_nanousd in lease.meter.accrued_nanousd.items():
                account = self._attempts[attempt_id].account
                open_nanousd[account] = open_nanousd.get(account, 0) + owed_nanousd
            leases.append(lease.row(with_state=True))
        open_from_seq = next((one.seq for one in self._attempts.values() if one.seq is not None), None)
        self._store.checkpoint(Checkpoint(at_ns, leases, open_nanousd, open_from_seq))

    def estimate_among(self, elsewhere: Mapping[str, int], at_ns: int) -> None:
        """From now on others have so many attempts at each replica: a lease is shared with them. For a worker, whose meters see
        its own attempts alone; what they come to then is an estimate."""
        self._leases.share(elsewhere, at_ns)

    def open(
        self,
        facts: AttemptFacts,
        backend: Backend,
        price: Price | None,
        prompt_tokens: int,
        completion_tokens: int,
        at_ns: int,
        *,
        is_streaming: bool = True,
        cached_tokens: int = 0,
    ) -> None:
        """The attempt is about to be dispatched.

        prompt_tokens, and cached_tokens of them: expected; completion_tokens: expected, all choices together.
        is_streaming: whether `first_token` will be told; without it one mean weight stands for prefill and decode.

        Raises Unavailable for a metered backend while the ledger is not accepting. On a leased one such an attempt goes on,
        unrecorded and counted: its time is in the bill anyway. Raises ValueError when the attempt was opened before.
        """
        attempt_id = facts.attempt_id
        if attempt_id in self._attempts or attempt_id in self._closed:
            raise ValueError(f"attempt {attempt_id} was opened before")
        billing = backend.pool.billing
        attempt = self._attempt(facts, billing, price, at_ns)
        if billing is Billing.METERED:
            if not self._store.is_accepting:
                raise Unavailable(CANNOT_RECORD, retry_after_seconds=1, detail="the ledger is not accepting")
        elif self._store.is_full:
            self.unrecorded_attempts += 1
            self._attempts[attempt_id] = attempt
            return
        self._enter(
            attempt, prompt_tokens, completion_tokens, at_ns, is_streaming=is_streaming, cached_tokens=cached_tokens
        )

    def _attempt(
        self, facts: AttemptFacts, billing: Billing, price: Price | None, at_ns: int, worker: str = ""
    ) -> OpenAttempt:
        basis = self._bases.get(facts.backend, NO_BASIS)
        if basis.price is not price:  # decided before a reload
            basis = Basis(price, basis.profile)
            self._keep_price(price)
        return OpenAttempt(facts, billing, basis, self._bases.get(facts.baseline, NO_BASIS), at_ns, worker)

    def _enter(
        self,
        attempt: OpenAttempt,
        prompt_tokens: int,
        completion_tokens: int,
        at_ns: int,
        *,
        is_streaming: bool,
        cached_tokens: int = 0,
        number: int = 0,
    ) -> None:
        """Into the meter of its replica and the journal. number: of the report that tells of it."""
        facts, price = attempt.facts, attempt.basis.price
        attempt_id, lease_id, weight, estimate = facts.attempt_id, "", 0, None
        if attempt.billing is Billing.METERED:
            if isinstance(price, MeteredPrice):
                estimate = list_cost(price, estimated_usage(facts))
        elif isinstance(price, LeasedPrice):
            place = (facts.replica, facts.pool, facts.backend)
            lease = attempt.lease = self._leases.joined(place, price, max(at_ns, self._advanced_ns))
            at_ns = max(at_ns, lease.meter.last_ns)
            profile, weight = attempt.basis.profile, WEIGHT_WITHOUT_PROFILE
            if profile is not None:
                weight = lease.weigher.open(
                    attempt_id,
                    profile,
                    at_ns,
                    max(prompt_tokens - cached_tokens, 0),
                    completion_tokens,
                    context_tokens=prompt_tokens,
                    is_streaming=is_streaming,
                )
            lease.meter.open(attempt_id, weight, at_ns)
            lease_id = lease.lease_id
        opening = Opening(facts, attempt.billing.value, attempt.price_id, estimate, is_streaming)
        event = Event(attempt_id, EventKind.OPENED, at_ns, lease_id, weight, opening, 0, attempt.worker, number)
        attempt.seq = self._store.append((event,))
        self._attempts[attempt_id] = attempt

    async def durable(self, attempt_id: str) -> None:
        """Return when the attempt's opening is on disk. Raises Unavailable when it takes too long: close it, undispatched."""
        seq = self._attempts[attempt_id].seq
        if seq is None:
            return
        try:
            await self._store.committed(seq, DURABLE_SECONDS_MAX)
        except TimeoutError:
            detail = f"the ledger did not commit within {DURABLE_SECONDS_MAX} s"
            raise Unavailable(CANNOT_RECORD, retry_after_seconds=1, detail=detail) from None

    def first_token(self, attempt_id: str, at_ns: int, number: int = 0) -> None:
        """Its prefill is done, decode begins. Told again, or after the end, it changes nothing. number: of the report."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None or attempt.first_token_ns is not None:
            return
        attempt.first_token_ns = at_ns
        lease = attempt.lease
        if lease is None:
            return
        lease.meter.advance(at_ns)
        at_ns = lease.meter.last_ns
        weighed = lease.weigher.first_token(attempt_id, at_ns, lease.meter.occupied_seconds(attempt_id))
        if weighed is not None:
            weight, growth, shared, settled = weighed
            lease.meter.reweigh(attempt_id, weight, at_ns, growth, shared, settled)
            attempt.prefill_nanousd = lease.meter.accrued(attempt_id)
            prefill, kind = attempt.prefill_nanousd if number else None, EventKind.FIRST_TOKEN
            event = Event(
                attempt_id,
                kind,
                at_ns,
                lease.lease_id,
                weight,
                prefill,
                growth,
                attempt.worker,
                number,
                shared,
                settled,
            )
            self._store.append((event,))

    def close(self, attempt_id: str, end: AttemptEnd, at_ns: int, number: int = 0) -> Charge:
        """It has ended, however. Its charge; of a second close, the first one's. Raises KeyError when it was never opened.

        number: of the report that tells of it.
        """
        attempt = self._attempts.pop(attempt_id, None)
        if attempt is None:
            return self._closed[attempt_id]
        lease, cost, given_back = attempt.lease, None, 0
        if lease is not None:
            usage, computed_tokens = end.usage, None
            if usage.source is UsageSource.PROVIDER and usage.prompt_tokens:
                computed_tokens = usage.prompt_tokens - usage.cached_tokens
            given_back = lease.weigher.close(attempt_id, max(at_ns, lease.meter.last_ns), computed_tokens)
            cost = lease.meter.close(attempt_id, at_ns, given_back)
        charge = charge_of(attempt, end, cost, at_ns)
        if attempt.seq is not None:
            self._write(charge, lease, attempt.worker, number, given_back)
        self._remember(charge)
        return charge

    def _remember(self, charge: Charge) -> None:
        self._closed[charge.facts.attempt_id] = charge
        if len(self._closed) > CLOSED_REMEMBERED:
            self._closed.popitem(last=False)

    # The ledger

    def _write(
        self, charge: Charge, lease: RunningLease | None, worker: str = "", number: int = 0, given_back: int = 0
    ) -> None:
        """The charge with the event that led to it and the lease that it moved, all in one transaction."""
        attempt_id, kind = charge.facts.attempt_id, EventKind.CLOSED
        if lease is None:
            self._store.append((Event(attempt_id, kind, charge.ended_ns, worker=worker, number=number),), charge)
            return
        at_ns = lease.meter.last_ns
        events = [Event(attempt_id, kind, at_ns, lease.lease_id, given_back, worker=worker, number=number)]
        if (released := self._leases.ended(lease, at_ns)) is not None:
            events.append(released)
        self._store.append(events, charge, lease.row())

    def _keep_price(self, price: Price | None) -> None:
        """What was ever charged by can be looked up in the ledger: prices.yaml forgets."""
        if price is None:
            return
        text, kept = snapshot_text(price), self._prices_kept.get(price.price_id)
        if kept is None:
            self._prices_kept[price.price_id] = text
            self._store.keep_price(price.price_id, text)
        elif kept != text and not _is_snapshot_of(price, kept):
            log.error("a price is not what the ledger knows by its id; the audit will say so", price_id=price.price_id)

    def _take_up(self) -> None:
        """After a restart: go on with the leases, and close the attempts that the last process left open."""
        recovery = self._store.recover()
        self._prices_kept.update(recovery.prices)
        self._advanced_ns = recovery.at_ns
        self._leases.restore(recovery)
        lease_by_attempt = {name: lease for lease in self._leases for name in lease.meter.open_attempts}
        lost = 0
        for attempt_id, opened in recovery.openings.items():
            lease = lease_by_attempt.get(attempt_id)
            if not self._goes_on(opened, lease):
                self._lose_opened(opened, lease)
                lost += 1
        if lost:
            log.warning("closed the attempts that a previous process left open", attempts=lost)
        for lease in self._leases:
            if set(lease.meter.open_attempts) - self._attempts.keys():
                lease.meter.abandon()  # of nothing, unless the journal was tampered with

    def _goes_on(self, opened: Opened, lease: RunningLease | None) -> bool:
        """Whether somebody else still has an attempt that the last process left open."""
        return False

    def _lose_opened(self, opened: Opened, lease: RunningLease | None) -> None:
        opening, cost, ended_ns = opened.opening, None, opened.at_ns
        if lease is not None:
            ended_ns = lease.meter.last_ns
            cost = lease.meter.close(opening.facts.attempt_id, ended_ns)
        self._write(lost_charge(opening, opened.at_ns, cost, ended_ns), lease, opened.worker)


def _is_snapshot_of(price: Price, text: str) -> bool:
    """Members that only one of the two versions of jeton knows count by their defaults."""
    try:
        return price_from_snapshot(text) == price
    except ValueError:
        return False
