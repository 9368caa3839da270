"""What a simulated run cost as time went on, by pool: looks on without changing anything. Pure.

Of a leased pool's bill in a slice of time, *idle* is what nobody used; of the rest, what the served tokens cost at their standard
price is *useful* (never more than all of it), and what remains *thin*. An answer's standard price is spread evenly over the time
that it took. What was *bought* by the token falls into the slice in which the answer ended.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from load.simulate.attempt import Attempt
from load.simulate.world import World
from router.domain.usage import Usage
from router.pricing.price import LeasedPrice
from router.pricing.standard import standard_cost

SLICES = 60


@dataclass(frozen=True, slots=True)
class Slices:
    """Nano-dollars of one pool, slice by slice."""

    useful: Sequence[float]
    thin: Sequence[float]
    idle: Sequence[float]
    bought: Sequence[float]

    def useful_ratios(self) -> list[float | None]:
        """Of the lease, what did useful work; None where there was no lease."""
        return _ratios(self.useful, self._leased())

    def used_ratios(self) -> list[float | None]:
        """Of the lease, what was in use, thin batches too."""
        used = [useful + thin for useful, thin in zip(self.useful, self.thin, strict=True)]
        return _ratios(used, self._leased())

    def _leased(self) -> list[float]:
        return [sum(parts) for parts in zip(self.useful, self.thin, self.idle, strict=True)]


def _ratios(parts: Sequence[float], wholes: Sequence[float]) -> list[float | None]:
    return [part / whole if whole else None for part, whole in zip(parts, wholes, strict=True)]


@dataclass(frozen=True, slots=True)
class Recording:
    """step_seconds: of a slice. pools: in the order of the configuration."""

    step_seconds: float
    pools: Mapping[str, Slices]

    def whole(self) -> Slices:
        """All pools together."""
        columns = {
            name: [sum(values) for values in zip(*(getattr(one, name) for one in self.pools.values()), strict=True)]
            for name in ("useful", "thin", "idle", "bought")
        }
        return Slices(**columns)


@dataclass(slots=True)
class Recorder:
    """Put into a world before it runs: `Recorder.of(world)`; afterwards `recording()`."""

    world: World
    step_seconds: float
    _leased: list[dict[str, tuple[int, int]]] = field(default_factory=list)
    _standard: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0] * SLICES))
    _bought: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0] * SLICES))

    @classmethod
    def of(cls, world: World) -> "Recorder":
        recorder = cls(world, world.until_seconds / SLICES)
        world.observers.append(recorder)
        for number in range(1, SLICES + 1):
            world.at(number * recorder.step_seconds, recorder._look)
        return recorder

    def _look(self) -> None:
        self._leased.append(self.world.fleet.paid(self.world.now_seconds))

    def closed(
        self, attempt: Attempt, usage: Usage, cost_nanousd: int, now_seconds: float, *, is_answered: bool
    ) -> None:
        pool, price = attempt.replica.backend.pool.name, attempt.price
        if not isinstance(price, LeasedPrice):
            at = int(now_seconds / self.step_seconds)
            if at < SLICES:
                self._bought[pool][at] += cost_nanousd
            return
        if not is_answered:  # it bought nothing
            return
        cost = standard_cost(price, attempt.replica.profile, usage)
        self._spread(self._standard[pool], cost, attempt.sequence.arrived_seconds, now_seconds)

    def _spread(self, into: list[float], amount: float, from_seconds: float, to_seconds: float) -> None:
        step = self.step_seconds
        first, last = int(from_seconds / step), int(to_seconds / step)
        took = to_seconds - from_seconds
        for at in range(first, min(last, SLICES - 1) + 1):
            within = min(to_seconds, (at + 1) * step) - max(from_seconds, at * step)
            into[at] += amount * within / took if took > 0 else amount

    def recording(self) -> Recording:
        pools: dict[str, Slices] = {}
        backends = {backend.name: backend.pool.name for backend in self.world.fleet.backends.values()}
        for pool in dict.fromkeys(backends.values()):
            own = [name for name, of in backends.items() if of == pool]
            before = (0, 0)
            useful, thin, idle = [], [], []
            for number, paid in enumerate(self._leased):
                bill = sum(paid.get(name, (0, 0))[0] for name in own)
                unused = sum(paid.get(name, (0, 0))[1] for name in own)
                used = (bill - before[0]) - (unused - before[1])
                served = min(float(used), self._standard[pool][number])
                useful.append(served)
                thin.append(used - served)
                idle.append(float(unused - before[1]))
                before = bill, unused
            pools[pool] = Slices(useful, thin, idle, list(self._bought[pool]))
        return Recording(self.step_seconds, pools)
