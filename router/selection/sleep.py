"""Which replicas that scale to zero are awake, as far as all workers' requests tell. Pure: times come from the caller.

jeton starts and stops nothing. A platform starts a replica for a request that comes to its address (Knative's activator, KServe,
Modal, RunPod), holds that request until the engine answers, and stops the replica after its idle time. To look whether it is
there would wake it, so nobody looks: a replica is awake from the first request that was sent to it until its idle time after the
last answer, as the lease has it (`leases.py`).

Who comes to a replica that is asleep pays for all of that time, for nobody else may come. But if every request reckoned so, one
by one they would go elsewhere and together pay for more than a start, for ever. So what each of them would have saved here, were
it awake, is remembered, and counts against the price of waking it: once that much was lost, the next one wakes it. That is the
rule for renting skis (Karlin et al., "Competitive snoopy caching", 1988): never more than twice what hindsight would have paid.
What was lost fades by half in an idle time, since in that time the replica would have gone to sleep again.

Where several workers share a ledger they tell one another what they know (`Wake`), five times a second: who was started when,
since when nothing is asked of it, and what was lost. Starts of one replica that overlap are one; what was lost is that of all
together, for else each would wait until it had lost a start's price by itself.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import exp2

from router.domain.attempt import AttemptStatus, Charge
from router.domain.decision import Candidate, Choice
from router.domain.fleet import Backend, ScaleToZero
from router.domain.sleep import Wake


class Sleeper:
    """One replica. Times: monotonic seconds; began_seconds: of its last start; ready_seconds: from when it answers.
    missed_nanousd: what requests paid more elsewhere, as of missed_seconds; others_…: other workers' requests. wakes: how often
    a request of ours found it asleep."""

    __slots__ = (
        "_began_seconds", "_missed_nanousd", "_missed_seconds", "_open", "_others_nanousd", "_others_seconds",
        "_quiet_seconds", "_ready_seconds", "terms", "wakes",
    )  # fmt: skip

    def __init__(self, terms: ScaleToZero) -> None:
        self.terms = terms
        self.wakes = 0
        self._open = 0
        self._began_seconds = self._ready_seconds = 0.0
        self._quiet_seconds: float | None = None  # None: never asked
        self._missed_nanousd = self._missed_seconds = 0.0
        self._others_nanousd = self._others_seconds = 0.0

    def opened(self, now_seconds: float, *, is_awake: bool = False) -> None:
        """A request is sent there. is_awake: others are known to be at it."""
        if not is_awake and self.is_asleep(now_seconds):
            self.wakes += 1
            self._began_seconds = now_seconds
            self._ready_seconds = now_seconds + self.terms.cold_start_seconds
        self._missed_nanousd = self._others_nanousd = 0.0
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
        self._missed_nanousd = self._faded(self._missed_nanousd, self._missed_seconds, now_seconds) + nanousd
        self._missed_seconds = now_seconds

    def missed_nanousd(self, now_seconds: float) -> float:
        own = self._faded(self._missed_nanousd, self._missed_seconds, now_seconds)
        return own + self._faded(self._others_nanousd, self._others_seconds, now_seconds)

    def tell(self, now_seconds: float, to_ns: Callable[[float], int]) -> Wake | None:
        """For the other workers; None where there is nothing to tell. to_ns: the books' time of ours."""
        quiet_seconds = now_seconds if self._open else self._quiet_seconds
        if quiet_seconds is None and not self._missed_nanousd:
            return None
        return Wake(
            to_ns(self._began_seconds),
            to_ns(self._ready_seconds),
            0 if quiet_seconds is None else to_ns(quiet_seconds),
            round(self._missed_nanousd),
            to_ns(self._missed_seconds),
        )

    def hear(self, others: Sequence[Wake], now_seconds: float, to_seconds: Callable[[int], float]) -> None:
        """What all the other workers know now. to_seconds: our time of the books'."""
        for one in others:
            if one.quiet_ns:
                self._learn(to_seconds(one.began_ns), to_seconds(one.ready_ns), to_seconds(one.quiet_ns))
        self._others_seconds = now_seconds
        self._others_nanousd = sum(
            self._faded(one.missed_nanousd, to_seconds(one.missed_ns), now_seconds) for one in others
        )

    def _learn(self, began_seconds: float, ready_seconds: float, quiet_seconds: float) -> None:
        """Another has seen it start, or knows of that."""
        if (self._quiet_seconds is None and not self._open) or began_seconds > self._ready_seconds:
            self._began_seconds, self._ready_seconds = began_seconds, ready_seconds
            self._missed_nanousd = 0.0
        elif self._began_seconds <= ready_seconds:  # the same start: whoever had an answer knows it best
            self._began_seconds = min(began_seconds, self._began_seconds)
            self._ready_seconds = min(ready_seconds, self._ready_seconds)
        if self._quiet_seconds is None or quiet_seconds > self._quiet_seconds:
            self._quiet_seconds = quiet_seconds

    def _faded(self, nanousd: float, as_of_seconds: float, now_seconds: float) -> float:
        idle_seconds = self.terms.idle_seconds
        if not nanousd or not idle_seconds:
            return 0.0
        return nanousd * exp2(min(as_of_seconds - now_seconds, 0.0) / idle_seconds)


class Sleepers:
    """Every replica that scales to zero, by id; for one thread. They outlive a configuration."""

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

    def tell(self, now_seconds: float, to_ns: Callable[[float], int]) -> dict[str, Wake]:
        """What is known here, for the other workers, by replica. to_ns: the books' time of ours."""
        told = {replica: sleeper.tell(now_seconds, to_ns) for replica, sleeper in self._sleepers.items()}
        return {replica: wake for replica, wake in told.items() if wake is not None}

    def hear(
        self, others: Mapping[str, Sequence[Wake]], now_seconds: float, to_seconds: Callable[[int], float]
    ) -> None:
        """What the other workers know now, by replica. to_seconds: our time of the books'."""
        for replica, sleeper in self._sleepers.items():
            sleeper.hear(others.get(replica, ()), now_seconds, to_seconds)

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
