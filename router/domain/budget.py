"""A budget: what a tenant, or one of its API keys, may spend in a period; and what is left of it for one request.

Periods are calendar days and months in UTC, of the clock that the caller reads (nanoseconds since 1970).
"""

from datetime import UTC, datetime
from decimal import Context, Decimal
from enum import StrEnum

from router.domain.immutable import immutable
from router.domain.money import NANOUSD_PER_USD

NS_PER_SECOND = 10**9
DAY_NS = 86_400 * NS_PER_SECOND
# SQLite's and Redis' integers end at 2⁶³ − 1: nine thousand million dollars.
LIMIT_NANOUSD_MAX = 2**63 - 1


class Period(StrEnum):
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


@immutable
class Span:
    """One period, from its first nanosecond to the first that is not in it. end_ns: None where it never ends."""

    start_ns: int
    end_ns: int | None

    def holds(self, at_ns: int) -> bool:
        return self.start_ns <= at_ns and (self.end_ns is None or at_ns < self.end_ns)


def span_at(period: Period, at_ns: int) -> Span:
    """The period in which an instant lies."""
    if period is Period.TOTAL:
        return Span(0, None)
    if period is Period.DAY:
        start_ns = at_ns - at_ns % DAY_NS
        return Span(start_ns, start_ns + DAY_NS)
    moment = datetime.fromtimestamp(at_ns // NS_PER_SECOND, UTC)
    first = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    after = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
    return Span(int(first.timestamp()) * NS_PER_SECOND, int(after.timestamp()) * NS_PER_SECOND)


@immutable
class Degrade:
    """From this share of the budget on, requests go to these tiers and pools where one of them can serve them. An empty
    list does not restrict."""

    at_ratio: float
    tiers: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()

    def admits(self, tier: str, pool: str) -> bool:
        return (not self.tiers or tier in self.tiers) and (not self.pools or pool in self.pools)

    def __str__(self) -> str:
        parts = [f"tier {' or '.join(self.tiers)}"] if self.tiers else []
        parts += [f"pool {' or '.join(self.pools)}"] if self.pools else []
        return " in ".join(parts)


@immutable
class Budget:
    """api_key_name: "" where all of the tenant's keys share it."""

    tenant: str
    api_key_name: str
    period: Period
    limit_nanousd: int
    degrade: Degrade | None = None

    @property
    def key(self) -> tuple[str, str, Period]:
        """What makes it the same budget after its limit has been changed."""
        return self.tenant, self.api_key_name, self.period

    def __str__(self) -> str:
        """For the client: `budget of $50.00 a day of the tenant research`."""
        per = "in total" if self.period is Period.TOTAL else f"a {self.period.value}"
        whose = f"the API key {self.api_key_name}" if self.api_key_name else f"the tenant {self.tenant}"
        return f"budget of {dollars(self.limit_nanousd)} {per} of {whose}"


@immutable
class Allowance:
    """What the scarcest of the budgets that a request counts against can still take.

    left_nanousd: for a hold, beside what others hold. unspent_nanousd: of the limit, running requests not counted.
    span: of the scarcest budget. degrades: those in force, each with the budget that asks for it.
    """

    budget: Budget
    span: Span
    left_nanousd: int
    unspent_nanousd: int
    degrades: tuple[tuple[Degrade, Budget], ...] = ()


def exact_dollars(nanousd: int) -> str:
    """For people who compare two amounts: to the nano-dollar, without zeros at the end."""
    usd = (Decimal(nanousd) / NANOUSD_PER_USD).normalize()
    return f"${usd:.{max(-int(usd.as_tuple().exponent), 2)}f}"


def dollars(nanousd: int) -> str:
    """For people: to the cent from a dollar on, three significant digits below."""
    usd = Decimal(abs(nanousd)) / NANOUSD_PER_USD
    if usd < 1:
        usd = Context(prec=3).plus(usd).normalize()
    digits = -usd.as_tuple().exponent if usd < 1 else 2  # type: ignore[operator]
    return f"{'-' if nanousd < 0 else ''}${usd:.{max(digits, 2)}f}"
