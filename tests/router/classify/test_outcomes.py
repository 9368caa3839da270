from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.classify.outcomes import (
    NON_COMMERCIAL,
    PUBLIC_PAIRS,
    Outcome,
    Pair,
    datasets_left_out,
    folds,
    kinds,
    mean_completion_tokens,
    mean_gains,
    mean_suffices,
    outcome_from_row,
    question_key,
    trainable,
)
from router.domain.request import Prompt

PAIR = Pair("small", "large")


def outcome(text: str = "a question", dataset: str = "one", **scores: float) -> Outcome:
    return Outcome(f"{dataset}/{text}", dataset, Prompt(text), scores or {"small": 0.0, "large": 1.0}, {})


ROW: dict[str, Any] = {
    "id": "d/1",
    "dataset": "d",
    "prompt": "Is it?",
    "scores": {"small": 0, "large": 0.5},
    "out_tokens": {"small": 7, "large": None},
    "tools": [{"name": "f"}],
    "anything": "else",
}


def test_a_row_becomes_an_outcome() -> None:
    assert outcome_from_row(ROW) == Outcome(
        "d/1", "d", Prompt("Is it?", has_tools=True), {"small": 0.0, "large": 0.5}, {"small": 7.0}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": 3}, "d/1: prompt is not text"),
        ({"scores": {"small": 1.5}}, "d/1: a score lies outside"),
        ({"scores": {"small": float("nan")}}, "d/1: a score lies outside"),
        ({"scores": [1]}, "d/1: "),
        ({"scores": {"small": "good"}}, "d/1: "),
        ({"id": None}, "None: id is not text"),
        ({"dataset": 7}, "d/1: dataset is not text"),
    ],
)
def test_a_wrong_row_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        outcome_from_row(ROW | change)


@pytest.mark.parametrize("member", ["id", "dataset", "prompt", "scores"])
def test_a_missing_member_is_named(member: str) -> None:
    with pytest.raises(ValueError, match=f"member '{member}' is missing"):
        outcome_from_row({name: value for name, value in ROW.items() if name != member})


@pytest.mark.parametrize(
    "other",
    ["what is 2 + 2", "What is 2+2?\nA. 3\nB. 4", "What is 2+2?\n(A) 3\n(B) 4", "  WHAT is 2+2 ???"],
)
def test_one_question_has_one_key_however_it_is_printed(other: str) -> None:
    assert question_key(other) == question_key("What is 2+2?")


def test_texts_without_words_keep_their_own_keys() -> None:
    assert question_key("?!") != question_key("!?")


OUTCOMES = st.lists(
    st.builds(outcome, text=st.text("ab?\n.A", max_size=4), dataset=st.sampled_from(["one", "two", "three"])),
    max_size=40,
)


@given(OUTCOMES, st.integers(2, 6))
def test_folds_test_every_row_once_and_never_leak_a_question(outcomes: list[Outcome], number: int) -> None:
    splits = folds(outcomes, number)
    assert sorted(row for split in splits for row in split.test) == list(range(len(outcomes)))
    for split in splits:
        assert sorted(split.train + split.test) == list(range(len(outcomes)))
        assert not {outcomes[row].question for row in split.train} & {outcomes[row].question for row in split.test}


@given(OUTCOMES)
def test_leaving_datasets_out_tests_every_row_once_and_never_leaks(outcomes: list[Outcome]) -> None:
    splits = datasets_left_out(outcomes)
    assert sorted(row for split in splits for row in split.test) == list(range(len(outcomes)))
    for split in splits:
        (left_out,) = {outcomes[row].dataset for row in split.test}
        assert left_out not in {outcomes[row].dataset for row in split.train}
        held_out = {outcomes[row].question for row in split.test}
        assert not held_out & {outcomes[row].question for row in split.train}
        # Nothing is dropped but for a reason.
        for row in set(range(len(outcomes))) - {*split.train, *split.test}:
            assert outcomes[row].question in held_out


def test_real_datasets_share_questions_and_leaving_one_out_drops_them_all(outcomes: list[Outcome]) -> None:
    twice = [*outcomes, *(Outcome(f"copy/{each.id}", "copy", each.prompt, each.scores, {}) for each in outcomes)]
    (split,) = [split for split in datasets_left_out(twice) if split.name == "without copy"]
    assert split.train == ()


def test_datasets_that_share_most_questions_are_one_kind() -> None:
    rows = [
        outcome("x", "a"),
        outcome("y", "a"),
        outcome("x", "b"),
        outcome("y", "c"),
        outcome("z", "c"),
        outcome("w", "d"),
    ]
    assert kinds(rows) == ["a", "a", "a", "c", "c", "d"]


def test_what_teaches_has_a_pair_a_licence_and_was_not_held_out() -> None:
    teaches, elsewhere = outcome("yes"), outcome("no pair", large=1.0)
    non_commercial, held_out = outcome("no licence", dataset="alpaca_eval1"), outcome("Held out?")
    rows = [teaches, elsewhere, non_commercial, held_out]
    assert trainable(rows, [PAIR], frozenset({question_key("held out")})) == [teaches]


def test_no_public_pair_would_teach_from_non_commercial_rows(outcomes: list[Outcome]) -> None:
    assert any(pair.datasets & NON_COMMERCIAL for pair in PUBLIC_PAIRS)
    every_score = {model: 1.0 for pair in PUBLIC_PAIRS for model in (pair.small, pair.large)}
    for dataset in NON_COMMERCIAL:
        assert trainable([Outcome("id", dataset, Prompt("text"), every_score, {})], PUBLIC_PAIRS) == []
    assert len(trainable(outcomes, PUBLIC_PAIRS)) == len(outcomes)


def test_a_pair_applies_only_to_its_datasets() -> None:
    pair = Pair("small", "large", frozenset({"one"}))
    assert pair.applies(outcome(dataset="one"))
    assert not pair.applies(outcome(dataset="two"))
    assert not pair.applies(outcome(small=1.0))


def test_targets_are_means_over_the_pairs_that_apply() -> None:
    row = Outcome("id", "one", Prompt(""), {"small": 0.5, "tiny": 0.0, "large": 0.5}, {"small": 10.0, "tiny": 40.0})
    pairs = [PAIR, Pair("tiny", "large"), Pair("absent", "large")]
    assert mean_gains([row], pairs).tolist() == [0.25]
    assert mean_suffices([row], pairs).tolist() == [0.5]
    assert mean_completion_tokens(row, pairs) == 25.0
    assert mean_completion_tokens(row, [Pair("large", "large")]) is None
