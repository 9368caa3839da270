"""One replica in the simulation: an engine in virtual time and, where it is paid by the hour, the meter that shares its bill out.

The meter and its weights are the router's own, told the three events of an attempt as the live accountant tells them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from load.engine import Engine, EngineSequence
from router.domain.fleet import Backend, Replica
from router.pricing.meter import ReplicaMeter
from router.pricing.price import LeasedPrice, MeteredPrice
from router.pricing.profile import EngineProfile
from router.pricing.weigher import Weigher

if TYPE_CHECKING:
    from load.simulate.attempt import Attempt

NS = 1e9


@dataclass(slots=True)
class Paid:
    """Nano-dollars of leases: the bill, and what of it nobody used."""

    bill_nanousd: int = 0
    idle_nanousd: int = 0


class SimulatedReplica:
    """began_seconds: of its lease. at_work: attempts by their sequence in the engine. open_attempts: with those on their way
    there and back.

    is_running: the process is there; is_leaving: it gets no new work. goes_when_idle: with its last attempt.
    """

    __slots__ = (
        "_block_tokens",
        "_seed",
        "armed_seconds",
        "at_work",
        "backend",
        "began_seconds",
        "engine",
        "goes_when_idle",
        "is_leaving",
        "is_running",
        "meter",
        "name",
        "open_attempts",
        "price",
        "profile",
        "replica",
        "weigher",
    )

    def __init__(
        self,
        backend: Backend,
        replica: Replica,
        price: LeasedPrice | MeteredPrice,
        profile: EngineProfile,
        *,
        block_tokens: int,
        seed: int,
        now_seconds: float = 0.0,
    ) -> None:
        self.backend = backend
        self.replica = replica
        self.name = replica.id
        self.price = price
        self.profile = profile
        self._block_tokens = block_tokens
        self._seed = seed
        self.began_seconds = now_seconds
        now_ns = int(now_seconds * NS)
        self.meter = ReplicaMeter(price.nanousd_per_hour, now_ns) if isinstance(price, LeasedPrice) else None
        self.weigher = Weigher()
        self.open_attempts = 0
        self.is_leaving = self.goes_when_idle = False
        self.start()

    def start(self) -> None:
        """A process with an empty cache."""
        self.engine = Engine(self.profile, block_tokens=self._block_tokens, has_prefix_cache=True, seed=self._seed)
        self.at_work: dict[EngineSequence, Attempt] = {}
        self.armed_seconds: float | None = None
        self.is_running = True

    def stop(self) -> "list[Attempt]":
        """The process dies. What it was at, in the order in which it came."""
        broken = list(self.at_work.values())
        self.at_work = {}
        self.armed_seconds = None
        self.is_running = False
        return broken

    def reprice(self, price: LeasedPrice | MeteredPrice, now_seconds: float) -> None:
        """Another price of the same kind is in force."""
        self.price = price
        if self.meter is not None and isinstance(price, LeasedPrice):
            self.meter.reprice(price.nanousd_per_hour, max(int(now_seconds * NS), self.meter.last_ns))

    def opened(
        self,
        attempt_id: str,
        now_seconds: float,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        cached_tokens: int,
        is_streaming: bool,
    ) -> None:
        """The attempt is dispatched. prompt_tokens, and cached_tokens of them; completion_tokens: expected."""
        self.open_attempts += 1
        if self.meter is None:
            return
        at_ns = max(int(now_seconds * NS), self.meter.last_ns)
        weight = self.weigher.open(
            attempt_id,
            self.profile,
            at_ns,
            max(prompt_tokens - cached_tokens, 0),
            completion_tokens,
            context_tokens=prompt_tokens,
            is_streaming=is_streaming,
        )
        self.meter.open(attempt_id, weight, at_ns)

    def first_token(self, attempt_id: str, now_seconds: float) -> None:
        meter = self.meter
        if meter is None:
            return
        meter.advance(int(now_seconds * NS))
        at_ns = meter.last_ns
        weighed = self.weigher.first_token(attempt_id, at_ns, meter.occupied_seconds(attempt_id))
        if weighed is not None:
            meter.reweigh(attempt_id, weighed.weight, at_ns, *weighed[1:])

    def closed(self, attempt_id: str, now_seconds: float, computed_tokens: int | None) -> int | None:
        """What it cost, nano-dollars; None on a metered backend. computed_tokens: of its prompt, as the usage says; None where
        there is none."""
        self.open_attempts -= 1
        meter = self.meter
        if meter is None:
            return None
        at_ns = max(int(now_seconds * NS), meter.last_ns)
        return meter.close(attempt_id, at_ns, self.weigher.close(attempt_id, at_ns, computed_tokens))

    def end(self, now_seconds: float) -> None:
        """Its lease is over. What is still open keeps what it owes."""
        if self.meter is not None:
            self.meter.end(max(int(now_seconds * NS), self.meter.last_ns))

    @property
    def paid_until_seconds(self) -> float:
        """Until when its lease is booked."""
        return self.began_seconds if self.meter is None else self.meter.last_ns / NS

    def paid(self, now_seconds: float) -> Paid | None:
        """Of its lease until now, or until what happened last if that was later; None on a metered backend."""
        meter = self.meter
        if meter is None:
            return None
        meter.advance(int(now_seconds * NS))
        return Paid(meter.bill_nanousd, meter.idle_nanousd)
