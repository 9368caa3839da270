"""The token clock: what a step yields for a sequence that decodes, and so which step has come how far.

All that decode in one lane (`lane.py`) gain alike in a step, so one number moves them all: it is what makes a step cost the same
however many sequences are in it. Without speculative decoding that number goes up by one a step.

With it, the k-th step yields ⌊(k + 1)·τ + φ⌋ − ⌊k·τ + φ⌋ tokens, τ being the profile's mean tokens a step and φ in [0, 1)
drawn from a seed. Of all sequences of whole numbers this one stays closest to its mean: after any number of steps it is less
than one token from the expectation, which random draws would be only on average, and it has a closed form, forwards and
backwards. What it leaves out is that acceptance differs between sequences of one lane; no step's time depends on that.
"""

import math
from random import Random

from router.pricing.profile import Speculation


class TokenClock:
    """tokens: how many a sequence that had decoded since the engine started would have made by now. steps: in so many steps."""

    __slots__ = ("_phase", "is_speculating", "step_tokens", "steps", "tokens")

    def __init__(self, speculation: Speculation | None = None, seed: int = 0) -> None:
        self.steps = 0
        self.tokens = 0
        self.is_speculating = speculation is not None
        self.step_tokens = 1.0 if speculation is None else speculation.tokens_per_step
        self._phase = 0.0 if speculation is None else Random(seed).random()

    def after(self, steps: int) -> int:
        """What it shows after so many more steps."""
        if not self.is_speculating:
            return self.tokens + steps
        return math.floor((self.steps + steps) * self.step_tokens + self._phase)

    def until(self, tokens: int) -> int:
        """After how many steps it has come that far."""
        if not self.is_speculating:
            return tokens - self.tokens
        steps = math.ceil((tokens - self._phase) / self.step_tokens) - self.steps
        while self.after(steps) < tokens:  # what floats may have rounded away
            steps += 1
        while steps > 1 and self.after(steps - 1) >= tokens:
            steps -= 1
        return steps

    def growth(self, sequences: int) -> int:
        """By how much the context of so many sequences together grows a step, the mean rounded to whole tokens."""
        return round(sequences * self.step_tokens) if self.is_speculating else sequences
