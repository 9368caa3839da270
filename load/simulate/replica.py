"""One replica in the simulation: an engine in virtual time and, where it is paid by the hour, the meter that shares its bill out.

The meter and its weights are the router's own, told the three events of an attempt as the live accountant tells them. From when
on nobody asks what single attempts paid, a `TotalMeter` goes on in its place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from load.engine import Engine, EngineSequence
from load.simulate.total_meter import TotalMeter
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
    there and back; uncounted_attempts: of those, whose charges are not wanted in the tally.
    is_leased: it is paid by the hour, by `meter` and its `weigher` or by `total`.

    way_seconds: one way between it and the router, None where chance has a part in it. request_overhead_seconds,
    request_seconds_per_token: the profile's, of which reads are dear.
    events: what is to come about here, where the world leaves it to the replica (`world.py`), as a heap; next_seconds: when the
    first of that is due, the engine's next step included.
    is_running: the process is there; is_leaving: it gets no new work. goes_when_idle: with its last attempt.
    """

    __slots__ = (
        "_acceptance_by_kind",
        "_block_tokens",
        "_itemized_nanousd",
        "_seed",
        "armed_seconds",
        "at_work",
        "backend",
        "began_seconds",
        "engine",
        "events",
        "goes_when_idle",
        "is_leased",
        "is_leaving",
        "is_running",
        "meter",
        "name",
        "next_seconds",
        "open_attempts",
        "price",
        "profile",
        "replica",
        "request_overhead_seconds",
        "request_seconds_per_token",
        "total",
        "uncounted_attempts",
        "way_seconds",
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
        way_seconds: float | None,
        acceptance_by_kind: Mapping[str, float],
        now_seconds: float = 0.0,
    ) -> None:
        self.backend = backend
        self.replica = replica
        self.name = replica.id
        self.price = price
        self.profile = profile
        self.way_seconds = way_seconds
        self.request_overhead_seconds = profile.request_overhead_seconds
        self.request_seconds_per_token = profile.request_seconds_per_token
        self._block_tokens = block_tokens
        self._seed = seed
        self._acceptance_by_kind = acceptance_by_kind
        self.began_seconds = now_seconds
        now_ns = int(now_seconds * NS)
        self.meter = ReplicaMeter(price.nanousd_per_hour, now_ns) if isinstance(price, LeasedPrice) else None
        self.is_leased = self.meter is not None
        self.weigher = Weigher()
        self.total: TotalMeter | None = None
        self._itemized_nanousd = 0
        self.open_attempts = self.uncounted_attempts = 0
        self.events: list[tuple[float, int, Callable[[Attempt], None], Attempt]] = []
        self.next_seconds = inf
        self.is_leaving = self.goes_when_idle = False
        self.start()

    def start(self) -> None:
        """A process with an empty cache."""
        self.engine = Engine(
            self.profile,
            block_tokens=self._block_tokens,
            has_prefix_cache=True,
            seed=self._seed,
            acceptance_by_kind=self._acceptance_by_kind,
        )
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

    def go_by_totals(self) -> None:
        """From now on nobody asks what attempts pay, those included that are open."""
        if self.meter is not None:
            self.total = TotalMeter(self.meter)
            self._itemized_nanousd = self.meter.charged_nanousd
            self.meter, self.weigher = None, Weigher()

    @property
    def charged_together_nanousd(self) -> int:
        """What attempts have paid since nobody asks what each of them did."""
        return 0 if self.total is None else self.total.charged_nanousd - self._itemized_nanousd

    def opened(
        self,
        attempt: "Attempt",
        now_seconds: float,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        cached_tokens: int,
        is_streaming: bool,
    ) -> None:
        """The attempt is dispatched. prompt_tokens, and cached_tokens of them; completion_tokens: expected."""
        self.open_attempts += 1
        if self.total is not None:
            if self.open_attempts == 1:
                self.total.begin(int(now_seconds * NS))
            return
        if self.meter is None:
            return
        at_ns, attempt_id = max(int(now_seconds * NS), self.meter.last_ns), attempt.id
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

    def first_token(self, attempt: "Attempt", now_seconds: float) -> None:
        meter = self.meter
        if meter is None:
            return
        attempt_id = attempt.id
        meter.advance(int(now_seconds * NS))
        at_ns = meter.last_ns
        weighed = self.weigher.first_token(attempt_id, at_ns, meter.occupied_seconds(attempt_id))
        if weighed is not None:
            meter.reweigh(attempt_id, weighed.weight, at_ns, *weighed[1:])

    def closed(self, attempt: "Attempt", now_seconds: float, computed_tokens: int | None) -> int | None:
        """What it cost, nano-dollars; None on a metered backend, and 0 where that is in the total. computed_tokens: of its
        prompt, as the usage says; None where there is none."""
        self.open_attempts -= 1
        if self.total is not None:
            if not self.open_attempts:
                self.total.end(int(now_seconds * NS))
            return 0
        meter = self.meter
        if meter is None:
            return None
        at_ns, attempt_id = max(int(now_seconds * NS), meter.last_ns), attempt.id
        return meter.close(attempt_id, at_ns, self.weigher.close(attempt_id, at_ns, computed_tokens))

    def end(self, now_seconds: float) -> None:
        """Its lease is over. What is still open keeps what it owes."""
        if self.meter is not None:
            self.meter.end(max(int(now_seconds * NS), self.meter.last_ns))

    @property
    def paid_until_seconds(self) -> float:
        """Until when its lease is booked."""
        meter = self.total or self.meter
        return self.began_seconds if meter is None else meter.last_ns / NS

    def paid(self, now_seconds: float) -> Paid | None:
        """Of its lease until now, or until what happened last if that was later; None on a metered backend."""
        if self.total is not None:
            return Paid(*self.total.paid(int(now_seconds * NS), is_idle=not self.open_attempts))
        meter = self.meter
        if meter is None:
            return None
        meter.advance(int(now_seconds * NS))
        return Paid(meter.bill_nanousd, meter.idle_nanousd)
