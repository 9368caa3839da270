"""Domain values as rows of the ledger's tables and back.

What an event says beyond its columns is a JSON list, its members by position: names would double the journal. What becomes of
`AttemptFacts`, `Usage` and the members below is therefore appended and never moved, and a new one has a default; lists written
before are shorter. Version 2 wrote openings as objects.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

import orjson

from router.domain.attempt import CLIENT_GONE, AttemptEnd, AttemptFacts, AttemptStatus, Charge, CostStatus, Outcome
from router.domain.immutable import immutable
from router.domain.totals import Account, LeaseTotal, Line, LineTotal
from router.domain.usage import ToolCalls, Usage, UsageSource
from router.ledger.store import Event, EventKind, Lease, Opening, Terms

FACTS = tuple(field.name for field in dataclasses.fields(AttemptFacts))
# Of a charge: without what an opening alone says, for the usage has the service tier and the calls of tools that counted.
CHARGED_FACTS = tuple(name for name in FACTS if name not in ("service_tier", "tool_calls_estimate"))

# Column of `charges` → attribute of Charge. `_value_`: drivers bind a plain str several
# times faster than an enum, and `.value` is a descriptor of two calls.
CHARGE = {
    **{name: f"facts.{name}" for name in CHARGED_FACTS},
    "billing": "billing",
    "price_id": "price_id",
    "opened_ns": "opened_ns",
    "first_token_ns": "first_token_ns",
    "ended_ns": "ended_ns",
    "status": "status._value_",
    "fault": "fault",
    "http_status": "http_status",
    "prompt_tokens": "usage.prompt_tokens",
    "cached_tokens": "usage.cached_tokens",
    "cache_write_tokens": "usage.cache_write_tokens",
    "completion_tokens": "usage.completion_tokens",
    "reasoning_tokens": "usage.reasoning_tokens",
    "audio_seconds": "usage.audio_seconds",
    "provider_cost_nanousd": "usage.provider_cost_nanousd",
    "usage_source": "usage.source._value_",
    "cost_status": "cost_status._value_",
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

CHARGE_FIELDS = tuple(field.name for field in dataclasses.fields(Charge))

# An opened event's detail: billing, price_id, estimate_nanousd, then these. Its subject is the attempt's id, and that is
# `<request_id>.<number>`.
NAMED_BY_THE_SUBJECT = ("attempt_id", "request_id", "number")
DETAILED_FACTS = tuple(name for name in FACTS if name not in NAMED_BY_THE_SUBJECT)
_detailed_facts = attrgetter(*DETAILED_FACTS)

# A closed event's detail ends with the usage, a list of its own, and with whatever a charge has beyond its baseline. What of the
# usage has no column (cache_write_hour_tokens, service_tier, tool_calls) is there alone: it decides the cost, and nobody has
# asked for sums by it.
USAGE = tuple(field.name for field in dataclasses.fields(Usage))
BEYOND_BASELINE = CHARGE_FIELDS[CHARGE_FIELDS.index("baseline_nanousd") + 1 :]
_beyond = attrgetter(*BEYOND_BASELINE)
_usage = attrgetter(*(name if name != "source" else "source._value_" for name in USAGE))

EVENT_COLUMNS = ("seq", "month", "subject", "kind", "at_ns", "lease_id", "amount", "detail", "worker")
# A charge's place in the journal, which is that of the event that closed the attempt, before what it says itself.
PLACED_CHARGE_COLUMNS = ("seq", "month", *CHARGE_COLUMNS)
LEASE_COLUMNS = Lease._fields
ACCOUNT_COLUMNS = Account._fields
LINE_KEYS = (*ACCOUNT_COLUMNS, "status", "usage_source")
LINE_COLUMNS = (*LINE_KEYS, *LineTotal._fields)

# Of a charge, as `outcome_of` in `domain/attempt.py` has it.
OUTCOME = f"""
CASE WHEN status = '{AttemptStatus.OK}' THEN '{Outcome.SERVED}' WHEN status = '{AttemptStatus.LOST}' THEN '{Outcome.ROUTER_DIED}'
WHEN status = '{AttemptStatus.FAILED}' THEN '{Outcome.FAILED}' WHEN status = '{AttemptStatus.SHADOW}' THEN '{Outcome.SHADOW}'
WHEN fault = '{CLIENT_GONE}' THEN '{Outcome.CLIENT_GONE}'
ELSE '{Outcome.CUT_SHORT}' END
"""
IS_LOST = f"{OUTCOME} IN ({', '.join(repr(one.value) for one in Outcome if one.is_lost)})"

# A total's members as sums over `charges`.
SUMS = {
    "attempts": "count(*)",
    "unpriced": "count(*) FILTER (WHERE cost_status = 'unpriced')",
    "prompt_tokens": "sum(prompt_tokens)",
    "cached_tokens": "sum(cached_tokens)",
    "cache_write_tokens": "sum(cache_write_tokens)",
    "completion_tokens": "sum(completion_tokens)",
    "reasoning_tokens": "sum(reasoning_tokens)",
    "cost_nanousd": "coalesce(sum(cost_nanousd), 0)",
    "standard_nanousd": "coalesce(sum(standard_nanousd), 0)",
    "saved_nanousd": "coalesce(sum(baseline_nanousd - cost_nanousd), 0)",
    "lost_nanousd": f"coalesce(sum(cost_nanousd) FILTER (WHERE {IS_LOST}), 0)",
}
LINES = ", ".join(LINE_KEYS)

# Among a closed event's members.
CLOSING_LATE = 3


@immutable
class Closing:
    """What a closed event says. beyond: members of the charge by name."""

    end: AttemptEnd
    opened_ns: int
    first_token_ns: int | None
    ended_ns: int
    standard_nanousd: int | None
    baseline_nanousd: int | None
    beyond: Mapping[str, Any]


def charge_row(charge: Charge) -> tuple[Any, ...]:
    row: tuple[Any, ...] = _charge_row(charge)
    return row


def charge_from_row(row: Mapping[str, Any]) -> Charge:
    """From a row by column; raises ValueError on a word that is none of ours."""
    return Charge(
        facts=AttemptFacts(**{name: row[name] for name in CHARGED_FACTS}),
        billing=row["billing"],
        price_id=row["price_id"],
        opened_ns=row["opened_ns"],
        first_token_ns=row["first_token_ns"],
        ended_ns=row["ended_ns"],
        status=AttemptStatus(row["status"]),
        fault=row["fault"],
        http_status=row["http_status"],
        usage=Usage(**{name: row[name] for name in USAGE if name in CHARGE}, source=UsageSource(row["usage_source"])),
        cost_status=CostStatus(row["cost_status"]),
        cost_nanousd=row["cost_nanousd"],
        standard_nanousd=row["standard_nanousd"],
        baseline_nanousd=row["baseline_nanousd"],
        **{name: row[name] for name in BEYOND_BASELINE},
    )


def event_row(seq: int, month: int, event: Event, charge: Charge | None = None) -> tuple[Any, ...]:
    """By EVENT_COLUMNS. charge: the one that a closed event led to."""
    detail: str | None = None
    if charge is not None:
        detail = closing_json(charge, event.at_ns)
    elif isinstance(event.detail, Opening):
        detail = opening_json(event.detail)
    elif event.kind is EventKind.FIRST_TOKEN:
        detail = first_token_text(event)
    elif isinstance(event.detail, Terms):
        detail = orjson.dumps(dataclasses.astuple(event.detail)).decode()
    return (
        seq,
        month,
        event.subject,
        event.kind._value_,
        event.at_ns,
        event.lease_id,
        event.amount,
        detail,
        event.worker,
    )


def event_from_row(row: tuple[Any, ...]) -> Event:
    """From the columns subject, kind, at_ns, lease_id, amount; without the detail."""
    subject, kind, at_ns, lease_id, amount = row
    return Event(subject, EventKind(kind), at_ns, lease_id, amount)


def reweighing_from_text(detail: str | None) -> tuple[int, int, int]:
    """Of a first_token's detail: growth, shared weight, settlement. An older jeton wrote down less, and what it did not write
    down there was not. Raises ValueError."""
    if detail is None:
        return 0, 0, 0
    growth, *more = map(int, detail.partition(" ")[0].split(","))
    shared, settled = more or (0, 0)
    return growth, shared, settled


def prefill_from_text(detail: str | None) -> int | None:
    """Of a first_token's detail: what the attempt had run up by then, where a worker told of it. Raises ValueError."""
    prefill = "" if detail is None else detail.partition(" ")[2]
    return int(prefill) if prefill else None


