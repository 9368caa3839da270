"""Which replicas may take new work: a state machine per replica, fed by the results of requests and of checks.

    up ──429, overloaded──────▶ limited   for its Retry-After, capped; its other answers count as ever
    up ──n failures in a row──▶ ejected   for ejection_seconds × how many times in a row it has been
    ejected, time over ───────▶ on trial  one request or probe; its result re-admits or ejects for longer
    any ──notice──────────────▶ leaving   until it is called off, or the process is another one
    any ──checks missed───────▶ down      until one passes
    any ──401, 403────────────▶ locked out  until its key is accepted, or the configuration is applied anew

A passing `/health` ends `down` alone. It does not end an ejection: a draining, sleeping or frozen vLLM answers
`/health` with 200 while generation fails or hangs, so only generation itself is evidence. What may not live here:
clocks (every method is told the time, monotonic seconds), sockets, the snapshot.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from router.domain.fleet import UP, Health, HealthState, Replica

# Kubernetes' default failureThreshold. A loaded vLLM can be slower than one check's time-out (1.3 s were measured).
CHECKS_TO_DOWN = 3
# Envoy's default max_ejection_time is 300 s, ten times its base of 30 s.
EJECTION_FACTOR_MAX = 10
# For a 429 that does not say how long: long enough to shed the burst, short enough not to idle the replica.
RETRY_AFTER_DEFAULT_SECONDS = 1.0
LEAVING = "is leaving: "
RATE_LIMITED = "rate limited by the backend"


@dataclass(frozen=True, slots=True)
class HealthRules:
    """What takes a replica out, and for how long; the configuration's own words and defaults."""

    failures_to_eject: int = 5
    ejection_seconds: float = 30.0
    cooldown_seconds_max: float = 60.0


@dataclass(slots=True)
class _Record:
    """What is known of one replica. Times are monotonic seconds.

    failures: in a row. ejections: in a row, the factor of the ejection's length. ejected_until: None unless ejected.
    on_trial: one request or probe has been let through, and has until ejected_until to say how it went. leaving_why: None unless
    it is leaving.
    """

    replica: Replica
    failures: int = 0
    fault: str = ""
    ejections: int = 0
    ejected_until: float | None = None
    on_trial: bool = False
    readmitted_at: float = 0.0
    limited_until: float = 0.0
    limited_why: str = ""
    is_locked_out: bool = False
    leaving_why: str | None = None
    checks_missed: int = 0
    check_fault: str = ""


