"""Which class of token made what part of an attempt's cost: uncached prompt, cached prompt, completion.

The parts sum to the whole, to the nano-dollar, because they are cut from it. Written to the cache counts as uncached prompt,
reasoning as completion.

*On a lease, allocated*: the meter itself knows. Until the first token the attempt was charged for its prefill, from then on
for decoding; what it had run up at its first token is the prompt's part, the rest is the completion's. So the ratio of output
to input moves with the load, as it does on the GPU, and a wait in the engine's queue, which is charged while it lasts, belongs
to the prompt. Where the first token was not seen (an answer that was not streamed) the whole is cut by the engine-seconds that
the meter's weights stand for: c for every uncached prompt token, k for a cached one (one read of its KV), and
w/n + k·context + c for every completion token (`weights.py`).

*Anything else* (a metered cost, a standard one) is cut by tokens × rate. A provider's own figure, a fee and audio are thereby
spread over the classes; what came without any tokens is the prompt's.
"""

from collections.abc import Sequence
from typing import NamedTuple

from router.domain.usage import Usage
from router.pricing.price import TokenRates
from router.pricing.profile import EngineProfile
from router.pricing.weights import decode_step_seconds

# Engine-seconds become whole numbers; a femtosecond is fine enough for one token's KV read.
PARTS_PER_SECOND = 1e15


class Parts(NamedTuple):
    """Nano-dollars."""

    prompt: int
    cached: int
    completion: int


def leased_parts(cost: int, prefill_nanousd: int | None, profile: EngineProfile, usage: Usage) -> Parts:
    """prefill_nanousd: what the attempt had run up at its first token; None where that was not seen."""
    uncached = (usage.prompt_tokens - usage.cached_tokens) * profile.compute_seconds_per_token
    cached = usage.cached_tokens * profile.kv_read_seconds_per_token
    if prefill_nanousd is not None:
        prefill = min(prefill_nanousd, cost)
        prompt_part, cached_part = cut(prefill, _whole(uncached, cached))
        return Parts(prompt_part, cached_part, cost - prefill)
    completion = usage.completion_tokens
    decode = decode_step_seconds(profile, usage.prompt_tokens, completion) * completion if completion else 0.0
    return Parts(*cut(cost, _whole(uncached, cached, decode)))


def rated_parts(amount: int, rates: TokenRates, usage: Usage) -> Parts:
    """By tokens × rate."""
    uncached_tokens = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
    uncached = uncached_tokens * rates.prompt + usage.cache_write_tokens * rates.cache_write
    completion = usage.completion_tokens * rates.completion
    return Parts(*cut(amount, (uncached, usage.cached_tokens * rates.cached, completion)))


def cut(whole: int, weights: Sequence[int]) -> tuple[int, ...]:
    """A whole ≥ 0 in parts ≥ 0 proportional to the weights. Without any weight it is all the first's."""
    total = sum(weights)
    if not total:
        return (whole, *(0 for _ in weights[1:]))
    parts = []
    weight_until = given = 0
    for weight in weights:
        weight_until += weight
        until = whole * weight_until // total
        parts.append(until - given)
        given = until
    return tuple(parts)


def _whole(*seconds: float) -> tuple[int, ...]:
    return tuple(round(part * PARTS_PER_SECOND) for part in seconds)
