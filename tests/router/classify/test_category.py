import pytest

from router.classify.category import COMPLETION_TOKENS, Category, categorize, expected_completion_tokens
from router.classify.words import words
from router.domain.request import Prompt


def category(prompt: Prompt) -> Category:
    found = words(prompt.text)
    return categorize(prompt, found, set(found))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Translate into French: the house is red", Category.TRANSLATION),
        ("Write a Python script that renames files", Category.CODE),
        ("Why does this fail?\n```\nx = 1 +\n```", Category.CODE),
        ("Write a function to find the longest common prefix.", Category.CODE),
        ("Evaluate $\\frac{3}{4} + \\frac{1}{8}$.", Category.MATH),
        ("Tom has 3 apples and buys 4 more. How many apples does he have?", Category.MATH),
        ("What is 17 * 24?", Category.MATH),
        ("Solve the equation for x", Category.MATH),
        ("Summarize the following article in two sentences: …", Category.EXTRACTION),
        ("Draft a polite email to my landlord about the heating", Category.WRITING),
        ("Explain the trade-offs of central planning", Category.REASONING),
        ("Who wrote Don Quixote?", Category.KNOWLEDGE),
        ("The largest planet is\nA. Mars\nB. Jupiter", Category.KNOWLEDGE),
        ("hello there, nice to meet you", Category.CHAT),
        ("日本の首都はどこですか", Category.OTHER),
        ("", Category.OTHER),
        ("?!", Category.OTHER),
    ],
)
def test_the_first_line_that_holds_names_the_category(text: str, expected: Category) -> None:
    assert category(Prompt(text)) is expected


def test_tools_come_before_what_the_text_says() -> None:
    assert category(Prompt("Write a Python script", has_tools=True)) is Category.TOOLS


def test_a_system_message_may_name_the_task() -> None:
    assert category(Prompt("The house is red.", system_text="You are a translator.")) is Category.TRANSLATION


def test_a_schema_asks_for_extraction() -> None:
    assert category(Prompt("The house is red.", has_json_schema=True)) is Category.EXTRACTION


def test_every_category_has_an_expected_length() -> None:
    prompt = Prompt("word " * 400, tokens_estimate=500)
    lengths = {each: expected_completion_tokens(each, prompt) for each in Category}
    assert all(length > 0 for length in lengths.values())
    assert set(COMPLETION_TOKENS) == set(Category) - {Category.TRANSLATION}
    assert lengths[Category.TRANSLATION] == 500
