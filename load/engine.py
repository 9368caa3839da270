"""One vLLM engine in time: which sequences each step holds, how long it takes, and which tokens it yields.

Pure and deterministic: the caller owns the clock and passes seconds, so the same object runs behind the emulator's HTTP (wall
clock) and inside a simulator (virtual clock). It follows vLLM's V1 scheduler: running sequences before waiting ones, first come
first served, a token budget per step that long prompts are cut to (chunked prefill), blocks of KV cache with prefix sharing,
and preemption by recomputation of the youngest when the cache is full. Step times are the profile's. What must not live
here: clocks, text, HTTP, random draws.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from load.kv_cache import BlockPool
from router.pricing.profile import EngineProfile

# vLLM's block on CPU, recorded (`cached_tokens` comes in multiples of it); on GPUs 16 is usual.
BLOCK_TOKENS = 128


class SequenceState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    ABORTED = "aborted"


@dataclass(eq=False, slots=True)
class EngineSequence:
    """One completion under way. The caller fixes the work; the engine keeps the rest.

    completion_tokens: how many it will yield; 0 for pooling, which is over when the prompt is read.
    block_hashes: the content of its full blocks, prompt and completion, in order, each hash covering all before it. Blocks
        beyond the end of the list are not shared.
    computed_tokens: tokens whose KV is in the cache. produced_tokens: completion tokens yielded so far.
    cached_tokens: prompt tokens found in the prefix cache at first admission.
    Times are in the caller's seconds; None until they happen.
    """

    prompt_tokens: int
    completion_tokens: int
    block_hashes: Sequence[int] = ()
    state: SequenceState = SequenceState.WAITING
    computed_tokens: int = 0
    produced_tokens: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    arrived_seconds: float = 0.0
    admitted_seconds: float | None = None
    first_token_seconds: float | None = None
    ended_seconds: float | None = None
    _shared: list[int] = field(default_factory=list, repr=False)
    _private: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.produced_tokens

    @property
    def is_over(self) -> bool:
        return self.state in (SequenceState.FINISHED, SequenceState.ABORTED)


@dataclass(frozen=True, slots=True)
class Step:
    """One step that has ended. `progressed` lists the sequences that yielded a token in it or came to their end."""

    began_seconds: float
    ended_seconds: float
    decoding: int
    prefill_tokens: int
    progressed: tuple[EngineSequence, ...]


@dataclass(slots=True)
class EngineCounters:
    """Totals since the start. prompt_tokens counts whole prompts at their first token, cached part included."""

    steps: int = 0
    busy_seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    finished: int = 0
    aborted: int = 0


class Engine:
    """Submit and abort at any time; `advance` to `next_event_seconds` (or beyond) to let steps end.

    block_tokens: tokens in a KV block. Prefix sharing is off when has_prefix_cache is False.
    """

    def __init__(
        self, profile: EngineProfile, *, block_tokens: int = BLOCK_TOKENS, has_prefix_cache: bool = True
    ) -> None:
        self.profile = profile
        self.block_tokens = block_tokens
        self.has_prefix_cache = has_prefix_cache
        self.blocks = BlockPool(max(1, profile.kv_capacity_tokens // block_tokens))
        self.counters = EngineCounters()
        self._waiting: deque[EngineSequence] = deque()
        self._running: list[EngineSequence] = []
        self._plan: list[tuple[EngineSequence, int]] = []
        self._plan_decoding = 0
        self._plan_prefill_tokens = 0
        self._began_seconds = 0.0
        self._due_seconds: float | None = None
        self._is_stepping = False

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences queued for a place in the batch."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        return not self._running and not self._waiting

    @property
    def next_event_seconds(self) -> float | None:
        """When the step under way ends or, with work waiting and none under way, when the next one may begin; else None."""
        return self._due_seconds

    @property
    def kv_usage_ratio(self) -> float:
        """Share of the KV cache that sequences hold, 0–1."""
        return self.blocks.usage_ratio

    @property
    def sequence_tokens_max(self) -> int:
        """The longest sequence, prompt and completion, that this KV cache can hold."""
        return self.blocks.capacity * self.block_tokens

    def submit(self, sequence: EngineSequence, now_seconds: float) -> None:
        """Queue a sequence. All that arrive at one moment share the step that begins at the next `advance`.

        Raises ValueError when it could never run: an empty prompt, or longer than the whole cache.
        """
        if sequence.prompt_tokens < 1 or sequence.completion_tokens < 0:
            raise ValueError("a sequence needs at least one prompt token and no negative completion")
        if sequence.prompt_tokens + sequence.completion_tokens > self.sequence_tokens_max:
            raise ValueError(
                f"{sequence.prompt_tokens} + {sequence.completion_tokens} tokens exceed the KV cache"
                f" of {self.sequence_tokens_max}"
            )
        sequence.arrived_seconds = now_seconds
        self._waiting.append(sequence)
        if self._due_seconds is None:
            self._due_seconds = now_seconds

    def abort(self, sequence: EngineSequence, now_seconds: float) -> None:
        """Drop a sequence, wherever it stands. What it held is free at once; a step that holds it runs on to its end.
        Does nothing when it is over."""
        if sequence.is_over:
            return
        if sequence.state is SequenceState.RUNNING:
            self._running.remove(sequence)
            self._release(sequence)
        else:
            self._waiting.remove(sequence)
        self._end(sequence, SequenceState.ABORTED, now_seconds)
        self.counters.aborted += 1

    def advance(self, now_seconds: float) -> list[Step]:
        """End every step that is due by `now_seconds`, in order, starting the next one where work is left."""
        steps: list[Step] = []
        while self._due_seconds is not None and self._due_seconds <= now_seconds:
            due_seconds = self._due_seconds
            if self._is_stepping:
                steps.append(self._end_step(due_seconds))
            self._begin_step(due_seconds)
        return steps

    # ------------------------------------------------------------------ one step

    def _begin_step(self, now_seconds: float) -> None:
        """Fill the next step's budget: those already running, then the queue."""
        self._plan.clear()
        self._plan_decoding = 0
        self._plan_prefill_tokens = 0
        context_tokens = 0
        budget = self.profile.chunk_tokens
        preempted_before = self.counters.preemptions

        position = 0
        while position < len(self._running) and budget > 0:
            sequence = self._running[position]
            tokens = min(sequence.total_tokens - sequence.computed_tokens, budget)
            if not self._grow(sequence, sequence.computed_tokens + tokens):
                break  # it was the youngest itself, and gave up its place
            context_tokens += self._schedule(sequence, tokens)
            budget -= tokens
            position += 1

        if self.counters.preemptions == preempted_before:
            while self._waiting and budget > 0 and len(self._running) < self.profile.sequences_max:
                tokens = self._admit(self._waiting[0], budget, now_seconds)
                if tokens == 0:
                    break  # first come, first served: nobody overtakes one that does not fit yet
                sequence = self._waiting.popleft()
                self._running.append(sequence)
                context_tokens += self._schedule(sequence, tokens)
                budget -= tokens

        self._is_stepping = bool(self._plan)
        if not self._is_stepping:
            self._due_seconds = None
            return
        self._began_seconds = now_seconds
        self._due_seconds = now_seconds + self.profile.step_seconds(
            self._plan_decoding, context_tokens, self._plan_prefill_tokens
        )

    def _schedule(self, sequence: EngineSequence, tokens: int) -> int:
        """Put `tokens` of a sequence into the plan; returns the context that its decoding reads."""
        self._plan.append((sequence, tokens))
        if sequence.produced_tokens and tokens == 1:
            self._plan_decoding += 1
            return sequence.total_tokens
        self._plan_prefill_tokens += tokens
        return 0

    def _end_step(self, ended_seconds: float) -> Step:
        progressed: list[EngineSequence] = []
        counters = self.counters
        counters.steps += 1
        counters.busy_seconds += ended_seconds - self._began_seconds
        for sequence, tokens in self._plan:
            if sequence.state is not SequenceState.RUNNING:
                continue  # aborted or preempted meanwhile
            before = sequence.computed_tokens
            sequence.computed_tokens = before + tokens
            if before // self.block_tokens != sequence.computed_tokens // self.block_tokens:
                self._publish(sequence)
            if sequence.computed_tokens < sequence.total_tokens:
                continue
            if sequence.first_token_seconds is None:
                sequence.first_token_seconds = ended_seconds
                counters.prompt_tokens += sequence.prompt_tokens
                counters.cached_tokens += sequence.cached_tokens
            if sequence.completion_tokens:
                sequence.produced_tokens += 1
                counters.completion_tokens += 1
            if sequence.produced_tokens >= sequence.completion_tokens:
                self._running.remove(sequence)
                self._release(sequence)
                self._end(sequence, SequenceState.FINISHED, ended_seconds)
                counters.finished += 1
            progressed.append(sequence)
        return Step(
            self._began_seconds, ended_seconds, self._plan_decoding, self._plan_prefill_tokens, tuple(progressed)
        )

    def _end(self, sequence: EngineSequence, state: SequenceState, now_seconds: float) -> None:
        sequence.state = state
        sequence.ended_seconds = now_seconds

    # ------------------------------------------------------------------ KV cache

    def _admit(self, sequence: EngineSequence, budget: int, now_seconds: float) -> int:
        """Give a waiting sequence its prefix and blocks for its first chunk. Returns the chunk's tokens; 0: no room."""
        cached_blocks = 0
        if self.has_prefix_cache:
            # At least one token must be computed to yield the next, so a prompt is never cached whole.
            full_blocks = min((sequence.total_tokens - 1) // self.block_tokens, len(sequence.block_hashes))
            cached_blocks = self.blocks.match(sequence.block_hashes[:full_blocks])
        cached_tokens = cached_blocks * self.block_tokens
        tokens = min(sequence.total_tokens - cached_tokens, budget)
        fresh = math.ceil((cached_tokens + tokens) / self.block_tokens) - cached_blocks
        if not self.blocks.take(sequence.block_hashes[:cached_blocks], fresh):
            return 0
        sequence._shared = list(sequence.block_hashes[:cached_blocks])
        sequence._private = fresh
        sequence.computed_tokens = cached_tokens
        sequence.state = SequenceState.RUNNING
        if sequence.admitted_seconds is None:
            sequence.admitted_seconds = now_seconds
            sequence.cached_tokens = cached_tokens
            if self.has_prefix_cache:
                self.counters.prefix_queries += sequence.total_tokens
                self.counters.prefix_hits += cached_tokens
        return tokens

    def _grow(self, sequence: EngineSequence, tokens: int) -> bool:
        """Make a running sequence's cache hold `tokens`, preempting the youngest until it fits. False if that was itself."""
        fresh = math.ceil(tokens / self.block_tokens) - len(sequence._shared) - sequence._private
        if fresh <= 0:
            return True
        while not self.blocks.take((), fresh):
            youngest = self._running[-1]
            self._preempt(youngest)
            if youngest is sequence:
                return False
        sequence._private += fresh
        return True

    def _preempt(self, sequence: EngineSequence) -> None:
        """Back to the head of the queue, its cache given up; it will be computed again."""
        self._running.remove(sequence)
        self._release(sequence)
        sequence.computed_tokens = 0
        sequence.state = SequenceState.WAITING
        sequence.preemptions += 1
        self.counters.preemptions += 1
        self._waiting.appendleft(sequence)

    def _publish(self, sequence: EngineSequence) -> None:
        """Name the blocks that have become full. Stops at the first that somebody else named meanwhile: the blocks behind
        it stay this sequence's own."""
        if not self.has_prefix_cache:
            return
        full = min(sequence.computed_tokens // self.block_tokens, len(sequence.block_hashes))
        while len(sequence._shared) < full and self.blocks.publish(sequence.block_hashes[len(sequence._shared)]):
            sequence._shared.append(sequence.block_hashes[len(sequence._shared)])
            sequence._private -= 1

    def _release(self, sequence: EngineSequence) -> None:
        self.blocks.release(reversed(sequence._shared), sequence._private)
        sequence._shared = []
        sequence._private = 0
