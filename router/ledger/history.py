"""The ledger for people: charges, sums and the story of one request, read beside a running router without disturbing it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from operator import add
from typing import Any

from router.domain.budget import DAY_NS, NS_PER_SECOND
from router.domain.totals import LineTotal
from router.domain.usage import ToolCalls, Usage
from router.ledger.address import Address
from router.ledger.corrections import ENTRIES
from router.ledger.database import Database, dicts
from router.ledger.pruned import pruned_ns, read_pruned
from router.ledger.rows import CHARGE_COLUMNS, EVENT_COLUMNS, SUMS, closing_from_json
from router.ledger.schema import reading
from router.ledger.store import EventKind, LedgerError
from router.ledger.workers import CORRECTION_COLUMNS, waiting_events

CHARGE = ", ".join(CHARGE_COLUMNS)
EVENT = ", ".join(EVENT_COLUMNS)


class SumBy(StrEnum):
    TENANT = "tenant"
    POOL = "pool"
    BACKEND = "backend"
    MODEL = "model"
    TIER = "tier"
    DAY = "day"


# Leases belong to places, not to tenants or models: only there is a bill to set against the costs.
HAVE_LEASES = frozenset({SumBy.POOL, SumBy.BACKEND})
KEYS = {by: by.value for by in SumBy} | {SumBy.DAY: f"ended_ns / {DAY_NS}"}

ATTEMPT_NUMBER = re.compile(r"\.\d+$")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which charges; empty means all. Times are of their ends, nanoseconds, since inclusive and until exclusive."""

    tenant: str = ""
    pool: str = ""
    backend: str = ""
    since_ns: int | None = None
    until_ns: int | None = None

    def sql(self) -> tuple[str, dict[str, Any]]:
        """A WHERE clause and its parameters."""
        conditions = {
            "tenant = :tenant": self.tenant or None,
            "pool = :pool": self.pool or None,
            "backend = :backend": self.backend or None,
            "ended_ns >= :since_ns": self.since_ns,
            "ended_ns < :until_ns": self.until_ns,
        }
        wanted = {condition: value for condition, value in conditions.items() if value is not None}
        parameters = {condition.rpartition(":")[2]: value for condition, value in wanted.items()}
        return (f"WHERE {' AND '.join(wanted)}" if wanted else ""), parameters

    @property
    def is_of_places(self) -> bool:
        """Whether whole places are meant, so that their leases can be set against the charges."""
        return not self.tenant and self.since_ns is None and self.until_ns is None


@dataclass(frozen=True, slots=True)
class SumRow:
    """One row of sums, and where leases were asked for, their money: bill = total.cost + open + idle.

    open_nanousd: run up by attempts in flight, with the residue below a nano-dollar each. None: not a matter of leases.
    """

    key: str
    total: LineTotal
    bill_nanousd: int | None = None
    idle_nanousd: int | None = None
    open_nanousd: int | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """What the journal and the charges say of one request, each attempt after the other. prices: snapshots by id, as JSON.
    corrections: what a worker said of an attempt after it had been closed as lost. waiting: what workers have told and nobody has
    booked yet. service_tiers: by attempt, where it was billed under another than its provider's plain one; tool_calls: of hosted
    tools, where there were any."""

    request_id: str
    events: Sequence[dict[str, Any]]
    charges: Sequence[dict[str, Any]]
    prices: Mapping[str, str] = field(default_factory=dict)
    corrections: Sequence[dict[str, Any]] = ()
    waiting: Sequence[dict[str, Any]] = ()
    service_tiers: Mapping[str, str] = field(default_factory=dict)
    tool_calls: Mapping[str, ToolCalls] = field(default_factory=dict)


# By key, and what of the cost is shares of leases.
_Sums = dict[str, tuple[LineTotal, int]]
NOTHING = (LineTotal(), 0)


