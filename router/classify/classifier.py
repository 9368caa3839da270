"""The classifier: rules and learned model, blended by how near a prompt is to what was trained on.

Near, the learned model knows best; far, it is at chance and the rules are not. Nearness is also what certainty there is.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import exp
from pathlib import Path
from typing import Self

from router.classify.category import Category, categorize, expected_completion_tokens
from router.classify.learned import LearnedModel, logistic, nearness
from router.classify.rules import difficulty
from router.classify.words import words
from router.domain.decision import Prediction
from router.domain.request import Prompt

SHIPPED = Path(str(files("router.classify") / "model.npz"))

COMPLETION_TOKENS_MIN = 1.0
COMPLETION_TOKENS_MAX = 16_384.0
# What a word and a character of the system text are reckoned at in language tokens when we ask how much of the input was
# read, and what a chat template adds: generous, so that a tokenizer that cuts finely does not pass for a text unread.
TOKENS_PER_WORD = 2.0
TOKENS_FREE = 32.0
CHARACTERS_PER_TOKEN = 2.0
# Kinds whose answers are as long as the call or the text asks, whatever the benchmarks' answers were.
_LENGTH_BY_CATEGORY = frozenset({Category.TOOLS, Category.TRANSLATION})


@dataclass(frozen=True, slots=True)
class Classifier:
    """Pure and deterministic: the same prompt gets the same prediction in every process. Safe to share between threads."""

    learned: LearnedModel

    @classmethod
    def load(cls, path: Path | str | None = None) -> Self:
        """The shipped arrays, or those that `jeton train` wrote. Raises OSError or ValueError."""
        return cls(LearnedModel.load(Path(path)) if path else _shipped())

    def predict(self, prompt: Prompt) -> Prediction:
        """Time is bounded whatever the text; see `words.py`."""
        found = words(prompt.text)
        distinct = set(found)
        estimate = self.learned.estimate(found, distinct)
        calibration = self.learned.calibration
        near = nearness(calibration, estimate.similarity) * _share_read(prompt, found)
        points = (difficulty(prompt, found) - calibration.points_mean) / calibration.points_scale
        advantage = points + near * estimate.gain / calibration.gain_scale
        category = categorize(prompt, found, distinct)
        completion_tokens = expected_completion_tokens(category, prompt)
        if category not in _LENGTH_BY_CATEGORY:
            learned_tokens = calibration.tokens_factor * exp(min(20.0, estimate.log_tokens))
            completion_tokens = learned_tokens**near * completion_tokens ** (1 - near)
        return Prediction(
            small_suffices=logistic(calibration.small_suffices, advantage),
            completion_tokens=min(COMPLETION_TOKENS_MAX, max(COMPLETION_TOKENS_MIN, completion_tokens)),
            category=category.value,
            uncertainty=1 - near,
        )


@cache
def _shipped() -> LearnedModel:
    return LearnedModel.load(SHIPPED)


def _share_read(prompt: Prompt, found: list[bytes]) -> float:
    """The share of the input that we read, 0–1: earlier turns, images and what was too long for the text are unknown."""
    if prompt.is_partly_elsewhere:
        return 0.0
    earlier_turns = max(0, prompt.turns - 1 - bool(prompt.system_text))
    read_tokens = TOKENS_FREE + TOKENS_PER_WORD * len(found) + len(prompt.system_text) / CHARACTERS_PER_TOKEN
    return min(1.0, read_tokens / max(1, prompt.said_tokens_estimate)) / (1 + earlier_turns)
