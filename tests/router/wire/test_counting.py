"""What `/tokenize` is asked, and what is read from answers without usage."""

import orjson
import pytest

from router.domain.request import Endpoint
from router.wire.counting import Said, count_in, prompt_questions, said_in_answer, said_in_events, text_question


def event(*choices: object) -> bytes:
    return b"data: " + orjson.dumps({"choices": choices}) + b"\n\n"


def test_a_streams_text_is_told_by_choice_with_its_thought_and_its_calls() -> None:
    call = {"function": {"name": "find", "arguments": '{"a"'}}
    events = [
        event({"index": 0, "delta": {"role": "assistant", "content": ""}}),
        event({"index": 1, "delta": {"content": "no"}}),
        event({"index": 0, "delta": {"reasoning_content": "so "}}),
        event({"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop", "stop_reason": None}),
        event({"index": 1, "delta": {"tool_calls": [call]}, "finish_reason": "length"}),
        event(),
    ]
    assert said_in_events(events) == Said(("so yes", 'nofind{"a"'), 1)


def test_the_token_that_ends_a_turn_is_counted_and_a_stop_string_is_not() -> None:
    def ended(**members: object) -> int:
        said = said_in_answer(orjson.dumps({"choices": [{"text": "a", **members}]}))
        assert said is not None
        return said.ended_turns

    assert ended(finish_reason="stop", stop_reason=None) == 1
    assert ended(finish_reason="stop", stop_reason="END") == 0
    assert ended(finish_reason="length") == 0


def test_an_answer_that_tells_a_usage_is_not_counted() -> None:
    assert said_in_answer(orjson.dumps({"choices": [{"text": "a"}], "usage": {"prompt_tokens": -1}})) is None
    assert said_in_answer(orjson.dumps({"choices": [{"text": "a"}], "usage": None})) == Said(("a",), 0)
    assert said_in_answer(b"no json") == Said((), 0)


def test_a_chat_with_an_integer_beyond_64_bits_is_asked_with_it() -> None:
    members = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "tools": [{"a": 10**30}]}
    _, [body] = prompt_questions(Endpoint.CHAT, members, "m")
    assert b'"a":1000000000000000000000000000000' in body


def test_a_chat_is_asked_with_all_that_shapes_its_prompt_and_nothing_else() -> None:
    members = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "tools": [], "max_tokens": 3}
    counted, (question,) = prompt_questions(Endpoint.CHAT, members, "served")
    assert counted == 0
    assert orjson.loads(question) == {"model": "served", "messages": members["messages"], "tools": []}


@pytest.mark.parametrize(
    ("prompt", "counted", "asked"),
    [
        ("once", 0, ["once"]),
        (["once", "twice"], 0, ["once", "twice"]),
        ([1, 2, 3], 3, []),
        ([[1, 2], [3]], 3, []),
    ],
)
def test_prompts_of_token_ids_are_counted_here(prompt: object, counted: int, asked: list[str]) -> None:
    found, questions = prompt_questions(Endpoint.COMPLETIONS, {"prompt": prompt}, "served")
    assert found == counted
    assert [orjson.loads(question)["prompt"] for question in questions] == asked


def test_a_text_is_asked_without_the_tokens_that_begin_a_prompt() -> None:
    assert orjson.loads(text_question("hi", "served")) == {
        "model": "served",
        "prompt": "hi",
        "add_special_tokens": False,
    }


@pytest.mark.parametrize("body", [b"[]", b'{"count": null}', b'{"count": -1}', b'{"count": true}', b"html"])
def test_a_count_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"no count|unexpected character"):
        count_in(body)
    assert count_in(b'{"count": 15, "max_model_len": 4096}') == 15
