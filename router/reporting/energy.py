"""Electricity of leased replicas, where the price book knows their power, and commitments: what was paid for and not used.

    kWh = (power_kw · busy hours + idle_power_kw · idle hours) · PUE        gCO₂ = kWh · grams per kWh of the pool's region

power_kw is the draw of a replica's whole share of its machine, at the plug of the machine. Without an idle_power_kw of its own
it is taken for the average, busy and idle, as `owned` rows do: a GPU server draws a third to a half of its peak when idle, so
say both if you know both. Busy is the time in which at least one attempt was in flight, taken from the money: on a lease of
constant price the idle share of the bill is the idle share of the time. Capacity that is metered is somebody else's machine;
its energy is not known, and is not guessed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from router.domain.periods import NS_PER_HOUR, Leased
from router.pricing.price import Purchase


class LeaseTerms(NamedTuple):
    """What the price book says of a lease's price beyond the dollars. None: not said."""

    name: str
    purchase: Purchase
    list_nanousd_per_hour: int
    nanousd_per_hour: int
    gpu: str = ""
    power_kw: Decimal | None = None
    idle_power_kw: Decimal | None = None
    pue: Decimal = Decimal(1)


class Energy(NamedTuple):
    """Of one pool. kwh: None when no replica's power is known; then hours_unknown says all. grams: None without a factor."""

    pool: str
    region: str
    hours: Decimal
    hours_unknown: Decimal
    kwh: Decimal | None
    grams: Decimal | None


class Commitment(NamedTuple):
    """Reserved leases at one price."""

    pool: str
    backend: str
    price: str
    hours: Decimal
    paid_nanousd: int
    used_nanousd: int
    unused_nanousd: int


def energy(
    leased: Iterable[Leased],
    terms: Mapping[str, LeaseTerms],
    regions: Mapping[str, str],
    grams_per_kwh: Mapping[str, Decimal],
) -> list[Energy]:
    """By pool. terms: by price id. regions: of pools."""
    hours: defaultdict[str, Decimal] = defaultdict(Decimal)
    unknown: defaultdict[str, Decimal] = defaultdict(Decimal)
    kwh: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in leased:
        lease_hours = hours_of(row)
        hours[row.pool] += lease_hours
        one = terms.get(row.price_id)
        if one is None or one.power_kw is None:
            unknown[row.pool] += lease_hours
            continue
        idle_ratio = Decimal(row.idle_nanousd) / row.bill_nanousd if row.bill_nanousd else Decimal(0)
        idle_kw = one.power_kw if one.idle_power_kw is None else one.idle_power_kw
        kwh[row.pool] += lease_hours * (one.power_kw * (1 - idle_ratio) + idle_kw * idle_ratio) * one.pue
    found = []
    for pool, total in hours.items():
        region = regions.get(pool, "")
        factor = grams_per_kwh.get(region)
        used = kwh.get(pool)
        grams = used * factor if used is not None and factor is not None else None
        found.append(Energy(pool, region, total, unknown[pool], used, grams))
    return found


def commitments(leased: Iterable[Leased], terms: Mapping[str, LeaseTerms]) -> list[Commitment]:
    """By backend and price. A commitment is paid whether used or not: what was idle of it is unused."""
    sums: dict[tuple[str, str, str], tuple[Decimal, int, int]] = {}
    for row in leased:
        one = terms.get(row.price_id)
        if one is None or one.purchase is not Purchase.RESERVED:
            continue
        key = (row.pool, row.backend, one.name)
        hours, paid, idle = sums.get(key, (Decimal(0), 0, 0))
        sums[key] = (hours + hours_of(row), paid + row.bill_nanousd, idle + row.idle_nanousd)
    return [Commitment(*key, hours, paid, paid - idle, idle) for key, (hours, paid, idle) in sums.items()]


def hours_of(row: Leased) -> Decimal:
    return Decimal(row.leased_ns) / NS_PER_HOUR
