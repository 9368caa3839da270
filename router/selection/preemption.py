"""How often spot replicas are taken away, and what that costs: learned, from a prior that the configuration declares.

Preemptions are rare and come one by one, so their number in a time is Poisson's, and the rate's posterior under a Gamma prior is
(preemptions of the prior + those seen) ÷ (replica-hours of the prior + those seen): `prior_hours` says how many hours of watching
the declared rate is worth. How long a replica is paid and of no use each time is learned alike, from those that came back.

What a preemption costs, against the work that is done between two of them: the time until the replica serves again, which is
paid, and half of each answer that was under way, which another makes anew. Both are a share of the price of an engine-second,

    loss = rate · (away + duration ÷ 2)

by which a candidate's marginal quote is higher. (A replica that was told to leave finishes what it can: the half is the most.)
The time to the first token is left alone: at one preemption an hour three of ten thousand one-second prompts would meet one.

What is seen is told to the ledger, which remembers it for all workers and over restarts (`ledger/preemptions.py`). What is known
is what the ledger told last and what was seen here since; several that saw the same tell it once between them.

Pure: times come from the caller, in seconds of the clock that health changes are told by, and `take` and `remember` are given
how those of the ledger follow from them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from router.domain.fleet import Backend, Health, HealthState, Preemption
from router.domain.preemption import Move, Remembered, Seen, Sighting, Watch

# As so many preemptions the declared away time counts.
AWAY_PRIOR = 2.0
SECONDS_PER_HOUR = 3600.0
TAKEN = frozenset({HealthState.LEAVING, HealthState.DOWN})
# One that the ledger has as away, and that is well here for so long, came back while nobody looked: more than any provider's
# notice (AWS gives two minutes), for a replica that was told to leave is well until it goes.
UNSEEN_SECONDS = 300.0
# What waits to be told while the ledger is away, at most; older is forgotten there, and not here.
UNTOLD_MAX = 1000


class _Moved(NamedTuple):
    """One move of a replica, and how long it was away where it came back."""

    replica: str
    move: Move
    at_seconds: float
    why: str = ""
    away_seconds: float = 0.0


class _Watched(NamedTuple):
    since_seconds: float
    until_seconds: float
    replicas: int

    @property
    def replica_seconds(self) -> float:
        return self.replicas * (self.until_seconds - self.since_seconds)


class _Sum:
    """count, returned: preemptions. hours: that replicas were watched, together."""

    __slots__ = ("away_seconds", "count", "hours", "returned")

    def __init__(self, count: int = 0, hours: float = 0.0, returned: int = 0, away_seconds: float = 0.0) -> None:
        self.count = count
        self.hours = hours
        self.returned = returned
        self.away_seconds = away_seconds

    def add(self, one: _Moved) -> None:
        self.count += one.move is Move.TAKEN
        if one.move is Move.BACK:
            self.returned += 1
            self.away_seconds += one.away_seconds


class Preempted:
    """What is known of one backend's. count: how many were seen. hours: that its replicas were watched, together."""

    __slots__ = ("_moves", "_since", "_sum", "_telling", "_unseen", "_watches", "terms")

    def __init__(self, terms: Preemption) -> None:
        self.terms = terms
        self._sum = _Sum()  # what the ledger told last, and all that was seen here since
        self._since: dict[str, float] = {}  # by replica, when it was taken
        # By replica that is away as the ledger has it, and well here: when it was taken, and since when we know of that.
        self._unseen: dict[str, tuple[float, float]] = {}
        self._moves: list[_Moved] = []
        self._watches: list[_Watched] = []
        self._telling = 0, 0  # of those, how many are being told

    @property
    def count(self) -> int:
        return self._sum.count

    @property
    def hours(self) -> float:
        return self._sum.hours

    @property
    def per_hour(self) -> float:
        """Of one replica."""
        terms = self.terms
        return (terms.per_hour * terms.prior_hours + self._sum.count) / (terms.prior_hours + self._sum.hours)

    @property
    def away_seconds(self) -> float:
        """Until a replica that was taken serves again."""
        known = self._sum
        return (self.terms.away_seconds * AWAY_PRIOR + known.away_seconds) / (AWAY_PRIOR + known.returned)

    @property
    def has_news(self) -> bool:
        """Whether a replica has moved of which the ledger was not told."""
        return len(self._moves) > self._telling[0]

    def loss_ratio(self, duration_seconds: float) -> float:
        """Of what a request takes of the engine, what is lost on average. duration_seconds: of its answer."""
        return self.per_hour / SECONDS_PER_HOUR * (self.away_seconds + duration_seconds / 2)

    def became(self, replica: str, state: HealthState, now_seconds: float) -> None:
        """A replica's health is another. One that goes down without notice was taken as well as one that was told."""
        if state in TAKEN:
            if replica in self._unseen:
                self._since[replica], _ = self._unseen.pop(replica)
            elif replica not in self._since:
                self._since[replica] = now_seconds
                self._note(_Moved(replica, Move.TAKEN, now_seconds, state.value))
        elif (since := self._since.pop(replica, None)) is not None:
            self._note(_Moved(replica, Move.BACK, now_seconds, away_seconds=now_seconds - since))

    def watched(self, replicas: Iterable[str], since_seconds: float, now_seconds: float) -> None:
        """From then on until now these were the backend's. One that is gone for good has not come back."""
        present = frozenset(replicas)
        for replica in [replica for replica in self._since if replica not in present]:
            del self._since[replica]
            self._note(_Moved(replica, Move.GONE, now_seconds))
        for replica, (_, heard_seconds) in list(self._unseen.items()):
            if replica not in present or now_seconds - heard_seconds > UNSEEN_SECONDS:
                del self._unseen[replica]
                self._note(_Moved(replica, Move.GONE, now_seconds))
        one = _Watched(since_seconds, now_seconds, len(present) - len(self._since))
        self._sum.hours += one.replica_seconds / SECONDS_PER_HOUR
        if len(self._watches) > self._telling[1]:
            last = self._watches[-1]
            if (last.until_seconds, last.replicas) == (since_seconds, one.replicas):
                one = one._replace(since_seconds=last.since_seconds)
                self._watches.pop()
        self._watches.append(one)
        self._bound()

    def take(self, backend: Backend, to_ns: Callable[[float], int]) -> Seen:
        """What is to be told; `remember` says that it was told, `keep` that it was not. to_ns: the ledger's time."""
        self._telling = len(self._moves), len(self._watches)
        name, pool = backend.name, backend.pool.name
        return Seen(
            tuple(Sighting(name, pool, one.replica, one.move, to_ns(one.at_seconds), one.why) for one in self._moves),
            tuple(
                Watch(name, to_ns(one.since_seconds), to_ns(one.until_seconds), one.replicas) for one in self._watches
            ),
        )

    def keep(self) -> None:
        """What was taken could not be told."""
        self._telling = 0, 0

    def remember(
        self, told: Remembered, replicas: Iterable[str], to_seconds: Callable[[int], float], now_seconds: float
    ) -> None:
        """The ledger has what was taken, and knows this. replicas: that are the backend's. to_seconds: our time."""
        del self._moves[: self._telling[0]], self._watches[: self._telling[1]]
        self._telling = 0, 0
        hours = told.watched_ns / 1e9 / SECONDS_PER_HOUR
        self._sum = known = _Sum(told.count, hours, told.returned, told.away_ns / 1e9)
        for one in self._moves:
            known.add(one)
        for watch in self._watches:
            known.hours += watch.replica_seconds / SECONDS_PER_HOUR
        away = {replica: to_seconds(told.away[replica]) for replica in replicas if replica in told.away}
        moved = {one.replica for one in self._moves}
        for replica, since in away.items():
            if replica in self._since:
                self._since[replica] = min(since, self._since[replica])
            elif replica not in moved:
                self._unseen.setdefault(replica, (since, now_seconds))
        self._unseen = {replica: one for replica, one in self._unseen.items() if replica in away}

    def _note(self, one: _Moved) -> None:
        self._sum.add(one)
        self._moves.append(one)
        self._bound()

    def _bound(self) -> None:
        """What waits for too long is not told any more."""
        if self._telling == (0, 0):
            del self._moves[:-UNTOLD_MAX], self._watches[:-UNTOLD_MAX]


