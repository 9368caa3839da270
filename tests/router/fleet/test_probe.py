"""Which probe fits a backend, and which answers to it are real."""

import pytest

from router.domain.fleet import Backend, Billing, EngineKind, Pool, PoolKind
from router.domain.request import Capability
from router.fleet.probe import probe_of

LEASED = Pool("central", PoolKind.CENTRAL, Billing.LEASED)
METERED = Pool("cloud", PoolKind.CLOUD, Billing.METERED)


def backend(*capabilities: Capability, pool: Pool = LEASED) -> Backend:
    can = frozenset(capabilities)
    return Backend("a", pool, "llama", "served", "small", "fp8", EngineKind.VLLM, 8192, can, "p", "h", ())


@pytest.mark.parametrize(
    ("backend", "path"),
    [
        (backend(Capability.CHAT, Capability.COMPLETIONS), "/v1/completions"),
        (backend(Capability.CHAT), "/v1/chat/completions"),
        (backend(Capability.EMBEDDINGS), "/v1/embeddings"),
        (backend(Capability.TRANSCRIPTIONS), None),
        (backend(Capability.CHAT, pool=METERED), None),
    ],
)
def test_the_smallest_request_that_the_backend_can_serve_for_nothing(backend: Backend, path: str | None) -> None:
    probe = probe_of(backend)
    assert (probe and probe.path) == path
    if probe is not None:
        assert probe.body["model"] == "served"


@pytest.mark.parametrize(
    ("status", "body", "is_real"),
    [
        (200, b'{"choices":[{"finish_reason":"length"}]}', True),
        (200, b'{"choices":[{"finish_reason":"stop"}]}', True),
        (200, b'{"choices":[{"finish_reason":"abort"}]}', False),
        (200, b'{"choices":[{"finish_reason":null}]}', False),
        (200, b'{"choices":[]}', False),
        (200, b'{"error":{}}', False),
        (200, b"[]", False),
        (200, b"<html>", False),
        (200, b"", False),
        (200, b"[" * 100_000, False),
        (500, b'{"choices":[{"finish_reason":"stop"}]}', False),
    ],
)
def test_only_a_natural_end_is_a_real_answer(status: int, body: bytes, is_real: bool) -> None:
    probe = probe_of(backend(Capability.COMPLETIONS))
    assert probe is not None
    assert probe.is_answered(status, body) is is_real


def test_an_embedding_needs_no_end() -> None:
    probe = probe_of(backend(Capability.EMBEDDINGS))
    assert probe is not None
    assert probe.is_answered(200, b'{"data":[{"embedding":[0.1]}]}')
    assert not probe.is_answered(200, b'{"data":[]}')
