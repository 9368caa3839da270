"""A candidate that works out on demand what not every policy asks for.

Most policies read two or three forecasts of each candidate; the others would cost more than all the rest of a decision. They
are properties here, of the same names as a candidate's fields: for a policy a prospect is a value like any candidate. What they
are worked out of never changes, so they come out the same whenever they are read. (Filling them in by `__getattr__` would make
every other field five times as dear to read.)
"""

from router.domain.decision import Candidate
from router.domain.fleet import Load
from router.pricing.drift import Drift
from router.pricing.quote import Lease, Outlook, metered_quote
from router.selection.ask import Ask
from router.selection.site import Seat, Site

# A metered provider tells nothing of its load, so one forecast serves for all. Measured on the 1,593 requests of the Claude
# Code agent trace (callanjfox/kv-cache-tester, Apache-2.0) that have the API's own times: a Theil–Sen line through the time
# to the first token over the prompt's length, and the median time per token after it.
METERED_TTFT_SECONDS = 1.8
METERED_TTFT_SECONDS_PER_TOKEN = 5.8e-6
METERED_TPOT_SECONDS = 0.017
_new = object.__new__


class Offer:
    """What is the same for all replicas of a site that one request may go to."""

    __slots__ = ("ask", "backend", "completion_tokens", "hold_nanousd", "level", "quality", "site")

    def __init__(self, site: Site, ask: Ask, hold_nanousd: int) -> None:
        self.site = site
        self.ask = ask
        self.backend = site.backend
        self.level = site.level
        self.quality = ask.qualities[site.level]
        self.completion_tokens = ask.completion_tokens
        self.hold_nanousd = hold_nanousd


class Prospect(Candidate):
    """_outlook, _drift: of a leased replica; None elsewhere."""

    __slots__ = ("_drift", "_offer", "_outlook")

    _drift: Drift | None
    _offer: Offer
    _outlook: Outlook | None

    @property
    def tpot_seconds(self) -> float:
        outlook, drift, ask = self._outlook, self._drift, self._offer.ask
        if outlook is None:
            return METERED_TPOT_SECONDS
        seconds = outlook.pace.tpot_seconds(ask.prompt_tokens, ask.completion_tokens)
        return seconds if drift is None else seconds * drift.tpot.ratio

    @property
    def allocated_nanousd(self) -> int:
        outlook, drift, ask, cached_tokens = self._outlook, self._drift, self._offer.ask, self.cached_tokens
        if outlook is None:
            return self._metered_nanousd()
        # Without the network and the replica's silence, for which nobody pays.
        ttft_seconds = outlook.pace.ttft_seconds(ask.prompt_tokens - cached_tokens)
        if drift is not None:
            ttft_seconds *= drift.ttft.ratio
        return outlook.allocated_nanousd(
            ask.prompt_tokens, ask.completion_tokens, cached_tokens, ttft_seconds, self.tpot_seconds
        )

    @property
    def standard_nanousd(self) -> int:
        price, ask = self._offer.site.price, self._offer.ask
        if not isinstance(price, Lease):
            return self._metered_nanousd()
        return price.standard_nanousd(ask.prompt_tokens, ask.completion_tokens, self.cached_tokens)

    @property
    def wait_seconds(self) -> float:
        return 0.0 if self._outlook is None else self._outlook.pace.ttft_seconds(0)

    @property
    def silent_seconds(self) -> float:
        offer, outlook = self._offer, self._outlook
        if outlook is None:
            return 0.0
        seconds = outlook.pace.ttft_seconds(offer.ask.prompt_tokens - self.cached_tokens)
        if self._drift is not None:
            seconds *= self._drift.ttft.ratio
        return max(self.ttft_seconds - seconds - offer.site.rtt_seconds(offer.ask.region), 0.0)

    @property
    def fill_ratio(self) -> float:
        return 0.0 if self._outlook is None else self._outlook.fill_ratio

    @property
    def is_spot(self) -> bool:
        return self._offer.site.is_spot

    @property
    def list_nanousd_per_million(self) -> int:
        price = self._offer.site.price
        return price.rates.prompt + price.rates.completion

    def _metered_nanousd(self) -> int:
        price, ask = self._offer.site.price, self._offer.ask
        assert not isinstance(price, Lease)
        quote = metered_quote(price, ask.prompt_tokens, ask.completion_tokens, self.cached_tokens, ask.audio_seconds)
        return quote.marginal_nanousd


def prospect(
    offer: Offer,
    seat: Seat,
    load: Load,
    ttft_seconds: float,
    marginal_nanousd: int,
    cached_tokens: int,
    outlook: Outlook | None = None,
    drift: Drift | None = None,
) -> Prospect:
    """The one place where a value is made field by field; those left out are properties."""
    made = _new(Prospect)
    made._offer = offer
    made._outlook = outlook
    made._drift = drift
    made.backend = offer.backend  # type: ignore[misc]
    made.replica = seat.replica  # type: ignore[misc]
    made.load = load  # type: ignore[misc]
    made.ttft_seconds = ttft_seconds  # type: ignore[misc]
    made.completion_tokens = offer.completion_tokens  # type: ignore[misc]
    made.quality = offer.quality  # type: ignore[misc]
    made.marginal_nanousd = marginal_nanousd  # type: ignore[misc]
    made.tier_level = offer.level  # type: ignore[misc]
    made.hold_nanousd = offer.hold_nanousd  # type: ignore[misc]
    made.cached_tokens = cached_tokens  # type: ignore[misc]
    return made
