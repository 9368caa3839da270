"""A stretch: steps planned at once, and when each of them ends.

It is one step that holds prompts, or a run of steps in which the same sequences decode. The times of a run come from the sum
of a straight line, so it costs the same however many steps it has. What each step holds is the batch's (`batch.py`).
"""

from router.pricing.profile import EngineProfile
from router.pricing.steps import DecodeSteps


class Stretch:
    """The one under way, or none (`steps` is 0); the engine has one object for all of them.

    steps: planned; ended_steps: of them, have been looked at, up to `looked_seconds`. ends_seconds: when the last one ends.
    decoding, context_tokens: of its first step; slope: how much the context grows a step. clock_tokens: what the token clock
    showed. alone: steps that decode only; None where it is one that holds prompts.
    """

    __slots__ = (
        "alone",
        "began_seconds",
        "clock_tokens",
        "context_tokens",
        "decoding",
        "ended_steps",
        "ends_seconds",
        "looked_seconds",
        "slope",
        "steps",
    )

    def __init__(self) -> None:
        self.alone: DecodeSteps | None = None
        self.began_seconds = self.looked_seconds = self.ends_seconds = 0.0
        self.steps = self.ended_steps = 0
        self.decoding = self.context_tokens = self.clock_tokens = self.slope = 0

    def read(self, profile: EngineProfile, now_seconds: float, prefill_tokens: int, prefill_pairs: int) -> None:
        """Plan one step that holds prompts."""
        self.alone = None
        self.began_seconds = self.looked_seconds = now_seconds
        self.steps, self.ended_steps = 1, 0
        self.ends_seconds = now_seconds + profile.step_seconds(
            self.decoding, self.context_tokens, prefill_tokens, prefill_pairs
        )

    def decode(self, alone: DecodeSteps, now_seconds: float, steps: int, slope: int) -> None:
        """Plan so many steps that decode only."""
        self.alone, self.slope = alone, slope
        self.began_seconds = self.looked_seconds = now_seconds
        self.steps, self.ended_steps = steps, 0
        self.ends_seconds = now_seconds + alone.seconds(self.context_tokens, steps, slope)

    def cut(self, now_seconds: float) -> None:
        """Let it end with the step under way."""
        ended, ends_seconds = self.under_way(now_seconds)
        self.steps = ended + 1
        self.ends_seconds = ends_seconds

    def end_seconds(self, steps: int) -> float:
        """When so many of its steps have ended."""
        if steps == self.steps or self.alone is None:
            return self.ends_seconds
        return self.began_seconds + self.alone.seconds(self.context_tokens, steps, self.slope)

    def under_way(self, now_seconds: float) -> tuple[int, float]:
        """How many of its steps have ended, and when the next one will. The last one never has, for it is `Engine.advance`
        that ends it."""
        began_seconds, first, last = self.began_seconds, self.ended_steps, self.steps - 1
        mean_seconds = (self.ends_seconds - began_seconds) / self.steps
        steps = min(max(int((now_seconds - began_seconds) / mean_seconds), first), last)
        # Steps take almost the same time each, so the guess is right or nearly so.
        while steps > first and (late_seconds := self.end_seconds(steps) - now_seconds) > 0:
            steps = max(first, steps - 1 - int(late_seconds / (2 * mean_seconds)))
        while (ends_seconds := self.end_seconds(steps + 1)) <= now_seconds and steps < last:
            steps = min(last, steps + 1 + int((now_seconds - ends_seconds) / (2 * mean_seconds)))
            while steps > first and self.end_seconds(steps) > now_seconds:
                steps -= 1
        return steps, ends_seconds
