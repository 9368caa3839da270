"""The service tier that a request asks for, and the one that an answer says it was served under, whole or streamed."""

import json
from typing import Any

import orjson
import pytest

from router.domain.request import Capability, Endpoint
from router.errors import BadRequest
from router.wire.answers import read_answer
from router.wire.anthropic import MessagesTranslator
from router.wire.anthropic import chat_answer as anthropic_chat
from router.wire.converse import ConverseTranslator
from router.wire.converse import chat_answer as converse_chat
from router.wire.parse import Bounds, parse
from router.wire.streams import CompletionStream, EventedStream

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
MESSAGES_USAGE = {"input_tokens": 10, "output_tokens": 3}


# What is asked for


@pytest.mark.parametrize(
    ("member", "asked"),
    [
        ({}, ""),
        *(({"service_tier": name}, "") for name in (None, "", "auto", "default", "standard_only")),
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "priority"}, "priority"),
    ],
)
@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.MESSAGES])
def test_a_request_asks_for_a_tier_or_for_the_plain_one(endpoint: Endpoint, member: dict[str, Any], asked: str) -> None:
    body = {"model": "m", "input": "Hello"} if endpoint is Endpoint.RESPONSES else {**CHAT, "max_tokens": 9}
    parsed = parse(endpoint, {**body, **member}, Bounds())
    assert parsed.service_tier == asked
    assert parsed.members == {**body, **member}, "it is for the backend to see"


@pytest.mark.parametrize("value", [5, True, ["flex"], {"flex": 1}, "x" * 65, "flex\n"])
def test_what_names_no_tier_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(Endpoint.CHAT, {**CHAT, "service_tier": value}, Bounds())
    assert refused.value.param == "service_tier"


def test_a_chat_that_asks_for_the_plain_tier_needs_nothing_that_not_all_providers_have() -> None:
    def needs(tier: str | None) -> bool:
        return Capability.EXTENSIONS in parse(Endpoint.CHAT, {**CHAT, "service_tier": tier}, Bounds()).needs

    assert [needs(tier) for tier in ("flex", "auto", "default", None)] == [True, False, False, False]


# Whole answers


def answered(endpoint: Endpoint, answer: dict[str, Any]) -> str | None:
    body = orjson.dumps({"model": "m", **answer})
    return read_answer(endpoint, body, model="m", context_tokens=4096, choices=1).service_tier


CHOICE = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("told", "tier"),
    [
        ({}, None),
        ({"service_tier": None}, None),
        ({"service_tier": 7}, None),
        ({"service_tier": "default"}, ""),
        ({"service_tier": "on_demand"}, ""),
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "scale"}, "scale"),
    ],
)
@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES])
def test_openai_tells_the_tier_beside_the_usage(endpoint: Endpoint, told: dict[str, Any], tier: str | None) -> None:
    assert answered(endpoint, {"choices": [CHOICE], "usage": USAGE, **told}) == tier
    assert answered(endpoint, {"error": {"message": "overloaded"}, "usage": USAGE, **told}) == tier
    assert answered(endpoint, {"choices": [{**CHOICE, "finish_reason": "error"}], **told}) == tier


@pytest.mark.parametrize(("told", "tier"), [("standard", ""), ("priority", "priority"), ("batch", "batch")])
def test_anthropic_tells_the_tier_in_the_usage(told: str, tier: str) -> None:
    message = {"type": "message", "content": [], "stop_reason": "end_turn"}
    assert answered(Endpoint.MESSAGES, {**message, "usage": {**MESSAGES_USAGE, "service_tier": told}}) == tier
    assert answered(Endpoint.MESSAGES, {**message, "usage": MESSAGES_USAGE, "service_tier": told}) is None
    assert answered(Endpoint.MESSAGES, {**message, "usage": "none"}) is None


# Streams


def chunk(*choices: Any, **members: Any) -> bytes:
    return b"data: " + orjson.dumps({"model": "m", "choices": list(choices), **members}) + b"\n\n"


