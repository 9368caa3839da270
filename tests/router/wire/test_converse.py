"""Chats of OpenAI's as Bedrock's Converse and back: golden requests, answers and events."""

import json
from typing import Any

import orjson
import pytest
from payloads import CITY, CLOCK, PIXEL, WEATHER

from router.domain.request import Endpoint
from router.domain.usage import Usage
from router.errors import Untranslatable
from router.wire.converse import ConverseTranslator, chat_answer, chat_usage, converse_body
from router.wire.usage import read_usage

USER: Any = {"role": "user", "content": "Hello"}
CALL: Any = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Ulm"}'}}
RESULT: Any = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
SPEC = {
    "name": "get_weather",
    "description": "The weather in a city",
    "inputSchema": {"json": WEATHER["function"]["parameters"]},
}


def translated(*messages: Any, bound: int = 0, **members: Any) -> dict[str, Any]:
    body = {"model": "nova", "messages": list(messages) or [USER], **members}
    found: dict[str, Any] = orjson.loads(converse_body(body, completion_tokens_max=bound))
    return found


@pytest.mark.parametrize(
    ("members", "written"),
    [
        ({}, {}),
        ({"bound": 99}, {"inferenceConfig": {"maxTokens": 99}}),
        ({"bound": 99, "max_tokens": 7}, {"inferenceConfig": {"maxTokens": 7}}),
        (
            {"max_completion_tokens": 8, "temperature": 1, "top_p": 0.5, "stop": "END"},
            {"inferenceConfig": {"maxTokens": 8, "temperature": 1.0, "topP": 0.5, "stopSequences": ["END"]}},
        ),
        ({"reasoning_effort": "low"}, {"outputConfig": {"effort": "low"}}),
        ({"stream": True, "stream_options": {"include_usage": True}, "n": 1}, {}),
        ({"tools": [WEATHER]}, {"toolConfig": {"tools": [{"toolSpec": SPEC}]}}),
        ({"tools": [WEATHER], "tool_choice": "none"}, {}),
        (
            {"tools": [WEATHER], "tool_choice": "required"},
            {"toolConfig": {"tools": [{"toolSpec": SPEC}], "toolChoice": {"any": {}}}},
        ),
        (
            {"tools": [WEATHER], "tool_choice": "auto"},
            {"toolConfig": {"tools": [{"toolSpec": SPEC}], "toolChoice": {"auto": {}}}},
        ),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
            {"toolConfig": {"tools": [{"toolSpec": SPEC}], "toolChoice": {"tool": {"name": "get_weather"}}}},
        ),
    ],
)
def test_members_are_written_where_converse_has_them(members: dict[str, Any], written: dict[str, Any]) -> None:
    assert translated(**members) == {"messages": [{"role": "user", "content": [{"text": "Hello"}]}], **written}


def test_a_schema_is_written_as_text() -> None:
    told = translated(response_format=CITY)["outputConfig"]["textFormat"]
    assert told["type"] == "json_schema"
    assert told["structure"]["jsonSchema"]["name"] == "city"
    assert orjson.loads(told["structure"]["jsonSchema"]["schema"]) == CITY["json_schema"]["schema"]


def test_a_conversation_with_tools_alternates_between_two_roles() -> None:
    found = translated(
        {"role": "system", "content": "Be brief."},
        USER,
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
        RESULT,
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]},
        tools=[WEATHER, CLOCK],
    )
    assert found["system"] == [{"text": "Be brief."}]
    assert [turn["role"] for turn in found["messages"]] == ["user", "assistant", "user"]
    assert found["messages"][1]["content"] == [
        {"text": "Let me see."},
        {"toolUse": {"toolUseId": "c1", "name": "get_weather", "input": {"city": "Ulm"}}},
    ]
    assert found["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "c1", "content": [{"text": "rain"}]}},
        {"image": {"format": "png", "source": {"bytes": PIXEL.partition("base64,")[2]}}},
    ]


