"""The leases that run, one for each leased replica, and the meter of each.

The accountant's half that follows the fleet: leases start, change price and end here, and go on after a restart. Attempts
are the accountant's own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast
from uuid import uuid4

from router.domain.fleet import Backend, ScaleToZero
from router.domain.sleep import Wake
from router.ledger.store import Event, EventKind, Lease, LedgerStore, Recovery, Terms
from router.pricing.meter import NS_PER_SECOND, MeterState, ReplicaMeter
from router.pricing.price import LeasedPrice
from router.pricing.weigher import Weigher

Place = tuple[str, str, str]
"""(replica, pool, backend): at most one lease runs for each."""


@dataclass(slots=True, eq=False)
class RunningLease:
    """A lease and its meter. nanousd_per_hour: its price, of which the meter may know a part (`share`).
    is_leaving: its replica is gone from the fleet, and it ends with its last attempt. rest_ns: of one that scales to zero, when
    it stops if nobody comes; 0 while something runs there, and of others. is_restored: the last process left it, and nobody has
    come since."""

    lease_id: str
    place: Place
    price_id: str
    started_ns: int
    meter: ReplicaMeter
    nanousd_per_hour: int
    is_leaving: bool = False
    rest_ns: int = 0
    is_restored: bool = False
    weigher: Weigher = field(default_factory=Weigher)

    def row(self, *, with_state: bool = False) -> Lease:
        """The lease as the ledger keeps it, as of the meter's last event."""
        meter = self.meter
        at_ns, ended_ns, bill_nanousd, idle_nanousd = meter.balances
        state = meter.state() if with_state else None
        members = self.price_id, self.started_ns, at_ns, ended_ns, bill_nanousd, idle_nanousd, state, 0
        return Lease._make((self.lease_id, *self.place, *members))  # for every charge, and so made in the quickest way


