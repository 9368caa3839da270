"""A candidate that works out on demand what not every policy asks for.

Most policies read two or three forecasts of each candidate; the others would cost more than all the rest of a decision. They
are properties here, of the same names as a candidate's fields: for a policy a prospect is a value like any candidate. What they
are worked out of never changes, so they come out the same whenever they are read. (Filling them in by `__getattr__` would make
every other field five times as dear to read.)
"""

from router.domain.decision import Candidate
from router.pricing.quote import Lease, Outlook, metered_quote
from router.selection.ask import Ask
from router.selection.site import Site

# What a prospect is made of.
CARRIED = (
    "_offer", "_outlook", "backend", "replica", "load", "ttft_seconds", "quality", "marginal_nanousd", "hold_nanousd",
    "cached_tokens",
)  # fmt: skip


class Prospect(Candidate):
    """_offer: what is the same for all replicas of a site, and the steps that the answer takes there to those by the profile, as
    was known when the candidate was made. _outlook: of a leased replica; None elsewhere."""

    __slots__ = ("_offer", "_outlook")

    _offer: tuple[Site, Ask, float]
    _outlook: Outlook | None

    @property
    def completion_tokens(self) -> float:
        return self._offer[1].completion_tokens

    @property
    def tier_level(self) -> int:
        return self._offer[0].level

    @property
    def tpot_seconds(self) -> float:
        if self._outlook is None:
            return self._offer[0].experience.tpot_seconds
        ask = self._offer[1]
        return self._outlook.tpot_seconds(ask.prompt_tokens, ask.completion_tokens) * self._offer[2]

    @property
    def step_seconds(self) -> float:
        if self._outlook is None:
            return 0.0
        ask = self._offer[1]
        return self._outlook.step_seconds(ask.prompt_tokens, ask.completion_tokens)

    @property
    def allocated_nanousd(self) -> int:
        site, ask, steps_ratio = self._offer
        outlook = self._outlook
        if outlook is None:
            return metered_nanousd(site, ask, self.cached_tokens)
        return outlook.allocated_nanousd(ask.prompt_tokens, ask.completion_tokens, self.cached_tokens, steps_ratio)

    @property
    def standard_nanousd(self) -> int:
        site, ask, _ = self._offer
        price = site.price
        if not isinstance(price, Lease):
            return metered_nanousd(site, ask, self.cached_tokens)
        return price.standard_nanousd(ask.prompt_tokens, ask.completion_tokens, self.cached_tokens)

    @property
    def wait_seconds(self) -> float:
        return 0.0 if self._outlook is None else self._outlook.ttft_seconds(0)

    @property
    def silent_seconds(self) -> float:
        ask, outlook = self._offer[1], self._outlook
        if outlook is None:
            return 0.0
        seconds = outlook.ttft_seconds(ask.prompt_tokens - self.cached_tokens)
        return max(self.ttft_seconds - seconds - self._offer[0].rtt_seconds(ask.region), 0.0)

    @property
    def cold_start_seconds(self) -> float:
        return 0.0

    @property
    def waking_nanousd(self) -> int:
        return 0

    @property
    def fill_ratio(self) -> float:
        return 0.0 if self._outlook is None else self._outlook.fill_ratio

    @property
    def is_spot(self) -> bool:
        return self._offer[0].is_spot

    @property
    def list_nanousd_per_million(self) -> int:
        site, ask, _ = self._offer
        rates = site.tariff(ask.request.service_tier).rates if site.lease is None else site.lease.rates
        return rates.prompt + rates.completion


class ColdProspect(Prospect):
    """A replica that is asleep, or is being started. _cold: what is the candidate's cold_start_seconds and waking_nanousd."""

    __slots__ = ("_cold",)

    _cold: tuple[float, int]

    @property
    def cold_start_seconds(self) -> float:
        return self._cold[0]

    @property
    def waking_nanousd(self) -> int:
        return self._cold[1]

    @property
    def allocated_nanousd(self) -> int:
        """Whoever wakes it has it to himself while it starts."""
        nanousd = super().allocated_nanousd
        lease = self._offer[0].lease
        assert lease is not None
        return nanousd + round(self._cold[0] * lease.nanousd_per_second) if self._cold[1] else nanousd

    @property
    def silent_seconds(self) -> float:
        return 0.0


def metered_nanousd(site: Site, ask: Ask, cached_tokens: int) -> int:
    """Without what the network asks for."""
    tariff = site.tariff(ask.request.service_tier)
    quote = metered_quote(tariff, ask.prompt_tokens, ask.completion_tokens, cached_tokens, ask.audio_seconds)
    tools = ask.request.hosted_tools
    return quote.marginal_nanousd if tools is None else quote.marginal_nanousd + site.tools_nanousd(tools)
