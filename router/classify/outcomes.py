"""Recorded outcomes: what several models made of one prompt, the pairs of models to compare, and splits that do not leak.

A row of an outcome file is one JSON object; unknown members are ignored:

    id, dataset   text. `dataset` says where the row comes from; name at least two, so that what is like the training
                  data can be told from what is not.
    prompt        text: the last user message, as the router will see it
    scores        {model: 0..1}, how good each model's answer was
    category      text, optional, for people
    out_tokens    {model: integer}, optional, length of each answer in language tokens
    tools         list, optional, the functions that were offered
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from router.domain.request import Prompt

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row. scores: by model, 0–1. completion_tokens: by model, where recorded."""

    id: str
    dataset: str
    prompt: Prompt
    scores: Mapping[str, float]
    completion_tokens: Mapping[str, float]

    @property
    def question(self) -> str:
        return question_key(self.prompt.text)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models to choose between, and the datasets where comparing them is sound (none named: wherever both ran)."""

    small: str
    large: str
    datasets: frozenset[str] = frozenset()

    def applies(self, outcome: Outcome) -> bool:
        return (
            self.small in outcome.scores
            and self.large in outcome.scores
            and (not self.datasets or outcome.dataset in self.datasets)
        )


def _pair(small: str, large: str, *datasets: str) -> Pair:
    return Pair(small, large, frozenset(datasets))


# Weak and strong models of public outcome data whose scores are comparable, with the datasets in which they are.
PUBLIC_PAIRS = (
    _pair("mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview", "mmlu", "gsm8k", "routerbench"),
    _pair("llama-3.1-8b-instruct", "llama-3.1-70b-instruct", "mmlu_pro", "gsm8k_z", "math_l5"),
    _pair("llama-3.1-8b-instruct", "llama-3.1-nemotron-51b-instruct", "llmrouter"),
    _pair("mistral-7b-instruct-v0.3", "llama-3.1-nemotron-51b-instruct", "llmrouter"),
    _pair("llama-3-8b-instruct", "llama-3-70b-instruct", "bfcl"),
    _pair("llama-2-7b-chat-hf", "llama-2-70b-chat-hf", "alpaca_eval1"),
    _pair("fusechat-llama-3.2-1b-instruct", "fusechat-llama-3.1-8b-instruct", "alpaca_eval2"),
)

# CC BY-NC: read for evaluation, never trained on.
NON_COMMERCIAL = frozenset({"alpaca_eval1", "alpaca_eval2"})


def outcome_from_row(row: Mapping[str, Any]) -> Outcome:
    """Raises ValueError, naming the row, when a member is missing or of the wrong kind."""
    name = row.get("id", "row without id")
    try:
        text = row["prompt"]
        for member in ("id", "dataset", "prompt"):
            if not isinstance(row[member], str):
                raise TypeError(f"{member} is not text")
        scores = {str(model): float(score) for model, score in row["scores"].items()}
        if not all(0 <= score <= 1 for score in scores.values()):
            raise ValueError("a score lies outside 0..1")
        prompt = Prompt(text=text, has_tools=bool(row.get("tools")))
        lengths = {str(model): float(tokens) for model, tokens in (row.get("out_tokens") or {}).items() if tokens}
        return Outcome(row["id"], row["dataset"], prompt, scores, lengths)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"member {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{name}: {what}") from error


_OPTIONS = re.compile(r"\n\(?A[.)]")
_NOT_A_WORD = re.compile(r"[\W_]")
_KEY_CHARACTERS = 160


def question_key(text: str) -> str:
    """The same for one question in several benchmarks: its opening, without answer options, case and punctuation.

    Different questions on one passage share a key too. That is the safe side: they stay in one fold.
    """
    stem = _OPTIONS.split(text, maxsplit=1)[0]
    return _NOT_A_WORD.sub("", stem).lower()[:_KEY_CHARACTERS] or text


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers to train on and to test on; no question is in both."""

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]


def folds(outcomes: Sequence[Outcome], number: int) -> list[Split]:
    """k folds by question, by hash: each row is tested once, by a model that has not seen its question."""
    fold_of = [crc32(outcome.question.encode("utf-8", "replace")) % number for outcome in outcomes]
    return [
        Split(
            name=f"fold {fold}",
            train=tuple(row for row, its in enumerate(fold_of) if its != fold),
            test=tuple(row for row, its in enumerate(fold_of) if its == fold),
        )
        for fold in range(number)
    ]


def datasets_left_out(outcomes: Sequence[Outcome]) -> list[Split]:
    """One split per dataset: tested on it, trained on the others less every question that they share with it."""
    questions = [outcome.question for outcome in outcomes]
    splits = []
    for dataset in sorted({outcome.dataset for outcome in outcomes}):
        test = tuple(row for row, outcome in enumerate(outcomes) if outcome.dataset == dataset)
        held_out = {questions[row] for row in test}
        train = tuple(
            row for row, outcome in enumerate(outcomes) if outcome.dataset != dataset and questions[row] not in held_out
        )
        splits.append(Split(f"without {dataset}", train, test))
    return splits


def kinds(outcomes: Sequence[Outcome]) -> list[str]:
    """The kind of prompt of each row: its dataset, but datasets that share most of their questions are one kind."""
    questions: dict[str, set[str]] = {}
    for outcome in outcomes:
        questions.setdefault(outcome.dataset, set()).add(outcome.question)
    kind_of: dict[str, str] = {}
    for dataset in sorted(questions):
        kind_of[dataset] = next(
            (kind_of[other] for other in sorted(kind_of) if _overlap(questions[dataset], questions[other]) > 0.5),
            dataset,
        )
    return [kind_of[outcome.dataset] for outcome in outcomes]


def _overlap(some: set[str], others: set[str]) -> float:
    return len(some & others) / min(len(some), len(others))


def trainable(
    outcomes: Iterable[Outcome], pairs: Sequence[Pair], held_out: frozenset[str] = frozenset()
) -> list[Outcome]:
    """The outcomes that may teach: a pair applies, the licence allows it, and the question is not among those held out."""
    return [
        outcome
        for outcome in outcomes
        if outcome.dataset not in NON_COMMERCIAL
        and outcome.question not in held_out
        and any(pair.applies(outcome) for pair in pairs)
    ]


def mean_gains(outcomes: Sequence[Outcome], pairs: Sequence[Pair]) -> Doubles:
    """Score of large − score of small, the mean over the pairs that apply to each outcome; one must."""
    return _mean_over_pairs(outcomes, pairs, lambda small, large: large - small)


def mean_suffices(outcomes: Sequence[Outcome], pairs: Sequence[Pair]) -> Doubles:
    """The share of the pairs that apply in which the small model's score is no lower than the large one's."""
    return _mean_over_pairs(outcomes, pairs, lambda small, large: float(small >= large))


def mean_completion_tokens(outcome: Outcome, pairs: Sequence[Pair]) -> float | None:
    """Over the models of the pairs that apply; None where no length was recorded."""
    models = {model for pair in pairs if pair.applies(outcome) for model in (pair.small, pair.large)}
    lengths = [outcome.completion_tokens[model] for model in sorted(models) if model in outcome.completion_tokens]
    return sum(lengths) / len(lengths) if lengths else None


def _mean_over_pairs(
    outcomes: Sequence[Outcome], pairs: Sequence[Pair], compare: Callable[[float, float], float]
) -> Doubles:
    means = []
    for outcome in outcomes:
        values = [
            compare(outcome.scores[pair.small], outcome.scores[pair.large]) for pair in pairs if pair.applies(outcome)
        ]
        means.append(sum(values) / len(values))
    return np.array(means, np.float64)
