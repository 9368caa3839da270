"""The cheapest candidate by what the request adds to the bill, whatever the answer is worth and however late it comes.

When: every backend in scope answers alike (one model in several places), and nobody waits: batch work, evaluations, embeddings.
Idle leases cost next to nothing at the margin, so they fill before anything is bought by the token.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import ClassVar

from pydantic import BaseModel

from policies import cheapest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

REASON = "cheapest at the margin"


class MarginalCost(BaseModel, frozen=True, extra="forbid"):
    """By the marginal quote alone."""

    needs: ClassVar[frozenset[str]] = frozenset({"price"})
    reasons: ClassVar[tuple[str, ...]] = (REASON,)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Of equal quotes the least busy first."""
        return list(map(Choice, cheapest_first(candidates), repeat(REASON)))
