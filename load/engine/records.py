"""What the engine tells: steps that have ended, and totals."""

from dataclasses import dataclass

from load.engine.sequence import EngineSequence


@dataclass(frozen=True, slots=True)
class Step:
    """One step that has ended. `progressed` lists the sequences that yielded a token in it or came to their end.

    completion_tokens: that it yielded, all sequences together.
    """

    began_seconds: float
    ended_seconds: float
    decoding: int
    prefill_tokens: int
    completion_tokens: int
    progressed: tuple[EngineSequence, ...]


@dataclass(slots=True)
class EngineCounters:
    """Totals since the start, up to the last step that was looked at. prompt_tokens counts whole prompts at their first
    token, cached part included.

    draft_rounds: decode steps, one for each sequence in it, where the engine speculates; 0 otherwise. In each,
        `Speculation.draft_tokens` are drafted, and what is yielded beyond one token was accepted (accepted_tokens).
    """

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
    draft_rounds: int = 0
    accepted_tokens: int = 0
