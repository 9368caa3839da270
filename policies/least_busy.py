"""The replica with the least work in flight, whatever it costs: a baseline, and a sound balancer of equal replicas.

When: to compare with, or to balance equal replicas of one model.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel

from policies import idlest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

REASON = "least busy first"


class LeastBusy(BaseModel, frozen=True, extra="forbid"):
    """By attempts in flight, as counted by jeton itself, hence never stale."""

    needs: ClassVar[frozenset[str]] = frozenset()
    reasons: ClassVar[tuple[str, ...]] = (REASON,)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Of equally many attempts, the one with the fewest prompt tokens before it."""
        return [Choice(candidate, REASON) for candidate in idlest_first(candidates)]
