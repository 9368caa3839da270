"""The engine: when each step begins and ends, what it shares out, and what can be asked of it.

Pure and deterministic: the caller owns the clock and passes seconds, so the same object runs behind the emulator's HTTP (wall
clock) and inside a simulator (virtual clock). Who is in a step is `batch.py`'s, after vLLM's scheduler; how long it takes is the
profile's.

Steps are planned in *stretches* (`stretch.py`): one step that holds prompts, or a run of steps in which the same sequences
decode, up to the first thing that could change that (one ends, the cache may be full). Something from outside (an arrival, an
abort, a pause) cuts the stretch at the end of the step under way. `advance` goes from stretch to stretch; `advance_steps` hands
out the same steps one by one, for whoever must tell each token.

What must not live here: clocks, text, HTTP.
"""

from collections.abc import Mapping

from load.engine.batch import Batch
from load.engine.queues import ArrivalQueue, PriorityQueue, WaitingQueue
from load.engine.records import EngineCounters, Step
from load.engine.sequence import EngineSequence, SequenceState
from load.engine.shares import ShareBook, Shares, StepMember
from load.engine.stretch import Stretch
from load.kv_cache import BlockPool
from router.pricing.profile import EngineProfile

# vLLM's block on CPU, recorded (`cached_tokens` comes in multiples of it); on GPUs 16 is usual.
BLOCK_TOKENS = 128

RUNNING, FINISHED = SequenceState.RUNNING, SequenceState.FINISHED


