"""One request that was sent, and what became of it."""

from dataclasses import dataclass, field

CUT_OFF = "cut_off"


@dataclass(slots=True)
class Outcome:
    """Times are seconds since the run began.

    number: of the request in the trace. scheduled: when it was due; what a user waited counts from there. sent: when we began to
    send. first: when the first token came, None where there was none or the answer came whole. gaps_seconds: between a stream's
    pieces with text. error: "" for an answer that really finished, else a short word: `http_429`, `connect`, `unfinished`, …
    Tokens as the server says, None where it does not. cost_nanousd: as the server says; None where it does not.
    """

    number: int
    scheduled_seconds: float
    sent_seconds: float
    is_streamed: bool
    first_seconds: float | None = None
    ended_seconds: float = 0.0
    error: str = ""
    gaps_seconds: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    cached_tokens: int = 0
    completion_tokens: int | None = None
    cost_nanousd: int | None = None
    model: str = ""
    backend: str = ""
    tier: str = ""

    @property
    def is_ok(self) -> bool:
        return not self.error

    @property
    def latency_seconds(self) -> float:
        return self.ended_seconds - self.scheduled_seconds

    @property
    def ttft_seconds(self) -> float | None:
        return None if self.first_seconds is None else self.first_seconds - self.scheduled_seconds

    @property
    def tpot_seconds(self) -> float | None:
        """Mean time of a token after the first; None for an answer of one, or one that came whole."""
        tokens = self.completion_tokens
        if self.first_seconds is None or tokens is None or tokens < 2:
            return None
        return (self.ended_seconds - self.first_seconds) / (tokens - 1)
