"""The highest sum of weighted scores, each between the worst and the best candidate at hand.

When: you come from llm-d or Envoy's endpoint picker and want its knobs, or have a preference that no other policy states. The
scores are relative: a cost score says who is cheaper, not by how much it matters; a floor is a floor only in `quality_floor`.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import cheapest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

REASON = "highest weighted score"


class Weighted(BaseModel, frozen=True, extra="forbid"):
    """Weights, 0 to leave a scorer out: cost (marginal quote), ttft, tpot, quality, fill (sequences ÷ target batch), queue
    (prompt tokens that wait), prefix (tokens cached)."""

    needs: ClassVar[frozenset[str]] = frozenset({"price", "quality", "ttft"})
    reasons: ClassVar[tuple[str, ...]] = (REASON,)

    cost: float = Field(default=2.0, ge=0)
    ttft: float = Field(default=1.0, ge=0)
    tpot: float = Field(default=0.0, ge=0)
    quality: float = Field(default=2.0, ge=0)
    fill: float = Field(default=0.5, ge=0)
    queue: float = Field(default=0.5, ge=0)
    prefix: float = Field(default=1.0, ge=0)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Of equal scores the cheapest."""
        ranked = cheapest_first(candidates)
        scores = dict.fromkeys(range(len(ranked)), 0.0)
        for name, value_of in SCORERS.items():
            weight = getattr(self, name)
            if weight and ranked:
                values = [value_of(candidate) for candidate in ranked]
                worst, best = max(values), min(values)
                if worst > best:
                    for place, value in enumerate(values):
                        scores[place] += weight * (worst - value) / (worst - best)
        order = sorted(scores, key=lambda place: -scores[place])
        return [Choice(ranked[place], REASON) for place in order]


# Of each the least is the best.
SCORERS: dict[str, Callable[[Candidate], float]] = {
    "cost": lambda candidate: candidate.marginal_nanousd,
    "ttft": lambda candidate: candidate.ttft_seconds,
    "tpot": lambda candidate: candidate.tpot_seconds,
    "quality": lambda candidate: -candidate.quality,
    "fill": lambda candidate: candidate.fill_ratio,
    "queue": lambda candidate: candidate.load.prefill_tokens,
    "prefix": lambda candidate: -candidate.cached_tokens,
}
