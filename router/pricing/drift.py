"""How far a replica is from its engine profile, learned from what it answers: a factor on TTFT's forecasts and one on TPOT's.

A profile cannot know a throttled GPU, a noisy neighbour, another build of the engine. But a quarter of an hour of answers
can also be one bad minute, or one client's odd prompts: so a factor follows the median of minutes that are each the median of
their answers, moves by a few per cent a minute, never leaves [½, 2], and goes back to 1 when there is nothing to learn from.
Forecasts follow it; the weights that divide a bill do not.

Pure: times come from the caller. Observing appends a number; all else happens once a minute, in `advance`.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from math import exp, log
from statistics import median

from router.domain.attempt import AttemptStatus, Charge
from router.domain.decision import Candidate
from router.pricing.profile import EngineProfile

WINDOW_NS = 60 * 10**9
WINDOWS_KEPT = 15
# Fewer windows, or fewer answers in one, prove nothing. Five windows: two bad minutes are outvoted.
WINDOWS_MIN = 5
SAMPLES_MIN = 5
SAMPLES_MAX = 101
# Of the logarithm, a window: from 1 to the bound takes a quarter of an hour.
STEP = 0.05
BOUND = log(2)
# Beyond this, not the engine was forecast wrong but something else: a stale scrape, a client that read slowly.
ERROR_MAX = log(20)
# The mean of fewer gaps is mostly chance.
COMPLETION_TOKENS_MIN = 16


class Track:
    """One factor. ratio: what forecasts are multiplied by. observations: how many were taken since the last window ended."""

    __slots__ = ("_errors", "_log_ratio", "_medians", "observations", "ratio")

    def __init__(self) -> None:
        self.ratio = 1.0
        self._log_ratio = 0.0
        self._errors: list[float] = []
        self.observations = 0
        self._medians: deque[tuple[int, float]] = deque()

    def observe(self, forecast_seconds: float, observed_seconds: float) -> None:
        """forecast_seconds: as it was made, with the factor."""
        if forecast_seconds <= 0 or observed_seconds <= 0:
            return
        error = log(observed_seconds / forecast_seconds)
        if -ERROR_MAX < error < ERROR_MAX:
            if len(self._errors) < SAMPLES_MAX:
                self._errors.append(error + self._log_ratio)
            else:  # a busy minute: the newest displace the oldest
                self._errors[self.observations % SAMPLES_MAX] = error + self._log_ratio
            self.observations += 1

    def close(self, window: int, elapsed: int) -> None:
        """A window has ended, `elapsed` ago counting those without an answer."""
        if len(self._errors) >= SAMPLES_MIN:
            self._medians.append((window, median(self._errors)))
        self._errors.clear()
        self.observations = 0
        while self._medians and self._medians[0][0] <= window + elapsed - 1 - WINDOWS_KEPT:
            self._medians.popleft()
        target = 0.0
        if len(self._medians) >= WINDOWS_MIN:
            target = min(max(median(value for _, value in self._medians), -BOUND), BOUND)
        most = STEP * elapsed
        self._log_ratio += min(max(target - self._log_ratio, -most), most)
        self.ratio = exp(self._log_ratio)


class Drift:
    """Of one replica."""

    __slots__ = ("tpot", "ttft")

    def __init__(self) -> None:
        self.ttft = Track()
        self.tpot = Track()

    def answered(
        self, candidate: Candidate, ttft_seconds: float, decode_seconds: float, completion_tokens: int
    ) -> None:
        """A streamed answer came whole."""
        self.ttft.observe(candidate.ttft_seconds, ttft_seconds)
        if completion_tokens >= COMPLETION_TOKENS_MIN:
            self.tpot.observe(candidate.tpot_seconds, decode_seconds / (completion_tokens - 1))


class Drifts:
    """Of every leased replica. For one thread; `ratios` may be read from another.

    version: another number whenever there are other replicas or factors.
    """

    __slots__ = ("_drifts", "_profiles", "_window", "version")

    def __init__(self) -> None:
        self.version = 0
        self._drifts: dict[str, Drift] = {}
        self._profiles: dict[str, EngineProfile] = {}
        self._window = 0

    def follow(self, profiles: Mapping[str, EngineProfile]) -> None:
        """These are the leased replicas from now on, by id; one whose profile is another starts anew."""
        kept = {
            replica: drift
            for replica, drift in self._drifts.items()
            if profiles.get(replica) == self._profiles[replica]
        }
        self._drifts = {replica: kept.get(replica) or Drift() for replica in profiles}
        self._profiles = dict(profiles)
        self.version += 1

    def of(self, replica: str) -> Drift | None:
        return self._drifts.get(replica)

    def observe(self, candidate: Candidate, charge: Charge) -> None:
        """An attempt has ended; only a streamed answer that came whole tells both times, and of those the one
        that has woken a replica tells more of its start."""
        drift = self._drifts.get(candidate.replica.id)
        first_ns = charge.first_token_ns
        if drift is None or first_ns is None or charge.status is not AttemptStatus.OK or candidate.cold_start_seconds:
            return
        ttft_seconds, decode_seconds = (first_ns - charge.opened_ns) / 1e9, (charge.ended_ns - first_ns) / 1e9
        drift.answered(candidate, ttft_seconds, decode_seconds, charge.usage.completion_tokens)

    def advance(self, now_ns: int) -> None:
        """Call it about once a second. now_ns: of any clock that goes on."""
        window = now_ns // WINDOW_NS
        if window == self._window:
            return
        before, self._window = self._window, window
        if before == 0 or window < before:
            return
        for drift in self._drifts.values():
            drift.ttft.close(before, window - before)
            drift.tpot.close(before, window - before)
        self.version += 1

    def ratios(self) -> Iterable[tuple[str, str, float]]:
        """(replica, kind, factor)."""
        for replica, drift in list(self._drifts.items()):
            yield replica, "ttft", drift.ttft.ratio
            yield replica, "tpot", drift.tpot.ratio
