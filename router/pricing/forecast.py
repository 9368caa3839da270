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
    """Our work now, and by the scrape everybody else's: what it counted beyond what was ours at that time (`Scrape.ours`)."""
    decoding, prefilling = load.decoding, max(load.attempts - load.decoding, 0)
    context_tokens, prefill_tokens = load.context_tokens, load.prefill_tokens
    if scrape is None:
        return Occupancy(decoding, prefilling, context_tokens, prefill_tokens)
    ours, waiting = scrape.ours, scrape.waiting or 0
    foreign = (scrape.running or 0) + waiting - ours.attempts
    if foreign > 0:
        # What of it waits is not decoding; our own waiting attempts are among those waiting.
        foreign_waiting = min(max(waiting - max(ours.attempts - ours.decoding, 0), 0), foreign)
        prefilling += foreign_waiting
        prefill_tokens += foreign_waiting * CHAT.prompt_tokens
        decoding += foreign - foreign_waiting
        if scrape.kv_usage_ratio is None:
            context_tokens += round((foreign - foreign_waiting) * CHAT.context_tokens)
    if scrape.kv_usage_ratio is not None:
        held_tokens = int(scrape.kv_usage_ratio * profile.kv_capacity_tokens)
        context_tokens += max(held_tokens - ours.context_tokens - ours.prefill_tokens, 0)
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
    return Pace(profile, busy).ttft_seconds(uncached_prompt_tokens)


def tpot_seconds(
    profile: EngineProfile, busy: Occupancy, prompt_tokens: float, completion_tokens: float = CHAT.completion_tokens
) -> float:
    return Pace(profile, busy).tpot_seconds(prompt_tokens, completion_tokens)


class Pace:
    """How one engine with this work would serve one request more. What does not depend on that request is worked out once:
    `ttft_seconds` runs for every candidate of every request, and takes a fifth of a microsecond."""

    __slots__ = (
        "_ahead_tokens",
        "_busy",
        "_chunk_seconds",
        "_chunk_tokens",
        "_ending_seconds",
        "_expert_miss_ratio",
        "_expert_seconds",
        "_flat_seconds",
        "_is_crowded",
        "_pair_seconds",
        "_profile",
        "_prompt_token_seconds",
        "_room_tokens",
        "_start_seconds",
        "_steep_seconds",
        "_steep_token_seconds",
        "_token_seconds",
        "_verified",
    )

    def __init__(self, profile: EngineProfile, busy: Occupancy) -> None:
        self._profile = profile
        self._busy = busy
        # One read of the profile: those of a pydantic instance are dear, and this is made anew whenever a load changes.
        engine = profile.figures
        decoding = min(busy.decoding, engine.sequences_max)
        context_tokens = min(busy.context_tokens, engine.kv_capacity_tokens)
        self._is_crowded = busy.decoding + busy.prefilling >= engine.sequences_max
        self._room_tokens = engine.kv_capacity_tokens - busy.context_tokens
        self._ahead_tokens = busy.prefill_tokens
        self._prompt_token_seconds = engine.request_seconds_per_token
        self._pair_seconds = engine.attention_seconds_per_pair / 2
        self._chunk_tokens = max(engine.chunk_tokens - decoding, 1)
        self._chunk_seconds = 0.0  # worked out when the first long prompt comes
        # `step_seconds` with t prompt tokens is the higher of two straight lines over t, one where memory is the longer
        # and one where arithmetic is; a mixture's experts bend the former.
        self._verified = verified = decoding * engine.verified_tokens
        seconds = engine.step_overhead_seconds + engine.sequence_seconds * decoding + engine.prefill_overhead_seconds
        if decoding:
            seconds += engine.draft_seconds
        self._expert_seconds = engine.expert_read_seconds
        self._expert_miss_ratio = engine.expert_miss_ratio
        self._token_seconds = token_seconds = engine.token_seconds
        self._steep_token_seconds = steep_token_seconds = token_seconds + engine.compute_seconds_per_token
        memory_seconds = engine.weight_read_seconds + engine.kv_read_seconds_per_token * context_tokens
        self._flat_seconds = seconds + verified * token_seconds + memory_seconds
        self._steep_seconds = seconds + verified * steep_token_seconds
        # What every request here waits for: the way to the scheduler, half of the step under way.
        self._start_seconds = engine.request_overhead_seconds
        self._ending_seconds = 0.0  # until one of those that decode ends
        if decoding:
            step_seconds = self._flat_seconds
            if self._expert_seconds:
                step_seconds += self._expert_seconds * (1 - self._expert_miss_ratio**verified)
            step_seconds = max(step_seconds, self._steep_seconds) - engine.prefill_overhead_seconds
            self._start_seconds += step_seconds / 2
            self._ending_seconds = step_seconds * CHAT.completion_tokens / decoding

    def ttft_seconds(self, uncached_prompt_tokens: float) -> float:
        """What a request waits before it is scheduled, half of the step under way, a free slot, then the prompts ahead and our
        own, chunk by chunk. Of attention only our own prompt's within itself is known: t · (t + 1) ÷ 2 pairs."""
        tokens = self._ahead_tokens + int(uncached_prompt_tokens) or 1
        seconds = self._start_seconds + uncached_prompt_tokens * (
            self._prompt_token_seconds + self._pair_seconds * (uncached_prompt_tokens + 1)
        )
        if self._is_crowded or tokens > self._room_tokens:
            seconds += _endings_awaited(self._profile, self._busy, tokens) * self._ending_seconds
        if tokens >= self._chunk_tokens:
            full_steps, tokens = divmod(tokens, self._chunk_tokens)
            if not self._chunk_seconds:
                self._chunk_seconds = self._step_seconds(self._chunk_tokens)
            seconds += full_steps * self._chunk_seconds
            if not tokens:
                return seconds
        flat = self._flat_seconds + self._token_seconds * tokens
        if self._expert_seconds:
            flat += self._expert_seconds * (1 - self._expert_miss_ratio ** (self._verified + tokens))
        steep = self._steep_seconds + self._steep_token_seconds * tokens
        return seconds + (flat if flat > steep else steep)

    def tpot_seconds(self, prompt_tokens: float, completion_tokens: float) -> float:
        """A step with all that is there now, by then in decode, and this request half way through its completion."""
        profile, busy = self._profile, self._busy
        context_tokens = busy.context_tokens + busy.prefill_tokens + int(prompt_tokens + completion_tokens / 2)
        step = profile.step_seconds(
            min(busy.decoding + busy.prefilling + 1, profile.sequences_max),
            min(context_tokens, profile.kv_capacity_tokens),
            0,
        )
        return step if profile.speculation is None else step / profile.tokens_per_step

    def _step_seconds(self, prefill_tokens: int) -> float:
        profile, busy = self._profile, self._busy
        decoding = min(busy.decoding, profile.sequences_max)
        return profile.step_seconds(decoding, min(busy.context_tokens, profile.kv_capacity_tokens), prefill_tokens)


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
