"""Candidates for the policies' tables."""

from collections.abc import Callable

import pytest

from router.domain.decision import Candidate, Quote
from router.domain.fleet import Backend, Billing, EngineKind, Load, Pool, PoolKind, Replica
from router.domain.request import Capability, Endpoint, InferenceRequest, Prompt

MakeCandidate = Callable[..., Candidate]


@pytest.fixture
def request_() -> InferenceRequest:
    needs = frozenset({Capability.CHAT})
    return InferenceRequest("r1", "acme", "key", Endpoint.CHAT, "auto", True, Prompt("hello"), needs)


@pytest.fixture
def candidate() -> MakeCandidate:
    """Makes a candidate out of what a policy looks at: replica's id, quote (nano-dollars), forecast, quality, tier, load."""
    pool = Pool("central", PoolKind.CENTRAL, Billing.LEASED)

    def make(
        name: str,
        *,
        quote: int = 1000,
        ttft: float = 0.5,
        quality: float = 1.0,
        level: int = 1,
        attempts: int = 0,
        prefill: int = 0,
    ) -> Candidate:
        replica = Replica(name, name.split("/")[0], "http://10.0.0.1:8000")
        tier = ("small", "large")[level] if level < 2 else f"tier-{level}"
        backend = Backend(
            replica.backend, pool, "m", "m", tier, "fp8", EngineKind.VLLM, 8192, frozenset(), "p", "h", (replica,)
        )
        load = Load(attempts=attempts, prefill_tokens=prefill)
        return Candidate(backend, replica, load, ttft, 0.02, 100.0, quality, Quote(quote, quote, quote), level)

    return make
