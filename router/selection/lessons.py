"""All that a router learns of its fleet, in one place: it outlives a configuration, and every decision is made with it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from router.domain.fleet import Backend, Billing
from router.pricing.drift import Drifts
from router.pricing.profile import EngineProfile, Speculation
from router.pricing.yields import Yields
from router.selection.affinity import TOKENS_UNKNOWN_MAX, PrefixIndex
from router.selection.experience import Experiences
from router.selection.lengths import Lengths
from router.selection.preemption import Preemptions
from router.selection.sleep import Sleepers


def replica_profiles(backends: Iterable[Backend], profiles: Mapping[str, EngineProfile]) -> dict[str, EngineProfile]:
    """Of leased replicas, by id, where their backend has one."""
    return {
        replica.id: profiles[backend.name]
        for backend in backends
        if backend.pool.billing is Billing.LEASED and backend.name in profiles
        for replica in backend.replicas
    }


def speculations(backends: Iterable[Backend], profiles: Mapping[str, EngineProfile]) -> dict[str, Speculation]:
    """How those draft that do, by backend's name, as the profiles say."""
    found: dict[str, Speculation] = {}
    for backend in backends:
        profile = profiles.get(backend.name) if backend.pool.billing is Billing.LEASED else None
        if profile is not None and profile.speculation is not None:
            found[backend.name] = profile.speculation
    return found


@dataclass(frozen=True, slots=True)
class Lessons:
    """drifts: how far leased replicas are from their profiles. prefixes: what was sent where. sleepers: who of those that scale
    to zero is awake. experiences: with metered backends. preemptions: of spot replicas. lengths: of answers, by application.
    yields: of backends that draft, what their steps yield."""

    drifts: Drifts = field(default_factory=Drifts)
    prefixes: PrefixIndex = field(default_factory=PrefixIndex)
    sleepers: Sleepers = field(default_factory=Sleepers)
    experiences: Experiences = field(default_factory=Experiences)
    preemptions: Preemptions = field(default_factory=Preemptions)
    lengths: Lengths = field(default_factory=Lengths)
    yields: Yields = field(default_factory=Yields)

    def follow(
        self, backends: Iterable[Backend], profiles: Mapping[str, EngineProfile], availability_min: float
    ) -> None:
        """These are the backends from now on. profiles: by backend's name, of those that have one. availability_min: from which
        share of answers on a metered backend is asked like any other."""
        backends = tuple(backends)
        replicas = [(replica.id, backend) for backend in backends for replica in backend.replicas]
        self.drifts.follow(replica_profiles(backends, profiles))
        self.prefixes.follow(
            {
                replica: profiles[backend.name].kv_capacity_tokens if backend.name in profiles else TOKENS_UNKNOWN_MAX
                for replica, backend in replicas
            }
        )
        self.yields.follow(speculations(backends, profiles))
        self.sleepers.follow(backends)
        self.experiences.follow(backends, availability_min)
        self.preemptions.follow(backends)

    def advance(self, now_ns: int, now_seconds: float) -> None:
        """Call it about once a second. now_ns: of the clock that attempts are timed by; now_seconds: of the fleet's."""
        self.drifts.advance(now_ns)
        self.experiences.advance(now_ns)
        self.yields.advance(now_ns)
        self.preemptions.advance(now_seconds)
        for replica, sleeper in self.sleepers:
            if sleeper.is_asleep(now_seconds):
                self.prefixes.forget(replica)
