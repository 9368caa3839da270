"""Where each dollar of a bill went: useful work, thin batches, idling, lost attempts.

For one replica in one hour, with A the allocated cost of the attempts that were served, S what the same tokens cost at the
standard price (the replica as full as it should be), L the allocated cost of those that bought nothing, and I what was idle:

    useful = min(S, A)     thin = A − useful     lost = L     idle = I     in flight = bill − A − L − I
    bill = useful + thin + idle + lost + in flight, to the nano-dollar, by construction

**A batch better than the target** has A < S: the tokens came cheaper than the standard price says. Then all of A was useful,
nothing was thin, and S − A is told beside, as `better`; it is no part of the bill and makes up for no thin batch elsewhere.
The replica-hour is where the comparison is made: single attempts are better or worse than the standard by chance of who
shared their batch, and over a whole month a crowded afternoon would hide an empty night.

**In flight** is what attempts at the edges of the hour have of it: what those that are still open have run up, less what those
that ended in it had run up before. It has either sign, it is zero but for fractions of a nano-dollar over any time that begins
and ends with nothing in flight, and in sums over hours it cancels.

**What was told late** (`ledger/corrections.py`) takes its money out of what is lost in the hour in which it was booked, so where
the loss was booked in an hour before, lost is negative in that one; over both it is what it should be.

Cost without a standard price (a leased backend without an engine profile, an attempt lost in a crash) is neither useful nor
thin as far as anybody knows: `unrated`. On a metered backend a token costs its price, so what is served is useful.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from router.domain.fleet import Billing
from router.domain.periods import Leased, Spent


class Place(NamedTuple):
    pool: str
    backend: str
    replica: str


class Split(NamedTuple):
    """Nano-dollars. The bill is the sum of all but `better`; `in_flight` may be negative, and after late word `lost`."""

    useful: int = 0
    thin: int = 0
    idle: int = 0
    lost: int = 0
    unrated: int = 0
    in_flight: int = 0
    better: int = 0

    @property
    def bill(self) -> int:
        return sum(self[:6])

    def __add__(self, other: object) -> "Split":
        assert isinstance(other, Split)
        return Split(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


NOTHING = Split()


def split_hours(spent: Iterable[Spent], leased: Iterable[Leased]) -> dict[tuple[int, Place], Split]:
    """By hour and replica. spent: at least by place, billing and outcome, in rows of one hour, as `leased`."""
    charges: defaultdict[tuple[int, Place], list[Spent]] = defaultdict(list)
    for row in spent:
        charges[row.hour, Place(row.pool, row.backend, row.replica)].append(row)
    leases: defaultdict[tuple[int, Place], list[Leased]] = defaultdict(list)
    for lease in leased:
        leases[lease.hour, Place(lease.pool, lease.backend, lease.replica)].append(lease)
    return {key: split(charges[key], leases[key]) for key in sorted({*charges, *leases})}


def split(spent: Iterable[Spent], leased: Iterable[Leased]) -> Split:
    """One replica in one hour."""
    served = lost = unrated = standard = metered = 0
    for row in spent:
        if row.is_lost:
            lost += row.cost_nanousd
            served_now = 0
        else:
            served_now = row.cost_nanousd
            unrated += row.unrated_nanousd
            standard += row.standard_nanousd
        served += served_now
        if row.billing == Billing.METERED:
            metered += row.cost_nanousd
    rated = served - unrated
    useful = min(standard, rated)
    bill = idle = 0
    for lease in leased:
        bill += lease.bill_nanousd
        idle += lease.idle_nanousd
    in_flight = bill + metered - served - lost - idle
    return Split(useful, rated - useful, idle, lost, unrated, in_flight, standard - useful)


def summed(
    splits: Mapping[tuple[int, Place], Split], *, by_hour: bool, by: tuple[str, ...]
) -> dict[tuple[object, ...], Split]:
    """Sums by some members of the place, and the hour if wanted; () sums everything."""
    sums: dict[tuple[object, ...], Split] = {}
    for (hour, place), one in splits.items():
        key = (*((hour,) if by_hour else ()), *(getattr(place, name) for name in by))
        sums[key] = sums.get(key, NOTHING) + one
    return sums
