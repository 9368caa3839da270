"""The batch: who is in it, what of the KV cache each of them holds, and who has to wait or to go when there is too little.

It follows vLLM's V1 scheduler: running sequences before waiting ones, first come first served or by priority, a token budget
per step that long prompts are cut to (chunked prefill), blocks of KV cache with prefix sharing, and preemption by
recomputation when the cache is full.

All that decode in one lane (`lane.py`) gain tokens together, by one clock (`pace.py`), and their blocks are counted together
(`memory.py`), so a step costs the same however many sequences are in it; what costs is a change: one comes in, is read, ends.

What must not live here: seconds (but what `admit` notes down).
"""

import heapq
from collections.abc import Mapping, Sequence

from load.engine.lane import Lane
from load.engine.memory import DecodeMemory
from load.engine.pace import TokenClock
from load.engine.queues import WaitingQueue
from load.engine.records import EngineCounters
from load.engine.sequence import EngineSequence, SequenceState
from load.kv_cache import BlockPool
from router.pricing.profile import EngineProfile

RUNNING = SequenceState.RUNNING


class Batch:
    """The sequences that run, and the cache.

    acceptance_by_kind: how often drafts are right for sequences of that `kind`; the profile's for all others.
    running: in the order of admission; prefilling: those of them whose prompt is not read yet; decoding: how many the others
    are. chunks: what the step that is planned reads, of whom, how many tokens, how many
    pairs of attention; chunk_tokens: of all. preempted: by the last `keep`.
    """

    # More attributes than an instance dictionary is quick with.
    __slots__ = (
        "_block_tokens",
        "_budget_tokens",
        "_counters",
        "_decode_budget_tokens",
        "_entrants",
        "_has_one_lane",
        "_has_prefix_cache",
        "_lane",
        "_lanes",
        "_lanes_by_kind",
        "_sequences_max",
        "_waiting",
        "blocks",
        "chunk_tokens",
        "chunks",
        "decoding",
        "is_speculating",
        "preempted",
        "prefilling",
        "running",
    )

    def __init__(
        self,
        profile: EngineProfile,
        waiting: WaitingQueue,
        counters: EngineCounters,
        *,
        block_tokens: int,
        has_prefix_cache: bool,
        seed: int,
        acceptance_by_kind: Mapping[str, float],
    ) -> None:
        speculation = profile.speculation
        draft_tokens = 0 if speculation is None else speculation.draft_tokens
        self._block_tokens = block_tokens
        self._has_prefix_cache = has_prefix_cache
        self._budget_tokens = profile.chunk_tokens
        self._decode_budget_tokens = 1 + draft_tokens
        self._sequences_max = profile.sequences_max
        self._waiting = waiting
        self._counters = counters
        self.blocks = BlockPool(max(1, profile.kv_capacity_tokens // block_tokens))
        self.is_speculating = speculation is not None
        self.running: dict[EngineSequence, None] = {}
        self.prefilling: dict[EngineSequence, None] = {}
        self.decoding = 0
        self.chunks: list[tuple[EngineSequence, int, int]] = []
        self.chunk_tokens = 0
        self.preempted: list[EngineSequence] = []
        self._entrants: dict[EngineSequence, None] = {}  # decode from the next step on; no `memory` has them yet
        self._lane = Lane(TokenClock(speculation, seed), DecodeMemory(self.blocks, block_tokens, draft_tokens))
        self._lanes_by_kind: dict[str, Lane] = {}
        if speculation is not None:
            for kind, acceptance_ratio in acceptance_by_kind.items():
                own = speculation.model_copy(update={"acceptance_ratio": acceptance_ratio})
                memory = DecodeMemory(self.blocks, block_tokens, draft_tokens)
                self._lanes_by_kind[kind] = Lane(TokenClock(own, seed), memory)
        self._lanes = (self._lane, *self._lanes_by_kind.values())
        self._has_one_lane = len(self._lanes) == 1

    def look(self) -> tuple[int, int]:
        """What all who decode hold together, and by how much that grows a step, tokens."""
        context_tokens = growth_tokens = 0
        for lane in self._lanes:
            decoding, clock = lane.decoding, lane.clock
            context_tokens += lane.base_tokens + decoding * clock.tokens
            growth_tokens += clock.growth(decoding) if clock.is_speculating else decoding
        return context_tokens, growth_tokens

    @property
    def clock_tokens(self) -> int:
        """What the clock of those without a pace of their own shows."""
        return self._lane.clock.tokens

    def _lane_of(self, sequence: EngineSequence) -> Lane:
        return self._lanes_by_kind.get(sequence.kind, self._lane)

    # ------------------------------------------------------------------ the next step

    def keep(self) -> int:
        """Blocks and chunks for those already in the batch, preempting where there are too few. Returns what is left of the
        step's token budget."""
        entrants, pool = self._entrants, self.blocks
        self.chunks = []
        self.chunk_tokens = 0
        if self.preempted:
            self.preempted = []
        fresh = 0
        for lane in self._lanes:
            memory, clock_tokens = lane.memory, lane.clock.tokens
            if not lane.decoding:
                memory.grown_tokens = clock_tokens
            lane.fresh = memory.growth(clock_tokens)
            fresh += lane.fresh
        lacking_of: list[tuple[EngineSequence, int]] = []
        for sequence in entrants:
            lacking = self._blocks_of(sequence) - len(sequence._shared) - sequence._private
            if lacking > 0:
                lacking_of.append((sequence, lacking))
                fresh += lacking
        budget = self._budget_tokens - self.decoding * self._decode_budget_tokens
        if self.prefilling:
            fresh += sum(self._lacking(sequence, tokens) for sequence, tokens in self._chunks(budget))
        if fresh and pool.used + fresh > pool.capacity:
            self._preempt_until_it_fits(budget)  # who stays has its blocks, and is an entrant
            lacking_of = []
        for lane in self._lanes:
            clock_tokens = lane.clock.tokens
            if lane.fillings and lane.fillings[0][0] <= clock_tokens:
                self._fill(lane, clock_tokens)
            else:
                lane.memory.grow_by(lane.fresh, clock_tokens)
        if entrants:
            for sequence, lacking in lacking_of:
                pool.take_fresh(lacking)
                sequence._private += lacking
            for sequence in entrants:
                lane = self._lane if self._has_one_lane else self._lane_of(sequence)
                lane.memory.join(sequence._base)
            entrants.clear()
        return self._go_on_reading(budget) if self.prefilling else budget

    def admit(self, budget: int, now_seconds: float) -> bool:
        """Places for those that wait, as far as there are places, budget and blocks. Returns whether it was blocks that were
        too few."""
        waiting, running = self._waiting, self.running
        while waiting.count and budget > 0 and len(running) < self._sequences_max:
            sequence = waiting.head()
            tokens = self._admit(sequence, budget, now_seconds)
            if not tokens:
                return True  # nobody overtakes one that does not fit yet
            waiting.remove(sequence)
            running[sequence] = self.prefilling[sequence] = None
            budget -= tokens
        return False

    def steps_alike(self, is_short_of_blocks: bool) -> int:
        """How many steps from now on only decode, all of those that do so now, with blocks for all."""
        steps = 0
        for lane in self._lanes:
            if lane.decoding:
                own = lane.steps_until_one_ends()
                if is_short_of_blocks and lane.fillings:
                    # A block that gets its name may be the one that the head of the queue lacks.
                    own = min(own, max(1, lane.clock.until(lane.fillings[0][0])))
                if own < steps or not steps:
                    steps = own
        free = self.blocks.capacity - self.blocks.used
        safe_tokens = free // self.decoding * self._block_tokens
        # The most that one of them may gain, and some more: no step yields more than all that it drafts and one.
        gained_tokens = (steps - 1) * self._decode_budget_tokens
        if gained_tokens > safe_tokens and self._growth_after(steps) > free:
            low, high = 1, steps  # the last step for which there are blocks; more tokens never take fewer
            while high - low > 1:
                middle = (low + high) // 2
                if self._growth_after(middle) > free:
                    high = middle
                else:
                    low = middle
            steps = low
        return steps

    def _growth_after(self, steps: int) -> int:
        return sum([lane.growth_after(steps) for lane in self._lanes])

    # ------------------------------------------------------------------ what steps bring

    def go_on(self, steps: int, *, is_to_the_end: bool) -> int:
        """So many steps have ended. Returns how many tokens all that decode gained. is_to_the_end: they were the last that
        were planned; of the last one's tokens the blocks are taken by the next plan, if there is one."""
        gained = 0
        for lane in self._lanes:
            clock = lane.clock
            before_tokens = clock.tokens
            tokens = clock.after(steps) if clock.is_speculating else before_tokens + steps
            if not is_to_the_end:
                self._fill(lane, tokens)
            elif steps > 1 and (lane.fillings or self.blocks.is_remembering):
                # With names, it matters that those who end now took their last blocks before.
                self._fill(lane, clock.after(steps - 1))
            clock.steps += steps
            clock.tokens = tokens
            gained += lane.decoding * (tokens - before_tokens)
        return gained

    def ended(self) -> Sequence[tuple[EngineSequence, int]]:
        """Those that decode and have all their tokens, in order; with each, how many more speculation has made."""
        found: list[tuple[EngineSequence, int]] = []
        for lane in self._lanes:
            endings = lane.endings
            if not endings:
                continue
            clock_tokens = lane.clock.tokens
            while endings and endings[0][0] <= clock_tokens:
                ends_tokens, _, sequence = heapq.heappop(endings)
                if sequence._ends_tokens == ends_tokens and sequence._clock is not None:
                    found.append((sequence, clock_tokens - ends_tokens))
        return found

    def decode(self, sequence: EngineSequence) -> None:
        """Its prompt is in the cache; it decodes from the next step on."""
        lane = self._lane if self._has_one_lane else self._lane_of(sequence)
        clock_tokens = lane.clock.tokens
        total_tokens = sequence.prompt_tokens + sequence._produced
        base_tokens = sequence._base = total_tokens - clock_tokens
        ends_tokens = sequence._ends_tokens = clock_tokens + sequence.completion_tokens - sequence._produced
        sequence._clock = lane.clock
        heapq.heappush(lane.endings, (ends_tokens, sequence._ordinal, sequence))
        if sequence.block_hashes:
            self._await_full_block(lane, sequence, total_tokens - 1)
        self._entrants[sequence] = None
        self.decoding += 1
        lane.decoding += 1
        lane.base_tokens += base_tokens

    def leave(self, sequence: EngineSequence) -> None:
        """It no longer runs, for whatever reason: its blocks are free, its tokens stand."""
        del self.running[sequence]
        clock = sequence._clock
        if clock is None:
            self.prefilling.pop(sequence, None)
        else:
            lane = self._lane if self._has_one_lane else self._lane_of(sequence)
            if not self._entrants or sequence not in self._entrants:  # as `_own_blocks`
                sequence._private = lane.memory.leave(sequence._base) - len(sequence._shared)
            sequence._produced = sequence.produced_tokens
            sequence._clock = None
            if self._entrants:
                self._entrants.pop(sequence, None)
            self.decoding -= 1
            lane.decoding -= 1
            lane.base_tokens -= sequence._base
        self.blocks.release(reversed(sequence._shared), sequence._private)
        sequence._shared = []
        sequence._private = 0

    # ------------------------------------------------------------------ prompts

    def _go_on_reading(self, budget: int) -> int:
        """Chunks, and blocks for them, for the running prompts. Returns what is left of the budget."""
        for sequence, tokens in self._chunks(budget):
            lacking = self._lacking(sequence, tokens)
            if not self.blocks.take_fresh(lacking):
                break  # where others were preempted there is budget for more than there was room
            sequence._private += lacking
            self._plan_chunk(sequence, tokens)
            budget -= tokens
        return budget

    def _chunks(self, budget: int) -> list[tuple[EngineSequence, int]]:
        """What the running prompts get of the budget."""
        chunks = []
        for sequence in self.prefilling:
            tokens = min(sequence.prompt_tokens + sequence._produced - sequence._computed, budget)
            if tokens <= 0:
                break
            chunks.append((sequence, tokens))
            budget -= tokens
        return chunks

    def _lacking(self, sequence: EngineSequence, tokens: int) -> int:
        """Blocks that it needs for its next so many tokens, beyond those it holds."""
        held = len(sequence._shared) + sequence._private
        return max(0, -(-(sequence._computed + tokens) // self._block_tokens) - held)

    def _plan_chunk(self, sequence: EngineSequence, tokens: int) -> None:
        """Its blocks that this step fills get their names when it is planned, as in vLLM: others may share them at once."""
        before = sequence._computed
        self.chunks.append((sequence, tokens, tokens * before + tokens * (tokens + 1) // 2))
        self.chunk_tokens += tokens
        if sequence.block_hashes:
            self._publish(sequence, before + tokens)

    def _admit(self, sequence: EngineSequence, budget: int, now_seconds: float) -> int:
        """Give a waiting sequence its prefix and blocks for its first chunk. Returns the chunk's tokens; 0: no room."""
        cached_blocks = 0
        block_tokens, pool = self._block_tokens, self.blocks
        total_tokens = sequence.prompt_tokens + sequence._produced
        hashes = sequence.block_hashes
        if hashes and self._has_prefix_cache:
            # At least one token must be computed to yield the next, so a prompt is never cached whole.
            full_blocks = min((total_tokens - 1) // block_tokens, len(hashes))
            cached_blocks = pool.match(hashes[:full_blocks])
        cached_tokens = cached_blocks * block_tokens
        tokens = min(total_tokens - cached_tokens, budget)
        fresh = -(-(cached_tokens + tokens) // block_tokens) - cached_blocks
        shared = list(hashes[:cached_blocks])
        # The whole of it must fit now, though only a chunk is taken: vLLM's `scheduler_reserve_full_isl`, on by default.
        whole = -(-total_tokens // block_tokens) - cached_blocks
        if whole > fresh and not pool.has_room(shared, whole):
            return 0
        if not pool.take(shared, fresh):
            return 0
        sequence._shared = shared
        sequence._private = fresh
        sequence._named = cached_blocks
        sequence._computed = cached_tokens
        sequence.state = RUNNING
        if sequence.admitted_seconds is None:
            sequence.admitted_seconds = now_seconds
            sequence.cached_tokens = cached_tokens
            if self._has_prefix_cache:
                self._counters.prefix_queries += total_tokens
                self._counters.prefix_hits += cached_tokens
        self._plan_chunk(sequence, tokens)
        return tokens

    # ------------------------------------------------------------------ preemption

    def _preempt_until_it_fits(self, budget: int) -> None:
        """Go through the batch in its order, as vLLM does; who finds no block for its next step preempts another."""
        entrants = self._entrants
        for sequence in self.running:
            if sequence._clock is not None and sequence not in entrants:
                self._own_blocks(sequence)
                entrants[sequence] = None
        for lane in self._lanes:
            lane.memory.grown_tokens, lane.fresh = lane.clock.tokens, 0
        chunks = dict(self._chunks(budget))
        for sequence in list(self.running):
            while sequence in self.running:
                if sequence._clock is None:
                    fresh = self._lacking(sequence, chunks.get(sequence, 0))
                else:
                    held = len(sequence._shared) + sequence._private
                    fresh = self._blocks_of(sequence) - held
                if self.blocks.take_fresh(fresh):
                    sequence._private += fresh
                    break
                self._preempt(self._waiting.victim(self.running))

    def _preempt(self, sequence: EngineSequence) -> None:
        """Out of the batch, its cache given up; it will be computed again."""
        self.leave(sequence)
        sequence._computed = 0
        sequence.state = SequenceState.WAITING
        sequence.preemptions += 1
        self._counters.preemptions += 1
        self.preempted.append(sequence)
        self._waiting.put_back(sequence)

    def _blocks_of(self, sequence: EngineSequence) -> int:
        """That it must hold for its next step, when it decodes."""
        lane = self._lane if self._has_one_lane else self._lane_of(sequence)
        return lane.memory.blocks(sequence._base + lane.clock.tokens)

    def _own_blocks(self, sequence: EngineSequence) -> None:
        """Take a decoding sequence's blocks out of the common count, if they are in it."""
        if sequence not in self._entrants:
            sequence._private = self._lane_of(sequence).memory.leave(sequence._base) - len(sequence._shared)

    # ------------------------------------------------------------------ names of blocks

    def _fill(self, lane: Lane, clock_tokens: int) -> None:
        """Take the blocks for a step at that value of the lane's clock, and name those that are full by then, in order."""
        memory, fillings = lane.memory, lane.fillings
        while fillings and fillings[0][0] <= clock_tokens:
            filled_tokens, _, sequence = heapq.heappop(fillings)
            if sequence._clock is None:
                continue
            total_tokens = sequence._base + filled_tokens
            if total_tokens % self._block_tokens or sequence._ends_tokens <= filled_tokens:
                continue  # left over from before a preemption; or its last token, which is never computed
            memory.grow(filled_tokens)
            self._publish(sequence, total_tokens)
            self._await_full_block(lane, sequence, total_tokens)
        memory.grow(clock_tokens)

    def _await_full_block(self, lane: Lane, sequence: EngineSequence, total_tokens: int) -> None:
        """Note when its next block will be full, if that has a name."""
        block = total_tokens // self._block_tokens
        if self._has_prefix_cache and block < len(sequence.block_hashes):
            filled_tokens = (block + 1) * self._block_tokens - sequence._base
            heapq.heappush(lane.fillings, (filled_tokens, sequence._ordinal, sequence))

    def _publish(self, sequence: EngineSequence, computed_tokens: int) -> None:
        """Name the blocks that are full. What somebody else holds under that name stays this sequence's own copy."""
        if not self._has_prefix_cache:
            return
        hashes = sequence.block_hashes
        full = min(computed_tokens // self._block_tokens, len(hashes))
        for position in range(sequence._named, full):
            if self.blocks.publish(hashes[position]):
                sequence._shared.append(hashes[position])
                sequence._private -= 1
        sequence._named = max(sequence._named, full)
