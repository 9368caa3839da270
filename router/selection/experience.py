"""What attempts at a metered backend have taught of it: how often it answers, how soon it begins, how fast it goes on.

A provider shows nothing of its load: only its answers tell. Each figure is a mean in which what was seen counts less the longer
ago it was, and which begins at a prior that counts as so many observations, so that little changes it little, and long silence
brings it back. Failing fades within minutes, for providers recover; then a few requests try it again, and if it still fails it
is out for another while. Times are means of logarithms, which one answer in twenty that took ten times as long does not move
far.

How often it answers is not a price: who is asked first and fails costs no money, since the next one answers, but time, and a
part of the retries that all requests share (`retries.budget_ratio`). So a backend that answers too seldom is asked only when
nobody else can, and what its failures take is in the forecast of its first token.

Pure: times come from the caller. For one thread; the figures may be read from another.
"""

from collections.abc import Iterable, Iterator
from math import exp, exp2, log

from router.domain.attempt import AttemptStatus, Charge
from router.domain.fleet import Backend, Billing
from router.domain.usage import Usage
from router.selection.first_token import PRIOR_ANSWERS, FirstTokens

# Of one forecast for all, before anything was seen: the median time per token of the trace that `first_token.py` names.
TPOT_SECONDS = 0.017
# As so many observations the priors count: two failures in a row are no outage.
PRIOR_ATTEMPTS = 10.0
PRIOR_LOG_TPOT = PRIOR_ANSWERS * log(TPOT_SECONDS)
# After so long an observation counts half. A minute of failures is an incident; load comes and goes by the hour.
ATTEMPTS_HALVED_SECONDS = 60.0
ANSWERS_HALVED_SECONDS = 600.0
# The mean of fewer gaps is mostly chance (as in `pricing/drift.py`).
COMPLETION_TOKENS_MIN = 16
# Less than any network takes: a clock that was set, or an answer that was there already.
SECONDS_MIN = 1e-4
# Failures that say nothing of whether the backend answers: the request was wrong, or ours to put right.
NOT_ITS_OWN = frozenset({"refused", "untranslatable", "credentials", "no_credit", "leaving"})
# It said for how long to leave it alone, and that is heeded (`fleet/health.py`): within its limits it answers. The time is lost.
LEFT_ALONE = frozenset({"limited", "overloaded"})


