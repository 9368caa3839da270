"""Which class of token made what part of an attempt's cost: uncached prompt, cached prompt, completion.

The parts sum to the whole, to the nano-dollar, because they are cut from it. Written to the cache counts as uncached prompt,
reasoning as completion.

*On a lease, allocated*: the meter itself knows. Until the first token the attempt was charged for its prefill, from then on
for decoding; what it had run up at its first token is the prompt's part, the rest is the completion's. So the ratio of output
to input moves with the load, as it does on the GPU, and a wait in the engine's queue, which is charged while it lasts, belongs
to the prompt. Where the first token was not seen (an answer that was not streamed) the whole is cut by the engine-seconds that
the meter's weights stand for: a prefill's for the uncached prompt, k for a cached token of it (one read of its KV), and a decode
step's for every completion token, or for as many as one step yields (`weights.py`).

*Anything else* (a metered cost, a standard one) is cut by tokens × rate. A provider's own figure, fees and audio are thereby
spread over the classes; what came without any tokens is the prompt's.
"""

from typing import NamedTuple

from router.domain.usage import Usage
from router.pricing.cost import write_millionths
from router.pricing.price import TokenRates
from router.pricing.profile import EngineProfile
from router.pricing.weights import decode_step_seconds


class Parts(NamedTuple):
    """Nano-dollars."""

    prompt: int
    cached: int
    completion: int


def leased_parts(cost: int, prefill_nanousd: int | None, profile: EngineProfile, usage: Usage) -> Parts:
    """prefill_nanousd: what the attempt had run up at its first token; None where that was not seen."""
    cached_tokens = usage.cached_tokens
    uncached_tokens = usage.prompt_tokens - cached_tokens
    uncached = uncached_tokens * profile.prompt_token_seconds
    if profile.prefill_overhead_seconds:
        uncached += -(-uncached_tokens // profile.chunk_tokens) * profile.prefill_overhead_seconds
    cached = cached_tokens * profile.kv_read_seconds_per_token
    if prefill_nanousd is not None:
        prefill = prefill_nanousd if prefill_nanousd < cost else cost
        prompt_part = prefill
        if cached:
            prompt_part = min(int(prefill * uncached / (uncached + cached)), prefill)
        return Parts(prompt_part, prefill - prompt_part, cost - prefill)
    completion = usage.completion_tokens
    decode = decode_step_seconds(profile, usage.prompt_tokens, completion) * completion / profile.tokens_per_step
    return cut(cost, uncached, cached, decode)


def rated_parts(amount: int, rates: TokenRates, usage: Usage) -> Parts:
    """By tokens × rate."""
    cached_tokens, written_tokens = usage.cached_tokens, usage.cache_write_tokens
    uncached = (usage.prompt_tokens - cached_tokens - written_tokens) * rates.prompt + write_millionths(rates, usage)
    return cut(amount, uncached, cached_tokens * rates.cached, usage.completion_tokens * rates.completion)


def cut(whole: int, prompt: float, cached: float, completion: float) -> Parts:
    """A whole ≥ 0 in parts ≥ 0 proportional to these weights. Without any weight it is all the prompt's."""
    before_completion = prompt + cached
    total = before_completion + completion
    if not total:
        return Parts(whole, 0, 0)
    until_completion = whole if not completion else min(int(whole * before_completion / total), whole)
    prompt_part = min(int(whole * prompt / total), until_completion) if cached else until_completion
    return Parts(prompt_part, until_completion - prompt_part, whole - until_completion)
