"""Candidates for the policies' tables."""

from collections.abc import Callable
from typing import Any

import pytest
from pools import CENTRAL

from router.domain.decision import Candidate
from router.domain.fleet import Backend, EngineKind, Load, Pool, Replica
from router.domain.request import Capability, Endpoint, InferenceRequest, Prompt

MakeCandidate = Callable[..., Candidate]


@pytest.fixture
def request_() -> InferenceRequest:
    needs = frozenset({Capability.CHAT})
    return InferenceRequest("r1", "acme", "key", Endpoint.CHAT, "auto", True, Prompt("hello"), needs)


@pytest.fixture
def candidate() -> MakeCandidate:
    """Makes a candidate out of what a policy looks at: replica's id, quote (nano-dollars), forecasts, tier, load, pool, and any
    other field."""

    def make(
        name: str,
        *,
        quote: int = 1000,
        ttft: float = 0.5,
        quality: float = 1.0,
        level: int = 1,
        attempts: int = 0,
        prefill: int = 0,
        pool: Pool = CENTRAL,
        tpot: float = 0.02,
        **more: Any,
    ) -> Candidate:
        replica = Replica(name, name.split("/")[0], "http://10.0.0.1:8000")
        tier = ("small", "large")[level] if level < 2 else f"tier-{level}"
        backend = Backend(
            replica.backend, pool, "m", "m", tier, "fp8", EngineKind.VLLM, 8192, frozenset(), "p", "h", (replica,)
        )
        load = Load(attempts=attempts, prefill_tokens=prefill)
        return Candidate(backend, replica, load, ttft, tpot, 100.0, quality, quote, quote, quote, level, **more)

    return make
