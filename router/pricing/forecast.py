"""How soon and how fast a replica would answer, from its engine profile and the work it already has.

Our own bookkeeping says exactly what we sent; a scrape says what else is there (other routers, other clients). Where the two
differ the larger is believed, and what is known of other people's work only by number is taken for the chat mix: missing is
never zero. A scrape too old to believe is for the caller to leave out.

Assumes vLLM's scheduler: prompts are prefilled first come, first served, in chunks beside the decoding sequences, which go
on meanwhile. Work that arrives later is unknown and left out.
"""

from typing import NamedTuple

from router.domain.fleet import Load, Scrape
from router.pricing.mix import CHAT
from router.pricing.profile import EngineProfile


class Occupancy(NamedTuple):
    """All work on one replica. prefill_tokens: of the `prefilling` attempts, not yet done. context_tokens: in decode."""

    decoding: int
    prefilling: int
    context_tokens: int
    prefill_tokens: int


def occupancy(profile: EngineProfile, load: Load, scrape: Scrape | None) -> Occupancy:
    """Our own work and, by the scrape, everybody else's."""
    decoding, prefilling = load.decoding, max(load.attempts - load.decoding, 0)
    context_tokens, prefill_tokens = load.context_tokens, load.prefill_tokens
    if scrape is None:
        return Occupancy(decoding, prefilling, context_tokens, prefill_tokens)
    waiting = scrape.waiting or 0
    foreign = (scrape.running or 0) + waiting - load.attempts
    if foreign > 0:
        # What of it waits is not decoding; our own waiting attempts are among those waiting.
        foreign_waiting = min(max(waiting - prefilling, 0), foreign)
        prefilling += foreign_waiting
        prefill_tokens += foreign_waiting * CHAT.prompt_tokens
        decoding += foreign - foreign_waiting
        if scrape.kv_usage_ratio is None:
            context_tokens += round((foreign - foreign_waiting) * CHAT.context_tokens)
    if scrape.kv_usage_ratio is not None:
        context_tokens = max(context_tokens, int(scrape.kv_usage_ratio * profile.kv_capacity_tokens))
    return Occupancy(decoding, prefilling, context_tokens, prefill_tokens)


def forecast_ttft_seconds(
    profile: EngineProfile, load: Load, scrape: Scrape | None, prompt_tokens: float, rtt_seconds: float = 0.0
) -> float:
    """Seconds from dispatch to the first token. prompt_tokens: those to be computed, without what the prefix cache holds."""
    return rtt_seconds + ttft_seconds(profile, occupancy(profile, load, scrape), prompt_tokens)


def forecast_tpot_seconds(
    profile: EngineProfile,
    load: Load,
    scrape: Scrape | None,
    prompt_tokens: float,
    completion_tokens: float = CHAT.completion_tokens,
) -> float:
    """Seconds from one token to the next, the mean over the request. prompt_tokens: all of them, cached ones included."""
    return tpot_seconds(profile, occupancy(profile, load, scrape), prompt_tokens, completion_tokens)


def ttft_seconds(profile: EngineProfile, busy: Occupancy, uncached_prompt_tokens: float) -> float:
    """What a request waits before it is scheduled, half of the step under way, a free slot, then the prompts ahead and our
    own, chunk by chunk. Of attention only our own prompt's within itself is known: t · (t + 1) ÷ 2 pairs."""
    decoding, context_tokens = busy.decoding, busy.context_tokens
    tokens = busy.prefill_tokens + int(uncached_prompt_tokens) or 1
    endings = _endings_awaited(profile, busy, tokens)
    if endings:
        decoding = min(decoding, profile.sequences_max)
        context_tokens = min(context_tokens, profile.kv_capacity_tokens)
    step_seconds = profile.step_seconds
    seconds = profile.request_overhead_seconds + uncached_prompt_tokens * (
        profile.request_seconds_per_token + profile.attention_seconds_per_pair * (uncached_prompt_tokens + 1) / 2
    )
    if decoding:
        seconds += step_seconds(decoding, context_tokens, 0) * (0.5 + endings * CHAT.completion_tokens / decoding)
    chunk_tokens = max(profile.chunk_tokens - decoding, 1)
    if tokens >= chunk_tokens:
        full_steps, tokens = divmod(tokens, chunk_tokens)
        seconds += full_steps * step_seconds(decoding, context_tokens, chunk_tokens)
    if tokens:
        seconds += step_seconds(decoding, context_tokens, tokens)
    return seconds


def tpot_seconds(
    profile: EngineProfile, busy: Occupancy, prompt_tokens: float, completion_tokens: float = CHAT.completion_tokens
) -> float:
    """A step with all that is there now, by then in decode, and this request half way through its completion."""
    context_tokens = busy.context_tokens + busy.prefill_tokens + int(prompt_tokens + completion_tokens / 2)
    step = profile.step_seconds(
        min(busy.decoding + busy.prefilling + 1, profile.sequences_max),
        min(context_tokens, profile.kv_capacity_tokens),
        0,
    )
    return step if profile.speculation is None else step / profile.tokens_per_step


def _endings_awaited(profile: EngineProfile, busy: Occupancy, tokens: int) -> float:
    """How many sequences must end before this one and those ahead of it fit the engine's slots and its KV cache.

    Of n sequences that take C steps each, one ends every C ÷ n steps.
    """
    for_slots = busy.decoding + busy.prefilling + 1 - profile.sequences_max
    tokens_over = busy.context_tokens + tokens - profile.kv_capacity_tokens
    if for_slots <= 0 and tokens_over <= 0:
        return 0.0
    for_tokens = min(tokens_over * busy.decoding / max(busy.context_tokens, 1), busy.decoding)
    return max(for_slots, for_tokens)
