"""What a metered attempt cost: price × usage, in whole numbers, rounded once.

Usage comes in jeton's convention: cached tokens inside the prompt's, reasoning inside the completion's (`domain/usage.py`).
An attempt without usage is estimated before it gets here; one without a price is unpriced, which is not zero. So is one under
a service tier for which its price has no rates: the plain ones would be wrong, by the factor of two or so that tiers differ by;
and one with calls of a hosted tool for which it has no fee: a search can cost more than all tokens.
"""

from decimal import Decimal

from router.domain.usage import Usage
from router.pricing.price import MeteredPrice, Tariff, TokenRates

TOKENS_PER_RATE = 1_000_000
NS_PER_HOUR = 3_600 * 10**9


def metered_cost(price: MeteredPrice, usage: Usage) -> int | None:
    """What the attempt cost, in nano-dollars: what the provider says it charged, else the list price of what was used; None: not
    known.

    A provider's 0 is not believed (providers report it on streams that they invoice later); where it is true, the price says
    so and the list cost is 0 as well. Raises ValueError as `tariff_cost` does.
    """
    reported = usage.provider_cost_nanousd
    return reported if reported is not None and reported > 0 else list_cost(price, usage)


def list_cost(price: MeteredPrice, usage: Usage) -> int | None:
    """Price × usage in nano-dollars, by the service tier of the usage, with the calls of hosted tools; None where the price has
    no rates for the one or no fee for the others. Raises ValueError as `tariff_cost` does."""
    tariff = price.tariff(usage.service_tier)
    if tariff is None:
        return None
    cost = tariff_cost(tariff, usage)
    if not usage.tool_calls:
        return cost
    tools = price.tools_nanousd(usage.tool_calls)
    return None if tools is None else cost + tools


def tariff_cost(tariff: Tariff, usage: Usage) -> int:
    """Tariff × usage in nano-dollars, halves to even, without calls of hosted tools. Raises ValueError on counts that contradict
    themselves."""
    millionths = tokens_millionths(rates_for(tariff, usage.prompt_tokens), usage)
    if not usage.audio_seconds:
        return tariff.request_nanousd + rounded(millionths, TOKENS_PER_RATE)
    audio_ns = int(
        Decimal(str(usage.audio_seconds)).scaleb(9)
    )  # the decimal the provider wrote, not its binary neighbour
    if audio_ns < 0:
        raise ValueError(f"{usage.audio_seconds} seconds of audio")
    audio = audio_ns * tariff.audio_nanousd_per_hour * TOKENS_PER_RATE
    # Over a common denominator, so that tokens and audio are rounded once.
    return tariff.request_nanousd + rounded(millionths * NS_PER_HOUR + audio, TOKENS_PER_RATE * NS_PER_HOUR)


def rates_for(tariff: Tariff, prompt_tokens: float) -> TokenRates:
    """The rates of a whole request with a prompt of that length, cached tokens included."""
    rates = tariff.rates
    for tier in tariff.tiers:
        if prompt_tokens <= tier.above_prompt_tokens:
            break
        rates = tier.rates
    return rates


def tokens_millionths(rates: TokenRates, usage: Usage) -> int:
    """Cost of the tokens in millionths of a nano-dollar, exact. Each token is in one class: subsets are not added again.

    Raises ValueError on a negative count, or a subset larger than its whole.
    """
    uncached_tokens = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
    if uncached_tokens < 0 or usage.cached_tokens < 0 or usage.cache_write_tokens < 0 or usage.completion_tokens < 0:
        raise ValueError(f"token counts contradict themselves: {usage}")
    return (
        uncached_tokens * rates.prompt
        + usage.cached_tokens * rates.cached
        + write_millionths(rates, usage)
        + usage.completion_tokens * rates.completion
    )


def write_millionths(rates: TokenRates, usage: Usage) -> int:
    """Cost of what was written to the cache, in millionths of a nano-dollar. Raises ValueError as `tokens_millionths` does."""
    tokens, hour_tokens = usage.cache_write_tokens, usage.cache_write_hour_tokens
    if not hour_tokens:
        return tokens * rates.cache_write
    if not 0 < hour_tokens <= tokens:
        raise ValueError(f"token counts contradict themselves: {usage}")
    return (tokens - hour_tokens) * rates.cache_write + hour_tokens * rates.hour_write


def tokens_cost(rates: TokenRates, usage: Usage) -> int:
    """Cost of the tokens in nano-dollars, halves to even. Raises ValueError as `tokens_millionths` does."""
    return rounded(tokens_millionths(rates, usage), TOKENS_PER_RATE)


def rounded(numerator: int, denominator: int) -> int:
    """The nearest whole number of a fraction ≥ 0, halves to even."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))
