"""How soon and how fast a replica would answer, from its engine profile and the work it already has.

Our own bookkeeping says exactly what we sent; a scrape says what else is there (other routers, other clients). Where the two
differ the larger is believed, and what is known of other people's work only by number is taken for the chat mix: missing is
never zero. A scrape too old to believe is for the caller to leave out.

Assumes vLLM's scheduler: prompts are prefilled first come, first served, in chunks beside the decoding sequences, which go
on meanwhile. Of work that arrives later nothing is known, so the present load is taken to stay: for each attempt that ends
another like it comes, and its prompt is read beside those that decode.
"""

from typing import NamedTuple

from router.domain.fleet import Load, Scrape
from router.pricing.mix import CHAT
from router.pricing.profile import EngineProfile

MILLION = 1_000_000
CHAT_ENDINGS = MILLION // CHAT.completion_tokens


class Occupancy(NamedTuple):
    """All work on one replica. prefill_tokens: of the `prefilling` attempts, not yet done. context_tokens: in decode. endings,
    renewed_tokens, cached_tokens: as a `Load` has them."""

    decoding: int
    prefilling: int
    context_tokens: int
    prefill_tokens: int
    endings: int = 0
    renewed_tokens: int = 0
    cached_tokens: int = 0


def occupancy(profile: EngineProfile, load: Load, scrape: Scrape | None) -> Occupancy:
    """Our work now, and by the scrape everybody else's: what it counted beyond what was ours at that time (`Scrape.ours`)."""
    decoding, context_tokens, prefill_tokens = load.decoding, load.context_tokens, load.prefill_tokens
    prefilling = load.attempts - decoding
    if prefilling < 0:
        prefilling = 0
    if load.endings and (scrape is None or scrape.kv_usage_ratio is None):
        # Those that decode are half way through their completions.
        context_tokens += MILLION * decoding // load.endings * decoding // 2
    if scrape is None:
        return Occupancy(
            decoding, prefilling, context_tokens, prefill_tokens, load.endings, load.renewed_tokens, load.cached_tokens
        )
    endings, renewed_tokens = load.endings, load.renewed_tokens
    ours, waiting, kv_usage_ratio = scrape.ours, scrape.waiting or 0, scrape.kv_usage_ratio
    foreign = (scrape.running or 0) + waiting - ours.attempts
    if foreign > 0:
        # What of it waits is not decoding; our own waiting attempts are among those waiting.
        foreign_waiting = min(max(waiting - max(ours.attempts - ours.decoding, 0), 0), foreign) if waiting else 0
        prefilling += foreign_waiting
        prefill_tokens += foreign_waiting * CHAT.prompt_tokens
        decoding += foreign - foreign_waiting
        endings += (foreign - foreign_waiting) * CHAT_ENDINGS
        renewed_tokens += (foreign - foreign_waiting) * CHAT_ENDINGS * CHAT.prompt_tokens
        if kv_usage_ratio is None:
            context_tokens += round((foreign - foreign_waiting) * CHAT.context_tokens)
    if kv_usage_ratio is not None:
        held_tokens = int(kv_usage_ratio * profile.figures.kv_capacity_tokens)
        foreign_tokens = held_tokens + ours.cached_tokens - ours.context_tokens - ours.prefill_tokens
        if foreign_tokens > 0:
            context_tokens += foreign_tokens
    return Occupancy(decoding, prefilling, context_tokens, prefill_tokens, endings, renewed_tokens, load.cached_tokens)


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


def prompt_work(profile: EngineProfile, tokens: float) -> tuple[float, float, float, float]:
    """What a prompt of so many tokens to compute adds to the parts of a forecast, whatever else the engine does: worked out once
    for all replicas of a backend.

    Seconds before the scheduler sees it, with its attention within itself; seconds of a step that is bound by memory, and of one
    that is bound by arithmetic; and the chance that the prompt leaves an expert untouched, 0 without experts.
    """
    request_seconds, pair_seconds, token_seconds, steep_seconds, miss_ratio = profile.prompt_figures
    return (
        tokens * (request_seconds + pair_seconds * (tokens + 1)),
        token_seconds * tokens,
        steep_seconds * tokens,
        miss_ratio**tokens if miss_ratio else 0.0,
    )


