"""What the answers would have been worth: a policy inside another that remembers which tier each question went to.

Emulated models answer with words that mean nothing, but of the shipped questions it is known what real ones made of them
(`load/data/README.md`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, Field, PrivateAttr

from router.domain.decision import Candidate, Choice, Policy
from router.domain.request import InferenceRequest
from router.selection.loader import load_policy


@dataclass
class Verdicts:
    """By question: whether the small and the large model answered it well. asked: how many went to either tier."""

    right: Mapping[str, tuple[int, int]]
    asked: list[int] = field(default_factory=lambda: [0, 0])
    good: int = 0
    best: int = 0

    def hear(self, request: InferenceRequest, choice: Choice) -> None:
        is_large = choice.candidate.quality >= choice.candidate.backend.quality_ratio  # its tier's own is 1
        small_right, large_right = self.right[request.prompt.text]
        self.asked[is_large] += 1
        self.good += large_right if is_large else small_right
        self.best += large_right

    @property
    def quality(self) -> float:
        """Right answers ÷ those that the large tier would have given."""
        return self.good / self.best if self.best else 1.0

    @property
    def small_ratio(self) -> float:
        return self.asked[0] / max(sum(self.asked), 1)


class Judged(BaseModel, frozen=True, extra="forbid", arbitrary_types_allowed=True):
    """The policy `inner`, told to `listening`."""

    listening: ClassVar[Verdicts | None] = None

    inner: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    _policy: Policy = PrivateAttr()

    def model_post_init(self, _: Any) -> None:
        object.__setattr__(self, "_policy", load_policy(self.inner, self.parameters))

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        choices = self._policy.rank(request, candidates)
        if Judged.listening is not None:
            Judged.listening.hear(request, choices[0])
        return choices
