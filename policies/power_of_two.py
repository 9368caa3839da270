"""Two replicas by chance, and of them the less busy: a baseline, and a good balancer of equal replicas without a view of all.

When: to compare with (Mitzenmacher, "The power of two choices in randomized load balancing", 2001). Chance is a hash of the
request's id, so that a replay decides alike.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import ClassVar

from pydantic import BaseModel

from policies import idlest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

REASON = "less busy of two by chance"


class PowerOfTwo(BaseModel, frozen=True, extra="forbid"):
    """No parameters."""

    needs: ClassVar[frozenset[str]] = frozenset()
    reasons: ClassVar[tuple[str, ...]] = (REASON,)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """The two, the less busy first; then the others by chance."""
        seed = request.request_id.encode()
        shuffled = sorted(candidates, key=lambda candidate: _chance(seed, candidate))
        return [Choice(one, REASON) for one in (*idlest_first(shuffled[:2]), *shuffled[2:])]


def _chance(seed: bytes, candidate: Candidate) -> bytes:
    return blake2b(candidate.replica.id.encode(), key=seed[:64], digest_size=8).digest()
