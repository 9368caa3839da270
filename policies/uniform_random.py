"""Any replica with equal chance: a baseline, and what a load balancer without a view does.

When: to compare with. Chance is a hash of the request's id and the replica's, so that a replay decides alike.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import ClassVar

from pydantic import BaseModel

from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

REASON = "by chance"


class UniformRandom(BaseModel, frozen=True, extra="forbid"):
    """No parameters."""

    needs: ClassVar[frozenset[str]] = frozenset()
    reasons: ClassVar[tuple[str, ...]] = (REASON,)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """A permutation of its own for every request."""
        seed = request.request_id.encode()
        return [Choice(one, REASON) for one in sorted(candidates, key=lambda candidate: _chance(seed, candidate))]


def _chance(seed: bytes, candidate: Candidate) -> bytes:
    return blake2b(candidate.replica.id.encode(), key=seed[:64], digest_size=8).digest()