class Leases:
    """All running leases. Every change is written to the store with the meter's state, so a journal's tail never has one."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._running: dict[Place, RunningLease] = {}
        self._sleepers: dict[Place, ScaleToZero] = {}

    def __iter__(self) -> Iterator[RunningLease]:
        return iter(self._running.values())

    def restore(self, recovery: Recovery) -> None:
        """Go on with what the last process left: each meter as saved, then the tail of its journal."""
        for row in recovery.leases:
            meter = ReplicaMeter.restore(cast(MeterState, row.state))
            _replay(meter, recovery.tail.get(row.lease_id, ()))
            place = (row.replica, row.pool, row.backend)
            self._running[place] = RunningLease(
                row.lease_id, place, row.price_id, row.started_ns, meter, meter.nanousd_per_hour, is_restored=True
            )

    def joined(self, place: Place, price: LeasedPrice, at_ns: int) -> RunningLease:
        """The lease that an attempt at this place joins. A replica that has left the fleet since the decision was made gets
        another one for as long as it is at work; one that scales to zero is started."""
        lease = self._running.get(place)
        if lease is not None and 0 < lease.rest_ns <= at_ns and place in self._sleepers:
            self._stop(lease)  # it stopped, and nobody has booked that yet
            lease = None
        if lease is None:
            return self._start(place, price, at_ns, is_leaving=place not in self._sleepers)
        lease.rest_ns, lease.is_restored = 0, False
        return lease

    def set_fleet(self, fleet: Iterable[tuple[Backend, LeasedPrice]], at_ns: int) -> None:
        """These are the leased backends now: start, reprice and end leases accordingly. What scales to zero is started by the
        first attempt there."""
        wanted: dict[Place, LeasedPrice] = {}
        self._sleepers = {}
        for backend, price in fleet:
            for replica in backend.replicas:
                place = replica.id, backend.pool.name, backend.name
                wanted[place] = price
                if backend.scale_to_zero is not None:
                    self._sleepers[place] = backend.scale_to_zero
        for place, lease in list(self._running.items()):
            lease.is_leaving = place not in wanted
            # While no process was there, what scales to zero was asked nothing.
            quiet_ns = lease.meter.last_ns if lease.is_restored and place in self._sleepers else at_ns
            if (released := self.ended(lease, quiet_ns)) is not None:
                self._store.append((released,), lease=lease.row())
            lease.is_restored = False
        self.stop_idle(at_ns)
        for place, price in wanted.items():
            running = self._running.get(place)
            if running is None:
                if place not in self._sleepers:
                    self._start(place, price, at_ns)
            elif running.price_id != price.price_id:
                self._reprice(running, price, at_ns)

    def share(self, elsewhere: Mapping[str, int], at_ns: int) -> None:
        """Where other processes have so many attempts at a replica, the meter here sees its own attempts' part of the price."""
        for lease in self._running.values():
            own, others = len(lease.meter.open_attempts), elsewhere.get(lease.place[0], 0)
            price = lease.nanousd_per_hour
            part = price * own // (own + others) if own else price
            if part != lease.meter.nanousd_per_hour:
                lease.meter.reprice(part, at_ns)

    def stop_idle(self, at_ns: int) -> None:
        """End the leases of replicas that scale to zero and have been idle for long enough by now, each when it was."""
        for place in self._sleepers:
            lease = self._running.get(place)
            if lease is not None and 0 < lease.rest_ns <= at_ns:
                self._stop(lease)

    def awake(self) -> dict[str, list[Wake]]:
        """By replica that scales to zero and is leased, as the ledger has it: since when nothing is asked of it."""
        return {
            place[0]: [Wake(lease.started_ns, lease.started_ns, lease.rest_ns - _idle_ns(terms), 0, 0)]
            for place, terms in self._sleepers.items()
            if (lease := self._running.get(place)) is not None and lease.rest_ns
        }

    def ended(self, lease: RunningLease, at_ns: int) -> Event | None:
        """End the lease if its replica has gone and its last attempt is closed: the event to be written, with its row. One that
        scales to zero has until then before it stops."""
        if lease.meter.open_attempts:
            return None
        if lease.is_leaving:
            return self._end(lease, at_ns)
        terms = self._sleepers.get(lease.place)
        if terms is not None and not lease.rest_ns:
            lease.rest_ns = max(
                at_ns + _idle_ns(terms), lease.started_ns + int(terms.billed_seconds_min * NS_PER_SECOND)
            )
        return None

    def _stop(self, lease: RunningLease) -> None:
        """When its idle time was over."""
        released = self._end(lease, lease.rest_ns)
        self._store.append((released,), lease=lease.row())

    def _end(self, lease: RunningLease, at_ns: int) -> Event:
        at_ns = max(at_ns, lease.meter.last_ns)
        lease.meter.end(at_ns)
        del self._running[lease.place]
        return Event(lease.lease_id, EventKind.RELEASED, at_ns, lease.lease_id)

    def _start(self, place: Place, price: LeasedPrice, at_ns: int, *, is_leaving: bool = False) -> RunningLease:
        lease_id = f"{place[0]}~{uuid4().hex}"
        meter = ReplicaMeter(price.nanousd_per_hour, at_ns)
        lease = self._running[place] = RunningLease(
            lease_id, place, price.price_id, at_ns, meter, price.nanousd_per_hour, is_leaving
        )
        terms = Terms(*place, price.price_id)
        event = Event(lease_id, EventKind.LEASED, at_ns, lease_id, price.nanousd_per_hour, terms)
        self._store.append((event,), lease=lease.row(with_state=True))
        return lease

    def _reprice(self, lease: RunningLease, price: LeasedPrice, at_ns: int) -> None:
        at_ns = max(at_ns, lease.meter.last_ns)
        lease.meter.reprice(price.nanousd_per_hour, at_ns)
        lease.price_id, lease.nanousd_per_hour = price.price_id, price.nanousd_per_hour
        subject = (
            f"{lease.lease_id}~{uuid4().hex}"  # it may happen more than once to a lease, and in the same nanosecond
        )
        terms = Terms(*lease.place, price.price_id)
        event = Event(subject, EventKind.REPRICED, at_ns, lease.lease_id, price.nanousd_per_hour, terms)
        self._store.append((event,), lease=lease.row(with_state=True))


def _idle_ns(terms: ScaleToZero) -> int:
    return int(terms.idle_seconds * NS_PER_SECOND)


def _replay(meter: ReplicaMeter, tail: Iterable[Event]) -> None:
    apply: Mapping[EventKind, Callable[[Event], object]] = {
        EventKind.OPENED: lambda event: meter.open(event.subject, event.amount, event.at_ns),
        EventKind.FIRST_TOKEN: lambda event: meter.reweigh(
            event.subject, event.amount, event.at_ns, event.growth, event.shared, event.settled
        ),
        EventKind.CLOSED: lambda event: meter.close(event.subject, event.at_ns, event.amount),
    }
    for event in tail:
        apply[event.kind](event)
