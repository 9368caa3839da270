"""Which replicas that scale to zero are awake, as far as our own requests tell. Pure: times come from the caller.

jeton starts and stops nothing. A platform starts a replica for a request that comes to its address (Knative's activator, KServe,
Modal, RunPod), holds that request until the engine answers, and stops the replica after its idle time. To look whether it is
there would wake it, so nobody looks: a replica is awake from the first request that was sent to it until its idle time after the
last answer, as the lease has it (`leases.py`).

Who comes to a replica that is asleep pays for all of that time, for nobody else may come. But if every request reckoned so, one
by one they would go elsewhere and together pay for more than a start, for ever. So what each of them would have saved here, were
it awake, is remembered, and counts against the price of waking it: once that much was lost, the next one wakes it. That is the
rule for renting skis (Karlin et al., "Competitive snoopy caching", 1988): never more than twice what hindsight would have paid.
What was lost fades by half in an idle time, since in that time the replica would have gone to sleep again.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import exp2

from router.domain.attempt import AttemptStatus, Charge
from router.domain.decision import Candidate, Choice
from router.domain.fleet import Backend, ScaleToZero


class Sleeper:
    """One replica. Times: monotonic seconds; ready_seconds: from when it answers. missed_nanousd: what requests paid more
    elsewhere, as of missed_seconds. wakes: how often a request of ours found it asleep."""

    __slots__ = ("_missed_nanousd", "_missed_seconds", "_open", "_quiet_seconds", "_ready_seconds", "terms", "wakes")

    def __init__(self, terms: ScaleToZero) -> None:
        self.terms = terms
        self.wakes = 0
        self._open = 0
        self._ready_seconds = 0.0
        self._quiet_seconds: float | None = None  # None: never asked
        self._missed_nanousd = self._missed_seconds = 0.0

    def opened(self, now_seconds: float, *, is_awake: bool = False) -> None:
        """A request is sent there. is_awake: others are known to be at it."""
        if not is_awake and self.is_asleep(now_seconds):
            self.wakes += 1
            self._ready_seconds = now_seconds + self.terms.cold_start_seconds
        self._missed_nanousd = 0.0
        self._open += 1

    def ended(self, now_seconds: float, *, has_answered: bool) -> None:
        """That request is over."""
        self._open -= 1
        self._quiet_seconds = now_seconds
        if has_answered and now_seconds < self._ready_seconds:
            self._ready_seconds = now_seconds

    def is_asleep(self, now_seconds: float) -> bool:
        if self._open:
            return False
        return self._quiet_seconds is None or now_seconds >= self._quiet_seconds + self.terms.idle_seconds

    def starting_seconds(self, now_seconds: float) -> float:
        """How long one that is awake still takes until it answers."""
        return max(self._ready_seconds - now_seconds, 0.0)

    def missed(self, nanousd: float, now_seconds: float) -> None:
        """A request has gone elsewhere, for so much more than here, were it awake."""
        self._missed_nanousd = self.missed_nanousd(now_seconds) + nanousd
        self._missed_seconds = now_seconds

    def missed_nanousd(self, now_seconds: float) -> float:
        missed, idle_seconds = self._missed_nanousd, self.terms.idle_seconds
        if not missed or not idle_seconds:
            return 0.0
        return missed * exp2((self._missed_seconds - now_seconds) / idle_seconds)


class Sleepers:
    """Every replica that scales to zero, by id; for one thread. They outlive a configuration. Of what other workers send only
    what is in flight is known: what they keep awake without it counts as asleep here."""

    __slots__ = ("_sleepers",)

    def __init__(self) -> None:
        self._sleepers: dict[str, Sleeper] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._sleepers)

    def __iter__(self) -> Iterator[tuple[str, Sleeper]]:
        return iter(list(self._sleepers.items()))

    def of(self, replica: str) -> Sleeper | None:
        return self._sleepers.get(replica)

    def opened(self, candidate: Candidate, now_seconds: float) -> None:
        """An attempt is sent to it."""
        sleeper = self._sleepers.get(candidate.replica.id)
        if sleeper is not None:
            sleeper.opened(now_seconds, is_awake=candidate.load.attempts > 0)

    def ended(self, charge: Charge, now_seconds: float) -> None:
        """An attempt has ended."""
        sleeper = self._sleepers.get(charge.facts.replica)
        if sleeper is not None:
            has_answered = charge.status is AttemptStatus.OK or charge.first_token_ns is not None
            sleeper.ended(now_seconds, has_answered=has_answered)

    def passed(self, choices: Sequence[Choice], now_seconds: float) -> None:
        """A request goes to the first of these: what those that are asleep would have saved it is remembered."""
        paid_nanousd = choices[0].candidate.marginal_nanousd
        for choice in choices:
            candidate = choice.candidate
            if candidate.waking_nanousd and (sleeper := self._sleepers.get(candidate.replica.id)) is not None:
                awake_nanousd = candidate.awake_nanousd
                if paid_nanousd > awake_nanousd:
                    sleeper.missed(paid_nanousd - awake_nanousd, now_seconds)

    def follow(self, backends: Iterable[Backend]) -> None:
        """These are the backends from now on."""
        wanted: dict[str, Sleeper] = {}
        for backend in backends:
            if (terms := backend.scale_to_zero) is None:
                continue
            for replica in backend.replicas:
                wanted[replica.id] = one = self._sleepers.get(replica.id) or Sleeper(terms)
                one.terms = terms
        self._sleepers = wanted