@pytest.mark.parametrize(
    ("messages", "members", "param"),
    [
        ([USER], {"user": "ann"}, "user"),
        ([USER], {"seed": 1}, "seed"),
        ([USER], {"n": 2}, "n"),
        ([USER], {"temperature": 1.1}, "temperature"),
        ([USER], {"parallel_tool_calls": False, "tools": [WEATHER]}, "parallel_tool_calls"),
        ([USER], {"response_format": {"type": "json_object"}}, "response_format"),
        ([USER], {"reasoning_effort": "none"}, "reasoning_effort"),
        ([USER, {"role": "assistant", "tool_calls": [CALL]}, RESULT], {"tools": [WEATHER], "tool_choice": "none"}, "tool_choice"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a"}}]}], {}, "messages"),
    ],
)  # fmt: skip
def test_what_has_no_place_is_named_and_never_left_out(messages: Any, members: dict[str, Any], param: str) -> None:
    with pytest.raises(Untranslatable) as raised:
        translated(*messages, **members)
    assert raised.value.param == param


ANSWER: dict[str, Any] = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
    "stopReason": "end_turn",
    "usage": {
        "inputTokens": 3,
        "outputTokens": 5,
        "totalTokens": 35,
        "cacheReadInputTokens": 20,
        "cacheWriteInputTokens": 7,
    },
    "metrics": {"latencyMs": 1},
}


def answered(**members: Any) -> dict[str, Any]:
    body = orjson.dumps({**ANSWER, **members})
    found: dict[str, Any] = orjson.loads(chat_answer(body, answer_id="chatcmpl-1", model="nova", created=9))
    return found


def test_an_answer_is_openais() -> None:
    found = answered()
    assert (found["id"], found["model"], found["created"]) == ("chatcmpl-1", "nova", 9)
    assert found["choices"][0]["message"]["content"] == "Hello"
    assert found["usage"] == {
        "prompt_tokens": 30,
        "completion_tokens": 5,
        "total_tokens": 35,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 7},
    }


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
    ],
)
def test_every_stop_reason_has_a_finish_reason(theirs: str, ours: str) -> None:
    assert answered(stopReason=theirs)["choices"][0]["finish_reason"] == ours


def test_a_schema_with_an_integer_beyond_64_bits_is_written_whole() -> None:
    schema = {"type": "integer", "maximum": 10**30}
    members = {"messages": [USER], "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    body = json.loads(converse_body(members, completion_tokens_max=0))
    assert json.loads(body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]) == schema


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_a_model_that_gave_up_has_not_finished(reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        answered(stopReason=reason)
    said = ConverseTranslator(answer_id="a", model="nova", created=9).event("messageStop", {"stopReason": reason})
    assert orjson.loads(said[6:])["error"]["code"] == reason


@pytest.mark.parametrize("body", [b"[]", b"{}", b"<html>", b'{"output":{},"stopReason":"end_turn"}'])
def test_what_is_no_answer_is_not_taken_for_one(body: bytes) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        chat_answer(body, answer_id="a", model="nova", created=9)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"inputTokens": 10, "outputTokens": 4, "totalTokens": 14}, Usage(10, 4)),
        (ANSWER["usage"], Usage(30, 5, cached_tokens=20, cache_write_tokens=7)),
        ({"inputTokens": 10, "outputTokens": 4, "totalTokens": 14, "cacheReadInputTokens": None}, Usage(10, 4)),
    ],
)
def test_a08_usage_is_counted_once(usage: Any, expected: Usage) -> None:
    assert read_usage(Endpoint.CHAT, chat_usage(usage), context_tokens=1000, choices=1) == expected


@pytest.mark.parametrize("usage", [None, {}, {"inputTokens": 1}, {"inputTokens": "1", "outputTokens": 1}])
def test_a21_a_usage_of_an_unknown_shape_is_none(usage: Any) -> None:
    assert chat_usage(usage) is None


def test_events_become_chunks() -> None:
    translator = ConverseTranslator(answer_id="a", model="nova", created=9)
    use = {"toolUseId": "t1", "name": "get_weather"}
    out = [
        translator.event("messageStart", {"role": "assistant"}),
        translator.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello"}}),
        translator.event("contentBlockStop", {"contentBlockIndex": 0}),
        translator.event("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": use}}),
        translator.event("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"city":1}'}}}),
        translator.event("messageStop", {"stopReason": "tool_use"}),
        translator.event("metadata", {"usage": ANSWER["usage"], "metrics": {"latencyMs": 1}}),
    ]
    assert out[0] == out[2] == b""
    deltas = [orjson.loads(out[position][6:])["choices"][0]["delta"] for position in (1, 3, 4)]
    assert deltas[0] == {"role": "assistant", "content": "Hello"}
    assert deltas[1]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": ""}
    assert deltas[2]["tool_calls"][0]["function"] == {"arguments": '{"city":1}'}
    assert orjson.loads(out[5][6:])["choices"][0]["finish_reason"] == "tool_calls"
    usage, done = out[6].split(b"\n\n")[:2]
    assert orjson.loads(usage[6:])["usage"]["prompt_tokens"] == 30
    assert done == b"data: [DONE]"
