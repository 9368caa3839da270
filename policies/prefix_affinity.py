"""Where the conversation was last, as long as its cached prefix is worth the wait; else the least busy.

When: one model on several replicas, and long conversations or a long common preamble: a baseline of routing by cache alone. It
knows no price; `quality_floor` weighs the cache against it.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import idlest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

HELD = "longest cached prefix"
ELSEWHERE = "least busy, no prefix worth it"


class PrefixAffinity(BaseModel, frozen=True, extra="forbid"):
    """tokens_min: a shorter cached prefix is not worth sticking to.

    The load is bounded as llm-d's sticky filter bounds it: who holds the prefix is passed over as soon as waiting there takes
    longer than computing the prompt anew elsewhere (both are in the forecasts of the first token), by more than
    ttft_seconds_spare.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"prefix", "ttft"})
    reasons: ClassVar[tuple[str, ...]] = (HELD, ELSEWHERE)

    tokens_min: int = Field(default=64, ge=1)
    ttft_seconds_spare: float = Field(default=0.0, ge=0)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Those that hold a prefix and answer no later than the quickest, the longest first; then the others by load."""
        latest = min((candidate.ttft_seconds for candidate in candidates), default=0.0) + self.ttft_seconds_spare
        # The quickest may hold the prefix itself: then nobody is quicker without it.
        without = [one.ttft_seconds for one in candidates if one.cached_tokens < self.tokens_min]
        if without:
            latest = max(latest, min(without) + self.ttft_seconds_spare)
        held: list[Candidate] = []
        others: list[Candidate] = []
        for candidate in idlest_first(candidates):
            is_held = candidate.cached_tokens >= self.tokens_min and candidate.ttft_seconds <= latest
            (held if is_held else others).append(candidate)
        held.sort(key=_longest)
        return [*(Choice(one, HELD) for one in held), *(Choice(one, ELSEWHERE) for one in others)]


def _longest(candidate: Candidate) -> int:
    return -candidate.cached_tokens
