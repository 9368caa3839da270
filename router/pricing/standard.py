"""The `standard` basis: what a token costs on a leased replica that is as full as it should be.

At the operating point n sequences decode, each with the mix's mean context, one token a step (with speculative decoding τ on
average, which divides what follows by τ for a completion token), and requests end as fast as they come, so that a
step also prefills m = n · prompt ÷ completion tokens. The step takes T seconds (`EngineProfile.step_seconds`). Its parts are
what the meter's weights measure (`weights.py`): w overhead and weight read, k the KV read and c the compute per token:

    decode   D = w + k · n · context + c · n        shared by n completion tokens
    prefill  F = c · m                              shared by m prompt tokens

Memory traffic and arithmetic overlap (a roofline takes the longer), so each is scaled by f = T ÷ (D + F) ≤ 1:

    a completion token takes f · D ÷ n, a prompt token f · c seconds of the engine, and n · f·D/n + m · f·c = T.

A cached token is not computed; it takes one read of its KV, f · k. With π the price of a second and u the share of paid time
that the replica spends at its operating point, a token's price is its seconds × π ÷ u. Then, by construction, what such a
replica serves in an hour, at these prices, is its price of an hour: u · 3600 ÷ T steps of π · T ÷ u.
"""

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from router.domain.usage import Usage
from router.pricing.cost import TOKENS_PER_RATE, rounded, tokens_millionths
from router.pricing.mix import CHAT, Mix
from router.pricing.price import LeasedPrice, MeteredPrice, Price, TokenRates
from router.pricing.profile import EngineProfile

SECONDS_PER_HOUR = 3600
NANOUSD_PER_USD = 10**9

# Share of paid time that a replica should spend at its operating point: room for the hour's peaks (the busiest minute of
# Azure's conversation trace has 1.54 times the mean, so a fleet sized for its peak is at 0.65).
TARGET_UTILIZATION_RATIO = 0.7


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where standard prices are reckoned, and the engine-seconds that a token of each class takes there.

    scale: f above, engine-seconds per second of weight. tokens_per_step: completion tokens of each sequence in a step; more
    than 1 with speculative decoding.
    """

    sequences: int
    tokens_per_step: float
    prefill_tokens: int
    step_seconds: float
    scale: float
    prompt_seconds: float
    cached_seconds: float
    completion_seconds: float


@lru_cache(maxsize=256)
def operating_point(profile: EngineProfile, mix: Mix = CHAT) -> OperatingPoint:
    """The target batch, or what of it fits the engine's slots, its KV cache and its token budget per step."""
    tokens_per_step = profile.tokens_per_step
    prompts_per_completion = (
        mix.prompt_tokens / mix.completion_tokens * tokens_per_step
    )  # prompt tokens a sequence and step
    sequences = max(
        1,
        min(
            profile.sequences_target,
            profile.sequences_max,
            int(profile.kv_capacity_tokens / mix.context_tokens),
            int(profile.chunk_tokens / (profile.verified_tokens + prompts_per_completion)),
        ),
    )
    context_tokens = round(sequences * mix.context_tokens)
    prefill_tokens = round(sequences * prompts_per_completion)
    # The share of steps that prefill: with many short prompts, every one.
    prefilling = min(prefill_tokens / min(mix.prompt_tokens, profile.chunk_tokens), 1.0)
    overhead_seconds = profile.prefill_overhead_seconds * prefilling
    step_seconds = profile.step_seconds(sequences, context_tokens, prefill_tokens) + overhead_seconds
    if prefill_tokens:
        step_seconds -= profile.prefill_overhead_seconds
    kv_seconds = profile.kv_read_seconds_per_token
    decode = (
        profile.shared_seconds(sequences * profile.verified_tokens + prefill_tokens)
        + kv_seconds * context_tokens
        + profile.decode_seconds * sequences
    )
    prefill = profile.prompt_token_seconds * prefill_tokens + overhead_seconds
    scale = step_seconds / (decode + prefill)
    return OperatingPoint(
        sequences=sequences,
        tokens_per_step=tokens_per_step,
        prefill_tokens=prefill_tokens,
        step_seconds=step_seconds,
        scale=scale,
        prompt_seconds=scale * (prefill / prefill_tokens if prefill_tokens else profile.prompt_token_seconds),
        cached_seconds=scale * kv_seconds,
        completion_seconds=scale * decode / (sequences * tokens_per_step),
    )


@lru_cache(maxsize=256)
def standard_rates(
    price: LeasedPrice, profile: EngineProfile, utilization_ratio: float = TARGET_UTILIZATION_RATIO, mix: Mix = CHAT
) -> TokenRates:
    """The standard price of each class, nano-dollars per million tokens. Raises ValueError unless 0 < utilization ≤ 1."""
    if not 0 < utilization_ratio <= 1:
        raise ValueError(f"a utilization of {utilization_ratio} is not within 0 (exclusive) to 1")
    point = operating_point(profile, mix)
    per_second = price.nanousd_per_hour / SECONDS_PER_HOUR / utilization_ratio * TOKENS_PER_RATE
    prompt = round(point.prompt_seconds * per_second)
    return TokenRates(
        prompt=prompt,
        cached=round(point.cached_seconds * per_second),
        cache_write=prompt,  # an engine of our own writes its cache while it prefills
        completion=round(point.completion_seconds * per_second),
    )


def standard_cost(
    price: LeasedPrice,
    profile: EngineProfile,
    usage: Usage,
    utilization_ratio: float = TARGET_UTILIZATION_RATIO,
    mix: Mix = CHAT,
) -> int:
    """Tokens × standard price, in nano-dollars. Raises ValueError on counts that contradict themselves."""
    return rounded(tokens_millionths(standard_rates(price, profile, utilization_ratio, mix), usage), TOKENS_PER_RATE)


def standard_prices(
    price: Price, profile: EngineProfile | None, utilization_ratio: float = TARGET_UTILIZATION_RATIO
) -> dict[str, Decimal]:
    """US dollars per million tokens by class (prompt, cached, completion), for tables. A metered price is its own standard.

    Raises ValueError for a leased price without a profile: nothing says how many tokens an hour makes.
    """
    if isinstance(price, MeteredPrice):
        rates = price.rates
    elif profile is None:
        raise ValueError(f"{price.price_id} is paid by the hour; without an engine profile a token has no price")
    else:
        rates = standard_rates(price, profile, utilization_ratio)
    by_class = {"prompt": rates.prompt, "cached": rates.cached, "completion": rates.completion}
    return {name: Decimal(nanousd) / NANOUSD_PER_USD for name, nanousd in by_class.items()}
