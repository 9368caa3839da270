"""What a step of a backend that drafts yields, by the kind of answer: learned from how fast answers came.

A profile has one acceptance ratio, but drafts of code are right far more often than drafts of talk. So for each kind of answer
(its task category, or that it is structured) the tokens are counted that answers gained after their first one, and the steps that
took: the seconds that passed, divided by what a step takes under that load, *by the profile*. Tokens ÷ steps is what a step
yields. What is forecast is the profile's time of a step ÷ what a step yields, so it does not matter to forecasts and quotes how
much of a difference was the drafts' and how much the step's. And since it is held against the profile's step, not against one
that `drift.py` has corrected, the two do not push each other about: what is left over when a backend's kinds are known, replica
by replica, is drift.

What was not used: tokens per event of a stream, which a server merges at will (`--stream-interval`, a busy event loop); and the
server's own counters of accepted tokens, a mean over all kinds and everybody's clients.

Only the mean of all kinds is used of one for another: of how fast others go on depends how soon they make room for the next, and
so how many prompts are read in a step (`forecast.py`).

Each kind begins at the profile, as if so many tokens had come at its pace; what was seen fades within hours; an answer counts as
a few hundred tokens at most, and none says more than twice what drafting can do. Of one kind another tells nothing: a backend
that was only ever asked to talk is still taken at its profile's word for code, so that it is tried. And a kind that was sent
elsewhere because its drafts are rejected is tried again when that was long ago.

Forecasts follow it, and the quotes that follow from them: allocated and marginal. The weights that divide a bill do not need it:
an answer whose drafts are accepted is in fewer steps, and its attempt pays for the time that it is there (`weigher.py`; only the
growth of a cache is expected at the profile's pace). Standard prices do not know it, for they are a list: a token is a token.

Pure: times come from the caller. For one thread; the figures may be read from another.
"""

from collections.abc import Iterator, Mapping
from math import exp2

from router.domain.attempt import AttemptStatus, Charge
from router.domain.decision import Candidate
from router.domain.request import Capability, InferenceRequest
from router.pricing.profile import Speculation

# The kind of an answer whose shape is laid down, whatever it is about; every other's is its task category.
STRUCTURED = "structured"
# Where nobody has predicted a category: the classifier's own word for what it cannot place.
UNPLACED = "other"
# Four long answers weigh as much as what was believed before.
PRIOR_TOKENS = 1024.0
# Of one answer: the load that it was forecast under was one load, however long it went on.
ANSWER_TOKENS_MAX = 256.0
# The mean of fewer gaps is mostly chance (as in `drift.py`).
COMPLETION_TOKENS_MIN = 16
# After so long an observation counts half: what is asked changes by the day, models by the week.
HALVED_SECONDS = 2 * 3600.0
# Beyond what drafting can do: a stale scrape, a client that read slowly, a profile that is not this engine's.
BEYOND = 2.0


def answer_kind(request: InferenceRequest, category: str) -> str:
    """By what drafts are accepted more or less often: one of the classifier's categories, or STRUCTURED. category: as predicted;
    "" where nobody did."""
    needs = request.needs
    if Capability.JSON_SCHEMA in needs or Capability.JSON_OBJECT in needs:
        return STRUCTURED
    return category or UNPLACED


class Tally:
    """Of one kind, faded. answers: that were seen; tokens: that they gained; steps: that took."""

    __slots__ = ("answers", "steps", "tokens")

    def __init__(self) -> None:
        self.answers = self.tokens = self.steps = 0.0

    def fade(self, kept: float) -> None:
        self.answers *= kept
        self.tokens *= kept
        self.steps *= kept


