from collections import Counter

import pytest

from router.classify.rules import RULES, difficulty
from router.classify.words import words
from router.domain.request import Prompt


def points(text: str, **rest: int | bool) -> float:
    prompt = Prompt(text, **rest)  # type: ignore[arg-type]
    return difficulty(prompt, words(text))


@pytest.mark.parametrize(
    ("easier", "harder"),
    [
        pytest.param("name a colour", "name a colour " * 30, id="length"),
        pytest.param("cats sleep at night", "suppose cats sleep at", id="a condition"),
        pytest.param("which of these is true", "which of these is not", id="a negation"),
        pytest.param("name cats, dogs, ducks here", "name both cats and dogs", id="a conjunction"),
        pytest.param("answer in one word", "answer must be exactly", id="an obligation"),
        pytest.param("mix, stir, bake, serve", "mix, then bake, finally", id="a sequence"),
        pytest.param("he has 3 apples", "each has twice remaining", id="a quantity"),
        pytest.param("is the sky blue", "why sky blue because", id="an explanation"),
        pytest.param("make a nice cake", "implement a python method", id="a program"),
        pytest.param("the man saw the woman", "the plaintiff sued the defendant", id="the law"),
        pytest.param("who sang this song", "she sang this song", id="not a bare look-up"),
    ],
)
def test_each_rule_tells_the_harder_prompt_from_the_easier(easier: str, harder: str) -> None:
    assert points(harder) > points(easier)


@pytest.mark.parametrize("rest", [{"turns": 5}, {"tokens_estimate": 8000}, {"has_tools": True}])
def test_what_stands_around_the_text_counts_too(rest: dict[str, int]) -> None:
    assert points("and what about this", **rest) > points("and what about this")


def test_repetition_stops_paying() -> None:
    def negation_points(times: int) -> float:
        return points("not " * times) - points("cat " * times)

    assert negation_points(6) > negation_points(3) > 0
    assert negation_points(60) == pytest.approx(negation_points(6))


def test_a_word_belongs_to_one_rule() -> None:
    counts = Counter(word for rule in RULES for word in rule.words.split())
    assert [word for word, count in counts.items() if count > 1] == []


def test_no_words_are_the_least_there_is() -> None:
    assert points("") == 2.0