def first_token_text(event: Event) -> str | None:
    """How the weight grows from then on, its shared part, what was settled, and what had been run up."""
    told = f"{event.growth},{event.shared},{event.settled}"
    if isinstance(event.detail, int):
        return f"{told} {event.detail}"
    return told if event.growth or event.shared or event.settled else None


def opening_members(facts: AttemptFacts, billing: str, price_id: str, estimate_nanousd: int | None) -> tuple[Any, ...]:
    """What an opened event says, as `opening_from_members` reads it."""
    return billing, price_id, estimate_nanousd, *_detailed_facts(facts)


def opening_json(opening: Opening) -> str:
    members = opening_members(opening.facts, opening.billing, opening.price_id, opening.estimate_nanousd)
    return orjson.dumps(members).decode()


def opening_from_json(subject: str, text: str) -> Opening:
    """Raises ValueError or TypeError where it cannot be read."""
    members = orjson.loads(text)
    if isinstance(members, dict):
        return Opening(**{**members, "facts": AttemptFacts(**members["facts"])})
    return opening_from_members(subject, members)


def opening_from_members(subject: str, members: list[Any], *, is_streaming: bool = True) -> Opening:
    """Of a list as `opening_json` writes it."""
    billing, price_id, estimate_nanousd, *facts = members
    request_id, _, number = subject.rpartition(".")
    named = dict(zip(DETAILED_FACTS, facts, strict=False))
    expected = named.get("tool_calls_estimate")
    named["tool_calls_estimate"] = _tool_calls(expected) if expected else ()
    return Opening(
        AttemptFacts(attempt_id=subject, request_id=request_id, number=int(number), **named),
        billing,
        price_id,
        estimate_nanousd,
        is_streaming,
    )


