"""What kind of answer an emulated engine takes a request to ask for, and how it is told whose drafts are right."""

from typing import Any

import pytest

from load.__main__ import emulate, spec_from
from load.emulator.kinds import ANSWER_KINDS, kind_of
from load.emulator.language import encode
from load.emulator.reply import ReplyOptions, Tool


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"user_text": "Write a function in Python that sorts an array"}, "code"),
        ({"user_text": "Good morning, my dear friend"}, "chat"),
        ({"user_text": "Good morning, my dear friend", "schema": {"type": "object"}}, "structured"),
        ({"user_text": "Yes or no?", "choices": ("yes", "no")}, "structured"),
        ({"user_text": "Good morning", "tools": (Tool("greet", {}, ""),)}, "tools"),
    ],
)
def test_it_is_what_is_asked(options: dict[str, Any], kind: str) -> None:
    assert kind_of([], ReplyOptions(tokens_max=10, **options)) == kind
    assert kind in ANSWER_KINDS


def test_a_prompt_without_messages_is_read_itself() -> None:
    assert kind_of(list(encode("def main(): import numpy")), ReplyOptions(tokens_max=10)) == "code"


def told(speculative_config: str) -> dict[str, Any]:
    return emulate.make_context("emulate", ["--speculative-config", speculative_config]).params


def test_the_command_line_says_whose_drafts_are_right() -> None:
    spec = spec_from(told('{"num_speculative_tokens": 3, "acceptance_by_kind": {"code": 0.9, "structured": 1}}'))
    assert spec.acceptance_by_kind == {"code": 0.9, "structured": 1}
    assert spec_from(told('{"num_speculative_tokens": 3}')).acceptance_by_kind == {}


@pytest.mark.parametrize(
    ("acceptance", "why"),
    [
        ('{"poetry": 0.5}', "are among chat, code"),
        ('{"code": 1.5}', "0 to 1"),
        ('{"code": "all"}', "0 to 1"),
        ("[]", "an object"),
    ],
)
def test_kinds_that_there_are_not_and_ratios_that_are_none_are_refused(acceptance: str, why: str) -> None:
    options = told(f'{{"num_speculative_tokens": 3, "acceptance_by_kind": {acceptance}}}')
    with pytest.raises(ValueError, match=why):
        spec_from(options)