class Yield:
    """Of one backend. kinds: what was seen, by kind of answer; whoever observes has a closed set of them."""

    __slots__ = ("_all", "_at_ns", "kinds", "prior_tokens_per_step", "tokens_per_step_max")

    def __init__(self, speculation: Speculation) -> None:
        self.prior_tokens_per_step = speculation.tokens_per_step
        self.tokens_per_step_max = 1.0 + speculation.draft_tokens
        self.kinds: dict[str, Tally] = {}
        self._all = Tally()
        self._at_ns = 0

    def tokens_per_step(self, kind: str) -> float:
        """Of answers of this kind, at least 1 and at most as many as are drafted and one."""
        tally = self.kinds.get(kind)
        return self.prior_tokens_per_step if tally is None else self._tokens_per_step(tally)

    @property
    def mean_ratio(self) -> float:
        """What a step yields to all kinds together, as they come ÷ what it would by the profile."""
        return self._tokens_per_step(self._all) / self.prior_tokens_per_step

    def _tokens_per_step(self, tally: Tally) -> float:
        mean = (PRIOR_TOKENS + tally.tokens) / (PRIOR_TOKENS / self.prior_tokens_per_step + tally.steps)
        if mean > self.tokens_per_step_max:
            return self.tokens_per_step_max
        return mean if mean > 1.0 else 1.0

    def steps_ratio(self, kind: str) -> float:
        """Steps that such an answer takes ÷ those that it would take by the profile: below 1 where more drafts are accepted."""
        return self.prior_tokens_per_step / self.tokens_per_step(kind)

    def answers(self, kind: str) -> float:
        """How many, faded, the figure for this kind rests on."""
        tally = self.kinds.get(kind)
        return 0.0 if tally is None else tally.answers

    def observe(self, kind: str, completion_tokens: int, seconds: float, step_seconds: float) -> None:
        """An answer had so many tokens, the last of them so many seconds after the first. step_seconds: of a step under its load,
        by the profile."""
        tokens = completion_tokens - 1
        if completion_tokens < COMPLETION_TOKENS_MIN or seconds <= 0 or step_seconds <= 0:
            return
        steps = seconds / step_seconds
        least, most = tokens / (BEYOND * self.tokens_per_step_max), tokens * BEYOND
        steps = least if steps < least else most if steps > most else steps
        weight = ANSWER_TOKENS_MAX / tokens if tokens > ANSWER_TOKENS_MAX else 1.0
        tally = self.kinds.get(kind)
        if tally is None:
            tally = self.kinds[kind] = Tally()
        for one in (tally, self._all):
            one.answers += 1
            one.tokens += tokens * weight
            one.steps += steps * weight

    def advance(self, now_ns: int) -> None:
        """Let what was seen fade. Call it about once a second; what is observed between two calls is as of the first."""
        before_ns = self._at_ns
        if now_ns <= before_ns:
            return
        self._at_ns = now_ns
        if not before_ns:  # the first time: nothing says how old what was seen is, and it cannot be old
            return
        seconds = (now_ns - before_ns) / 1e9
        kept = exp2(-seconds / HALVED_SECONDS)
        self._all.fade(kept)
        for tally in self.kinds.values():
            tally.fade(kept)


class Yields:
    """Of every backend that drafts, by name. They outlive a configuration, and each worker has its own."""

    __slots__ = ("_speculations", "_yields")

    def __init__(self) -> None:
        self._yields: dict[str, Yield] = {}
        self._speculations: dict[str, Speculation] = {}

    def follow(self, speculations: Mapping[str, Speculation]) -> None:
        """These are the backends from now on, by name; one that drafts otherwise starts anew."""
        before, kept = self._speculations, self._yields
        self._yields = {
            name: kept[name] if before.get(name) == speculation else Yield(speculation)
            for name, speculation in speculations.items()
        }
        self._speculations = dict(speculations)

    def of(self, backend: str) -> Yield | None:
        """None for one that does not draft."""
        return self._yields.get(backend)

    def observe(self, candidate: Candidate, charge: Charge, request: InferenceRequest) -> None:
        """An attempt has ended. Only a streamed answer that came whole, and was one answer, tells how fast it came."""
        one = self._yields.get(charge.facts.backend)
        first_ns = charge.first_token_ns
        if one is None or first_ns is None or charge.status is not AttemptStatus.OK or request.choices > 1:
            return
        kind = answer_kind(request, charge.facts.category)
        seconds = (charge.ended_ns - first_ns) / 1e9
        one.observe(kind, charge.usage.completion_tokens, seconds, candidate.step_seconds)

    def advance(self, now_ns: int) -> None:
        """Call it about once a second. now_ns: of the clock that attempts are timed by."""
        for one in self._yields.values():
            one.advance(now_ns)

    def figures(self) -> Iterator[tuple[str, str, float]]:
        """(backend, kind, tokens per step), of each kind that was seen there."""
        for backend, one in list(self._yields.items()):
            for kind in list(one.kinds):
                yield backend, kind, one.tokens_per_step(kind)
