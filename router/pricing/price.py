"""A price as it was on one day: an immutable snapshot, which every attempt keeps until its charge is in the ledger.

Rates are whole numbers of nano-dollars, per hour or per million tokens, so that cost is exact integer arithmetic. Where
prices come from is `book.py`'s business.
"""

from dataclasses import dataclass
from enum import StrEnum

from router.domain.usage import ToolCalls


class Purchase(StrEnum):
    """How capacity was bought. reserved: a commitment, paid whether used or not, which is what every lease here is."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    RESERVED = "reserved"
    OWNED = "owned"


@dataclass(frozen=True, slots=True)
class LeasedPrice:
    """Paid by the hour, busy or not, for one replica. price_id: `<name>@<first day>#<8 hex digits of the row's content>`."""

    price_id: str
    nanousd_per_hour: int
    purchase: Purchase
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class TokenRates:
    """Nano-dollars per million tokens of each class. Classes do not overlap: `prompt` is what was neither cached nor written.

    0 is a price. A class without a rate of its own does not exist: the book fills it in, but for what is written to be kept an
    hour, which few sell: None: as any other write.
    """

    prompt: int
    cached: int
    cache_write: int
    completion: int
    cache_write_hour: int | None = None

    @property
    def hour_write(self) -> int:
        """What a million tokens cost that are written to be kept an hour."""
        return self.cache_write if self.cache_write_hour is None else self.cache_write_hour


@dataclass(frozen=True, slots=True)
class ContextTier:
    """Rates of a whole request whose prompt, cached tokens included, is longer than this."""

    above_prompt_tokens: int
    rates: TokenRates


@dataclass(frozen=True, slots=True)
class ServiceTier:
    """What a provider takes for requests under a service tier of that name, instead of all that the price says itself."""

    name: str
    rates: TokenRates
    tiers: tuple[ContextTier, ...] = ()
    request_nanousd: int = 0
    audio_nanousd_per_hour: int = 0


@dataclass(frozen=True, slots=True)
class MeteredPrice:
    """Paid by what is used. tiers: by context length, shortest first; none applies below the first. service_tiers: those that
    have rates of their own; under one that is not there, what is used has no price. tool_call_nanousd: of a call of a hosted
    tool, by its name, under any service tier; one that is not there has no price."""

    price_id: str
    rates: TokenRates
    tiers: tuple[ContextTier, ...] = ()
    request_nanousd: int = 0
    audio_nanousd_per_hour: int = 0
    service_tiers: tuple[ServiceTier, ...] = ()
    tool_call_nanousd: tuple[tuple[str, int], ...] = ()

    def tool_nanousd(self, tool: str) -> int | None:
        """Of one call; None: it has no fee for that tool."""
        return next((nanousd for name, nanousd in self.tool_call_nanousd if name == tool), None)

    def tools_nanousd(self, tool_calls: ToolCalls) -> int | None:
        """Of all these calls; None: it has no fee for one of them."""
        fees = [(self.tool_nanousd(tool), calls) for tool, calls in tool_calls]
        known = [nanousd * calls for nanousd, calls in fees if nanousd is not None]
        return sum(known) if len(known) == len(fees) else None

    def tariff(self, service_tier: str) -> "Tariff | None":
        """What counts under that service tier, "" being the provider's plain one; None: it has no rates."""
        if not service_tier:
            return self
        return next((one for one in self.service_tiers if one.name == service_tier), None)


Tariff = MeteredPrice | ServiceTier
Price = LeasedPrice | MeteredPrice
