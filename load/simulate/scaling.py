"""A backend that grows and shrinks with its load, as Kubernetes' HorizontalPodAutoscaler or KEDA would have it on jeton's work in
flight (`deploy/kubernetes/`).

    wanted = ⌈replicas × (attempts in flight per replica ÷ target)⌉, between the least and the most

Nothing is done where that ratio is within 10 % of 1 (`--horizontal-pod-autoscaler-tolerance`). More are ordered at once, and work
when their model is loaded; fewer only once fewer have been enough for `scale_down_after_seconds` (the stabilization window).
"""

from collections import deque
from math import ceil

from pydantic import Field, model_validator

from load.simulate.world import World
from router.config.section import Shape
from router.domain.fleet import IDLE, Replica

TOLERANCE = 0.1


class ScalingConfig(Shape):
    """target_attempts: in flight per replica. startup_seconds: from the order, when the lease begins, until it takes work: a
    node, an image, a model."""

    backend: str
    replicas_min: int = Field(default=1, ge=1)
    replicas_max: int = Field(ge=1)
    target_attempts: float = Field(gt=0)
    interval_seconds: float = Field(default=15.0, gt=0)
    startup_seconds: float = Field(default=180.0, ge=0)
    scale_down_after_seconds: float = Field(default=300.0, ge=0)

    @model_validator(mode="after")
    def _bounds_fit(self) -> "ScalingConfig":
        if self.replicas_min > self.replicas_max:
            raise ValueError(f"replicas_min {self.replicas_min} is above replicas_max {self.replicas_max}")
        return self


class Scaler:
    """Looks at one backend until the end."""

    def __init__(self, world: World, config: ScalingConfig) -> None:
        self._world = world
        self._config = config
        self._wanted: deque[tuple[float, int]] = deque()
        self._made = 0
        world.at(config.interval_seconds, self._look)

    def _look(self) -> None:
        world, config = self._world, self._config
        now = world.now_seconds
        there = [
            one for one in world.fleet.replicas.values() if one.backend.name == config.backend and not one.is_leaving
        ]
        working = [one for one in there if one.is_running]
        loads = world.decider.fleet.loads
        attempts = sum(loads.get(one.name, IDLE).attempts for one in working)
        ratio = attempts / max(1, len(working)) / config.target_attempts
        wanted = len(there) if abs(ratio - 1) <= TOLERANCE else ceil(attempts / config.target_attempts)
        wanted = min(max(wanted, config.replicas_min), config.replicas_max)
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - config.scale_down_after_seconds:
            self._wanted.popleft()
        for _ in range(wanted - len(there)):
            self._order()
        surplus = len(there) - max(count for _, count in self._wanted)
        for one in there[len(there) - surplus :] if surplus > 0 else ():  # the youngest
            world.happened["scaled down"] += 1
            world.retire(one.name)
        if now + config.interval_seconds < world.until_seconds:
            world.at(now + config.interval_seconds, self._look)

    def _order(self) -> None:
        self._made += 1
        backend = self._config.backend
        name = f"{backend}/scaled-{self._made}"
        self._world.happened["scaled up"] += 1
        replica = Replica(name, backend, f"http://{backend}-scaled-{self._made}")
        self._world.add(backend, replica, startup_seconds=self._config.startup_seconds)
