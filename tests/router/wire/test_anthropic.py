"""Chats of OpenAI's as Anthropic's Messages and back: golden requests, answers and streams."""

from typing import Any

import orjson
import pytest
from payloads import CITY, CLOCK, PIXEL, WEATHER

from router.domain.request import Endpoint
from router.domain.usage import Usage
from router.errors import Untranslatable
from router.wire.anthropic import MessagesTranslator, chat_answer, chat_usage, messages_body
from router.wire.usage import read_usage

USER: Any = {"role": "user", "content": "Hello"}
CALL: Any = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Ulm"}'}}


def translated(*messages: Any, **members: Any) -> dict[str, Any]:
    body = {"model": "claude", "messages": list(messages) or [USER], **members}
    is_streaming = bool(members.get("stream"))
    found: dict[str, Any] = orjson.loads(
        messages_body(body, served_model="claude-1", completion_tokens_max=4096, is_streaming=is_streaming)
    )
    return found


@pytest.mark.parametrize(
    ("members", "written"),
    [
        ({}, {"max_tokens": 4096}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_completion_tokens": 8, "max_tokens": 7}, {"max_tokens": 8}),
        ({"temperature": 0}, {"max_tokens": 4096, "temperature": 0.0}),
        ({"top_p": 0.5}, {"max_tokens": 4096, "top_p": 0.5}),
        ({"stop": "END"}, {"max_tokens": 4096, "stop_sequences": ["END"]}),
        ({"stop": ["A", "B"]}, {"max_tokens": 4096, "stop_sequences": ["A", "B"]}),
        ({"user": "u-1"}, {"max_tokens": 4096, "metadata": {"user_id": "u-1"}}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"max_tokens": 4096, "stream": True}),
        ({"reasoning_effort": "high"}, {"max_tokens": 4096, "output_config": {"effort": "high"}}),
        ({"response_format": {"type": "text"}, "n": 1, "logprobs": False, "seed": None}, {"max_tokens": 4096}),
        (
            {"response_format": CITY},
            {
                "max_tokens": 4096,
                "output_config": {"format": {"type": "json_schema", "schema": CITY["json_schema"]["schema"]}},
            },
        ),
    ],
)
def test_members_are_written_where_anthropic_has_them(members: dict[str, Any], written: dict[str, Any]) -> None:
    hello = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    assert translated(**members) == {"model": "claude-1", "messages": hello, **written}


def test_system_text_stands_apart_in_its_order() -> None:
    found = translated(
        {"role": "system", "content": "Be brief."},
        USER,
        {"role": "developer", "content": [{"type": "text", "text": "Now."}]},
    )
    assert found["system"] == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Now."}]
    assert [turn["role"] for turn in found["messages"]] == ["user"]


def test_calls_and_results_are_blocks_and_results_of_one_turn_stand_together() -> None:
    found = translated(
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "sun"}]},
        {"role": "user", "content": "And?"},
        tools=[WEATHER],
    )
    use = {"type": "tool_use", "name": "get_weather", "input": {"city": "Ulm"}}
    assert found["messages"][1] == {"role": "assistant", "content": [{**use, "id": "c1"}, {**use, "id": "c2"}]}
    assert found["messages"][2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "rain"}]},
            {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "sun"}]},
            {"type": "text", "text": "And?"},
        ],
    }
    assert found["tools"][0]["input_schema"] == WEATHER["function"]["parameters"]


@pytest.mark.parametrize(
    ("members", "choice"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "get_clock"}}},
            {"type": "tool", "name": "get_clock"},
        ),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": False, "tool_choice": "required"}, {"type": "any", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, None),
    ],
)
def test_the_choice_of_tools_is_translated(members: dict[str, Any], choice: dict[str, Any] | None) -> None:
    assert translated(tools=[WEATHER, CLOCK], **members).get("tool_choice") == choice


def test_images_pass_as_data_or_by_their_address() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ]
    [turn] = translated({"role": "user", "content": parts})["messages"]
    assert turn["content"] == [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PIXEL.partition("base64,")[2]},
        },
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
    ]


@pytest.mark.parametrize(
    ("message", "members", "param"),
    [
        (USER, {"seed": 1}, "seed"),
        (USER, {"n": 2}, "n"),
        (USER, {"logprobs": True}, "logprobs"),
        (USER, {"logit_bias": {"1": 2}}, "logit_bias"),
        (USER, {"frequency_penalty": 0.1}, "frequency_penalty"),
        (USER, {"top_k": 5}, "top_k"),
        (USER, {"temperature": 1.5}, "temperature"),
        (USER, {"response_format": {"type": "json_object"}}, "response_format"),
        (USER, {"reasoning_effort": "minimal"}, "reasoning_effort"),
        (USER, {"tools": [{"type": "custom", "custom": {}}]}, "tools.0"),
        (USER, {"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({**USER, "name": "Ann"}, {}, "messages.0.name"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, {}, "messages.0.content.0.type"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}}]}, {},
         "messages.0.content.0.image_url"),
        ({"role": "narrator", "content": "x"}, {}, "messages.0.role"),
        (USER, {"tools": 5}, "tools"),
        (USER, {"tools": {"type": "function"}}, "tools"),
        ({"role": "assistant", "tool_calls": 5}, {}, "messages.0.tool_calls"),
        ({"role": "assistant", "audio": {"id": "a"}}, {}, "messages.0.audio"),
        ({"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]}, {},
         "messages.0.tool_calls.0.function.arguments"),
    ],
)  # fmt: skip
def test_what_has_no_place_is_named_and_never_left_out(message: Any, members: dict[str, Any], param: str) -> None:
    with pytest.raises(Untranslatable) as raised:
        translated(message, **members)
    assert raised.value.param == param


MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-1",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 7, "output_tokens": 5},
}


def answered(**members: Any) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(chat_answer(orjson.dumps({**MESSAGE, **members}), model="claude", created=9))
    return found


def test_what_was_written_for_an_hour_is_told_apart() -> None:
    usage = {**MESSAGE["usage"], "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5}}
    details = answered(usage=usage)["usage"]["prompt_tokens_details"]
    assert details == {"cached_tokens": 20, "cache_write_tokens": 7, "cache_write_hour_tokens": 5}


def test_a_message_becomes_an_answer() -> None:
    found = answered()
    assert found == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 9,
        "model": "claude",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 30,
            "completion_tokens": 5,
            "total_tokens": 35,
            "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 7},
        },
    }


