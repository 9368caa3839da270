"""Ways of paying for a replica or for tokens, and where one becomes cheaper than another. Pure arithmetic, US dollars.

Floats are right here: a plan is a forecast of years, and no bill.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import exp

HOURS_PER_DAY = 24
DAYS_PER_YEAR = 365  # as people multiply a day's bill
HOURS_PER_MONTH = 8766 / 12


class Way(StrEnum):
    """serverless: by the second in which a replica works. metered: by the token."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    RESERVED = "reserved"
    OWNED = "owned"
    SERVERLESS = "serverless"
    METERED = "metered"


@dataclass(frozen=True, slots=True)
class GpuOffer:
    """One GPU of a kind for an hour. capital_usd, running_usd_per_hour: of owned hardware, where its cost is told apart."""

    name: str
    gpu: str
    way: Way
    usd_per_gpu_hour: float
    capital_usd: float = 0.0
    running_usd_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class TokenOffer:
    """US dollars per million tokens."""

    name: str
    model: str
    prompt_usd_per_million: float
    cached_usd_per_million: float
    completion_usd_per_million: float

    def usd_per_request(self, prompt_tokens: float, completion_tokens: float, cached_ratio: float = 0.0) -> float:
        cached = prompt_tokens * cached_ratio
        return (
            (prompt_tokens - cached) * self.prompt_usd_per_million
            + cached * self.cached_usd_per_million
            + completion_tokens * self.completion_usd_per_million
        ) / 1e6


def busy_ratio(requests_per_second: float, seconds_each: float, linger_seconds: float) -> float:
    """Of the time, that in which a serverless replica is paid for: requests overlap freely (M/G/∞: it is empty with probability
    e^(−λ·S)), and it lingers so long after the last one."""
    return 1 - exp(-requests_per_second * (seconds_each + linger_seconds))


def serverless_replicas(
    requests_per_second: float, replica_rate: float, seconds_each: float, linger_seconds: float
) -> float:
    """Replicas paid for on average: as many as the rate fills, and while it fills less than one, that one while it is busy."""
    filled = requests_per_second / replica_rate
    return max(filled, busy_ratio(requests_per_second, seconds_each, linger_seconds))


def break_even_tokens_per_day(usd_per_hour: float, usd_per_million_tokens: float) -> float:
    """Above it a replica by the hour is cheaper than tokens by the million."""
    return usd_per_hour * HOURS_PER_DAY / usd_per_million_tokens * 1e6


def break_even_hours_per_day(usd_per_hour: float, flexible_usd_per_hour: float) -> float:
    """What is paid all day pays from so many hours of use a day on, against what is paid in use only. More than 24: never."""
    return usd_per_hour / flexible_usd_per_hour * HOURS_PER_DAY


def break_even_months(capital_usd: float, running_usd_per_hour: float, lease_usd_per_hour: float) -> float | None:
    """After so many months hardware of one's own has cost less than leasing; None where its running alone costs more."""
    saved_per_hour = lease_usd_per_hour - running_usd_per_hour
    return capital_usd / saved_per_hour / HOURS_PER_MONTH if saved_per_hour > 0 else None


@dataclass(frozen=True, slots=True)
class Source:
    """Capacity that is there with a probability, independently of the others. preemptions_per_hour, and redo_hours of work that
    each costs."""

    usd_per_hour: float
    availability_ratio: float
    preemptions_per_hour: float = 0.0
    redo_hours: float = 0.0

    @property
    def usd_per_useful_hour(self) -> float:
        return self.usd_per_hour * (1 + self.preemptions_per_hour * self.redo_hours)


def cheapest_available(sources: list[Source]) -> tuple[float, float]:
    """(dollars for an hour of work, the share of the time in which any was there): always the cheapest that is."""
    missing, paid = 1.0, 0.0
    for source in sorted(sources, key=lambda one: one.usd_per_useful_hour):
        paid += missing * source.availability_ratio * source.usd_per_useful_hour
        missing *= 1 - source.availability_ratio
    served = 1 - missing
    return (paid / served if served else 0.0), served
