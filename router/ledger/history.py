"""The ledger for people: charges, sums and the story of one request, read beside a running router without disturbing it."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from operator import add
from pathlib import Path
from typing import Any

from router.domain.totals import LineTotal
from router.ledger.schema import open_reader
from router.ledger.store import LedgerError


class SumBy(StrEnum):
    TENANT = "tenant"
    POOL = "pool"
    BACKEND = "backend"
    MODEL = "model"
    TIER = "tier"
    DAY = "day"


# Leases belong to places, not to tenants or models: only there is a bill to set against the costs.
HAVE_LEASES = frozenset({SumBy.POOL, SumBy.BACKEND})
KEYS = {by: by.value for by in SumBy} | {SumBy.DAY: "date(ended_ns / 1000000000, 'unixepoch')"}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which charges; empty means all. Times are of their ends, nanoseconds, since inclusive and until exclusive."""

    tenant: str = ""
    pool: str = ""
    backend: str = ""
    since_ns: int | None = None
    until_ns: int | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """A WHERE clause and its parameters."""
        conditions = {
            "tenant = ?": self.tenant or None,
            "pool = ?": self.pool or None,
            "backend = ?": self.backend or None,
            "ended_ns >= ?": self.since_ns,
            "ended_ns < ?": self.until_ns,
        }
        wanted = {condition: value for condition, value in conditions.items() if value is not None}
        return (f"WHERE {' AND '.join(wanted)}" if wanted else ""), list(wanted.values())

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
    """What the journal and the charges say of one request, each attempt after the other. prices: snapshots by id, as JSON."""

    events: Sequence[dict[str, Any]]
    charges: Sequence[dict[str, Any]]
    prices: Mapping[str, str] = field(default_factory=dict)


class History:
    """One consistent state of the ledger."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.row_factory = sqlite3.Row

    def charges(self, filters: Filters, limit: int) -> list[dict[str, Any]]:
        """The latest charges, newest first."""
        where, parameters = filters.sql()
        return self._dicts(
            f"SELECT * FROM charges {where} ORDER BY ended_ns DESC, rowid DESC LIMIT ?", *parameters, limit
        )

    def sums(self, by: SumBy, filters: Filters) -> list[SumRow]:
        """All charges by one key, in its order. Every charge is in exactly one row."""
        where, parameters = filters.sql()
        totals = {
            row[0]: (LineTotal(*row[1:11]), row[11])
            for row in self._connection.execute(
                f"""
                SELECT {KEYS[by]}, count(*), count(*) - count(cost_nanousd),
                    sum(prompt_tokens), sum(cached_tokens), sum(cache_write_tokens),
                    sum(completion_tokens), sum(reasoning_tokens),
                    ifnull(sum(cost_nanousd), 0), ifnull(sum(standard_nanousd), 0),
                    ifnull(sum(baseline_nanousd - cost_nanousd), 0),
                    ifnull(sum(iif(billing = 'leased', cost_nanousd, 0)), 0)
                FROM charges {where} GROUP BY 1 ORDER BY 1
                """,
                parameters,
            )
        }
        if by not in HAVE_LEASES or not filters.is_of_places:
            return [SumRow(key, total) for key, (total, _) in totals.items()]
        leases = {
            key: (bill, idle)
            for key, bill, idle in self._connection.execute(
                f"SELECT {KEYS[by]}, sum(bill_nanousd), sum(idle_nanousd) FROM leases {where} GROUP BY 1", parameters
            )
        }
        accounts = []
        for key in sorted(totals.keys() | leases.keys()):
            total, leased_cost = totals.get(key, (LineTotal(), 0))
            lease_bill, idle = leases.get(key, (0, 0))
            metered_cost = total.cost_nanousd - leased_cost
            accounts.append(SumRow(key, total, lease_bill + metered_cost, idle, lease_bill - idle - leased_cost))
        return accounts

    def story(self, request_id: str) -> Story:
        """Raises LedgerError when there is no such request."""
        attempts = (f"{request_id}.", f"{request_id}/")  # every "<request_id>.<number>": "/" comes after "."
        events = self._dicts("SELECT * FROM journal WHERE subject > ? AND subject < ? ORDER BY seq", *attempts)
        charges = self._dicts(
            "SELECT * FROM charges WHERE attempt_id > ? AND attempt_id < ? ORDER BY number", *attempts
        )
        if not events:
            raise LedgerError(f"there is no request {request_id} in this ledger; its id is the answer's x-request-id")
        ids = list({charge["price_id"] for charge in charges} - {""})
        wanted = ", ".join("?" * len(ids))
        prices = self._connection.execute(f"SELECT price_id, snapshot FROM prices WHERE price_id IN ({wanted})", ids)
        return Story(events, charges, dict(prices))

    def _dicts(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(sql, parameters)]


@contextmanager
def read_history(path: Path) -> Iterator[History]:
    """The ledger as it is now, whatever is written meanwhile. Raises LedgerError."""
    connection = open_reader(path)
    try:
        connection.execute("BEGIN")
        yield History(connection)
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: cannot be read ({error})") from None
    finally:
        connection.close()


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
