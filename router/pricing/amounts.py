"""The amounts of one attempt, decided once when it ends: what it cost, its standard price, what the baseline would have cost.

What a leased attempt cost is not decided here: that is its share of the lease (`meter.py`), and it comes as an argument.
"""

from dataclasses import replace

from router.domain.attempt import AttemptEnd, AttemptFacts, AttemptStatus, Outcome
from router.domain.request import heard_seconds
from router.domain.usage import Usage, UsageSource
from router.pricing.cost import list_cost, metered_cost, tokens_cost
from router.pricing.price import LeasedPrice, MeteredPrice, Price, TokenRates
from router.pricing.profile import EngineProfile
from router.pricing.standard import standard_rates

# Above any context window. What is larger is nonsense, and would outgrow the ledger's 64 bits once multiplied by a price.
TOKENS_MAX = 2**31
AUDIO_SECONDS_MAX = 10**7  # 115 days
PROVIDER_COST_NANOUSD_MAX = 10**15  # a million dollars for one request
TOOL_CALLS_MAX = 10**6


class Basis:
    """What prices an attempt at one backend. Made once per price and profile, used for every attempt.

    rates: of a token at a leased backend's target utilization; None where tokens have a price of their own, or none.
    """

    __slots__ = ("price", "profile", "rates")

    def __init__(self, price: Price | None = None, profile: EngineProfile | None = None) -> None:
        self.price = price
        self.profile = profile
        self.rates: TokenRates | None = None
        if isinstance(price, LeasedPrice) and profile is not None:
            self.rates = standard_rates(price, profile)


def estimated_usage(facts: AttemptFacts) -> Usage:
    """What was expected at dispatch, under the service tier and with the hosted tools that were asked for, flagged as such. Sound
    is estimated by its prompt, and may be billed by its length."""
    prompt_tokens = min(max(facts.prompt_tokens_estimate, 0), TOKENS_MAX)
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=min(max(facts.completion_tokens_estimate, 0), TOKENS_MAX),
        audio_seconds=min(heard_seconds(facts.endpoint, prompt_tokens), AUDIO_SECONDS_MAX),
        source=UsageSource.ESTIMATED,
        service_tier=facts.service_tier,
        tool_calls=facts.tool_calls_estimate,
    )


def believable_usage(end: AttemptEnd, facts: AttemptFacts) -> Usage:
    """The usage if it can be true, else the flagged estimate; the estimate too for an answer that came without usage."""
    usage = end.usage
    can_be_true = (
        0 <= usage.prompt_tokens <= TOKENS_MAX
        and 0 <= usage.reasoning_tokens <= usage.completion_tokens <= TOKENS_MAX
        and usage.cached_tokens >= 0
        and 0 <= usage.cache_write_hour_tokens <= usage.cache_write_tokens
        and usage.cached_tokens + usage.cache_write_tokens <= usage.prompt_tokens
        and 0 <= usage.audio_seconds <= AUDIO_SECONDS_MAX  # neither infinity nor what is not a number
    )
    if usage.tool_calls and not all(0 < calls <= TOOL_CALLS_MAX for _, calls in usage.tool_calls):
        can_be_true, usage = False, replace(usage, tool_calls=facts.tool_calls_estimate)
    if not can_be_true or (usage.source is UsageSource.MISSING and end.status is AttemptStatus.OK):
        return replace(estimated_usage(facts), service_tier=usage.service_tier, tool_calls=usage.tool_calls)
    if usage.provider_cost_nanousd is not None and not 0 <= usage.provider_cost_nanousd <= PROVIDER_COST_NANOUSD_MAX:
        return replace(usage, provider_cost_nanousd=None)
    return usage


def metered_amount(price: MeteredPrice, usage: Usage, status: AttemptStatus) -> int | None:
    """What a metered attempt cost, nano-dollars; None: not known. A failure that made nothing is free: fees per request are for
    answers."""
    is_something_run = usage.prompt_tokens or usage.completion_tokens or usage.audio_seconds or usage.tool_calls
    if status is AttemptStatus.FAILED and not is_something_run:
        return usage.provider_cost_nanousd or 0
    return metered_cost(price, usage)


def standard_amount(basis: Basis, usage: Usage) -> int | None:
    """The usage at list price: per token, or per token of a lease at its target utilization. None: not known."""
    rates = basis.rates
    if rates is not None:
        return tokens_cost(rates, usage)
    price = basis.price
    return list_cost(price, usage) if isinstance(price, MeteredPrice) else None


def baseline_amount(facts: AttemptFacts, outcome: Outcome, baseline: Basis, usage: Usage, cost: int) -> int | None:
    """What the baseline would have cost, so that baseline − cost is what routing saved, nano-dollars; None: not known.

    Served by the baseline itself, an attempt saves nothing. One that bought no answer (it failed, was cut short, or not accepted)
    would not have been made there, nor a shadow: the saving is net of it. Both models are taken to need the same tokens: the
    classifier predicts one length for all (the mean over the models of its outcomes), so it knows nothing of the baseline's own.
    """
    if outcome.is_lost:
        return 0
    if facts.baseline == facts.backend:
        return cost
    return standard_amount(baseline, usage)
