"""Domain values as rows of the SQLite tables and back."""

import dataclasses
from operator import attrgetter
from typing import Any

import orjson

from router.domain.attempt import AttemptFacts, AttemptStatus, Charge
from router.domain.totals import Account, LeaseTotal, Line, LineTotal
from router.domain.usage import UsageSource
from router.ledger.store import Event, EventKind, Lease, Opening

FACTS = tuple(field.name for field in dataclasses.fields(AttemptFacts))

# Column of `charges` → attribute of Charge. `.value`: sqlite3 binds a plain str several times faster than an enum.
CHARGE = {
    **{name: f"facts.{name}" for name in FACTS},
    "billing": "billing",
    "price_id": "price_id",
    "opened_ns": "opened_ns",
    "first_token_ns": "first_token_ns",
    "ended_ns": "ended_ns",
    "status": "status.value",
    "fault": "fault",
    "http_status": "http_status",
    "prompt_tokens": "usage.prompt_tokens",
    "cached_tokens": "usage.cached_tokens",
    "cache_write_tokens": "usage.cache_write_tokens",
    "completion_tokens": "usage.completion_tokens",
    "reasoning_tokens": "usage.reasoning_tokens",
    "audio_seconds": "usage.audio_seconds",
    "provider_cost_nanousd": "usage.provider_cost_nanousd",
    "usage_source": "usage.source.value",
    "cost_status": "cost_status.value",
    "cost_nanousd": "cost_nanousd",
    "standard_nanousd": "standard_nanousd",
    "baseline_nanousd": "baseline_nanousd",
    "cost_prompt_nanousd": "cost_prompt_nanousd",
    "cost_cached_nanousd": "cost_cached_nanousd",
    "standard_prompt_nanousd": "standard_prompt_nanousd",
    "standard_cached_nanousd": "standard_cached_nanousd",
}
CHARGE_COLUMNS = tuple(CHARGE)
_charge_row = attrgetter(*CHARGE.values())

EVENT_COLUMNS = ("seq", "subject", "kind", "at_ns", "lease_id", "amount", "opening")
ACCOUNT_COLUMNS = Account._fields
LINE_COLUMNS = (*ACCOUNT_COLUMNS, "status", "usage_source", *LineTotal._fields)


def charge_row(charge: Charge) -> tuple[Any, ...]:
    row: tuple[Any, ...] = _charge_row(charge)
    return row


def event_row(seq: int, event: Event, *, with_opening: bool = True) -> tuple[Any, ...]:
    opening = orjson.dumps(event.opening).decode() if with_opening and event.opening is not None else None
    return seq, event.subject, event.kind.value, event.at_ns, event.lease_id, event.amount, opening


def event_from_row(row: tuple[Any, ...]) -> Event:
    """From the columns subject, kind, at_ns, lease_id, amount."""
    subject, kind, at_ns, lease_id, amount = row
    return Event(subject, EventKind(kind), at_ns, lease_id, amount)


def opening_from_json(text: str) -> Opening:
    members = orjson.loads(text)
    return Opening(**{**members, "facts": AttemptFacts(**members["facts"])})


def lease_row(lease: Lease) -> tuple[Any, ...]:
    state = None if lease.state is None else orjson.dumps(lease.state).decode()
    return (*lease[:10], state, lease.state_seq)


def lease_from_row(row: tuple[Any, ...]) -> Lease:
    lease = Lease(*row)
    return lease._replace(state=None if lease.state is None else orjson.loads(row[10]))


def line_from_row(row: tuple[Any, ...]) -> tuple[Line, LineTotal]:
    """From LINE_COLUMNS."""
    return Line(Account(*row[:6]), AttemptStatus(row[6]), UsageSource(row[7])), LineTotal(*row[8:])


def lease_total_from_row(row: tuple[Any, ...]) -> tuple[tuple[str, str], LeaseTotal]:
    """From pool, backend and the sums of bill and idle."""
    return (row[0], row[1]), LeaseTotal(*row[2:])