class Preemptions:
    """Of every backend that declares a prior, by name; they outlive a configuration."""

    __slots__ = ("_advanced_seconds", "_backends", "_known")

    def __init__(self) -> None:
        self._known: dict[str, Preempted] = {}
        self._backends: Mapping[str, Backend] = {}
        self._advanced_seconds: float | None = None

    def __iter__(self) -> Iterator[tuple[str, Preempted]]:
        return iter(list(self._known.items()))

    @property
    def backends(self) -> tuple[str, ...]:
        """Of which something is learned."""
        return tuple(self._known)

    @property
    def has_news(self) -> bool:
        """Whether a replica has moved of which the ledger was not told."""
        return any(one.has_news for one in self._known.values())

    def follow(self, backends: Iterable[Backend]) -> None:
        """These are the backends from now on."""
        found: dict[str, Preempted] = {}
        declaring: dict[str, Backend] = {}
        for backend in backends:
            if (terms := backend.preemption) is not None:
                found[backend.name] = one = self._known.get(backend.name) or Preempted(terms)
                one.terms = terms
                declaring[backend.name] = backend
        self._known, self._backends = found, declaring

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
                one.watched(self._replicas(name), before, now_seconds)

    def take(self, to_ns: Callable[[float], int]) -> Seen:
        """What is to be told of all of them; then `remember` or `keep`. to_ns: the ledger's time of ours."""
        seen = [one.take(self._backends[name], to_ns) for name, one in self._known.items()]
        return Seen(
            tuple(sighting for one in seen for sighting in one.sightings),
            tuple(watch for one in seen for watch in one.watches),
        )

    def keep(self) -> None:
        """What was taken could not be told."""
        for one in self._known.values():
            one.keep()

    def remember(self, told: Mapping[str, Remembered], to_seconds: Callable[[int], float], now_seconds: float) -> None:
        """The ledger has what was taken, and knows this by backend. to_seconds: our time of the ledger's."""
        for name, one in self._known.items():
            if name in told:
                one.remember(told[name], self._replicas(name), to_seconds, now_seconds)
            else:  # it came after that was taken
                one.keep()

    def _replicas(self, backend: str) -> Iterator[str]:
        return (replica.id for replica in self._backends[backend].replicas)
