"""The engine: which sequences each step holds, how long it takes, and which tokens it yields.

Pure and deterministic: the caller owns the clock and passes seconds, so the same object runs behind the emulator's HTTP (wall
clock) and inside a simulator (virtual clock). It follows vLLM's V1 scheduler: running sequences before waiting ones, first come
first served or by priority, a token budget per step that long prompts are cut to (chunked prefill), blocks of KV cache with
prefix sharing, and preemption by recomputation when the cache is full. Step times are the profile's.

Steps are planned in *stretches*: one step that holds prompts, or a run of steps in which the same sequences decode, up to the
first thing that could change that (one ends, the cache may be full). A run's times come from the profile's sum, and all its
sequences are moved by one counter (`TokenClock`), so it costs the same however many steps it has and however many sequences
are in it. Something from outside (an arrival, an abort, a pause) cuts the stretch at the end of the step under way. `advance`
goes from stretch to stretch; `advance_steps` hands out the same steps one by one, for whoever must tell each token.

What must not live here: clocks, text, HTTP.
"""

import heapq

from load.engine.memory import DecodeMemory
from load.engine.pace import TokenClock
from load.engine.queues import ArrivalQueue, PriorityQueue, WaitingQueue
from load.engine.records import EngineCounters, Step
from load.engine.sequence import EngineSequence, SequenceState
from load.engine.shares import ShareBook, Shares, StepMember
from load.kv_cache import BlockPool
from router.pricing.profile import EngineProfile

# vLLM's block on CPU, recorded (`cached_tokens` comes in multiples of it); on GPUs 16 is usual.
BLOCK_TOKENS = 128


