"""The accountant's stand-in in a process that is to spend next to nothing on books: it reports, and estimates what answers cost.

For workers beside a `jeton accountant` (`ledger.accountant: apart`), and those of `jeton serve --workers`. Attempts are opened,
followed and closed as with any `Accountant`, and refused as there; what it does not have are leases and meters. What a leased
attempt cost is an estimate (`pricing/estimate.py`) that answers show and budgets are settled at until the ledger has booked it;
what a metered one cost is exact.
"""

from collections.abc import Iterable, Mapping

from router.accounting.accountant import Accountant
from router.accounting.charging import OpenAttempt, bare_charge
from router.domain.attempt import AttemptEnd, Charge
from router.domain.fleet import Backend, Billing
from router.ledger.journals import WorkerJournal
from router.ledger.rows import opening_members
from router.ledger.store import EventKind
from router.pricing.amounts import estimated_usage
from router.pricing.cost import list_cost
from router.pricing.estimate import ReplicaEstimate
from router.pricing.price import LeasedPrice, MeteredPrice, Price
from router.pricing.profile import EngineProfile

OPENED, FIRST_TOKEN = EventKind.OPENED, EventKind.FIRST_TOKEN


class Reporter(Accountant):
    """An `Accountant` that keeps no books."""

    def __init__(self, journal: WorkerJournal) -> None:
        self._journal = journal
        self._replicas: dict[str, ReplicaEstimate] = {}
        super().__init__(journal)

    def set_fleet(
        self,
        backends: Iterable[Backend],
        prices: Mapping[str, Price],
        profiles: Mapping[str, EngineProfile],
        at_ns: int,
    ) -> None:
        backends = tuple(backends)
        self.know(backends, prices, profiles)
        wanted = {replica.id: prices.get(backend.name) for backend in backends for replica in backend.replicas}
        for replica, estimate in list(self._replicas.items()):
            price = wanted.get(replica)
            if isinstance(price, LeasedPrice):
                estimate.reprice(price.nanousd_per_hour, at_ns)
            elif not estimate.open_attempts:
                del self._replicas[replica]

    def advance(self, at_ns: int) -> None:
        """There is nothing to book."""

    def estimate_among(self, elsewhere: Mapping[str, int], at_ns: int) -> None:
        for replica, estimate in self._replicas.items():
            if (others := elsewhere.get(replica, 0)) != estimate.others:
                estimate.share_with(others, at_ns)

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
        facts, basis, expected_nanousd = attempt.facts, attempt.basis, None
        attempt_id, price = facts.attempt_id, basis.price
        if attempt.billing is Billing.METERED:
            if isinstance(price, MeteredPrice):
                expected_nanousd = list_cost(price, estimated_usage(facts))
        elif isinstance(price, LeasedPrice):
            replica = self._replicas.get(facts.replica)
            if replica is None:
                replica = self._replicas[facts.replica] = ReplicaEstimate(price.nanousd_per_hour, at_ns)
            attempt.share = replica.open(
                basis.profile, prompt_tokens, cached_tokens, completion_tokens, at_ns, is_streaming=is_streaming
            )
        said = is_streaming, opening_members(facts, attempt.billing._value_, attempt.price_id, expected_nanousd)
        attempt.seq = self._journal.report(attempt_id, OPENED, at_ns, said)
        self._attempts[attempt_id] = attempt

    def first_token(self, attempt_id: str, at_ns: int, number: int = 0) -> None:
        attempt = self._attempts.get(attempt_id)
        if attempt is None or attempt.first_token_ns is not None:
            return
        attempt.first_token_ns = at_ns
        share = attempt.share
        if share is not None and share.replica.first_token(share, at_ns):
            self._journal.report(attempt_id, FIRST_TOKEN, at_ns, None)

    def close(self, attempt_id: str, end: AttemptEnd, at_ns: int, number: int = 0) -> Charge:
        attempt = self._attempts.pop(attempt_id, None)
        if attempt is None:
            return self._closed[attempt_id]
        share = attempt.share
        charge = bare_charge(attempt, end, None if share is None else share.replica.close(share, at_ns), at_ns)
        if attempt.seq is not None:
            self._journal.report_end(charge, at_ns)
        self._remember(charge)
        return charge
