"""The smallest request that shows whether a backend really generates, and how to read its answer.

A draining vLLM answers `/health` with 200 while generation gets 500s, or 200 with empty text and finish_reason "abort"; a
frozen one answers nothing. So a probe asks for one token and wants a real end of it. What may not live here: sockets.
"""

import json
from dataclasses import dataclass
from typing import Any

from router.domain.fleet import Backend, Billing
from router.domain.request import Capability


@dataclass(frozen=True, slots=True)
class Probe:
    """A POST of `body` to `path`; the answer is real if the first element of its list `member` says so."""

    path: str
    body: dict[str, Any]
    member: str

    def is_answered(self, status: int, body: bytes) -> bool:
        """Whether this is a real answer: 200, JSON, and for generation a natural end."""
        if status != 200:
            return False
        try:
            first = json.loads(body)[self.member][0]
            return self.member == "data" or first["finish_reason"] in ("stop", "length")
        except (ValueError, LookupError, TypeError, RecursionError):
            return False


def probe_of(backend: Backend) -> Probe | None:
    """The probe that fits the backend; None where there is none: a metered backend would charge for it, and audio has no
    small request. There a client's request is the trial."""
    if backend.pool.billing is not Billing.LEASED:
        return None
    model = backend.served_model
    if Capability.COMPLETIONS in backend.capabilities:
        return Probe("/v1/completions", {"model": model, "prompt": "1", "max_tokens": 1}, "choices")
    if Capability.CHAT in backend.capabilities:
        messages = [{"role": "user", "content": "1"}]
        return Probe("/v1/chat/completions", {"model": model, "messages": messages, "max_tokens": 1}, "choices")
    if Capability.EMBEDDINGS in backend.capabilities:
        return Probe("/v1/embeddings", {"model": model, "input": "1"}, "data")
    return None