class History:
    """One consistent state of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def charges(self, filters: Filters, limit: int) -> list[dict[str, Any]]:
        """The latest charges, newest first."""
        where, parameters = filters.sql()
        sql = f"SELECT {CHARGE} FROM charges {where} ORDER BY ended_ns DESC, seq DESC LIMIT :limit"
        return dicts(self._database.execute(sql, {**parameters, "limit": limit}))

    def sums(self, by: SumBy, filters: Filters) -> list[SumRow]:
        """All charges by one key, in its order, with what was told of them late, as of when it was booked. Every charge is in
        exactly one row."""
        where, parameters = filters.sql()
        totals = self._summed(by, "charges", where, parameters)
        is_whole = self.has_all(by, filters)
        late = where if is_whole else f"{where or 'WHERE TRUE'} AND ended_ns >= {pruned_ns(self._database)}"
        for sign, entries in ENTRIES:
            for key, (total, leased_cost) in self._summed(by, entries, late, parameters).items():
                before, leased_before = totals.get(key, NOTHING)
                added = LineTotal(*(one + sign * other for one, other in zip(before, total, strict=True)))
                totals[key] = added, leased_before + sign * leased_cost
        if is_whole:
            self._add_pruned(totals, by, filters)
        if by not in HAVE_LEASES or not filters.is_of_places:
            return [SumRow(key, totals[key][0]) for key in sorted(totals)]
        leases = {
            key: (bill, idle)
            for key, bill, idle in self._database.execute(
                f"SELECT {KEYS[by]}, sum(bill_nanousd), sum(idle_nanousd) FROM leases {where} GROUP BY 1", parameters
            )
        }
        accounts = []
        for key in sorted(totals.keys() | leases.keys()):
            total, leased_cost = totals.get(key, NOTHING)
            lease_bill, idle = leases.get(key, (0, 0))
            metered_cost = total.cost_nanousd - leased_cost
            accounts.append(SumRow(key, total, lease_bill + metered_cost, idle, lease_bill - idle - leased_cost))
        return accounts

    def _summed(self, by: SumBy, source: str, where: str, parameters: Mapping[str, Any]) -> _Sums:
        rows = self._database.execute(
            f"""
            SELECT {KEYS[by]}, {", ".join(SUMS.values())}, coalesce(sum(cost_nanousd) FILTER (WHERE billing = 'leased'), 0)
            FROM {source} {where} GROUP BY 1 ORDER BY 1
            """,
            parameters,
        )
        return {_key(by, row[0]): (LineTotal(*row[1:-1]), row[-1]) for row in rows}

    def has_all(self, by: SumBy, filters: Filters) -> bool:
        """Whether such sums are whole: of months that were pruned there are totals over all their time, and no days."""
        if filters.since_ns is None and filters.until_ns is None and by is not SumBy.DAY:
            return True
        return (filters.since_ns or 0) >= pruned_ns(self._database)

    def _add_pruned(self, totals: _Sums, by: SumBy, filters: Filters) -> None:
        pruned = read_pruned(self._database) if filters.since_ns is None and filters.until_ns is None else None
        for line, total in () if pruned is None else pruned.lines.items():
            account = line.account
            wanted = {"tenant": filters.tenant, "pool": filters.pool, "backend": filters.backend}
            if any(value and getattr(account, name) != value for name, value in wanted.items()):
                continue
            key = getattr(account, by.value)
            before, leased_cost = totals.get(key, NOTHING)
            leased_cost += total.cost_nanousd if account.billing == "leased" else 0
            totals[key] = LineTotal(*map(add, before, total)), leased_cost

    def story(self, request_id: str) -> Story:
        """Of a request, or of the one that an attempt was made at. Raises LedgerError when there is no such request."""
        # Every "<request_id>.<number>": "/" comes after ".".
        attempts = {"first": f"{request_id}.", "end": f"{request_id}/"}
        events = self._dicts(
            f"SELECT {EVENT} FROM journal WHERE subject > :first AND subject < :end ORDER BY seq", attempts
        )
        charges = self._dicts(
            f"SELECT {CHARGE} FROM charges WHERE attempt_id > :first AND attempt_id < :end ORDER BY number", attempts
        )
        waiting = [
            {"worker": worker, "subject": report.subject, "kind": report.kind.value, "at_ns": report.at_ns}
            for worker, report in waiting_events(self._database, request_id)
        ]
        if not events and not waiting:
            if (request := ATTEMPT_NUMBER.sub("", request_id)) != request_id:
                return self.story(request)
            raise LedgerError(
                f"there is no request {request_id} in this ledger; its id is the answer's x-request-id. What was"
                " refused before anybody was asked leaves no row"
            )
        prices = {}
        for price_id in {charge["price_id"] for charge in charges}:
            found = self._database.execute(
                "SELECT snapshot FROM prices WHERE price_id = :price_id", {"price_id": price_id}
            ).fetchone()
            if found is not None:
                prices[price_id] = found[0]
        corrections = self._dicts(
            f"SELECT {', '.join(CORRECTION_COLUMNS)} FROM corrections WHERE attempt_id > :first AND attempt_id < :end"
            " ORDER BY number",
            attempts,
        )
        usages = dict(_usages(events))
        service_tiers = {subject: usage.service_tier for subject, usage in usages.items() if usage.service_tier}
        tool_calls = {subject: usage.tool_calls for subject, usage in usages.items() if usage.tool_calls}
        return Story(request_id, events, charges, prices, corrections, waiting, service_tiers, tool_calls)

    def _dicts(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        return dicts(self._database.execute(sql, parameters))


def _usages(events: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Usage]]:
    """Of the attempts that have ended; charges have no column for all of it."""
    for event in events:
        if event["kind"] in (EventKind.CLOSED, EventKind.CORRECTED) and event["detail"] is not None:
            with suppress(LookupError, TypeError, ValueError):  # what cannot be read the audit names
                yield event["subject"], closing_from_json(event["detail"], event["at_ns"]).end.usage


def _key(by: SumBy, value: Any) -> str:
    return f"{datetime.fromtimestamp(value * DAY_NS // NS_PER_SECOND, UTC):%Y-%m-%d}" if by is SumBy.DAY else value


@contextmanager
def read_history(address: Address) -> Iterator[History]:
    """The ledger as it is now, whatever is written meanwhile. Raises LedgerError."""
    with reading(address) as database:
        yield History(database)


def grand_total(sums: Iterable[SumRow], key: str = "total") -> SumRow:
    """The sum of the sums."""
    total, lease_money = LineTotal(), (0, 0, 0)
    has_leases = True
    for row in sums:
        total = LineTotal(*map(add, total, row.total))
        if row.bill_nanousd is None or row.idle_nanousd is None or row.open_nanousd is None:
            has_leases = False
        else:
            bill, idle, open_ = lease_money
            lease_money = (bill + row.bill_nanousd, idle + row.idle_nanousd, open_ + row.open_nanousd)
    return SumRow(key, total, *lease_money) if has_leases else SumRow(key, total)
