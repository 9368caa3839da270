"""A candidate that works out on demand what not every policy asks for.

Most policies read two or three forecasts of each candidate; the others would cost more than all the rest of a decision. A field
that is not set yet is worked out when it is first read, and stays: for a policy a prospect is a value like any candidate. What
it is made of never changes, so it comes out the same whenever it is read.
"""

from typing import Any

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


class Prospect(Candidate):
    """_outlook, _drift: of a leased replica; None elsewhere."""

    __slots__ = ("_ask", "_drift", "_outlook", "_site")

    _ask: Ask
    _drift: Drift | None
    _outlook: Outlook | None
    _site: Site

    def __getattr__(self, name: str) -> Any:
        work_out = _LATER.get(name)
        if work_out is None:
            raise AttributeError(name)
        value = work_out(self, self._site.price, self._outlook)
        setattr(self, name, value)
        return value


def prospect(
    site: Site,
    seat: Seat,
    load: Load,
    ask: Ask,
    ttft_seconds: float,
    marginal_nanousd: int,
    hold_nanousd: int,
    cached_tokens: int,
    outlook: Outlook | None = None,
    drift: Drift | None = None,
) -> Prospect:
    """The one place where a value is made field by field; those left out are `__getattr__`'s."""
    made = Prospect.__new__(Prospect)
    level = site.level
    made._site = site
    made._ask = ask
    made._outlook = outlook
    made._drift = drift
    made.backend = site.backend  # type: ignore[misc]
    made.replica = seat.replica  # type: ignore[misc]
    made.load = load  # type: ignore[misc]
    made.ttft_seconds = ttft_seconds  # type: ignore[misc]
    made.completion_tokens = ask.completion_tokens  # type: ignore[misc]
    made.quality = ask.qualities[level]  # type: ignore[misc]
    made.marginal_nanousd = marginal_nanousd  # type: ignore[misc]
    made.tier_level = level  # type: ignore[misc]
    made.hold_nanousd = hold_nanousd  # type: ignore[misc]
    made.cached_tokens = cached_tokens  # type: ignore[misc]
    return made


def _tpot_seconds(prospect: Prospect, price: object, outlook: Outlook | None) -> float:
    if outlook is None:
        return METERED_TPOT_SECONDS
    seconds = outlook.pace.tpot_seconds(prospect._ask.prompt_tokens, prospect._ask.completion_tokens)
    return seconds if prospect._drift is None else seconds * prospect._drift.tpot.ratio


def _allocated_nanousd(prospect: Prospect, price: object, outlook: Outlook | None) -> int:
    if outlook is None:
        return _metered_nanousd(prospect)
    ask, cached_tokens = prospect._ask, prospect.cached_tokens
    # Without the network and the replica's silence, for which nobody pays.
    ttft_seconds = outlook.pace.ttft_seconds(ask.prompt_tokens - cached_tokens)
    if prospect._drift is not None:
        ttft_seconds *= prospect._drift.ttft.ratio
    return outlook.allocated_nanousd(
        ask.prompt_tokens, ask.completion_tokens, cached_tokens, ttft_seconds, prospect.tpot_seconds
    )


def _standard_nanousd(prospect: Prospect, price: object, outlook: Outlook | None) -> int:
    if not isinstance(price, Lease):
        return _metered_nanousd(prospect)
    return price.standard_nanousd(prospect._ask.prompt_tokens, prospect._ask.completion_tokens, prospect.cached_tokens)


def _metered_nanousd(prospect: Prospect) -> int:
    ask, price = prospect._ask, prospect._site.price
    assert not isinstance(price, Lease)
    return metered_quote(
        price, ask.prompt_tokens, ask.completion_tokens, prospect.cached_tokens, ask.audio_seconds
    ).marginal_nanousd


def _fill_ratio(prospect: Prospect, price: object, outlook: Outlook | None) -> float:
    return 0.0 if outlook is None else outlook.fill_ratio


def _is_spot(prospect: Prospect, price: object, outlook: Outlook | None) -> bool:
    return prospect._site.is_spot


_LATER = {
    "tpot_seconds": _tpot_seconds,
    "allocated_nanousd": _allocated_nanousd,
    "standard_nanousd": _standard_nanousd,
    "fill_ratio": _fill_ratio,
    "is_spot": _is_spot,
}
