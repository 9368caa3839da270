"""A small fleet with prices and profiles, and requests for it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from router.domain.decision import Candidate, Exclusion, Prediction
from router.domain.fleet import (
    UP,
    Backend,
    Billing,
    EngineKind,
    Health,
    Load,
    Pool,
    PoolKind,
    Replica,
    Scrape,
    Snapshot,
)
from router.domain.request import Capability, Endpoint, InferenceRequest, Prompt
from router.pricing.drift import Drifts
from router.pricing.price import LeasedPrice, MeteredPrice, Price, Purchase, TokenRates
from router.pricing.profile import EngineProfile, roofline_profile
from router.pricing.yields import Yields
from router.selection.affinity import PrefixIndex
from router.selection.candidates import Finder
from router.selection.experience import Experiences
from router.selection.lessons import Lessons
from router.selection.preemption import Preemptions
from router.selection.scope import Scope
from router.selection.sleep import Sleepers

NOW = 1000.0
TIERS = ("small", "large")
EDGE = Pool("edge", PoolKind.EDGE, Billing.LEASED, "eu", 0.01)
CLOUD = Pool("cloud", PoolKind.CLOUD, Billing.METERED, "us", 0.08)
CHAT = frozenset({Capability.CHAT, Capability.COMPLETIONS, Capability.TOOLS})
LEASE = LeasedPrice("l4@2026-01-01#00000000", 800_000_000, Purchase.ON_DEMAND)
TOKENS = MeteredPrice("gpt@2026-01-01#00000000", TokenRates(400_000_000, 100_000_000, 400_000_000, 1_600_000_000))
PROFILE = roofline_profile(  # an 8B model in int4 on an L4
    parameters_billion=8.03,
    layers=32,
    kv_bytes_per_token=131_072,
    weight_bytes_per_parameter=0.56,
    memory_gb=24,
    bandwidth_gb_per_second=300,
    tflops=121,
)


@dataclass
class Fleet:
    """Everything that `find` is told, to be changed by a test before it asks."""

    backends: list[Backend]
    prices: dict[str, Price]
    profiles: dict[str, EngineProfile]
    health: dict[str, Health] = field(default_factory=dict)
    scrapes: dict[str, Scrape] = field(default_factory=dict)
    loads: dict[str, Load] = field(default_factory=dict)
    tiers: tuple[str, ...] = TIERS
    scope: tuple[str, ...] = ()  # backends by name; empty: all
    drifts: Drifts = field(default_factory=Drifts)
    prefixes: PrefixIndex = field(default_factory=PrefixIndex)
    sleepers: Sleepers = field(default_factory=Sleepers)
    experiences: Experiences = field(default_factory=Experiences)
    preemptions: Preemptions = field(default_factory=Preemptions)
    yields: Yields = field(default_factory=Yields)

    def finder(self) -> Finder:
        return Finder(
            tiers=self.tiers,
            prices=self.prices,
            profiles=self.profiles,
            stale_seconds=10.0,
            lessons=Lessons(
                self.drifts, self.prefixes, self.sleepers, self.experiences, self.preemptions, yields=self.yields
            ),
        )

    def find(
        self,
        request: InferenceRequest,
        prediction: Prediction | None = None,
        now_seconds: float = NOW,
        *,
        finder: Finder | None = None,
        **told: Any,
    ) -> tuple[list[Candidate], list[Exclusion]]:
        """By a finder of its own unless it is given one. told: what else `Finder.find` takes."""
        finder = finder or self.finder()
        backends = tuple(backend for backend in self.backends if not self.scope or backend.name in self.scope)
        replicas = {replica.id for backend in self.backends for replica in backend.replicas}
        health = {replica: self.health.get(replica, UP) for replica in replicas}
        snapshot = Snapshot(
            {backend.name: backend for backend in self.backends}, health, dict(self.scrapes), self.tiers
        )
        return finder.find(request, Scope("auto", backends), snapshot, self.loads, prediction, now_seconds, **told)

    def change(self, name: str, **members: Any) -> None:
        self.backends = [replace(found, **members) if found.name == name else found for found in self.backends]


def backend(name: str, tier: str, pool: Pool, replicas: int, *, context_tokens: int) -> Backend:
    engine = EngineKind.VLLM if pool is EDGE else EngineKind.OPENAI
    endpoints = tuple(Replica(f"{name}/{n}", name, f"http://{name}-{n}:8000") for n in range(1, replicas + 1))
    return Backend(name, pool, f"{name}-model", name, tier, "int4", engine, context_tokens, CHAT, name, "l4", endpoints)


@pytest.fixture
def fleet() -> Fleet:
    """Two small replicas and a large one at the edge, one large one in the cloud with a longer context."""
    return Fleet(
        [
            backend("edge-small", "small", EDGE, 2, context_tokens=8192),
            backend("edge-large", "large", EDGE, 1, context_tokens=8192),
            backend("cloud-large", "large", CLOUD, 1, context_tokens=128_000),
        ],
        {"edge-small": LEASE, "edge-large": LEASE, "cloud-large": TOKENS},
        {"l4": PROFILE},
    )


AskFor = Callable[..., InferenceRequest]


@pytest.fixture
def ask() -> AskFor:
    def make(
        tokens: int = 300, *also: Capability, endpoint: Endpoint = Endpoint.CHAT, **members: Any
    ) -> InferenceRequest:
        needs = frozenset({Capability(endpoint.value), *also})
        prompt = Prompt("hello", tokens_estimate=tokens)
        is_streaming = members.pop("is_streaming", True)
        return InferenceRequest("r1", "acme", "key", endpoint, "auto", is_streaming, prompt, needs, **members)

    return make