def delta(content: str, finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": content}, "finish_reason": finish}


def chat_stream(*events: bytes) -> CompletionStream:
    stream = CompletionStream(
        endpoint=Endpoint.CHAT,
        model="m",
        choices=1,
        context_tokens=4096,
        wants_usage=False,
        wants_continuous_usage=False,
        is_usage_continuous=False,
        cost_member=lambda usage: b"{}",
    )
    for event in events:
        stream.feed(event)
    return stream


TOLD: dict[str, Any] = {"service_tier": "flex"}
STREAMS = {
    "on every chunk": (
        [chunk(delta("a"), **TOLD), chunk(delta("", "stop"), **TOLD), chunk(usage=USAGE, **TOLD)],
        "flex",
    ),
    "on the usage's alone": ([chunk(delta("a")), chunk(delta("", "stop")), chunk(usage=USAGE, **TOLD)], "flex"),
    "on the finish's alone": ([chunk(delta("a")), chunk(delta("", "stop"), **TOLD), chunk(usage=USAGE)], "flex"),
    "on the first alone": ([chunk(delta("a"), **TOLD), chunk(delta("b"))], "flex"),
    "another at last": (
        [chunk(delta("a"), service_tier="auto"), chunk(delta("", "stop")), chunk(usage=USAGE, service_tier="priority")],
        "priority",
    ),
    "taken back at last": ([chunk(delta("a"), **TOLD), chunk(usage=USAGE, service_tier="default")], ""),
    "null": ([chunk(delta("a"), service_tier=None), chunk(delta("", "stop"), service_tier=None)], None),
    "nowhere": ([chunk(delta("a")), chunk(delta("", "stop")), chunk(usage=USAGE)], None),
    "in what was said": ([chunk(delta('{"service_tier":"flex"}')), chunk(delta("", "stop"))], None),
    "nothing came": ([], None),
}


@pytest.mark.parametrize("how", STREAMS)
def test_a_stream_of_chunks_tells_the_tier_by_its_last_word(how: str) -> None:
    events, tier = STREAMS[how]
    assert chat_stream(*events).service_tier() == tier


def named(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def evented(endpoint: Endpoint, *events: bytes) -> EventedStream:
    stream = EventedStream(endpoint=endpoint, model="m", context_tokens=4096)
    for event in events:
        stream.feed(event)
    return stream


def response(kind: str, tier: str | None, **members: Any) -> bytes:
    return named(f"response.{kind}", response={"model": "m", "service_tier": tier, "usage": None, **members})


def test_responses_tell_the_tier_at_their_end_and_what_was_asked_before() -> None:
    usage = {"input_tokens": 10, "output_tokens": 3}
    created, text = response("created", "priority"), named("response.output_text.delta", delta="a")
    assert evented(Endpoint.RESPONSES, created, text).service_tier() == "priority"
    ended = response("completed", "default", usage=usage)
    assert evented(Endpoint.RESPONSES, created, text, ended).service_tier() == ""
    ended = response("incomplete", "flex", usage=usage)
    assert evented(Endpoint.RESPONSES, response("created", "auto"), ended).service_tier() == "flex"
    assert evented(Endpoint.RESPONSES, response("created", None)).service_tier() is None


def test_messages_tell_the_tier_at_their_beginning() -> None:
    usage = {**MESSAGES_USAGE, "output_tokens": 0, "service_tier": "priority"}
    start = named("message_start", message={"model": "m", "usage": usage})
    last = named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3})
    assert evented(Endpoint.MESSAGES, start, last).service_tier() == "priority"
    told = named(
        "message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3, "service_tier": "standard"}
    )
    assert evented(Endpoint.MESSAGES, start, told).service_tier() == ""
    assert evented(Endpoint.MESSAGES, last).service_tier() is None


# Translations


@pytest.mark.parametrize(
    ("theirs", "ours", "tier"), [("standard", "default", ""), ("priority", "priority", "priority")]
)
def test_a_translated_message_tells_it_as_openai_does(theirs: str, ours: str, tier: str) -> None:
    usage = {**MESSAGES_USAGE, "service_tier": theirs}
    message = {"type": "message", "id": "x", "content": [], "stop_reason": "end_turn", "usage": usage}
    whole = anthropic_chat(orjson.dumps(message), model="m", created=1)
    assert orjson.loads(whole)["service_tier"] == ours
    assert answered(Endpoint.CHAT, orjson.loads(whole)) == tier
    translator = MessagesTranslator(model="m", created=1)
    events = [
        *translator.feed(named("message_start", message={"id": "x", "usage": usage})),
        *translator.feed(named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3})),
    ]
    chunks = [part + b"\n\n" for part in b"".join(events).split(b"\n\n") if part]
    assert chat_stream(*chunks).service_tier() == tier


def test_a_translated_message_that_tells_none_tells_none() -> None:
    message = {"type": "message", "id": "x", "content": [], "stop_reason": "end_turn", "usage": MESSAGES_USAGE}
    assert "service_tier" not in orjson.loads(anthropic_chat(orjson.dumps(message), model="m", created=1))


def test_converse_tells_it_beside_the_usage() -> None:
    usage = {"inputTokens": 10, "outputTokens": 3}
    whole = {"stopReason": "end_turn", "output": {"message": {"content": []}}, "usage": usage}
    for told, tier in ((None, None), ({"type": "default"}, ""), ({"type": "flex"}, "flex")):
        members = {} if told is None else {"serviceTier": told}
        answer = converse_chat(orjson.dumps(whole | members), answer_id="x", model="m", created=1)
        assert answered(Endpoint.CHAT, orjson.loads(answer)) == tier
        translator = ConverseTranslator(answer_id="x", model="m", created=1)
        last = translator.event("metadata", {"usage": usage} | members).removesuffix(b"data: [DONE]\n\n")
        assert chat_stream(last).service_tier() == tier
