"""A small model first; its answer is kept if it was sure of it, else a larger one is asked and the attempt is written off.

When: the small tier is much cheaper and often right, and a wrong first guess may cost some seconds. The first choice carries a
test (the mean log-probability of its tokens, or a JSON schema that its answer must meet); the pipeline puts it to the answer
before the client sees any of it.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import on_time_first
from router.domain.decision import Acceptance, Candidate, Choice
from router.domain.request import Capability, InferenceRequest

TRIED = "small first, kept if sure"
SURE = "sure enough without a test"
LARGE = "larger, the attempt does not pay"
NEXT = "next if not accepted"


class Cascade(BaseModel, frozen=True, extra="forbid"):
    """logprob_mean_min: the mean natural log-probability of the answer's tokens from which on it is kept; 0 is certain.

    quality_min: predicted to be this good, an answer goes out without a test. chance_min: predicted to be less likely accepted
    than this, the small model is not tried. stream_tokens: how many tokens of a streamed answer are held back for the test; the
    rest of it is passed on as it comes. ttft_seconds_max: one forecast to begin later is asked after those on time.

    An attempt is priced with what it costs when it is discarded: small first is expected to cost s + (1 − p) · l, with p the
    predicted quality, so it pays where s < p · l.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"price", "tiers", "ttft"})
    reasons: ClassVar[tuple[str, ...]] = (TRIED, SURE, LARGE, NEXT)

    logprob_mean_min: float = Field(default=-0.7, lt=0)
    quality_min: float = Field(default=0.9, ge=0, le=1)
    chance_min: float = Field(default=0.3, ge=0, le=1)
    stream_tokens: int = Field(default=24, ge=1, le=1024)
    ttft_seconds_max: float = Field(default=2.0, gt=0)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """The best first step, then the highest tiers, then what remains."""
        ranked = on_time_first(candidates, self.ttft_seconds_max)
        if not ranked:
            return []
        best = sorted(ranked, key=_by_tier)
        best.sort(key=self._is_late)
        large = best[0]
        for small in ranked:
            if small.tier_level >= large.tier_level or self._is_late(small):
                break  # from here on nothing is cheaper than the best tier, or nothing is on time
            if small.quality >= self.quality_min:
                return self._then(Choice(small, SURE), best)
            pays = self.chance_min <= small.quality and small.marginal_nanousd < small.quality * large.marginal_nanousd
            if pays and Capability.LOGPROBS in small.backend.capabilities:
                test = Acceptance(self.logprob_mean_min, self.stream_tokens, request.prompt.has_json_schema)
                return self._then(Choice(small, TRIED, test), best)
        return self._then(Choice(large, LARGE), best)

    def _is_late(self, candidate: Candidate) -> bool:
        return candidate.ttft_seconds > self.ttft_seconds_max

    def _then(self, first: Choice, best: Sequence[Candidate]) -> list[Choice]:
        return [first, *(Choice(candidate, NEXT) for candidate in best if candidate is not first.candidate)]


def _by_tier(candidate: Candidate) -> int:
    return -candidate.tier_level
