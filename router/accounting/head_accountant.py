"""The accountant of several workers: what happens to attempts is told by others, in the order of time (`bookkeeper.py`).

Meters, leases, charges and restart are those of `accountant.py`. What differs: an attempt that was told was dispatched, whether
or not that suits us; its price is the one that its worker names, by the ledger's snapshot; when an accountant dies, the
attempts of workers that live go on under the next; and a worker that was taken for dead may come back with more to say.
"""

from collections.abc import Iterable, Mapping

import structlog

from router.accounting.accountant import NO_BASIS, Accountant
from router.accounting.charging import OpenAttempt, charge_of, lost_charge
from router.accounting.leases import RunningLease
from router.domain.attempt import Charge
from router.domain.fleet import Backend, Billing
from router.ledger.rows import Closing
from router.ledger.store import Correction, Event, EventKind, LedgerStore, Opened, Opening
from router.pricing.amounts import Basis, estimated_usage
from router.pricing.cost import list_cost
from router.pricing.price import MeteredPrice, Price
from router.pricing.profile import EngineProfile
from router.pricing.snapshot import price_from_snapshot

log = structlog.get_logger(__name__)


class HeadAccountant(Accountant):
    """An `Accountant` that is told. number: which of its worker's reports tells it; it is booked with what follows from it."""

    def __init__(self, store: LedgerStore) -> None:
        self._told_bases: dict[
            tuple[str, str], Basis
        ] = {}  # by price id and backend, of prices that are not in force here
        self._taken_up: list[OpenAttempt] = []
        super().__init__(store)

    def know(
        self, backends: Iterable[Backend], prices: Mapping[str, Price], profiles: Mapping[str, EngineProfile]
    ) -> None:
        self._told_bases.clear()
        super().know(backends, prices, profiles)
        self._seat()

    @property
    def advanced_ns(self) -> int:
        """Up to when time is booked."""
        return self._advanced_ns

    def is_open(self, attempt_id: str) -> bool:
        return attempt_id in self._attempts

    def open_by_worker(self) -> dict[str, list[str]]:
        """The attempts that are open, by who has told of them, in the order of their opening."""
        found: dict[str, list[str]] = {}
        for attempt_id, attempt in self._attempts.items():
            found.setdefault(attempt.worker, []).append(attempt_id)
        return found

    def learn_prices(self, snapshots: Mapping[str, str]) -> None:
        """Prices that workers have written down, by id."""
        self._prices_kept.update(snapshots)

    @property
    def prices_known(self) -> Mapping[str, str]:
        return self._prices_kept

    def open_told(self, opening: Opening, at_ns: int, worker: str, number: int) -> None:
        """A worker has opened it. It was dispatched, whether or not that suits us; told again, it changes nothing."""
        facts = opening.facts
        if facts.attempt_id in self._attempts or facts.attempt_id in self._closed:
            return
        self._enter(
            self._told(opening, at_ns, worker),
            facts.prompt_tokens_estimate,
            facts.completion_tokens_estimate,
            at_ns,
            is_streaming=opening.is_streaming,
            number=number,
        )

    def close_told(self, attempt_id: str, closing: Closing, at_ns: int, number: int) -> Charge:
        """A worker has seen how it ended, and when it began. Raises KeyError when it is not open."""
        attempt = self._attempts[attempt_id]
        attempt.opened_ns, attempt.first_token_ns = closing.opened_ns, closing.first_token_ns
        return self.close(attempt_id, closing.end, at_ns, number)

    def lose(self, attempt_id: str, at_ns: int) -> None:
        """Its router died: close it as lost, at what it has run up by then, or at the estimate made when it was opened."""
        attempt = self._attempts.pop(attempt_id)
        lease, cost, estimate, price = attempt.lease, None, None, attempt.basis.price
        if lease is not None:
            cost = lease.meter.close(attempt_id, at_ns)
            at_ns = lease.meter.last_ns
            lease.weigher.close(attempt_id, at_ns)
        elif attempt.billing is Billing.METERED and isinstance(price, MeteredPrice):
            estimate = list_cost(price, estimated_usage(attempt.facts))
        opening = Opening(attempt.facts, attempt.billing.value, attempt.price_id, estimate)
        self._write(lost_charge(opening, attempt.opened_ns, cost, at_ns), lease, attempt.worker)

    def correct(self, lost: Charge, closing: Closing, booked_ns: int, worker: str, number: int) -> Correction:
        """A worker that was taken for dead has said after all how an attempt ended that was closed as lost.

        The charge stays as it is. What a leased replica cost was shared out by then, so only a metered attempt's cost is set
        right; tokens are told for both.
        """
        attempt = self._told(Opening(lost.facts, lost.billing, lost.price_id), closing.opened_ns, worker)
        attempt.first_token_ns = closing.first_token_ns
        shared_nanousd = lost.cost_nanousd if attempt.billing is Billing.LEASED else None
        charge = charge_of(attempt, closing.end, shared_nanousd, closing.ended_ns)
        corrected_nanousd = (charge.cost_nanousd or 0) - (lost.cost_nanousd or 0)
        correction = Correction(charge, corrected_nanousd, booked_ns)
        kind, attempt_id = EventKind.CORRECTED, lost.facts.attempt_id
        event = Event(attempt_id, kind, booked_ns, "", corrected_nanousd, worker=worker, number=number)
        self._store.append((event,), correction=correction)
        return correction

    def _told(self, opening: Opening, at_ns: int, worker: str) -> OpenAttempt:
        """At the price that the worker names, whichever is in force here."""
        facts = opening.facts
        basis = self._bases.get(facts.backend, NO_BASIS)
        if (basis.price.price_id if basis.price is not None else "") != opening.price_id:
            known = opening.price_id, facts.backend
            if known not in self._told_bases:
                self._told_bases[known] = Basis(self._price(opening.price_id), basis.profile)
            basis = self._told_bases[known]
        billing, baseline = Billing(opening.billing), self._bases.get(facts.baseline, NO_BASIS)
        return OpenAttempt(facts, billing, basis, baseline, at_ns, worker)

    def _price(self, price_id: str) -> Price | None:
        """By the ledger's snapshot; None, and said so, when there is none that can be read."""
        if not price_id:
            return None
        try:
            return price_from_snapshot(self._prices_kept[price_id])
        except (KeyError, ValueError):
            log.error("a price that attempts were made at is not in the ledger", price_id=price_id)
            return None

    # After a restart

    def _goes_on(self, opened: Opened, lease: RunningLease | None) -> bool:
        if not opened.worker:
            return False
        attempt = self._told(opened.opening, opened.at_ns, opened.worker)
        attempt.lease, attempt.seq, attempt.prefill_nanousd = lease, opened.seq, opened.prefill_nanousd
        attempt.first_token_ns = opened.at_ns if opened.has_first_token else None
        self._attempts[opened.opening.facts.attempt_id] = attempt
        self._taken_up.append(attempt)
        return True

    def _seat(self) -> None:
        """What was taken up gets its engine profile, which only the fleet knows, and its seat at the weigher of its replica."""
        taken_up, self._taken_up = self._taken_up, []
        for attempt in taken_up:
            facts, lease = attempt.facts, attempt.lease
            known = self._bases.get(facts.backend, NO_BASIS)
            attempt.basis = Basis(attempt.basis.price, known.profile)
            attempt.baseline = self._bases.get(facts.baseline, NO_BASIS)
            if lease is None or known.profile is None:
                continue
            counts = facts.prompt_tokens_estimate, facts.completion_tokens_estimate
            lease.weigher.open(facts.attempt_id, known.profile, attempt.opened_ns, *counts)
            if attempt.first_token_ns is not None:
                paid_seconds = lease.meter.occupied_seconds(facts.attempt_id)
                lease.weigher.first_token(facts.attempt_id, lease.meter.last_ns, paid_seconds)
