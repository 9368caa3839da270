"""The report of a period: everything that is told of it, worked out once, and its JSON. How it looks is `page.py`'s.

In the JSON amounts are exact US dollars as strings, ratios and prices per token are numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from router.domain.money import usd_text
from router.domain.periods import ArmSums, Leased, Spent
from router.reporting import split as splitting
from router.reporting.energy import Commitment, Energy, LeaseTerms, commitments, energy
from router.reporting.savings import CONFIDENCE, Counterfactual, Measured, counterfactual, measured
from router.reporting.split import NOTHING, Place, Split, split_hours
from router.reporting.tokens import ClassPrice, all_in, class_prices

PARTS = ("useful", "thin", "idle", "lost", "unrated", "in_flight")
BASES = ("priced", "allocated")


@dataclass(frozen=True, slots=True)
class TenantSum:
    tenant: str
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    cost_nanousd: int
    lost_nanousd: int
    saved_nanousd: int


@dataclass(frozen=True, slots=True)
class Report:
    """first_hour, end_hour: since 1970, the last exclusive. splits: by hour and replica. all_in: usd per million by
    (pool, backend). late_attempts, late_nanousd: told after they had been booked as lost; by how much that moved the bill.
    waiting: charges that are not in it yet; is_catching_up: of an older ledger's past, not the newest ones alone."""

    first_hour: int
    end_hour: int
    made_at: datetime
    baseline: str
    splits: Mapping[tuple[int, Place], Split]
    prices: Sequence[ClassPrice]
    all_in: Mapping[tuple[object, ...], Decimal | None]
    counterfactual: Counterfactual
    measured: Sequence[Measured]
    commitments: Sequence[Commitment]
    energy: Sequence[Energy]
    tenants: Sequence[TenantSum]
    attempts: int
    unpriced: int
    late_attempts: int = 0
    late_nanousd: int = 0
    waiting: int = 0
    is_catching_up: bool = False

    @property
    def whole(self) -> Split:
        return sum(self.splits.values(), NOTHING)

    def by(self, *members: str, hourly: bool = False) -> dict[tuple[object, ...], Split]:
        return splitting.summed(self.splits, by_hour=hourly, by=members)


def build(
    charged: Sequence[Spent],
    corrected: Sequence[Spent],
    by_tenant: Sequence[Spent],
    leased: Sequence[Leased],
    arms: Sequence[ArmSums],
    terms: Mapping[str, LeaseTerms],
    regions: Mapping[str, str],
    grams_per_kwh: Mapping[str, Decimal],
    *,
    first_hour: int,
    end_hour: int,
    made_at: datetime,
    baseline: str,
    waiting: int = 0,
    is_catching_up: bool = False,
) -> Report:
    """charged, corrected: by place, billing and outcome, in rows of one hour, as `leased`; corrected: what was told late, and
    what that takes back. by_tenant: both, by tenant and outcome."""
    spent = [*charged, *corrected]
    splits = split_hours(spent, leased)
    bills = {place: one.bill for place, one in splitting.summed(splits, by_hour=False, by=("pool", "backend")).items()}
    idle = sum(one.idle for one in splits.values())
    return Report(
        first_hour=first_hour,
        end_hour=end_hour,
        made_at=made_at,
        baseline=baseline,
        splits=splits,
        prices=class_prices(spent),
        all_in=all_in(bills, spent),
        counterfactual=counterfactual(spent, idle),
        measured=[measured(arms, basis) for basis in BASES] if arms else [],
        commitments=commitments(leased, terms),
        energy=energy(leased, terms, regions, grams_per_kwh),
        tenants=_tenants(by_tenant),
        attempts=sum(row.attempts for row in spent),
        unpriced=sum(row.unpriced for row in spent),
        late_attempts=sum(row.attempts for row in corrected if row.attempts > 0),
        late_nanousd=sum(row.cost_nanousd for row in corrected),
        waiting=waiting,
        is_catching_up=is_catching_up,
    )


