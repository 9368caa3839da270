"""How soon a metered backend begins, by how much of the prompt it has to read: learned from its answers.

    TTFT = level · (1 + growth · uncached prompt tokens)

The level is a mean of logarithms, which one answer in twenty that took ten times as long does not move far. Of growths a dozen,
each twice the one before, are tried side by side on every answer, and the one that leaves the least variance is believed: no step
sizes, nothing that could run away, and none is negative. Another than that of the prior is believed only if it explains more than
chance would: prompts that are all alike tell nothing of it.

Pure; for one thread. The figures may be read from another.
"""

from math import exp, log, log1p

# Of one forecast for all, before anything was seen. Measured on the 1,593 requests of the Claude Code agent trace
# (callanjfox/kv-cache-tester, Apache-2.0) that have the API's own times: the time to the first token of the shortest prompt, from
# a Theil–Sen line over the prompts' lengths; of the growths below, the one that leaves the least variance of the logarithms over
# the tokens that the session had not sent before; and that variance.
LEVEL_SECONDS = 1.8
GROWTH_PER_TOKEN = 6.4e-6
LOG_VARIANCE = 0.14
# As so many answers the prior counts: five say as much as others' trace.
PRIOR_ANSWERS = 5.0
PRIOR_LOG = PRIOR_ANSWERS * log(LEVEL_SECONDS)
# From a provider that reads a hundred thousand tokens in a third of the time of its first word, to one that needs as long for
# five hundred as for that word.
PRIOR_PLACE = 3
GROWTHS = tuple(GROWTH_PER_TOKEN * 2.0**step for step in range(-PRIOR_PLACE, 9))
# What each step away from the prior must gain, twice the logarithm of the likelihood: Akaike's for one parameter.
GAIN_PER_STEP = 2.0


class FirstTokens:
    """Of one backend. level_seconds: to the first token of the shortest prompt; seconds_per_token: more for each that is not
    cached. answers: what they rest on, faded, without the prior."""

    __slots__ = ("_logs", "_place", "_squares", "answers", "level_seconds", "seconds_per_token")

    def __init__(self) -> None:
        self.answers = 0.0
        self._place = PRIOR_PLACE
        # Of each growth: sums of what logarithms are without it, and of their squares.
        self._logs = [0.0] * len(GROWTHS)
        self._squares = [0.0] * len(GROWTHS)
        self._conclude()

    def observe(self, seconds: float, uncached_tokens: float) -> None:
        """seconds: more than 0."""
        log_seconds, logs, squares = log(seconds), self._logs, self._squares
        for place, growth in enumerate(GROWTHS):
            one = log_seconds - log1p(growth * uncached_tokens)
            logs[place] += one
            squares[place] += one * one
        self.answers += 1
        self._conclude()

    def fade(self, kept: float) -> None:
        """So much of what was seen is kept, 0–1."""
        self.answers *= kept
        for place in range(len(GROWTHS)):
            self._logs[place] *= kept
            self._squares[place] *= kept
        self._conclude()

    def choose(self) -> None:
        """Believe the growth that explains the answers best."""
        answers, best = self.answers, 0.0
        for place, (total, squares) in enumerate(zip(self._logs, self._squares, strict=True)):
            scatter = max(squares - total * total / answers, 0.0) if answers > 0 else 0.0
            variance = (scatter + PRIOR_ANSWERS * LOG_VARIANCE) / (answers + PRIOR_ANSWERS)
            score = answers * log(variance) + GAIN_PER_STEP * abs(place - PRIOR_PLACE)
            if place == 0 or score < best:
                best, self._place = score, place
        self._conclude()

    def _conclude(self) -> None:
        level = exp((PRIOR_LOG + self._logs[self._place]) / (PRIOR_ANSWERS + self.answers))
        self.level_seconds = level
        self.seconds_per_token = level * GROWTHS[self._place]