def test_thought_and_calls_of_a_message_have_members_of_their_own() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Ulm"}},
    ]
    [choice] = answered(content=content, stop_reason="tool_use")["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning": "Hm.",
        "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Ulm"}'}}
        ],
    }


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_every_stop_reason_has_a_finish_reason(theirs: str, ours: str) -> None:
    assert answered(stop_reason=theirs)["choices"][0]["finish_reason"] == ours


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"type":"message"}', b"<html>", b'{"type":"error","error":{}}'])
def test_what_is_no_message_is_not_taken_for_one(body: bytes) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        chat_answer(body, model="claude", created=9)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 10, "output_tokens": 4}, Usage(10, 4)),
        (
            {
                "input_tokens": 10,
                "output_tokens": 4,
                "cache_read_input_tokens": None,
                "cache_creation_input_tokens": None,
            },
            Usage(10, 4),
        ),
        (
            {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 7},
            Usage(30, 4, cached_tokens=20, cache_write_tokens=7),
        ),
        (
            {"input_tokens": 3, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 6}},
            Usage(3, 9, reasoning_tokens=6),
        ),
    ],
)
def test_a08_native_and_translated_usage_say_the_same_and_count_nothing_twice(usage: Any, expected: Usage) -> None:
    limits: Any = {"context_tokens": 1000, "choices": 1}
    assert read_usage(Endpoint.MESSAGES, usage, **limits) == expected
    assert read_usage(Endpoint.CHAT, chat_usage(usage), **limits) == expected


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event)) for event in events)


def fed(data: bytes) -> bytes:
    return b"".join(MessagesTranslator(model="claude", created=9).feed(data))


START = {
    "type": "message_start",
    "message": {**MESSAGE, "content": [], "stop_reason": None, "usage": {**MESSAGE["usage"], "output_tokens": 1}},
}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
HELLO = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
STOP = {"type": "content_block_stop", "index": 0}
END = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    "usage": {"output_tokens": 5, "cache_read_input_tokens": None},
}
OVER = {"type": "message_stop"}


def chunks(out: bytes) -> list[Any]:
    return [
        line if (line := event.removeprefix(b"data: ")) == b"[DONE]" else orjson.loads(line)
        for event in out.split(b"\n\n")
        if event
    ]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_becomes_chunks_however_it_is_cut(size: int) -> None:
    data = stream(START, TEXT, {"type": "ping"}, HELLO, STOP, END, OVER)
    translator = MessagesTranslator(model="claude", created=9)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    out = b"".join(event for piece in pieces for event in translator.feed(piece)) + translator.end()
    first, finish, usage, done = chunks(out)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "Hello"}
    assert {first["id"], finish["id"], usage["id"]} == {"msg_1"}
    assert finish["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 30,
        "completion_tokens": 5,
        "total_tokens": 35,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 7},
    }
    assert done == b"[DONE]"


def test_nothing_is_said_before_the_first_of_what_the_model_says() -> None:
    """So that another backend may take over until then."""
    assert fed(stream(START, TEXT, {"type": "ping"})) == b""


def test_calls_in_a_stream_are_numbered_and_their_arguments_follow() -> None:
    def call(index: int, call_id: str) -> list[dict[str, Any]]:
        block = {"type": "tool_use", "id": call_id, "name": "get_weather", "input": {}}
        delta = {"type": "input_json_delta", "partial_json": '{"city":"Ulm"}'}
        return [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": ""}},
            {"type": "content_block_delta", "index": index, "delta": delta},
        ]

    out = fed(stream(START, *call(1, "a"), *call(2, "b")))
    calls = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in chunks(out)]
    assert [(call["index"], call.get("id"), call["function"].get("arguments")) for call in calls] == [
        (0, "a", ""),
        (0, None, '{"city":"Ulm"}'),
        (1, "b", ""),
        (1, None, '{"city":"Ulm"}'),
    ]


def test_an_error_in_a_stream_is_an_error_event_without_the_providers_words() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "secret of the house"}}
    [event] = chunks(fed(stream(START, error)))
    assert event["error"]["code"] == "overloaded_error"
    assert "secret" not in event["error"]["message"]
