"""Every replica in its turn, whatever it costs: a baseline, and what others do by default.

When: to compare with.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, PrivateAttr

from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

REASON = "next in turn"


class RoundRobin(BaseModel, frozen=True, extra="forbid"):
    """The replica whose last turn is longest ago first; those that never had one, by id, before all others.

    A single counter would go round too, but two kinds of requests that alternate, each with replicas of its own, would then
    always meet the same ones.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    reasons: ClassVar[tuple[str, ...]] = (REASON,)

    _last_turns: dict[str, int] = PrivateAttr(default_factory=dict)  # by replica id; no more than there are replicas

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """The first of the ranking has had its turn, whether or not it was then asked."""
        turns = self._last_turns
        ranked = sorted(candidates, key=lambda candidate: (turns.get(candidate.replica.id, 0), candidate.replica.id))
        if ranked:
            turns[ranked[0].replica.id] = max(turns.values(), default=0) + 1
        return [Choice(candidate, REASON) for candidate in ranked]