class Engine:
    """Submit and abort at any time; `advance` to `next_event_seconds` (or beyond) to let steps end.

    block_tokens: tokens in a KV block. Prefix sharing is off when has_prefix_cache is False. is_by_priority: vLLM's
    `--scheduling-policy priority`. has_shares: keep the truth about attribution (`EngineSequence.shares`). starts_seconds:
    no step begins before. seed: of speculative decoding. acceptance_by_kind: how often its drafts are right for sequences of
    that `kind`, 0–1; the profile's ratio for all others, and nothing where the profile drafts nothing. sequence_tokens_max: the
    longest sequence, prompt and completion, that the KV cache can hold.

    To be read: next_event_seconds, when the stretch under way ends or, with work waiting and none under way, when the next may
    begin, else None; begun, the sequences whose first token came in the last `advance`, in order.
    """

    __slots__ = (
        "_batch",
        "_book",
        "_is_admitting",
        "_is_draining",
        "_is_paused",
        "_leaving",
        "_over",
        "_progressed",
        "_sequences_max",
        "_starts_seconds",
        "_stretch",
        "_submitted",
        "_waiting",
        "begun",
        "block_tokens",
        "counters",
        "has_prefix_cache",
        "is_by_priority",
        "next_event_seconds",
        "profile",
        "sequence_tokens_max",
    )

    def __init__(
        self,
        profile: EngineProfile,
        *,
        block_tokens: int = BLOCK_TOKENS,
        has_prefix_cache: bool = True,
        is_by_priority: bool = False,
        has_shares: bool = False,
        starts_seconds: float = 0.0,
        seed: int = 0,
        acceptance_by_kind: Mapping[str, float] | None = None,
    ) -> None:
        """Raises ValueError for has_shares with an acceptance_by_kind: the truth about attribution is kept for one pace."""
        if has_shares and acceptance_by_kind:
            raise ValueError("the shares of steps are kept only where all that decode have one pace")
        self.profile = profile
        self.block_tokens = block_tokens
        self.has_prefix_cache = has_prefix_cache
        self.is_by_priority = is_by_priority
        self.counters = EngineCounters()
        self._waiting: WaitingQueue = PriorityQueue() if is_by_priority else ArrivalQueue()
        self._batch = Batch(
            profile,
            self._waiting,
            self.counters,
            block_tokens=block_tokens,
            has_prefix_cache=has_prefix_cache,
            seed=seed,
            acceptance_by_kind=acceptance_by_kind or {},
        )
        self.sequence_tokens_max = self._batch.blocks.capacity * block_tokens
        self._stretch = Stretch()
        self._book = ShareBook(profile) if has_shares else None
        self._starts_seconds = starts_seconds
        self._sequences_max = profile.sequences_max
        self.next_event_seconds: float | None = None
        self._submitted = 0
        self._leaving: list[EngineSequence] = []  # aborted, but in the step under way
        self._over: list[EngineSequence] = []
        self.begun: list[EngineSequence] = []
        self._progressed: list[EngineSequence] = []
        self._is_paused = False
        self._is_admitting = True
        self._is_draining = False

    # ------------------------------------------------------------------ what can be seen

    @property
    def blocks(self) -> BlockPool:
        """The KV cache."""
        return self._batch.blocks

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._batch.running)

    @property
    def waiting(self) -> int:
        """Sequences queued for a place in the batch."""
        return self._waiting.count

    @property
    def is_idle(self) -> bool:
        return not self._batch.running and not self._waiting.count

    @property
    def is_paused(self) -> bool:
        return self._is_paused or not self._is_admitting

    @property
    def next_step_seconds(self) -> float | None:
        """When the step under way ends; otherwise as `next_event_seconds`."""
        stretch = self._stretch
        return stretch.end_seconds(stretch.ended_steps + 1) if stretch.steps else self.next_event_seconds

    @property
    def kv_usage_ratio(self) -> float:
        """Share of the KV cache that sequences hold, 0–1."""
        return self.blocks.usage_ratio

    def step_members(self) -> list[StepMember]:
        """What the step under way holds, each sequence's work; empty when there is none."""
        if not self._stretch.steps:
            return []
        decoding = [sequence for sequence in self._batch.running if sequence._clock is not None]
        decoding += [sequence for sequence in self._leaving if sequence._joined is not None]
        members = [StepMember(sequence.total_tokens, 0, 0) for sequence in decoding]
        return [*members, *(StepMember(0, tokens, pairs) for _, tokens, pairs in self._batch.chunks)]

    # ------------------------------------------------------------------ what can be asked

    def submit(self, sequence: EngineSequence, now_seconds: float) -> None:
        """Queue a sequence. All that arrive at one moment share the step that begins at the next `advance`.

        Raises ValueError when it could never run: an empty prompt, or longer than the whole cache; and when draining.
        """
        if sequence.prompt_tokens < 1 or sequence.completion_tokens < 0:
            raise ValueError("a sequence needs at least one prompt token and no negative completion")
        if sequence.prompt_tokens + sequence.completion_tokens > self.sequence_tokens_max:
            raise ValueError(
                f"{sequence.prompt_tokens} + {sequence.completion_tokens} tokens exceed the KV cache"
                f" of {self.sequence_tokens_max}"
            )
        if self._is_draining:
            raise ValueError("the engine takes no more work: it is draining")
        self._submitted += 1
        sequence._ordinal = self._submitted
        sequence.arrived_seconds = now_seconds
        if self._book is not None:
            sequence.shares = Shares()
        self._waiting.push(sequence)
        if self._stretch.steps > 1 and self._may_admit():
            self._cut(now_seconds)
        self._arm(now_seconds)

    def abort(self, sequence: EngineSequence, now_seconds: float) -> None:
        """Drop a sequence, wherever it stands. What it held is free at once; a step that holds it runs on to its end.
        Does nothing when it is over."""
        if sequence.is_over:
            return
        if self._stretch.steps > 1:
            self._cut(now_seconds)
            self.look(now_seconds)
        if sequence.state is RUNNING:
            self._batch.leave(sequence)
            if self._stretch.steps:
                self._leaving.append(sequence)
            else:
                self._settle_shares(sequence)
        else:
            self._waiting.remove(sequence)
        sequence.state = SequenceState.ABORTED
        sequence.ended_seconds = now_seconds
        self.counters.aborted += 1

    def pause(self, now_seconds: float, *, is_finishing: bool = False) -> None:
        """Begin no step after the one under way; is_finishing: let those that run come to their end, but admit nobody."""
        if self._stretch.steps > 1 and not is_finishing:
            self._cut(now_seconds)
        self._is_paused = not is_finishing
        self._is_admitting = False

    def resume(self, now_seconds: float) -> None:
        if self._stretch.steps > 1:
            self._cut(now_seconds)
        self._is_paused, self._is_admitting = False, True
        self._arm(now_seconds)

    def drain(self) -> None:
        """Take no more work; what is here comes to its end."""
        self._is_draining = True

    def forget_prefixes(self) -> None:
        """Empty the prefix cache of all that nobody holds (`/reset_prefix_cache`, and going to sleep)."""
        self.blocks.clear()

    def advance(self, now_seconds: float) -> list[EngineSequence]:
        """End every stretch that is due by `now_seconds`, in order, starting the next where work is left. Returns the
        sequences that came to their end."""
        over: list[EngineSequence] = []
        self._over = over
        if self.begun:
            self.begun = []
        stretch = self._stretch
        while (due_seconds := self.next_event_seconds) is not None and due_seconds <= now_seconds:
            if stretch.steps:
                self._end_stretch(due_seconds)
            self._begin(due_seconds)
        return over

    def advance_steps(self, now_seconds: float) -> list[Step]:
        """End every step that is due by `now_seconds`, one by one: the same as `advance`, told in full."""
        self._over = []
        if self.begun:
            self.begun = []
        stretch = self._stretch
        steps: list[Step] = []
        while (due_seconds := self.next_step_seconds) is not None and due_seconds <= now_seconds:
            if stretch.steps:
                steps.append(self._end_one_step(due_seconds))
            if not stretch.steps:
                self._begin(due_seconds)
        return steps

    def look(self, now_seconds: float) -> None:
        """Bring counters, cache and `produced_tokens` up to now, within the stretch; `advance` comes first."""
        if self._stretch.steps > 1:
            self._apply(self._stretch.under_way(now_seconds)[0])

    # ------------------------------------------------------------------ a stretch of steps

    def _arm(self, now_seconds: float) -> None:
        """With work to do and no step under way, the next may begin."""
        if self.next_event_seconds is None and not self._is_paused and not self.is_idle:
            self.next_event_seconds = max(now_seconds, self._starts_seconds)

    def _may_admit(self) -> bool:
        """Whether one that has just arrived might find a place in the next step."""
        return (
            self._is_admitting
            and len(self._batch.running) < self._sequences_max
            and (self.is_by_priority or self._waiting.count == 1)
        )

    def _cut(self, now_seconds: float) -> None:
        """Let the stretch end with the step under way."""
        self._stretch.cut(now_seconds)
        self.next_event_seconds = self._stretch.ends_seconds

    def _begin(self, now_seconds: float) -> None:
        """Plan the next stretch: those already running, then the queue."""
        batch, stretch = self._batch, self._stretch
        stretch.steps = 0
        self.next_event_seconds = None
        if self._is_paused:
            return
        budget = batch.keep()
        preempted = batch.preempted
        is_short_of_blocks = False
        if preempted:
            for sequence in preempted:
                self._settle_shares(sequence)
        elif self._is_admitting and self._waiting.count:
            is_short_of_blocks = batch.admit(budget, now_seconds)
        decoding, chunks = batch.decoding, batch.chunks
        if not decoding and not chunks:
            return
        stretch.decoding = decoding
        stretch.clock_tokens = batch.clock_tokens
        stretch.context_tokens, growth_tokens = batch.look()
        if chunks:
            pairs = 0
            for _, _, of_chunk in chunks:
                pairs += of_chunk
            stretch.read(self.profile, now_seconds, batch.chunk_tokens, pairs)
        else:
            # After a preemption nobody was admitted: the next step may.
            steps = 1 if preempted else batch.steps_alike(is_short_of_blocks)
            stretch.decode(self.profile.decode_steps(decoding), now_seconds, steps, growth_tokens)
        self.next_event_seconds = stretch.ends_seconds

    def _apply(self, ended: int) -> None:
        """Book the steps of the stretch up to the `ended`th: tokens, blocks, time and its shares."""
        stretch, batch, counters = self._stretch, self._batch, self.counters
        steps = ended - stretch.ended_steps
        if steps <= 0:
            return
        is_to_the_end = ended == stretch.steps
        ended_seconds = stretch.ends_seconds if is_to_the_end else stretch.end_seconds(ended)
        counters.steps += steps
        counters.busy_seconds += ended_seconds - stretch.looked_seconds
        stretch.looked_seconds = ended_seconds
        if self._book is not None:
            self._share(self._book, steps)
        gained = batch.go_on(steps, is_to_the_end=is_to_the_end)
        counters.completion_tokens += gained
        if batch.is_speculating:
            counters.draft_rounds += steps * batch.decoding
            counters.accepted_tokens += gained - steps * batch.decoding
        stretch.ended_steps = ended

    def _share(self, book: ShareBook, steps: int) -> None:
        stretch, done = self._stretch, self._stretch.ended_steps
        if chunks := self._batch.chunks:
            prefills = [(sequence.shares or Shares(), tokens, pairs) for sequence, tokens, pairs in chunks]
            book.mixed_step(stretch.decoding, stretch.context_tokens, stretch.clock_tokens, prefills)
            return
        slope = stretch.slope
        clock_tokens = stretch.clock_tokens + done * slope / stretch.decoding
        book.decode_steps(stretch.decoding, stretch.context_tokens + done * slope, clock_tokens, steps, slope)

    def _end_one_step(self, ended_seconds: float) -> Step:
        stretch = self._stretch
        began_seconds, before_tokens = stretch.looked_seconds, self.counters.completion_tokens
        decoding = [sequence for sequence in self._batch.running if sequence._clock is not None]
        if stretch.ended_steps + 1 < stretch.steps:
            self._apply(stretch.ended_steps + 1)
            progressed = decoding
        else:
            self._end_stretch(ended_seconds)
            progressed = [*decoding, *self._progressed]
            stretch.steps = 0
        yielded = self.counters.completion_tokens - before_tokens
        return Step(
            began_seconds, ended_seconds, stretch.decoding, self._batch.chunk_tokens, yielded, tuple(progressed)
        )

    def _end_stretch(self, ended_seconds: float) -> None:
        """Its last step has ended: prompts that are read yield their first token, and those that have all theirs end."""
        batch = self._batch
        self._apply(self._stretch.steps)
        self._progressed = progressed = []
        for sequence, surplus in batch.ended():  # speculation may go beyond the end
            if surplus:
                self.counters.completion_tokens -= surplus
                self.counters.accepted_tokens -= surplus
            self._finish(sequence, ended_seconds)
        if self._leaving:
            for sequence in self._leaving:
                self._settle_shares(sequence)
            self._leaving.clear()
        for sequence, tokens, _ in batch.chunks:
            if sequence.state is not RUNNING:
                continue  # aborted meanwhile
            sequence._computed += tokens
            if sequence._computed == sequence.prompt_tokens + sequence._produced:
                self._read(sequence, ended_seconds)
                progressed.append(sequence)
        if self._book is not None and not batch.decoding:
            self._book.clear()

    def _read(self, sequence: EngineSequence, ended_seconds: float) -> None:
        """Its prompt is in the cache (after a preemption: what it had made, too): a token, and on to decoding."""
        batch, counters = self._batch, self.counters
        del batch.prefilling[sequence]
        if sequence.first_token_seconds is None:
            sequence.first_token_seconds = ended_seconds
            self.begun.append(sequence)
            counters.prompt_tokens += sequence.prompt_tokens
            counters.cached_tokens += sequence.cached_tokens
        if sequence.completion_tokens:
            sequence._produced += 1
            counters.completion_tokens += 1
        if sequence._produced >= sequence.completion_tokens:
            self._finish(sequence, ended_seconds)
            return
        batch.decode(sequence)
        if self._book is not None:
            sequence._joined = self._book.ledger

    def _finish(self, sequence: EngineSequence, now_seconds: float) -> None:
        self._batch.leave(sequence)
        if self._book is not None:
            self._settle_shares(sequence)
        sequence.state = FINISHED
        sequence.ended_seconds = now_seconds
        self.counters.finished += 1
        self._over.append(sequence)

    def _settle_shares(self, sequence: EngineSequence) -> None:
        if self._book is not None and sequence._joined is not None and sequence.shares is not None:
            self._book.settle(sequence.shares, sequence._joined, sequence._base)
            sequence._joined = None
