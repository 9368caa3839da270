"""What a stretch of time cost, from the ledger: leases while they ran, tokens bought, and what requests were charged."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from router.ledger.database import dicts
from router.ledger.reading import read_leases
from router.ledger.schema import reading
from router.ledger.store import Lease


@dataclass(frozen=True, slots=True)
class Bill:
    """US dollars. lease: of the leases from the beginning to the end, used or not. bought, charged: of the attempts that began
    in that time. lease_by_backend: of `lease`. tokens: of the prompts and completions of these attempts, cached: of the prompts'.
    attempts: by backend; a leased backend that was asked nothing has none."""

    lease_usd: float
    bought_usd: float
    charged_usd: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    lease_by_backend: Mapping[str, float]
    attempts: Mapping[str, int]

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def read_bill(ledger: Path, metered: Collection[str], since_ns: int, until_ns: int) -> Bill:
    """Of a ledger whose router has ended. metered: the backends that are paid by the token."""
    with reading(ledger) as database:
        leases = list(read_leases(database).values())
        rows = dicts(
            database.execute(
                "SELECT backend, count(*) AS attempts, coalesce(sum(cost_nanousd), 0) AS cost, sum(prompt_tokens) AS prompt,"
                " sum(cached_tokens) AS cached, sum(completion_tokens) AS completion FROM charges"
                " WHERE opened_ns >= :since_ns GROUP BY 1",
                {"since_ns": since_ns},
            )
        )
    lease_by_backend: dict[str, float] = dict.fromkeys(sorted(lease.backend for lease in leases), 0.0)
    for lease in leases:
        lease_by_backend[lease.backend] += lease_usd(lease, since_ns, until_ns)
    return Bill(
        sum(lease_by_backend.values()),
        sum(row["cost"] for row in rows if row["backend"] in metered) / 1e9,
        sum(row["cost"] for row in rows) / 1e9,
        sum(row["prompt"] for row in rows),
        sum(row["cached"] for row in rows),
        sum(row["completion"] for row in rows),
        lease_by_backend,
        dict.fromkeys(lease_by_backend, 0) | {row["backend"]: row["attempts"] for row in rows},
    )


def lease_usd(lease: Lease, since_ns: int, until_ns: int) -> float:
    """What the ledger's bill of the lease is for its part of this time. It is booked up to its last event: one that has not ended
    goes on as before, at one price."""
    ended_ns = until_ns if lease.ended_ns is None else min(lease.ended_ns, until_ns)
    there_ns = ended_ns - max(lease.started_ns, since_ns)
    booked_ns = lease.at_ns - lease.started_ns
    if there_ns <= 0 or booked_ns <= 0:
        return 0.0
    return lease.bill_nanousd * there_ns / booked_ns / 1e9