class Experience:
    """Of one backend. availability_ratio: of attempts, how many are answered. ttft_seconds: to the first token of the shortest
    prompt, the network of its pool left out, what failing takes added; ttft_seconds_per_token: more for each token of the prompt
    that is not cached. tpot_seconds: a mean of each answer.

    is_shunned: it answers too seldom to be asked while others can. attempts, answers: what the figures rest on, faded, without
    the priors.
    """

    __slots__ = (
        "_at_ns", "_failed", "_failed_seconds", "_first_tokens", "_log_tpot", "_paced", "_rtt_seconds", "_succeeded",
        "availability_min", "availability_ratio", "is_shunned", "tpot_seconds", "ttft_seconds", "ttft_seconds_per_token",
    )  # fmt: skip

    def __init__(self, rtt_seconds: float = 0.0, availability_min: float = 0.0) -> None:
        self.configure(rtt_seconds, availability_min)
        self._at_ns = 0
        self._succeeded = self._failed = self._failed_seconds = 0.0
        self._first_tokens = FirstTokens()
        self._paced = self._log_tpot = 0.0
        self._conclude()

    def configure(self, rtt_seconds: float, availability_min: float) -> None:
        """rtt_seconds: of its pool's network, which is in every observation. availability_min: from which share on it is asked
        like any other."""
        self._rtt_seconds = rtt_seconds
        self.availability_min = availability_min

    @property
    def attempts(self) -> float:
        return self._succeeded + self._failed

    @property
    def answers(self) -> float:
        return self._first_tokens.answers

    def observe(self, charge: Charge) -> None:
        """An attempt has ended. Only a streamed answer that came whole tells both times; one that was cut short by us, or by its
        client, tells whether it had begun."""
        status, first_ns = charge.status, charge.first_token_ns
        has_failed = status is AttemptStatus.FAILED
        if charge.fault in NOT_ITS_OWN or not (has_failed or first_ns is not None or status is AttemptStatus.OK):
            return
        if first_ns is not None and status is AttemptStatus.OK:
            ttft_seconds, decode_seconds = (first_ns - charge.opened_ns) / 1e9, (charge.ended_ns - first_ns) / 1e9
            self.answered(ttft_seconds, decode_seconds, charge.usage, charge.ended_ns)
            return
        self._fade(charge.ended_ns)
        if has_failed:
            self._failed += charge.fault not in LEFT_ALONE
            self._failed_seconds += (charge.ended_ns - charge.opened_ns) / 1e9
        else:
            self._succeeded += 1
        self._conclude()

    def answered(self, ttft_seconds: float, decode_seconds: float, usage: Usage, at_ns: int) -> None:
        """A streamed answer came whole."""
        self._fade(at_ns)
        self._succeeded += 1
        uncached_tokens = usage.prompt_tokens - usage.cached_tokens
        self._first_tokens.observe(max(ttft_seconds - self._rtt_seconds, SECONDS_MIN), max(uncached_tokens, 0))
        if usage.completion_tokens >= COMPLETION_TOKENS_MIN:
            seconds = decode_seconds / (usage.completion_tokens - 1)
            self._paced += 1
            self._log_tpot += log(seconds if seconds > SECONDS_MIN else SECONDS_MIN)
        self._conclude()

    def advance(self, now_ns: int) -> None:
        """Let what was seen fade, and see how the first token depends on the prompt. Call it about once a second."""
        self._fade(now_ns)
        self._first_tokens.choose()
        self._conclude()

    def _fade(self, now_ns: int) -> None:
        seconds = (now_ns - self._at_ns) / 1e9
        if seconds <= 0:  # told late by another attempt: it counts as of now
            return
        self._at_ns = now_ns
        kept = exp2(-seconds / ATTEMPTS_HALVED_SECONDS)
        self._succeeded *= kept
        self._failed *= kept
        self._failed_seconds *= kept
        kept = exp2(-seconds / ANSWERS_HALVED_SECONDS)
        self._first_tokens.fade(kept)
        self._paced *= kept
        self._log_tpot *= kept

    def _conclude(self) -> None:
        answered = PRIOR_ATTEMPTS + self._succeeded
        self.availability_ratio = ratio = answered / (answered + self._failed)
        self.is_shunned = ratio < self.availability_min
        self.ttft_seconds = self._first_tokens.level_seconds + self._failed_seconds / answered
        self.ttft_seconds_per_token = self._first_tokens.seconds_per_token
        self.tpot_seconds = exp((PRIOR_LOG_TPOT + self._log_tpot) / (PRIOR_ANSWERS + self._paced))


class Experiences:
    """Of every metered backend, by name. They outlive a configuration, and each worker has its own."""

    __slots__ = ("_experiences",)

    def __init__(self) -> None:
        self._experiences: dict[str, Experience] = {}

    def __iter__(self) -> Iterator[tuple[str, Experience]]:
        return iter(list(self._experiences.items()))

    def follow(self, backends: Iterable[Backend], availability_min: float) -> None:
        """These are the backends from now on."""
        kept = self._experiences
        self._experiences = {}
        for backend in backends:
            if backend.pool.billing is Billing.METERED:
                self._experiences[backend.name] = one = kept.get(backend.name) or Experience()
                one.configure(backend.pool.rtt_seconds, availability_min)

    def of(self, backend: str) -> Experience | None:
        """None for one that is not metered."""
        return self._experiences.get(backend)

    def observe(self, charge: Charge) -> None:
        """An attempt has ended."""
        experience = self._experiences.get(charge.facts.backend)
        if experience is not None:
            experience.observe(charge)

    def advance(self, now_ns: int) -> None:
        """Call it about once a second. now_ns: of the clock that attempts are timed by."""
        for experience in self._experiences.values():
            experience.advance(now_ns)
