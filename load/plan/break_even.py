"""Where another way of paying would be cheaper than the one planned. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from load.plan.demand import SECONDS_PER_DAY, Demand
from load.plan.fleet import Plan
from load.plan.purchase import (
    HOURS_PER_DAY,
    GpuOffer,
    Way,
    break_even_hours_per_day,
    break_even_months,
    break_even_tokens_per_day,
)


class BreakEven(NamedTuple):
    """value: from which on `cheaper` is cheaper than `other`, in `unit`; None: never. note: what to make of it."""

    cheaper: str
    other: str
    value: float | None
    unit: str
    note: str


def break_evens(plans: Sequence[Plan], offers: Sequence[GpuOffer], demand: Demand) -> list[BreakEven]:
    return [*_tokens(plans, demand), *_hours(plans, offers), *_capital(plans, offers)]


def _tokens(plans: Sequence[Plan], demand: Demand) -> Iterator[BreakEven]:
    """The cheapest replica by the hour against the cheapest tokens."""
    leases = [plan for plan in plans if plan.settled is not None and plan.way is not Way.SERVERLESS]
    tokens = [plan for plan in plans if plan.way is Way.METERED]
    if not leases or not tokens:
        return
    lease = min(leases, key=lambda plan: plan.usd_per_day)
    token = min(tokens, key=lambda plan: plan.usd_per_day)
    assert lease.settled is not None
    per_hour = lease.usd_per_day / HOURS_PER_DAY / lease.replicas
    needed = break_even_tokens_per_day(per_hour, token.usd_per_million_tokens)
    holds = lease.settled.rate * demand.tokens * SECONDS_PER_DAY
    ratio = needed / holds
    note = (
        f"one replica of it, {ratio:.0%} of all it could do within the objectives"
        if ratio <= 1
        else f"one replica of it could do {holds / 1e6:,.0f} M a day at most: tokens are cheaper at any volume"
    )
    yield BreakEven(f"{lease.label}, {lease.offer}", token.offer, needed if ratio <= 1 else None, "tokens a day", note)


def _hours(plans: Sequence[Plan], offers: Sequence[GpuOffer]) -> Iterator[BreakEven]:
    """Of the GPUs in the plans: what is paid all day against what is paid while it is used."""
    gpus = dict.fromkeys(plan.settled.build.gpu for plan in plans if plan.settled is not None)
    for gpu in gpus:
        by_way = {
            way: min(own, key=lambda offer: offer.usd_per_gpu_hour)
            for way in Way
            if (own := [offer for offer in offers if offer.gpu == gpu and offer.way is way])
        }
        for steady, flexible in (
            (Way.RESERVED, Way.ON_DEMAND),
            (Way.ON_DEMAND, Way.SERVERLESS),
            (Way.RESERVED, Way.SERVERLESS),
        ):
            if steady in by_way and flexible in by_way:
                one, other = by_way[steady], by_way[flexible]
                hours = break_even_hours_per_day(one.usd_per_gpu_hour, other.usd_per_gpu_hour)
                is_ever = hours <= HOURS_PER_DAY
                note = f"{hours / HOURS_PER_DAY:.0%} of the time" if is_ever else "it costs more by the hour"
                yield BreakEven(one.name, other.name, hours if is_ever else None, "hours of use a day", note)


def _capital(plans: Sequence[Plan], offers: Sequence[GpuOffer]) -> Iterator[BreakEven]:
    gpus = dict.fromkeys(plan.settled.build.gpu for plan in plans if plan.settled is not None)
    for owned in offers:
        if owned.way is Way.OWNED and owned.capital_usd and owned.gpu in gpus:
            for lease in offers:
                if lease.gpu == owned.gpu and lease.way in (Way.ON_DEMAND, Way.RESERVED):
                    months = break_even_months(owned.capital_usd, owned.running_usd_per_hour, lease.usd_per_gpu_hour)
                    note = f"${owned.capital_usd:,.0f} a GPU, then ${owned.running_usd_per_hour:.3f} an hour"
                    yield BreakEven(owned.name, lease.name, months, "months", note)
