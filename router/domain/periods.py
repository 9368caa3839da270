"""Money and tokens of whole hours (UTC): what the ledger keeps of the past for good, and what reports are made of.

Amounts are nano-dollars. An hour is its number since 1970; a row may also stand for several hours, then it is the first.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from router.domain.attempt import Outcome

NS_PER_SECOND = 10**9
NS_PER_HOUR = 3_600 * NS_PER_SECOND
HOURS_PER_DAY = 24

# Which requests the hold-out is drawn from, and what the ledger says of those that were drawn (`selection/holdout.py`).
HOLDOUT_MODEL = "auto"
HOLDOUT_REASON = "holdout"
# Fewer requests in an arm say nothing: a cost is far from normally distributed, and so is a mean of few.
ARM_REQUESTS_MIN = 30


def month_of(at_ns: int) -> int:
    """The calendar month (UTC) that contains this time: 202611 is November 2026."""
    moment = datetime.fromtimestamp(at_ns // NS_PER_SECOND, UTC)
    return moment.year * 100 + moment.month


def month_after(month: int) -> int:
    year, number = divmod(month, 100)
    return month + 1 if number < 12 else (year + 1) * 100 + 1


def month_text(month: int) -> str:
    return f"{month // 100}-{month % 100:02}"


def month_start_ns(month: int) -> int:
    """Raises ValueError for what is no month."""
    return int(datetime(*divmod(month, 100), 1, tzinfo=UTC).timestamp()) * NS_PER_SECOND


class Arm(StrEnum):
    """Of the hold-out: requests for `auto` that the policy routed, and those that chance sent to the baseline."""

    ROUTED = "routed"
    HOLDOUT = "holdout"


class Spent(NamedTuple):
    """Attempts that ended in an hour, and their sums. A member that the query was not asked for is empty.

    The parts of cost and standard by class of token sum to the whole but for attempts whose parts are not known (`lost` in a
    crash, no engine profile). unrated: cost of attempts that have no standard price. baseline and compared: what attempts
    would have cost at the baseline, and what the same ones cost here.
    """

    hour: int
    pool: str = ""
    backend: str = ""
    replica: str = ""
    billing: str = ""
    model: str = ""
    tier: str = ""
    tenant: str = ""
    price_id: str = ""
    outcome: str = ""
    attempts: int = 0
    unpriced: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanousd: int = 0
    cost_prompt_nanousd: int = 0
    cost_cached_nanousd: int = 0
    cost_completion_nanousd: int = 0
    standard_nanousd: int = 0
    standard_prompt_nanousd: int = 0
    standard_cached_nanousd: int = 0
    standard_completion_nanousd: int = 0
    unrated_nanousd: int = 0
    baseline_nanousd: int = 0
    compared_nanousd: int = 0
    compared_attempts: int = 0

    @property
    def is_lost(self) -> bool:
        return Outcome(self.outcome).is_lost


class Leased(NamedTuple):
    """An hour of a lease: what it cost, what of that was idle, and for how long of the hour it ran."""

    hour: int
    pool: str
    backend: str
    replica: str
    price_id: str
    bill_nanousd: int
    idle_nanousd: int
    leased_ns: int


class ArmSums(NamedTuple):
    """Requests for `auto` of one arm, and the sums of what each cost, all its attempts together, in nano-dollars.

    allocated: what it really cost. own: at its backend's own price basis, tokens × price at target utilization on a lease.
    Squares are floats: they serve statistics, not accounts.
    """

    arm: str
    tenant: str
    requests: int
    unpriced: int
    allocated_nanousd: int
    allocated_squares: float
    own_nanousd: int
    own_squares: float
