"""The fleet as it is: which replicas there are, at what prices, and what their leases have cost. What the router knows of it is
the decider's (`decider.py`); what befalls it comes from elsewhere (`happenings.py`, `scaling.py`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from load.simulate.decider import Price
from load.simulate.replica import SimulatedReplica
from router.domain.fleet import Backend


@dataclass(frozen=True, slots=True)
class Bill:
    """Nano-dollars over the run. leased: of all replicas by the hour; idle: what of it nobody used. By backend: both.

    lease_seconds: for how long replicas were leased, all together, and replicas_max: how many at most at once, by backend.
    ended_seconds: when the last lease ends.
    """

    leased_nanousd: int
    idle_nanousd: int
    by_backend: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    lease_seconds: Mapping[str, float] = field(default_factory=dict)
    replicas_max: Mapping[str, int] = field(default_factory=dict)
    ended_seconds: float = 0.0


class SimulatedFleet:
    """replicas: all that are leased, by id. backends: by name, with those of their replicas that take work. prices: by backend,
    those in force; prices_seen: every one of them, in the order in which they were in force.
    """

    def __init__(self, backends: Iterable[Backend], prices: Mapping[str, Price]) -> None:
        self.backends = {backend.name: backend for backend in backends}
        self.prices = dict(prices)
        self.prices_seen = {name: [price] for name, price in prices.items()}
        self.replicas: dict[str, SimulatedReplica] = {}
        # Of leases that have ended, by backend; and how many ran at once.
        self._paid: dict[str, tuple[int, int]] = {}
        self._leased_seconds: dict[str, float] = {}
        self._replicas_max: Counter[str] = Counter()

    def add(self, one: SimulatedReplica) -> None:
        """Its lease has begun."""
        self.replicas[one.name] = one
        name = one.backend.name
        there = sum(other.backend.name == name for other in self.replicas.values())
        self._replicas_max[name] = max(self._replicas_max[name], there)

    def admit(self, one: SimulatedReplica) -> None:
        """It takes work from now on, as its backend's last."""
        known = self.backends[one.backend.name]
        self.backends[known.name] = replace(known, replicas=(*known.replicas, one.replica))

    def remove(self, one: SimulatedReplica, now_seconds: float) -> None:
        """Its lease ends."""
        _book(one, now_seconds, self._paid, self._leased_seconds)
        one.end(now_seconds)
        del self.replicas[one.name]
        known = self.backends[one.backend.name]
        self.backends[known.name] = replace(
            known, replicas=tuple(other for other in known.replicas if other.id != one.name)
        )

    def reprice(self, backend: str, price: Price, now_seconds: float) -> None:
        """From now on it costs that; attempts under way on a metered backend keep the price they began with."""
        self.prices[backend] = price
        self.prices_seen.setdefault(backend, []).append(price)
        for one in self.replicas.values():
            if one.backend.name == backend:
                one.reprice(price, now_seconds)

    def bill(self, until_seconds: float, ended_seconds: float) -> Bill:
        """Of the time from 0 until then, and the last lease's end as it is given. A replica that still answers then is paid for
        until it is done, and no other with it: more of the same would follow, so one long answer is no reason to pay a fleet for
        waiting.
        """
        by_backend, lease_seconds = self._booked_until(until_seconds)
        return Bill(
            sum(bill for bill, _ in by_backend.values()),
            sum(idle for _, idle in by_backend.values()),
            by_backend,
            lease_seconds,
            dict(self._replicas_max),
            ended_seconds,
        )

    def paid(self, at_seconds: float) -> dict[str, tuple[int, int]]:
        """Nano-dollars of leases from 0 until then, and what of it nobody used, by backend."""
        return self._booked_until(at_seconds)[0]

    def charged_together_nanousd(self) -> int:
        """What attempts paid that were charged together. Replicas are never taken away where they are."""
        return sum(one.charged_together_nanousd for one in self.replicas.values())

    def _booked_until(self, at_seconds: float) -> tuple[dict[str, tuple[int, int]], dict[str, float]]:
        """What `paid` tells, and the seconds of leases, by backend."""
        by_backend, lease_seconds = dict(self._paid), dict(self._leased_seconds)
        for one in self.replicas.values():
            _book(one, at_seconds, by_backend, lease_seconds)
        return by_backend, lease_seconds


def _book(
    one: SimulatedReplica,
    at_seconds: float,
    by_backend: dict[str, tuple[int, int]],
    lease_seconds: dict[str, float],
) -> None:
    paid, name = one.paid(at_seconds), one.backend.name
    if paid is not None:
        bill, idle = by_backend.get(name, (0, 0))
        by_backend[name] = bill + paid.bill_nanousd, idle + paid.idle_nanousd
        lease_seconds[name] = lease_seconds.get(name, 0.0) + one.paid_until_seconds - one.began_seconds