def closing_members(charge: Charge, at_ns: int) -> tuple[Any, ...]:
    """How the attempt ended: all of its charge that neither its opening says nor the meter or a price decides."""
    return *told_closing_members(charge, at_ns), *_beyond(charge)


def told_closing_members(charge: Charge, at_ns: int) -> tuple[Any, ...]:
    """Without the members at the end, which a worker's charge does not have: the accountant decides them."""
    opened_ns, first_token_ns, ended_ns = charge.opened_ns, charge.first_token_ns, charge.ended_ns
    return (
        charge.status._value_,
        charge.fault,
        charge.http_status,
        ended_ns - at_ns,
        ended_ns - opened_ns,
        None if first_token_ns is None else first_token_ns - opened_ns,
        charge.standard_nanousd,
        charge.baseline_nanousd,
        _usage(charge.usage),
    )


def closing_json(charge: Charge, at_ns: int) -> str:
    return orjson.dumps(closing_members(charge, at_ns)).decode()


def closing_from_json(text: str, at_ns: int) -> Closing:
    """Raises ValueError or TypeError where it cannot be read."""
    return closing_from_members(orjson.loads(text), at_ns)


def rebased_closing(text: str, at_ns: int, other_ns: int) -> str:
    """The detail of a closed event as it is written down with one of another time: how late it came goes by that."""
    members = orjson.loads(text)
    members[CLOSING_LATE] += at_ns - other_ns
    return orjson.dumps(members).decode()


def closing_from_members(members: list[Any], at_ns: int) -> Closing:
    """Of a list as `closing_json` writes it."""
    status, fault, http_status, late_ns, lasted_ns, first_ns, standard, baseline, usage, *beyond = members
    counts = dict(zip(USAGE, usage, strict=False))
    counts["source"] = UsageSource(counts["source"])
    told = counts.get("tool_calls")
    counts["tool_calls"] = _tool_calls(told) if told else ()
    ended_ns = at_ns + late_ns
    opened_ns = ended_ns - lasted_ns
    return Closing(
        end=AttemptEnd(AttemptStatus(status), Usage(**counts), fault, http_status),
        opened_ns=opened_ns,
        first_token_ns=None if first_ns is None else opened_ns + first_ns,
        ended_ns=ended_ns,
        standard_nanousd=standard,
        baseline_nanousd=baseline,
        beyond=dict(zip(BEYOND_BASELINE, beyond, strict=False)),
    )


def _tool_calls(told: Iterable[Any]) -> ToolCalls:
    found = tuple((tool, calls) for tool, calls in told)
    if not all(type(tool) is str and type(calls) is int for tool, calls in found):
        raise ValueError("calls of tools are told otherwise")
    return found


def terms_from_json(text: str) -> Terms:
    """Raises ValueError or TypeError where it cannot be read."""
    return Terms(*orjson.loads(text))


def price_row(price_id: str, snapshot: str) -> tuple[str, str, str]:
    return price_id, snapshot, hashlib.sha256(snapshot.encode()).hexdigest()


def lease_row(lease: Lease) -> tuple[Any, ...]:
    if lease.ended_ns is not None:
        return (*lease[:10], None, 0)
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
