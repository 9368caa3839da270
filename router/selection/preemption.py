"""How often spot replicas are taken away, and what that costs: learned, from a prior that the configuration declares.

Preemptions are rare and come one by one, so their number in a time is Poisson's, and the rate's posterior under a Gamma prior is
(preemptions of the prior + those seen) ÷ (replica-hours of the prior + those seen): `prior_hours` says how many hours of watching
the declared rate is worth. How long a replica is paid and of no use each time is learned alike, from those that came back.

What a preemption costs, against the work that is done between two of them: the time until the replica serves again, which is
paid, and half of each answer that was under way, which another makes anew. Both are a share of the price of an engine-second,

    loss = rate · (away + duration ÷ 2)

by which a candidate's marginal quote is higher. (A replica that was told to leave finishes what it can: the half is the most.)
The time to the first token is left alone: at one preemption an hour three of ten thousand one-second prompts would meet one.

Pure: times come from the caller. Each worker sees all of the fleet's health, so all learn alike; what was learned ends with the
process, so what is worth keeping belongs into the prior.
"""

from collections.abc import Iterable, Iterator, Mapping

from router.domain.fleet import Backend, Health, HealthState, Preemption

# As so many preemptions the declared away time counts.
AWAY_PRIOR = 2.0
SECONDS_PER_HOUR = 3600.0
TAKEN = frozenset({HealthState.LEAVING, HealthState.DOWN})


class Preempted:
    """What is known of one backend's. count: how many were seen. hours: that its replicas were watched, together."""

    __slots__ = ("_away_seconds", "_returned", "_since", "count", "hours", "terms")

    def __init__(self, terms: Preemption) -> None:
        self.terms = terms
        self.count = 0
        self.hours = 0.0
        self._since: dict[str, float] = {}  # by replica, when it was taken
        self._away_seconds = 0.0
        self._returned = 0

    @property
    def per_hour(self) -> float:
        """Of one replica."""
        terms = self.terms
        return (terms.per_hour * terms.prior_hours + self.count) / (terms.prior_hours + self.hours)

    @property
    def away_seconds(self) -> float:
        """Until a replica that was taken serves again."""
        return (self.terms.away_seconds * AWAY_PRIOR + self._away_seconds) / (AWAY_PRIOR + self._returned)

    def loss_ratio(self, duration_seconds: float) -> float:
        """Of what a request takes of the engine, what is lost on average. duration_seconds: of its answer."""
        return self.per_hour / SECONDS_PER_HOUR * (self.away_seconds + duration_seconds / 2)

    def became(self, replica: str, state: HealthState, now_seconds: float) -> None:
        """A replica's health is another. One that goes down without notice was taken as well as one that was told."""
        if state in TAKEN:
            if replica not in self._since:
                self._since[replica] = now_seconds
                self.count += 1
        elif (since := self._since.pop(replica, None)) is not None:
            self._away_seconds += now_seconds - since
            self._returned += 1

    def watched(self, replicas: Iterable[str], seconds: float) -> None:
        """So long these were the backend's. One that is gone for good has not come back."""
        present = frozenset(replicas)
        self._since = {replica: since for replica, since in self._since.items() if replica in present}
        self.hours += (len(present) - len(self._since)) * seconds / SECONDS_PER_HOUR


class Preemptions:
    """Of every backend that declares a prior, by name; they outlive a configuration."""

    __slots__ = ("_advanced_seconds", "_known", "_replicas")

    def __init__(self) -> None:
        self._known: dict[str, Preempted] = {}
        self._replicas: Mapping[str, tuple[str, ...]] = {}
        self._advanced_seconds: float | None = None

    def __iter__(self) -> Iterator[tuple[str, Preempted]]:
        return iter(list(self._known.items()))

    def follow(self, backends: Iterable[Backend]) -> None:
        """These are the backends from now on."""
        found: dict[str, Preempted] = {}
        replicas = {}
        for backend in backends:
            if (terms := backend.preemption) is not None:
                found[backend.name] = one = self._known.get(backend.name) or Preempted(terms)
                one.terms = terms
                replicas[backend.name] = tuple(replica.id for replica in backend.replicas)
        self._known, self._replicas = found, replicas

    def of(self, backend: str) -> Preempted | None:
        return self._known.get(backend)

    def became(self, backend: str, replica: str, after: Health, now_seconds: float) -> None:
        """A replica's health is another."""
        if (one := self._known.get(backend)) is not None:
            one.became(replica, after.state, now_seconds)

    def advance(self, now_seconds: float) -> None:
        """Call it about once a second. now_seconds: of the clock that health changes are told by."""
        before, self._advanced_seconds = self._advanced_seconds, now_seconds
        if before is not None:
            for name, one in self._known.items():
                one.watched(self._replicas[name], now_seconds - before)
