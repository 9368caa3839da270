"""The engine once more, as plainly as it can be written: every step by itself, every sequence looked at in each.

What `load/engine` must agree with, whatever it leaves out or adds up at once. No sharing of code but the block pool, the
profile, and the definition of a step's shares.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from load.engine.shares import StepMember, shares_of_step
from load.kv_cache import BlockPool
from router.pricing.profile import EngineProfile


@dataclass(eq=False)
class PlainSequence:
    prompt_tokens: int
    completion_tokens: int
    hashes: list[int]
    priority: int = 0
    kind: str = ""
    arrived: float = 0.0
    ordinal: int = 0
    state: str = "waiting"
    computed: int = 0
    produced: int = 0
    cached: int = 0
    preemptions: int = 0
    admitted: float | None = None
    first: float | None = None
    ended: float | None = None
    shares_seconds: float = 0.0
    is_decoding: bool = False
    shared: list[int] = field(default_factory=list)
    private: int = 0
    named: int = 0

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.produced


class PlainEngine:
    def __init__(
        self,
        profile: EngineProfile,
        block: int,
        *,
        is_by_priority: bool = False,
        seed: int = 0,
        acceptance_by_kind: Mapping[str, float] | None = None,
    ) -> None:
        self.profile, self.block, self.is_by_priority = profile, block, is_by_priority
        self.blocks = BlockPool(max(1, profile.kv_capacity_tokens // block))
        self.waiting: list[PlainSequence] = []
        self.running: list[PlainSequence] = []
        self.plan: list[tuple[PlainSequence, int]] = []
        self.due: float | None = None
        self.began = 0.0
        self.steps = self.preemptions = self.submitted = self.completion_tokens = 0
        self.busy_seconds = 0.0
        speculation = profile.speculation
        self.draft = speculation.draft_tokens if speculation else 0
        self.per_step = speculation.tokens_per_step if speculation else 1.0
        self.per_step_of = {
            kind: sum(ratio**position for position in range(self.draft + 1))
            for kind, ratio in (acceptance_by_kind or {}).items()
        }
        self.phase = Random(seed).random() if speculation else 0.0

    def submit(self, sequence: PlainSequence, now: float) -> None:
        self.submitted += 1
        sequence.ordinal, sequence.arrived = self.submitted, now
        self.waiting.append(sequence)
        if self.due is None:
            self.due = now

    def abort(self, sequence: PlainSequence, now: float) -> None:
        if sequence.state in ("finished", "aborted"):
            return
        if sequence.state == "running":
            self.running.remove(sequence)
            self.release(sequence)
        else:
            self.waiting.remove(sequence)
        sequence.state, sequence.ended = "aborted", now

    def advance(self, now: float) -> None:
        while self.due is not None and self.due <= now:
            due = self.due
            if self.plan:
                self.end_step(due)
            self.begin_step(due)

    def rank(self, sequence: PlainSequence) -> tuple[int, float, int]:
        return sequence.priority, sequence.arrived, sequence.ordinal

    def needed(self, sequence: PlainSequence, tokens: int) -> int:
        lookahead = self.draft if sequence.is_decoding else 0
        return math.ceil((sequence.computed + tokens + lookahead) / self.block)

    def begin_step(self, now: float) -> None:
        self.plan = []
        preempted_before = self.preemptions
        budget = self.profile.chunk_tokens - sum(one.is_decoding for one in self.running) * (1 + self.draft)
        chunks: dict[PlainSequence, int] = {}
        for one in self.running:
            if one.is_decoding:
                chunks[one] = 1
            elif budget > 0:
                chunks[one] = min(one.total - one.computed, budget)
                budget -= chunks[one]
        for one in list(self.running):
            while one in self.running and one in chunks:
                fresh = max(0, self.needed(one, chunks[one]) - len(one.shared) - one.private)
                if self.blocks.take((), fresh):
                    one.private += fresh
                    break
                self.preempt(max(self.running, key=self.rank) if self.is_by_priority else self.running[-1])
        self.plan = [(one, chunks[one]) for one in self.running if one in chunks]
        for one, tokens in sorted(self.plan, key=lambda pair: (not pair[0].is_decoding, pair[0].ordinal)):
            self.publish(one, one.computed + tokens)
        if self.preemptions == preempted_before:
            while self.waiting and budget > 0 and len(self.running) < self.profile.sequences_max:
                head = min(self.waiting, key=self.rank) if self.is_by_priority else self.waiting[0]
                tokens = self.admit(head, budget, now)
                if not tokens:
                    break
                self.waiting.remove(head)
                self.running.append(head)
                self.plan.append((head, tokens))
                budget -= tokens
        self.due = None
        if self.plan:
            self.began = now
            decoding = [one for one, _ in self.plan if one.is_decoding]
            prompts = [(one, tokens) for one, tokens in self.plan if not one.is_decoding]
            self.due = now + self.profile.step_seconds(
                len(decoding),
                sum(one.total for one in decoding),
                sum(tokens for _, tokens in prompts),
                sum(tokens * one.computed + tokens * (tokens + 1) // 2 for one, tokens in prompts),
            )
            self.members = [
                StepMember(one.total, 0, 0)
                if one.is_decoding
                else StepMember(0, tokens, tokens * one.computed + tokens * (tokens + 1) // 2)
                for one, tokens in self.plan
            ]

    def admit(self, one: PlainSequence, budget: int, now: float) -> int:
        cached = self.blocks.match(one.hashes[: (one.total - 1) // self.block])
        tokens = min(one.total - cached * self.block, budget)
        fresh = math.ceil((cached * self.block + tokens) / self.block) - cached
        whole = math.ceil(one.total / self.block) - cached
        if not self.blocks.has_room(one.hashes[:cached], whole):
            return 0
        assert self.blocks.take(one.hashes[:cached], fresh)
        one.shared, one.private, one.named = one.hashes[:cached], fresh, cached
        one.computed, one.state = cached * self.block, "running"
        if one.admitted is None:
            one.admitted, one.cached = now, cached * self.block
        self.publish(one, one.computed + tokens)
        return tokens

    def preempt(self, one: PlainSequence) -> None:
        self.running.remove(one)
        self.release(one)
        one.computed, one.state, one.is_decoding = 0, "waiting", False
        one.preemptions += 1
        self.preemptions += 1
        self.waiting.insert(0, one)

    def end_step(self, now: float) -> None:
        self.steps += 1
        self.busy_seconds += now - self.began
        for (one, _), seconds in zip(self.plan, shares_of_step(self.profile, self.members), strict=True):
            one.shares_seconds += seconds
        for one, tokens in sorted(self.plan, key=lambda pair: (not pair[0].is_decoding, pair[0].ordinal)):
            if one.state != "running":
                continue
            if not one.is_decoding:
                one.computed += tokens
                if one.computed < one.total:
                    continue
                gained = min(1, one.completion_tokens)
                if one.first is None:
                    one.first = now
            else:
                per_step = self.per_step_of.get(one.kind, self.per_step)
                yielded = math.floor(self.steps * per_step + self.phase)
                yielded -= math.floor((self.steps - 1) * per_step + self.phase)
                gained = min(yielded, one.completion_tokens - one.produced)
                one.computed += gained
            one.is_decoding = True
            one.produced += gained
            self.completion_tokens += gained
            if one.produced >= one.completion_tokens:
                self.running.remove(one)
                self.release(one)
                one.state, one.ended = "finished", now

    def publish(self, one: PlainSequence, computed: int) -> None:
        full = min(computed // self.block, len(one.hashes))
        for position in range(one.named, full):
            if self.blocks.publish(one.hashes[position]):
                one.shared.append(one.hashes[position])
                one.private -= 1
        one.named = max(one.named, full)

    def release(self, one: PlainSequence) -> None:
        self.blocks.release(reversed(one.shared), one.private)
        one.shared, one.private = [], 0