class Pace:
    """How one engine with this work would serve one request more. What does not depend on that request is worked out once, and
    what only some requests ask for when the first of them does: one is made whenever a load changes.

    For a prompt of 1 to near_tokens tokens to compute, which fit the engine's slots, its cache and its next step,

        TTFT = own + max(memory_seconds + memory − experts_seconds · miss, arithmetic_seconds + arithmetic)

    where own, memory, arithmetic and miss are its `prompt_work`: `step_seconds` is the higher of two straight lines over the
    prompt's tokens, one where moving the bytes takes longer and one where the arithmetic does; a mixture's experts bend the
    former.

    yield_ratio: tokens that a step yields to those that are there, on average, to those by the profile.
    """

    __slots__ = (
        "_chunk_seconds",
        "_decode",
        "_ending_seconds",
        "arithmetic_seconds",
        "busy",
        "experts_seconds",
        "memory_seconds",
        "near_tokens",
        "profile",
        "start_seconds",
        "yield_ratio",
    )

    def __init__(self, profile: EngineProfile, busy: Occupancy) -> None:
        self.profile = profile
        self.busy = busy
        self.yield_ratio = 1.0
        decoding, prefilling, context_tokens, ahead_tokens, _, _, cached_tokens = busy
        # One read of the profile: those of a pydantic instance are dear, and this is made anew whenever a load changes.
        (
            step_overhead_seconds, weight_read_seconds, kv_read_seconds_per_token, compute_seconds_per_token, chunk_tokens,
            sequences_max, kv_capacity_tokens, _, expert_read_seconds, expert_miss_ratio, token_seconds, sequence_seconds,
            prefill_overhead_seconds, start_seconds, _, draft_seconds, verified_tokens,
        ) = profile.figures  # fmt: skip
        kv_capacity_tokens += cached_tokens  # they are read by each that shares them, and are there once
        near_tokens = kv_capacity_tokens - context_tokens
        if context_tokens > kv_capacity_tokens:
            context_tokens = kv_capacity_tokens
        if decoding + prefilling >= sequences_max:
            near_tokens = 0
            if decoding > sequences_max:
                decoding = sequences_max
        if chunk_tokens - decoding <= near_tokens:
            near_tokens = chunk_tokens - decoding - 1
        self.near_tokens = near_tokens - ahead_tokens
        steep_seconds = token_seconds + compute_seconds_per_token
        memory_seconds = weight_read_seconds + kv_read_seconds_per_token * context_tokens + expert_read_seconds
        arithmetic_seconds = 0.0
        shared_seconds = step_overhead_seconds
        if decoding:
            verified = decoding * verified_tokens
            shared_seconds += sequence_seconds * decoding + draft_seconds
            memory_seconds += verified * token_seconds
            arithmetic_seconds = verified * steep_seconds
            self.experts_seconds = expert_read_seconds * expert_miss_ratio**verified if expert_read_seconds else 0.0
            longer = memory_seconds - self.experts_seconds
            # What every request here waits for: the way to the scheduler, half of the step under way.
            start_seconds += (shared_seconds + (longer if longer > arithmetic_seconds else arithmetic_seconds)) / 2
        else:
            self.experts_seconds = expert_read_seconds
        self.start_seconds = start_seconds
        shared_seconds += start_seconds + prefill_overhead_seconds
        self.memory_seconds = shared_seconds + memory_seconds + token_seconds * ahead_tokens
        self.arithmetic_seconds = shared_seconds + arithmetic_seconds + steep_seconds * ahead_tokens
        if ahead_tokens and expert_read_seconds:
            self.experts_seconds *= expert_miss_ratio**ahead_tokens
        self._chunk_seconds = 0.0
        self._ending_seconds = -1.0
        self._decode: tuple[float, float, float, int, float] | None = None

    def ttft_seconds(self, uncached_prompt_tokens: float) -> float:
        """What a request waits before it is scheduled, half of the step under way, a free slot, then the prompts ahead and our
        own, chunk by chunk. Of attention only our own prompt's within itself is known: t · (t + 1) ÷ 2 pairs."""
        own_seconds, memory_seconds, arithmetic_seconds, miss_ratio = prompt_work(self.profile, uncached_prompt_tokens)
        if 1 <= uncached_prompt_tokens <= self.near_tokens:
            memory_seconds += self.memory_seconds - self.experts_seconds * miss_ratio
            arithmetic_seconds += self.arithmetic_seconds
            return own_seconds + (memory_seconds if memory_seconds > arithmetic_seconds else arithmetic_seconds)
        engine, busy = self.profile.figures, self.busy
        tokens = busy.prefill_tokens + int(uncached_prompt_tokens) or 1
        seconds = self.start_seconds + own_seconds
        endings = _endings_awaited(self.profile, busy, tokens)
        if endings:
            seconds += endings * self._until_one_ends()
            if busy.endings:  # meanwhile, the prompts ahead are read
                tokens -= busy.prefill_tokens
        chunk_tokens = max(engine.chunk_tokens - min(busy.decoding, engine.sequences_max), 1)
        full_steps, tokens = divmod(tokens, chunk_tokens)
        if full_steps:
            if not self._chunk_seconds:
                self._chunk_seconds = self._step_seconds(chunk_tokens)
            seconds += full_steps * self._chunk_seconds
        return seconds + self._step_seconds(tokens) if tokens else seconds

    def tpot_seconds(self, prompt_tokens: float, completion_tokens: float) -> float:
        """A step with all that is there now, by then in decode, and this request half way through its completion; and what it
        takes longer on average for the prompts that come meanwhile."""
        if self._decode is None:
            self._decode = self._decode_parts()
        fixed_seconds, memory_seconds, arithmetic_seconds, room_tokens, seconds_per_token = self._decode
        context_tokens = int(prompt_tokens + completion_tokens / 2)
        memory_seconds += (context_tokens if context_tokens < room_tokens else room_tokens) * seconds_per_token
        return fixed_seconds + (memory_seconds if memory_seconds > arithmetic_seconds else arithmetic_seconds)

    def _decode_parts(self) -> tuple[float, float, float, int, float]:
        """Of a completion token with one sequence more than now, all but that one's context: what hides behind nothing, moving
        the bytes, the arithmetic; the room for its context, and what reading a token of it takes."""
        profile = self.profile
        engine = profile.figures
        sequences = self._sequences()
        computed = sequences * engine.verified_tokens
        context_tokens = self._context_tokens(sequences)
        fixed_seconds = engine.step_overhead_seconds + engine.sequence_seconds * sequences + engine.draft_seconds
        memory_seconds = profile.read_seconds(computed) + engine.kv_read_seconds_per_token * context_tokens
        tokens_per_step = profile.tokens_per_step
        fixed_seconds += self._coming_seconds(sequences, context_tokens)
        return (
            (fixed_seconds + engine.token_seconds * computed) / tokens_per_step,
            memory_seconds / tokens_per_step,
            engine.compute_seconds_per_token * computed / tokens_per_step,
            self._readable_tokens() - context_tokens,
            engine.kv_read_seconds_per_token / tokens_per_step,
        )

    def _sequences(self) -> int:
        """Those that run when this request does: all that are there, and it, as far as there are places and blocks."""
        busy, engine = self.busy, self.profile.figures
        sequences = busy.decoding + busy.prefilling + 1
        tokens = busy.context_tokens + busy.prefill_tokens - busy.cached_tokens
        if tokens > engine.kv_capacity_tokens:
            sequences = int(sequences * engine.kv_capacity_tokens / tokens) or 1
        return sequences if sequences < engine.sequences_max else engine.sequences_max

    def _context_tokens(self, sequences: int) -> int:
        """That so many of those that are there hold, when they decode."""
        busy = self.busy
        tokens = busy.context_tokens + busy.prefill_tokens
        present = busy.decoding + busy.prefilling
        if sequences < present:
            tokens = tokens * sequences // present
        return min(tokens, self._readable_tokens())

    def _readable_tokens(self) -> int:
        """That all sequences can hold together: what they share counts for each."""
        return self.profile.kv_capacity_tokens + self.busy.cached_tokens

    def _coming_seconds(self, sequences: int, context_tokens: int) -> float:
        """What a step of so many takes longer, on average over all steps, for the prompts that come as others end."""
        profile, busy = self.profile, self.busy
        if not busy.renewed_tokens:
            return 0.0
        present = busy.decoding + busy.prefilling
        running = present if present < sequences else sequences
        tokens_per_step = profile.tokens_per_step * self.yield_ratio
        tokens = busy.renewed_tokens / MILLION * tokens_per_step * running / busy.decoding
        budget = max(profile.chunk_tokens - sequences, 1)
        # Prompts come one by one; what is longer than a step fills several.
        chunk = min(max(busy.renewed_tokens / busy.endings, 1.0), budget) if busy.endings else budget
        longer = profile.step_seconds(sequences, context_tokens, round(chunk))
        return min(tokens / chunk, 1.0) * (longer - profile.step_seconds(sequences, context_tokens, 0))

    def _until_one_ends(self) -> float:
        """Until one of the sequences that decode is done."""
        if self._ending_seconds < 0:
            profile, busy = self.profile, self.busy
            decoding = min(busy.decoding, profile.sequences_max)
            if busy.endings:
                context_tokens = min(busy.context_tokens, self._readable_tokens())
                step = self._step_seconds(0) + self._coming_seconds(decoding, context_tokens)
                running = busy.endings * decoding / busy.decoding * profile.tokens_per_step * self.yield_ratio
                self._ending_seconds = step * MILLION / running
            else:
                self._ending_seconds = self._step_seconds(0) * CHAT.completion_tokens / decoding if decoding else 0.0
        return self._ending_seconds

    def _step_seconds(self, prefill_tokens: int) -> float:
        profile, busy = self.profile, self.busy
        decoding = min(busy.decoding, profile.sequences_max)
        return profile.step_seconds(decoding, min(busy.context_tokens, self._readable_tokens()), prefill_tokens)


def _endings_awaited(profile: EngineProfile, busy: Occupancy, tokens: int) -> float:
    """How many sequences must end before this one and those ahead of it fit the engine's slots and its KV cache.

    Of n sequences that take C steps each, one ends every C ÷ n steps.
    """
    for_slots = busy.decoding + busy.prefilling + 1 - profile.sequences_max
    held_tokens = busy.context_tokens - busy.cached_tokens
    tokens_over = held_tokens + tokens - profile.kv_capacity_tokens
    if for_slots <= 0 and tokens_over <= 0:
        return 0.0
    for_tokens = tokens_over * busy.decoding / max(held_tokens, 1)
    # When all have ended that it may wait for there is room: without word of endings, those that decode now.
    most = busy.decoding + busy.prefilling if busy.endings else busy.decoding
    if for_tokens > most:
        for_tokens = float(most)
    return max(for_slots, for_tokens)
