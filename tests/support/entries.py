"""What is written into a ledger, in short, for the tests of stores."""

from bookkeeping import facts

from router.domain.attempt import AttemptStatus, Charge, CostStatus
from router.domain.usage import Usage
from router.ledger.store import Checkpoint, Event, EventKind, Lease, Opening


def charge(request_id: str, cost: int | None = 7, status: AttemptStatus = AttemptStatus.OK, **usage: int) -> Charge:
    return Charge(
        facts=facts(request_id),
        billing="leased",
        price_id="p@2026-01-01#0",
        opened_ns=1,
        first_token_ns=None,
        ended_ns=2,
        status=status,
        fault="",
        http_status=200,
        usage=Usage(**{"prompt_tokens": 10, "completion_tokens": 5, **usage}),
        cost_status=CostStatus.UNPRICED if cost is None else CostStatus.PRICED,
        cost_nanousd=cost,
        standard_nanousd=cost,
    )


def closed(of: Charge) -> Event:
    return Event(of.facts.attempt_id, EventKind.CLOSED, of.ended_ns, "lease")


def opened(request_id: str) -> Event:
    opening = Opening(facts(request_id), "leased", "p@2026-01-01#0")
    return Event(f"{request_id}.1", EventKind.OPENED, 1, "lease", 100, opening)


def checkpoint(*leases: Lease, open_from_seq: int | None = None) -> Checkpoint:
    return Checkpoint(at_ns=3, leases=leases, open_nanousd={}, open_from_seq=open_from_seq)


def lease(**members: object) -> Lease:
    return Lease("lease", "edge-small/0", "edge", "edge-small", "p@2026-01-01#0", 1, 2)._replace(**members)