def as_json(report: Report) -> dict[str, Any]:
    return {
        "from": time_text(report.first_hour),
        "to": time_text(report.end_hour),
        "made_at": f"{report.made_at:%Y-%m-%dT%H:%M:%SZ}",
        "baseline": report.baseline,
        "attempts": report.attempts,
        "unpriced_attempts": report.unpriced,
        "attempts_told_late": report.late_attempts,
        "told_late_usd": usd_text(report.late_nanousd),
        "charges_not_yet_rolled_up": report.waiting,
        "bill": _split(report.whole),
        "pools": [{"pool": pool, **_split(one)} for (pool,), one in report.by("pool").items()],
        "replicas": [
            {"pool": pool, "backend": backend, "replica": replica, **_split(one)}
            for (pool, backend, replica), one in report.by("pool", "backend", "replica").items()
        ],
        "hours": [
            {"hour": time_text(int(str(hour))), **_split(one)} for (hour,), one in report.by(hourly=True).items()
        ],
        "usd_per_million_tokens": [
            {
                "pool": one.pool,
                "backend": one.backend,
                "class": one.token_class,
                "tokens": one.tokens,
                "allocated_usd": usd_text(one.allocated_nanousd),
                "standard_usd": usd_text(one.standard_nanousd),
                "allocated": _number(one.allocated_usd_per_million),
                "standard": _number(one.standard_usd_per_million),
            }
            for one in report.prices
        ],
        "usd_per_million_tokens_all_in": [
            {"pool": pool, "backend": backend, "usd_per_million": _number(price)}
            for (pool, backend), price in report.all_in.items()
        ],
        "savings": {
            "counterfactual": _counterfactual(report.counterfactual),
            "holdout": [_measured(one) for one in report.measured],
        },
        "commitments": [
            {
                "pool": one.pool,
                "backend": one.backend,
                "price": one.price,
                "hours": _number(one.hours),
                "paid_usd": usd_text(one.paid_nanousd),
                "used_usd": usd_text(one.used_nanousd),
                "unused_usd": usd_text(one.unused_nanousd),
            }
            for one in report.commitments
        ],
        "energy": [
            {
                "pool": one.pool,
                "region": one.region,
                "hours": _number(one.hours),
                "hours_of_unknown_power": _number(one.hours_unknown),
                "kwh": _number(one.kwh),
                "co2_grams": _number(one.grams),
            }
            for one in report.energy
        ],
        "tenants": [
            {
                "tenant": one.tenant,
                "attempts": one.attempts,
                "prompt_tokens": one.prompt_tokens,
                "completion_tokens": one.completion_tokens,
                "cost_usd": usd_text(one.cost_nanousd),
                "lost_usd": usd_text(one.lost_nanousd),
                "saved_usd": usd_text(one.saved_nanousd),
            }
            for one in report.tenants
        ],
    }


def time_text(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _split(one: Split) -> dict[str, Any]:
    parts = {f"{name}_usd": usd_text(getattr(one, name)) for name in PARTS}
    return {"bill_usd": usd_text(one.bill), **parts, "better_than_target_usd": usd_text(one.better)}


def _counterfactual(one: Counterfactual) -> dict[str, Any]:
    return {
        "method": "modelled: the same tokens at the baseline's price; its own length of answer is not known",
        "baseline_usd": usd_text(one.baseline),
        "cost_usd": usd_text(one.compared),
        "gross_usd": usd_text(one.gross),
        "lost_not_compared_usd": usd_text(one.lost_uncompared),
        "idle_usd": usd_text(one.idle),
        "net_usd": usd_text(one.net),
        "attempts_compared": one.compared_attempts,
        "attempts_not_compared": one.uncompared_attempts,
        "attempts_not_compared_because_lost": one.died_uncompared_attempts,
    }


def _measured(one: Measured) -> dict[str, Any]:
    return {
        "method": "measured: requests held out by chance",
        "basis": one.basis,
        "confidence": CONFIDENCE,
        "requests_held_out": one.held_out,
        "requests_routed": one.routed,
        "attempts_unpriced": one.unpriced,
        "usd_per_request_held_out": one.held_out_mean / 1e9,
        "usd_per_request_routed": one.routed_mean / 1e9,
        "saved_usd_per_request": None if one.saving is None else one.saving / 1e9,
        "saved_usd_per_request_low": None if one.low is None else one.low / 1e9,
        "saved_usd_per_request_high": None if one.high is None else one.high / 1e9,
        "saved_usd": None if one.total is None else one.total / 1e9,
    }


def _tenants(spent: Sequence[Spent]) -> list[TenantSum]:
    sums: dict[str, list[int]] = {}
    for row in spent:
        entry = sums.setdefault(row.tenant, [0] * 6)
        lost = row.cost_nanousd if row.is_lost else 0
        saved = row.baseline_nanousd - row.compared_nanousd
        for number, amount in enumerate(
            (row.attempts, row.prompt_tokens, row.completion_tokens, row.cost_nanousd, lost, saved)
        ):
            entry[number] += amount
    found = [TenantSum(tenant, *entry) for tenant, entry in sums.items()]
    return sorted(found, key=lambda one: -one.cost_nanousd)


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
