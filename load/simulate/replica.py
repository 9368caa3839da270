"""One replica in the simulation: an engine in virtual time and, where it is paid by the hour, the meter that shares its bill out.

The meter and its weights are the router's own, told the three events of an attempt as the live accountant tells them.
"""

from load.engine import Engine, EngineSequence
from router.domain.fleet import Backend, Replica
from router.pricing.meter import ReplicaMeter
from router.pricing.price import LeasedPrice, MeteredPrice
from router.pricing.profile import EngineProfile
from router.pricing.weigher import Weigher

NS = 1e9


class SimulatedReplica:
    """starting: sequences whose first token has not come; few, so that they can be looked through after every step."""

    __slots__ = (
        "armed_seconds",
        "backend",
        "engine",
        "meter",
        "name",
        "price",
        "profile",
        "replica",
        "starting",
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
    ) -> None:
        self.backend = backend
        self.replica = replica
        self.name = replica.id
        self.price = price
        self.profile = profile
        self.engine = Engine(profile, block_tokens=block_tokens, has_prefix_cache=True, seed=seed)
        self.meter = ReplicaMeter(price.nanousd_per_hour, 0) if isinstance(price, LeasedPrice) else None
        self.weigher = Weigher()
        self.starting: dict[EngineSequence, None] = {}
        self.armed_seconds: float | None = None

    def opened(
        self, attempt_id: str, now_seconds: float, prompt_tokens: int, completion_tokens: int, *, is_streaming: bool
    ) -> None:
        """The attempt is dispatched. completion_tokens: expected."""
        if self.meter is None:
            return
        at_ns = max(int(now_seconds * NS), self.meter.last_ns)
        weight = self.weigher.open(
            attempt_id, self.profile, at_ns, prompt_tokens, completion_tokens, is_streaming=is_streaming
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

    def closed(self, attempt_id: str, now_seconds: float) -> int | None:
        """What it cost, nano-dollars; None on a metered backend."""
        meter = self.meter
        if meter is None:
            return None
        cost = meter.close(attempt_id, int(now_seconds * NS))
        self.weigher.close(attempt_id, meter.last_ns)
        return cost
