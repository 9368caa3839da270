"""One sequence: the work that the caller fixes, and how far the engine has brought it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from load.engine.pace import TokenClock
from load.engine.shares import Ledger, Shares


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
    priority: smaller goes first where the engine schedules by priority (vLLM's sense).
    kind: of answer, where the engine is told that drafts are accepted by it; "" otherwise.
    cached_tokens: prompt tokens found in the prefix cache at first admission.
    shares: the GPU-seconds of its steps, where the engine attributes them; whole when the sequence is over.
    Times are in the caller's seconds; None until they happen.
    """

    prompt_tokens: int
    completion_tokens: int
    block_hashes: Sequence[int] = ()
    priority: int = 0
    kind: str = ""
    state: SequenceState = SequenceState.WAITING
    cached_tokens: int = 0
    preemptions: int = 0
    arrived_seconds: float = 0.0
    admitted_seconds: float | None = None
    first_token_seconds: float | None = None
    ended_seconds: float | None = None
    shares: Shares | None = None
    # The engine's own. While it decodes, `_clock` is set, and it has `_base` tokens more than the clock shows.
    _ordinal: int = 0
    _clock: TokenClock | None = field(default=None, repr=False)
    _base: int = 0
    _ends_tokens: int = 0
    _joined: Ledger | None = field(default=None, repr=False)
    _produced: int = 0
    _computed: int = 0
    _shared: list[int] = field(default_factory=list, repr=False)
    _private: int = 0
    _named: int = 0

    @property
    def produced_tokens(self) -> int:
        """Completion tokens yielded so far."""
        clock = self._clock
        if clock is None:
            return self._produced
        return min(self._base + clock.tokens - self.prompt_tokens, self.completion_tokens)

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.produced_tokens

    @property
    def is_over(self) -> bool:
        return self.state in (SequenceState.FINISHED, SequenceState.ABORTED)