class HealthBook:
    """The records of every replica. A report on a replica that is not in it (removed meanwhile) is ignored."""

    def __init__(self) -> None:
        self._rules = HealthRules()
        self._records: dict[str, _Record] = {}

    def configure(self, replicas: Iterable[Replica], rules: HealthRules) -> None:
        """Take over a new configuration. A replica that stays where it was keeps its record, but for being locked out:
        whoever applied the configuration may have put its key right."""
        old, self._records, self._rules = self._records, {}, rules
        for replica in replicas:
            record = old.get(replica.id)
            if record is None or record.replica.url != replica.url:
                record = _Record(replica)
            record.replica = replica
            record.is_locked_out = False
            self._records[replica.id] = record

    def is_spotless(self, replica_id: str) -> bool:
        """Whether its last request did not fail and it is not ejected."""
        record = self._records.get(replica_id)
        return record is not None and record.failures == 0 and record.ejected_until is None

    def succeeded(self, replica_id: str, now: float) -> None:
        """A request or probe ended well. On trial, or after the ejection's time, that re-admits; before, it came too
        early."""
        record = self._records.get(replica_id)
        if record is None:
            return
        record.failures = 0
        if record.ejected_until is not None and (record.on_trial or now >= record.ejected_until):
            record.ejected_until = None
            record.on_trial = False
            record.readmitted_at = now

    def failed(self, replica_id: str, fault: str, now: float) -> None:
        """A request or probe did not end well through the replica's fault (not the client's). `fault`: a short machine
        word."""
        record = self._records.get(replica_id)
        if record is None:
            return
        record.failures += 1
        record.fault = fault
        if record.ejected_until is None:
            if record.failures >= self._rules.failures_to_eject:
                self._eject(record, now)
        elif record.on_trial or now >= record.ejected_until:
            self._eject(record, now)
        # else: it was in flight when the replica was ejected, and tells nothing new

    def limited(self, replica_id: str, retry_after_seconds: float | None, now: float, why: str = RATE_LIMITED) -> None:
        """It answered 429 or the like: leave it alone for as long as it says, within the cap. That is no failure."""
        record = self._records.get(replica_id)
        if record is None:
            return
        asked = RETRY_AFTER_DEFAULT_SECONDS if retry_after_seconds is None else max(0.0, retry_after_seconds)
        record.limited_until = max(record.limited_until, now + min(asked, self._rules.cooldown_seconds_max))
        record.limited_why = why

    def refused_credentials(self, replica_id: str) -> None:
        """It answered 401 or 403: our API key is wrong, and every further request would fail alike."""
        record = self._records.get(replica_id)
        if record is not None:
            record.is_locked_out = True

    def accepted_credentials(self, replica_id: str) -> None:
        """A check with our API key passed."""
        record = self._records.get(replica_id)
        if record is not None:
            record.is_locked_out = False

    def check_passed(self, replica_id: str, now: float) -> None:
        """`/health` said 200. A process that was down and is back is a new one: an ejection goes straight to its
        trial."""
        record = self._records.get(replica_id)
        if record is None:
            return
        was_down = record.checks_missed >= CHECKS_TO_DOWN
        record.checks_missed = 0
        if was_down:
            record.leaving_why = None
        if was_down and record.ejected_until is not None and not record.on_trial:
            record.ejected_until = min(record.ejected_until, now)

    def leave(self, replica_id: str, why: str) -> bool:
        """It will be taken away: no new work. False where there is no such replica."""
        record = self._records.get(replica_id)
        if record is not None:
            record.leaving_why = why
        return record is not None

    def stay(self, replica_id: str) -> bool:
        """It will not be taken away after all. False where there is no such replica."""
        record = self._records.get(replica_id)
        if record is not None:
            record.leaving_why = None
        return record is not None

    def is_leaving(self, replica_id: str) -> bool:
        record = self._records.get(replica_id)
        return record is not None and record.leaving_why is not None

    def check_missed(self, replica_id: str, fault: str) -> None:
        """`/health` did not say 200 in time."""
        record = self._records.get(replica_id)
        if record is not None:
            record.checks_missed += 1
            record.check_fault = fault

    def begin_trial(self, replica_id: str, now: float, ahead_seconds: float = 0.0) -> bool:
        """Let one request or probe through to an ejected replica whose time is over, or will be `ahead_seconds` from
        now.

        Nobody else is let through until its result is known. False when no trial is due. Should its result never be
        reported, the next trial begins an ejection's base length later.
        """
        record = self._records.get(replica_id)
        if record is None or record.ejected_until is None or record.ejected_until > now + ahead_seconds:
            return False
        record.on_trial = True
        record.ejected_until = now + self._rules.ejection_seconds
        return True

    def health(self, replica_id: str, now: float) -> Health:
        """The verdict for the snapshot: the gravest of what holds; of two that end by themselves, the one that ends
        later."""
        record = self._records[replica_id]
        if record.is_locked_out:
            return Health(False, "refuses our API key", 0.0, HealthState.LOCKED_OUT)
        if record.checks_missed >= CHECKS_TO_DOWN:
            return Health(False, f"health check fails: {record.check_fault}", 0.0, HealthState.DOWN)
        if record.leaving_why is not None:
            return Health(False, LEAVING + record.leaving_why, 0.0, HealthState.LEAVING)
        is_limited = record.limited_until > now
        if record.ejected_until is not None and not (is_limited and record.limited_until > record.ejected_until):
            is_row = record.failures >= self._rules.failures_to_eject  # an answer in flight then starts the count again
            often = f"{record.failures} times in a row" if is_row else "too often"
            why = f"failed {often}, last: {record.fault}"
            if record.on_trial:
                why = f"on trial after an ejection ({record.fault})"
            return Health(False, why, record.ejected_until, HealthState.EJECTED)
        if is_limited:
            return Health(False, record.limited_why, record.limited_until, HealthState.LIMITED)
        return UP

    def _eject(self, record: _Record, now: float) -> None:
        """Out, for longer each time; from the base length again after it was well for as long as it was last out."""
        was_up = record.ejected_until is None
        if was_up and now - record.readmitted_at > self._rules.ejection_seconds * record.ejections:
            record.ejections = 0
        record.ejections = min(record.ejections + 1, EJECTION_FACTOR_MAX)
        record.ejected_until = now + self._rules.ejection_seconds * record.ejections
        record.on_trial = False
