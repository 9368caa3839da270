import os
import subprocess
import sys
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.classify.category import Category
from router.classify.classifier import COMPLETION_TOKENS_MAX, COMPLETION_TOKENS_MIN, SHIPPED, Classifier
from router.classify.evaluation import apgr_table, cells, length_error
from router.classify.outcomes import PUBLIC_PAIRS, Outcome
from router.domain.decision import Prediction
from router.domain.request import Prompt

CLASSIFIER = Classifier.load()
ANOTHER = Classifier.load()

PROMPTS = st.builds(
    Prompt,
    text=st.text(max_size=400)
    | st.sampled_from(["", "😀" * 50, "数学" * 3000, "\ud800", "a b " * 250_000, "!" * 9999]),
    system_text=st.text(max_size=50),
    turns=st.integers(0, 500),
    tokens_estimate=st.integers(0, 2_000_000),
    has_tools=st.booleans(),
    has_json_schema=st.booleans(),
    has_images=st.booleans(),
)


@given(PROMPTS)
def test_every_field_is_within_bounds_whatever_the_prompt(prompt: Prompt) -> None:
    prediction = CLASSIFIER.predict(prompt)
    assert 0 < prediction.small_suffices < 1
    assert COMPLETION_TOKENS_MIN <= prediction.completion_tokens <= COMPLETION_TOKENS_MAX
    assert prediction.category in set(Category)
    assert 0 <= prediction.uncertainty <= 1


@given(PROMPTS)
def test_the_same_prompt_gets_the_same_prediction(prompt: Prompt) -> None:
    assert CLASSIFIER.predict(prompt) == ANOTHER.predict(prompt)


def test_predictions_are_the_same_in_every_process() -> None:
    program = (
        "from dataclasses import astuple; from router.classify.classifier import Classifier; "
        "from router.domain.request import Prompt; "
        "print(astuple(Classifier.load().predict(Prompt('Which of these is not a prime number? 7, 9, 11'))))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    here = CLASSIFIER.predict(Prompt("Which of these is not a prime number? 7, 9, 11"))
    assert printed == {f"{astuple(here)}\n"}


def predictions(outcomes: list[Outcome]) -> list[Prediction]:
    return [CLASSIFIER.predict(outcome.prompt) for outcome in outcomes]


def test_the_shipped_arrays_beat_chance_on_prompts_that_they_have_not_seen(outcomes: list[Outcome]) -> None:
    score = np.array([1 - prediction.small_suffices for prediction in predictions(outcomes)])
    _, macro = apgr_table(score, cells(outcomes, PUBLIC_PAIRS))
    assert macro.value > 0.53


def test_unseen_prompts_of_trained_kinds_are_known_and_their_lengths_foreseen(outcomes: list[Outcome]) -> None:
    seen = predictions(outcomes)
    assert np.median([prediction.uncertainty for prediction in seen]) < 0.2
    error = length_error(outcomes, PUBLIC_PAIRS, seen)
    assert 0.6 < error.ratio_of_means < 1.6
    assert error.factor_median < 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hi",
        "asdkjh qweiuy zxmnc qpwoei",
        "日本の首都はどこですか？",
        "Bitte übersetze den folgenden Satz ins Englische",
        "🎉" * 20,
    ],
)
def test_ignorance_is_admitted_of_what_is_unlike_the_training_data(text: str) -> None:
    assert CLASSIFIER.predict(Prompt(text)).uncertainty > 0.9


def test_what_was_not_read_is_not_known() -> None:
    text = "Which of the following is the capital of France?\nA. Lyon\nB. Paris\nC. Nice\nD. Lille"
    known = CLASSIFIER.predict(Prompt(text, tokens_estimate=30)).uncertainty
    assert known < 0.5
    assert CLASSIFIER.predict(Prompt(text, tokens_estimate=20_000)).uncertainty > 0.9
    assert CLASSIFIER.predict(Prompt(text, tokens_estimate=30, turns=20)).uncertainty > 0.9
    assert CLASSIFIER.predict(Prompt(text, tokens_estimate=300, has_images=True)).uncertainty == 1
    # A system message is a message, but one that was read.
    read = Prompt(text, system_text="Answer with one letter.", turns=2, tokens_estimate=40)
    assert CLASSIFIER.predict(read).uncertainty == known


def test_far_from_the_training_data_only_the_rules_speak() -> None:
    """Two strange prompts that the rules cannot tell apart get the same probability."""
    some, other = Prompt("qwrt zxcv plmk"), Prompt("vbnm hjkl yuio")
    assert CLASSIFIER.predict(some).uncertainty == CLASSIFIER.predict(other).uncertainty == 1
    assert CLASSIFIER.predict(some).small_suffices == CLASSIFIER.predict(other).small_suffices
    harder = Prompt("qwrt not zxcv unless plmk")
    assert CLASSIFIER.predict(harder).small_suffices < CLASSIFIER.predict(some).small_suffices


def test_the_shipped_file_is_small() -> None:
    assert SHIPPED.stat().st_size < 1_000_000