class Engine:
    """Submit and abort at any time; `advance` to `next_event_seconds` (or beyond) to let steps end.

    block_tokens: tokens in a KV block. Prefix sharing is off when has_prefix_cache is False. is_by_priority: vLLM's
    `--scheduling-policy priority`. has_shares: keep the truth about attribution (`EngineSequence.shares`). starts_seconds:
    no step begins before. seed: of speculative decoding.
    """

    # More attributes than an instance dictionary is quick with.
    __slots__ = (
        "_base_tokens",
        "_began_seconds",
        "_book",
        "_budget_tokens",
        "_clock",
        "_decode_budget_tokens",
        "_decoding",
        "_due_seconds",
        "_ended_steps",
        "_endings",
        "_ends_seconds",
        "_entrants",
        "_fillings",
        "_is_admitting",
        "_is_draining",
        "_is_paused",
        "_leaving",
        "_looked_seconds",
        "_memory",
        "_over",
        "_plan_clock_tokens",
        "_plan_context_tokens",
        "_plan_decoding",
        "_plan_prefill_tokens",
        "_plan_prefills",
        "_plan_slope",
        "_prefilling",
        "_progressed",
        "_running",
        "_sequences_max",
        "_starts_seconds",
        "_steps",
        "_submitted",
        "_waiting",
        "block_tokens",
        "blocks",
        "counters",
        "has_prefix_cache",
        "is_by_priority",
        "profile",
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
    ) -> None:
        self.profile = profile
        self.block_tokens = block_tokens
        self.has_prefix_cache = has_prefix_cache
        self.is_by_priority = is_by_priority
        self.blocks = BlockPool(max(1, profile.kv_capacity_tokens // block_tokens))
        self.counters = EngineCounters()
        speculation = profile.speculation
        draft_tokens = 0 if speculation is None else speculation.draft_tokens
        self._budget_tokens = profile.chunk_tokens
        self._sequences_max = profile.sequences_max
        self._decode_budget_tokens = 1 + draft_tokens
        self._starts_seconds = starts_seconds

        self._waiting: WaitingQueue = PriorityQueue() if is_by_priority else ArrivalQueue()
        self._running: dict[EngineSequence, None] = {}  # in the order of admission
        self._prefilling: dict[EngineSequence, None] = {}  # those of them whose prompt is not read yet
        self._clock = TokenClock(speculation, seed)
        self._decoding = 0
        self._base_tokens = 0  # Σ `_base` of those that decode
        self._endings: list[tuple[int, int, EngineSequence]] = []  # heap: at which clock value who has all its tokens
        self._fillings: list[tuple[int, int, EngineSequence]] = []  # heap: at which clock value whose block is full
        self._memory = DecodeMemory(self.blocks, block_tokens, draft_tokens)
        self._entrants: dict[EngineSequence, None] = {}  # decode from the next step on; `_memory` has them not yet
        self._book = ShareBook(profile) if has_shares else None
        self._leaving: list[EngineSequence] = []  # aborted, but in the step under way
        self._submitted = 0
        self._over: list[EngineSequence] = []
        self._progressed: list[EngineSequence] = []

        # The stretch: `_steps` steps planned, of which `_ended_steps` have been looked at. None is planned when it is 0.
        self._due_seconds: float | None = None
        self._began_seconds = 0.0
        self._looked_seconds = 0.0
        self._steps = 0
        self._ended_steps = 0
        self._plan_decoding = 0
        self._plan_context_tokens = 0
        self._plan_slope = 0
        self._plan_clock_tokens = 0
        self._ends_seconds: dict[int, float] = {}  # when its steps end, as far as anybody asked
        self._plan_prefills: list[tuple[EngineSequence, int, int]] = []
        self._plan_prefill_tokens = 0

        self._is_paused = False
        self._is_admitting = True
        self._is_draining = False

    # ------------------------------------------------------------------ what can be seen

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
    def is_paused(self) -> bool:
        return self._is_paused or not self._is_admitting

    @property
    def next_event_seconds(self) -> float | None:
        """When the stretch under way ends or, with work waiting and none under way, when the next may begin; else None."""
        return self._due_seconds

    @property
    def next_step_seconds(self) -> float | None:
        """When the step under way ends; otherwise as `next_event_seconds`."""
        return self._step_end(self._ended_steps + 1) if self._steps else self._due_seconds

    @property
    def kv_usage_ratio(self) -> float:
        """Share of the KV cache that sequences hold, 0–1."""
        return self.blocks.usage_ratio

    @property
    def sequence_tokens_max(self) -> int:
        """The longest sequence, prompt and completion, that this KV cache can hold."""
        return self.blocks.capacity * self.block_tokens

    def step_members(self) -> list[StepMember]:
        """What the step under way holds, each sequence's work; empty when there is none."""
        if not self._steps:
            return []
        decoding = [sequence for sequence in self._running if sequence._clock is not None]
        decoding += [sequence for sequence in self._leaving if sequence._joined is not None]
        members = [StepMember(sequence.total_tokens, 0, 0) for sequence in decoding]
        return [*members, *(StepMember(0, tokens, pairs) for _, tokens, pairs in self._plan_prefills)]

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
        if self._steps > 1 and self._may_admit():
            self._cut(now_seconds)
        self._arm(now_seconds)

    def abort(self, sequence: EngineSequence, now_seconds: float) -> None:
        """Drop a sequence, wherever it stands. What it held is free at once; a step that holds it runs on to its end.
        Does nothing when it is over."""
        if sequence.is_over:
            return
        if self._steps > 1:
            self._cut(now_seconds)
        if sequence.state is SequenceState.RUNNING:
            del self._running[sequence]
            self._leave_batch(sequence)
            if self._steps:
                self._leaving.append(sequence)
            else:
                self._settle_shares(sequence)
        else:
            self._waiting.remove(sequence)
        self._end(sequence, SequenceState.ABORTED, now_seconds)
        self.counters.aborted += 1

    def pause(self, now_seconds: float, *, is_finishing: bool = False) -> None:
        """Begin no step after the one under way; is_finishing: let those that run come to their end, but admit nobody."""
        if self._steps > 1 and not is_finishing:
            self._cut(now_seconds)
        self._is_paused = not is_finishing
        self._is_admitting = False

    def resume(self, now_seconds: float) -> None:
        if self._steps > 1:
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
        while (due_seconds := self._due_seconds) is not None and due_seconds <= now_seconds:
            if self._steps:
                self._end_stretch(due_seconds)
            self._begin(due_seconds)
        return over

    def advance_steps(self, now_seconds: float) -> list[Step]:
        """End every step that is due by `now_seconds`, one by one: the same as `advance`, told in full."""
        self._over = []
        steps: list[Step] = []
        while (due_seconds := self.next_step_seconds) is not None and due_seconds <= now_seconds:
            if self._steps:
                steps.append(self._end_one_step(due_seconds))
            if not self._steps:
                self._begin(due_seconds)
        return steps

    def look(self, now_seconds: float) -> None:
        """Bring counters, cache and `produced_tokens` up to now, within the stretch; `advance` comes first."""
        if self._steps > 1:
            self._apply(self._steps_ended_by(now_seconds))

    # ------------------------------------------------------------------ a stretch of steps

    def _arm(self, now_seconds: float) -> None:
        """With work to do and no step under way, the next may begin."""
        if self._due_seconds is None and not self._is_paused and not self.is_idle:
            self._due_seconds = max(now_seconds, self._starts_seconds)

    def _may_admit(self) -> bool:
        """Whether one that has just arrived might find a place in the next step."""
        return (
            self._is_admitting
            and len(self._running) < self._sequences_max
            and (self.is_by_priority or len(self._waiting) == 1)
        )

    def _begin(self, now_seconds: float) -> None:
        """Plan the next stretch: those already running, then the queue."""
        self._steps = self._ended_steps = 0
        self._due_seconds = None
        if self._is_paused:
            return
        self._ends_seconds.clear()
        self._plan_prefills = []
        self._plan_prefill_tokens = 0
        preempted_before = self.counters.preemptions
        if not self._decoding:
            self._memory.grown_tokens = self._clock.tokens
        budget = self._keep_running()
        is_preempted = self.counters.preemptions != preempted_before
        is_short_of_blocks = False
        if not is_preempted and self._is_admitting:
            while budget > 0 and self._waiting and len(self._running) < self._sequences_max:
                sequence = self._waiting.head()
                tokens = self._admit(sequence, budget, now_seconds)
                if tokens == 0:
                    is_short_of_blocks = True
                    break  # nobody overtakes one that does not fit yet
                self._waiting.remove(sequence)
                self._running[sequence] = self._prefilling[sequence] = None
                budget -= tokens
        decoding = self._plan_decoding = self._decoding
        prefills = self._plan_prefills
        if not decoding and not prefills:
            return
        clock_tokens = self._plan_clock_tokens = self._clock.tokens
        context_tokens = self._plan_context_tokens = self._base_tokens + decoding * clock_tokens
        self._began_seconds = self._looked_seconds = now_seconds
        self._plan_slope = self._clock.growth(decoding)
        # After a preemption nobody was admitted: the next step may.
        self._steps = 1 if prefills or is_preempted else self._steps_alike(is_short_of_blocks)
        if prefills:
            pairs = sum(pairs for _, _, pairs in prefills)
            self._due_seconds = now_seconds + self.profile.step_seconds(
                decoding, context_tokens, self._plan_prefill_tokens, pairs
            )
        else:
            self._due_seconds = self._step_end(self._steps)

    def _steps_alike(self, is_short_of_blocks: bool) -> int:
        """How many steps from now on only decode, all of those that do so now, with blocks for all."""
        endings, clock_tokens = self._endings, self._clock.tokens
        while endings[0][2]._ends_tokens != endings[0][0] or endings[0][2]._clock is None:
            heapq.heappop(endings)  # of one that was aborted or preempted meanwhile
        steps = self._clock.until(endings[0][0])
        if is_short_of_blocks and self._fillings:
            # A block that gets its name may be the one that the head of the queue lacks.
            steps = min(steps, max(1, self._clock.until(self._fillings[0][0])))
        free = self.blocks.capacity - self.blocks.used
        memory = self._memory
        safe_tokens = free // memory.count * self.block_tokens
        if self._clock.after(steps - 1) - clock_tokens > safe_tokens and (
            memory.growth(self._clock.after(steps - 1)) > free
        ):
            low, high = 1, steps  # the last step for which there are blocks; more tokens never take fewer
            while high - low > 1:
                middle = (low + high) // 2
                if memory.growth(self._clock.after(middle - 1)) > free:
                    high = middle
                else:
                    low = middle
            steps = low
        return steps

    def _step_end(self, steps: int) -> float:
        """When so many steps of the stretch have ended."""
        if self._plan_prefills:
            due_seconds = self._due_seconds
            assert due_seconds is not None
            return due_seconds
        ended_seconds = self._ends_seconds.get(steps)
        if ended_seconds is None:
            ended_seconds = self._ends_seconds[steps] = self._began_seconds + self.profile.decode_steps_seconds(
                self._plan_decoding, self._plan_context_tokens, steps, self._plan_slope
            )
        return ended_seconds

    def _steps_ended_by(self, now_seconds: float) -> int:
        """How many steps of the stretch have ended; the last one never has, for it is `advance` that ends it."""
        due_seconds = self._due_seconds
        assert due_seconds is not None
        began_seconds, first, last = self._began_seconds, self._ended_steps, self._steps - 1
        mean_seconds = (due_seconds - began_seconds) / self._steps
        steps = min(max(int((now_seconds - began_seconds) / mean_seconds), first), last)
        # Steps take almost the same time each, so the guess is right or nearly so.
        while steps > first and (late_seconds := self._step_end(steps) - now_seconds) > 0:
            steps = max(first, steps - 1 - int(late_seconds / (2 * mean_seconds)))
        while steps < last and (early_seconds := now_seconds - self._step_end(steps + 1)) >= 0:
            steps = min(last, steps + 1 + int(early_seconds / (2 * mean_seconds)))
            while steps > first and self._step_end(steps) > now_seconds:
                steps -= 1
        return steps

    def _cut(self, now_seconds: float) -> None:
        """Let the stretch end with the step under way."""
        ended = self._steps_ended_by(now_seconds)
        self._apply(ended)
        if ended + 1 < self._steps:
            self._steps = ended + 1
            self._due_seconds = self._step_end(ended + 1)

    def _apply(self, ended: int) -> None:
        """Book the steps of the stretch up to the `ended`th: tokens, blocks, time and its shares."""
        steps = ended - self._ended_steps
        if steps <= 0:
            return
        due_seconds = self._due_seconds
        ended_seconds = due_seconds if ended == self._steps and due_seconds is not None else self._step_end(ended)
        counters = self.counters
        counters.steps += steps
        counters.busy_seconds += ended_seconds - self._looked_seconds
        self._looked_seconds = ended_seconds
        if self._book is not None:
            self._share(steps)
        tokens = self._clock.after(steps)
        gained = self._decoding * (tokens - self._clock.tokens)
        counters.completion_tokens += gained
        if self._clock.is_speculating:
            counters.draft_rounds += steps * self._decoding
            counters.accepted_tokens += gained - steps * self._decoding
        if ended < self._steps:  # of the last step's tokens the blocks are taken by the next plan, if there is one
            self._fill(tokens)
        elif self._steps > 1:
            self._fill(self._clock.after(steps - 1))
        self._clock.steps += steps
        self._clock.tokens = tokens
        self._ended_steps = ended

    def _share(self, steps: int) -> None:
        book, done = self._book, self._ended_steps
        assert book is not None
        if self._plan_prefills:
            prefills = [(sequence.shares or Shares(), tokens, pairs) for sequence, tokens, pairs in self._plan_prefills]
            book.mixed_step(self._plan_decoding, self._plan_context_tokens, self._plan_clock_tokens, prefills)
            return
        slope = self._plan_slope
        clock_tokens = self._plan_clock_tokens + done * slope / self._plan_decoding
        book.decode_steps(self._plan_decoding, self._plan_context_tokens + done * slope, clock_tokens, steps, slope)

    def _end_one_step(self, ended_seconds: float) -> Step:
        began_seconds, before_tokens = self._looked_seconds, self.counters.completion_tokens
        decoding = [sequence for sequence in self._running if sequence._clock is not None]
        if self._ended_steps + 1 < self._steps:
            self._apply(self._ended_steps + 1)
            progressed = decoding
        else:
            self._end_stretch(ended_seconds)
            progressed = [*decoding, *self._progressed]
            self._steps = self._ended_steps = 0
        yielded = self.counters.completion_tokens - before_tokens
        return Step(
            began_seconds, ended_seconds, self._plan_decoding, self._plan_prefill_tokens, yielded, tuple(progressed)
        )

    def _end_stretch(self, ended_seconds: float) -> None:
        """Its last step has ended: prompts that are read yield their first token, and those that have all theirs end."""
        self._apply(self._steps)
        self._progressed = progressed = []
        clock_tokens = self._clock.tokens
        endings = self._endings
        while endings and endings[0][0] <= clock_tokens:
            ends_tokens, _, sequence = heapq.heappop(endings)
            if sequence._ends_tokens == ends_tokens and sequence._clock is not None:
                surplus = clock_tokens - ends_tokens  # speculation may go beyond the end
                self.counters.completion_tokens -= surplus
                self.counters.accepted_tokens -= surplus
                self._finish(sequence, ended_seconds)
        for sequence in self._leaving:
            self._settle_shares(sequence)
        self._leaving.clear()
        for sequence, tokens, _ in self._plan_prefills:
            if sequence.state is not SequenceState.RUNNING:
                continue  # aborted meanwhile
            sequence._computed += tokens
            if sequence._computed == sequence.total_tokens:
                self._read(sequence, ended_seconds)
                progressed.append(sequence)
        if not self._decoding and self._book is not None:
            self._book.clear()

    def _read(self, sequence: EngineSequence, ended_seconds: float) -> None:
        """Its prompt is in the cache (after a preemption: what it had made, too): a token, and on to decoding."""
        counters = self.counters
        del self._prefilling[sequence]
        if sequence.first_token_seconds is None:
            sequence.first_token_seconds = ended_seconds
            counters.prompt_tokens += sequence.prompt_tokens
            counters.cached_tokens += sequence.cached_tokens
        if sequence.completion_tokens:
            sequence._produced += 1
            counters.completion_tokens += 1
        if sequence._produced >= sequence.completion_tokens:
            self._finish(sequence, ended_seconds)
            return
        clock_tokens = self._clock.tokens
        total_tokens = sequence.prompt_tokens + sequence._produced
        sequence._base = total_tokens - clock_tokens
        sequence._ends_tokens = clock_tokens + sequence.completion_tokens - sequence._produced
        sequence._clock = self._clock
        heapq.heappush(self._endings, (sequence._ends_tokens, sequence._ordinal, sequence))
        self._await_full_block(sequence, total_tokens - 1)
        self._entrants[sequence] = None
        self._decoding += 1
        self._base_tokens += sequence._base
        if self._book is not None:
            sequence._joined = self._book.ledger

    def _finish(self, sequence: EngineSequence, now_seconds: float) -> None:
        del self._running[sequence]
        self._leave_batch(sequence)
        if self._book is not None:
            self._settle_shares(sequence)
        self._end(sequence, SequenceState.FINISHED, now_seconds)
        self.counters.finished += 1
        self._over.append(sequence)

    def _end(self, sequence: EngineSequence, state: SequenceState, now_seconds: float) -> None:
        sequence.state = state
        sequence.ended_seconds = now_seconds

    def _leave_batch(self, sequence: EngineSequence) -> None:
        """It no longer runs, for whatever reason: its blocks are free, its tokens stand. Shares are settled elsewhere."""
        if sequence._clock is None:
            self._prefilling.pop(sequence, None)
        else:
            self._own_blocks(sequence)
            sequence._produced = sequence.produced_tokens
            sequence._clock = None
            self._entrants.pop(sequence, None)
            self._decoding -= 1
            self._base_tokens -= sequence._base
        self.blocks.release(reversed(sequence._shared), sequence._private)
        sequence._shared = []
        sequence._private = 0

    def _settle_shares(self, sequence: EngineSequence) -> None:
        if self._book is not None and sequence._joined is not None and sequence.shares is not None:
            self._book.settle(sequence.shares, sequence._joined, sequence._base)
            sequence._joined = None

    # ------------------------------------------------------------------ KV cache

    def _keep_running(self) -> int:
        """Blocks and places for those already in the batch, preempting where there are too few. Returns what is left of
        the step's token budget."""
        memory, clock_tokens, entrants = self._memory, self._clock.tokens, self._entrants
        growth = fresh = memory.growth(clock_tokens)
        lacking_of = []
        for sequence in entrants:
            lacking = memory.blocks(sequence._base + clock_tokens) - len(sequence._shared) - sequence._private
            if lacking > 0:
                lacking_of.append((sequence, lacking))
                fresh += lacking
        budget = self._budget_tokens - self._decoding * self._decode_budget_tokens
        if self._prefilling:
            fresh += sum(self._lacking(sequence, tokens) for sequence, tokens in self._chunks(budget))
        if fresh and self.blocks.used + fresh > self.blocks.capacity:
            self._preempt_until_it_fits(budget)  # who stays has its blocks, and is an entrant
            growth, lacking_of = 0, []
        if self._fillings and self._fillings[0][0] <= clock_tokens:
            self._fill(clock_tokens)
        else:
            memory.grow_by(growth, clock_tokens)
        for sequence, lacking in lacking_of:
            self.blocks.take((), lacking)
            sequence._private += lacking
        if entrants:
            for sequence in entrants:
                memory.join(sequence._base)
            entrants.clear()
        for sequence, tokens in self._chunks(budget) if self._prefilling else ():
            lacking = self._lacking(sequence, tokens)
            if not self.blocks.take((), lacking):
                break  # where others were preempted there is budget for more than there was room
            sequence._private += lacking
            self._plan_chunk(sequence, tokens)
            budget -= tokens
        return budget

    def _chunks(self, budget: int) -> list[tuple[EngineSequence, int]]:
        """What the running prompts get of the budget."""
        chunks = []
        for sequence in self._prefilling:
            tokens = min(sequence.total_tokens - sequence._computed, budget)
            if tokens <= 0:
                break
            chunks.append((sequence, tokens))
            budget -= tokens
        return chunks

    def _lacking(self, sequence: EngineSequence, tokens: int) -> int:
        """Blocks that it needs for its next so many tokens, beyond those it holds."""
        held = len(sequence._shared) + sequence._private
        return max(0, -(-(sequence._computed + tokens) // self.block_tokens) - held)

    def _plan_chunk(self, sequence: EngineSequence, tokens: int) -> None:
        """Its blocks that this step fills get their names when it is planned, as in vLLM: others may share them at once."""
        before = sequence._computed
        self._plan_prefills.append((sequence, tokens, tokens * before + tokens * (tokens + 1) // 2))
        self._plan_prefill_tokens += tokens
        self._publish(sequence, before + tokens)

    def _admit(self, sequence: EngineSequence, budget: int, now_seconds: float) -> int:
        """Give a waiting sequence its prefix and blocks for its first chunk. Returns the chunk's tokens; 0: no room."""
        cached_blocks = 0
        total_tokens = sequence.total_tokens
        hashes = sequence.block_hashes
        if self.has_prefix_cache and hashes:
            # At least one token must be computed to yield the next, so a prompt is never cached whole.
            full_blocks = min((total_tokens - 1) // self.block_tokens, len(hashes))
            cached_blocks = self.blocks.match(hashes[:full_blocks])
        cached_tokens = cached_blocks * self.block_tokens
        tokens = min(total_tokens - cached_tokens, budget)
        fresh = -(-(cached_tokens + tokens) // self.block_tokens) - cached_blocks
        shared = list(hashes[:cached_blocks])
        # The whole of it must fit now, though only a chunk is taken: vLLM's `scheduler_reserve_full_isl`, on by default.
        whole = -(-total_tokens // self.block_tokens) - cached_blocks
        if not self.blocks.has_room(shared, whole) or not self.blocks.take(shared, fresh):
            return 0
        sequence._shared = shared
        sequence._private = fresh
        sequence._named = cached_blocks
        sequence._computed = cached_tokens
        sequence.state = SequenceState.RUNNING
        if sequence.admitted_seconds is None:
            sequence.admitted_seconds = now_seconds
            sequence.cached_tokens = cached_tokens
            if self.has_prefix_cache:
                self.counters.prefix_queries += total_tokens
                self.counters.prefix_hits += cached_tokens
        self._plan_chunk(sequence, tokens)
        return tokens

    def _preempt_until_it_fits(self, budget: int) -> None:
        """Go through the batch in its order, as vLLM does; who finds no block for its next step preempts another."""
        clock_tokens, memory, entrants = self._clock.tokens, self._memory, self._entrants
        for sequence in self._running:
            if sequence._clock is not None and sequence not in entrants:
                self._own_blocks(sequence)
                entrants[sequence] = None
        memory.grown_tokens = clock_tokens
        chunks = dict(self._chunks(budget))
        for sequence in list(self._running):
            while sequence in self._running:
                if sequence._clock is None:
                    fresh = self._lacking(sequence, chunks.get(sequence, 0))
                else:
                    held = len(sequence._shared) + sequence._private
                    fresh = memory.blocks(sequence._base + clock_tokens) - held
                if self.blocks.take((), fresh):
                    sequence._private += fresh
                    break
                self._preempt(self._waiting.victim(self._running))

    def _preempt(self, sequence: EngineSequence) -> None:
        """Out of the batch, its cache given up; it will be computed again."""
        del self._running[sequence]
        self._settle_shares(sequence)
        self._leave_batch(sequence)
        sequence._computed = 0
        sequence.state = SequenceState.WAITING
        sequence.preemptions += 1
        self.counters.preemptions += 1
        self._waiting.put_back(sequence)

    def _own_blocks(self, sequence: EngineSequence) -> None:
        """Take a decoding sequence's blocks out of the common count, if they are in it."""
        if sequence not in self._entrants:
            sequence._private = self._memory.leave(sequence._base) - len(sequence._shared)

    def _fill(self, clock_tokens: int) -> None:
        """Take the blocks for a step at that value of the clock, and name those that are full by then, in order."""
        memory, fillings = self._memory, self._fillings
        while fillings and fillings[0][0] <= clock_tokens:
            filled_tokens, _, sequence = heapq.heappop(fillings)
            if sequence._clock is None:
                continue
            total_tokens = sequence._base + filled_tokens
            if total_tokens % self.block_tokens or sequence._ends_tokens <= filled_tokens:
                continue  # left over from before a preemption; or its last token, which is never computed
            memory.grow(filled_tokens)
            self._publish(sequence, total_tokens)
            self._await_full_block(sequence, total_tokens)
        memory.grow(clock_tokens)

    def _await_full_block(self, sequence: EngineSequence, total_tokens: int) -> None:
        """Note when its next block will be full, if that has a name."""
        block = total_tokens // self.block_tokens
        if self.has_prefix_cache and block < len(sequence.block_hashes):
            filled_tokens = (block + 1) * self.block_tokens - sequence._base
            heapq.heappush(self._fillings, (filled_tokens, sequence._ordinal, sequence))

    def _publish(self, sequence: EngineSequence, computed_tokens: int) -> None:
        """Name the blocks that are full. What somebody else holds under that name stays this sequence's own copy."""
        if not self.has_prefix_cache:
            return
        hashes = sequence.block_hashes
        full = min(computed_tokens // self.block_tokens, len(hashes))
        for position in range(sequence._named, full):
            if self.blocks.publish(hashes[position]):
                sequence._shared.append(hashes[position])
                sequence._private -= 1
        sequence._named = max(sequence._named, full)
