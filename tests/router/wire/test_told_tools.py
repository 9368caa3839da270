"""The hosted tools that a request asks for, and the calls of them that an answer tells, whole, streamed, or cut short."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.request import Endpoint, HostedTools
from router.domain.usage import ToolCalls
from router.wire.answers import read_answer
from router.wire.hosted_tools import CALLS_UNBOUNDED
from router.wire.parse import Bounds, parse
from router.wire.streams import CompletionStream, EventedStream

SEARCH, FILES = {"type": "web_search"}, {"type": "file_search", "vector_store_ids": ["vs_1"]}
INTERPRETER = {"type": "code_interpreter", "container": {"type": "auto"}}
FUNCTION = {"type": "function", "name": "web_search", "parameters": {}}
CLAUDES = {"type": "web_search_20250305", "name": "web_search"}


def asked(endpoint: Endpoint, **members: Any) -> HostedTools | None:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}
    if endpoint is Endpoint.RESPONSES:
        body = {"model": "m", "input": "Hello"}
    return parse(endpoint, body | members, Bounds()).hosted_tools


@pytest.mark.parametrize(
    ("members", "calls", "together"),
    [
        ({"tools": [SEARCH]}, {"web_search": CALLS_UNBOUNDED}, CALLS_UNBOUNDED),
        ({"tools": [{"type": "web_search_preview_2025_03_11"}]}, {"web_search": CALLS_UNBOUNDED}, CALLS_UNBOUNDED),
        ({"tools": [FUNCTION, SEARCH], "max_tool_calls": 3}, {"web_search": 3}, 3),
        ({"tools": [SEARCH, FILES], "max_tool_calls": 3}, {"file_search": 3, "web_search": 3}, 3),
        ({"tools": [SEARCH, INTERPRETER]}, {"code_interpreter": 1, "web_search": CALLS_UNBOUNDED}, CALLS_UNBOUNDED + 1),
        ({"tools": [INTERPRETER], "max_tool_calls": 30}, {"code_interpreter": 1}, 1),
        ({"tools": [SEARCH], "max_tool_calls": "three"}, {"web_search": CALLS_UNBOUNDED}, CALLS_UNBOUNDED),
        ({"tools": [SEARCH], "max_tool_calls": True}, {"web_search": CALLS_UNBOUNDED}, CALLS_UNBOUNDED),
        ({"tools": [{**SEARCH, "max_uses": 1}]}, {"web_search": CALLS_UNBOUNDED}, CALLS_UNBOUNDED),
        ({"tools": [SEARCH], "tool_choice": "required"}, {"web_search": CALLS_UNBOUNDED}, CALLS_UNBOUNDED),
    ],
)
def test_a_response_asks_for_tools_by_kind_and_bounds_them_together(
    members: dict[str, Any], calls: dict[str, int], together: int
) -> None:
    assert asked(Endpoint.RESPONSES, **members) == HostedTools(tuple(calls.items()), together)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"tools": [FUNCTION]},
        {"tools": [SEARCH], "tool_choice": "none"},
        {"tools": [SEARCH], "max_tool_calls": 0},
        {"tools": [{"type": "mcp", "server_label": "x"}, {"type": "custom", "name": "web_search"}]},
        {"tools": [{"type": "web_searcher"}, {"type": 5}, "web_search", None]},
        {"tools": {"type": "web_search"}},
    ],
)
def test_a_response_that_lets_a_provider_call_nothing_asks_for_none(members: dict[str, Any]) -> None:
    assert asked(Endpoint.RESPONSES, **members) is None


@pytest.mark.parametrize(
    ("tools", "calls"),
    [
        ([CLAUDES], {"web_search": CALLS_UNBOUNDED}),
        ([{**CLAUDES, "max_uses": 5}], {"web_search": 5}),
        ([{**CLAUDES, "max_uses": -5}], {"web_search": CALLS_UNBOUNDED}),
        ([{"type": "code_execution_20250825", "name": "code_execution"}], {"code_execution": 1}),
        ([{"type": "web_fetch_20250910", "name": "web_fetch"}], {}),
        ([{"type": "bash_20250124", "name": "bash"}, {"name": "web_search", "input_schema": {}}], {}),
    ],
)
def test_a_message_asks_for_tools_by_version_and_bounds_each(tools: list[Any], calls: dict[str, int]) -> None:
    found = asked(Endpoint.MESSAGES, tools=tools)
    assert found == (HostedTools(tuple(calls.items()), sum(calls.values())) if calls else None)


def test_a_chat_asks_for_one_search_by_its_options() -> None:
    assert asked(Endpoint.CHAT, web_search_options={}) == HostedTools((("web_search", 1),), 1)
    assert asked(Endpoint.CHAT, web_search_options=None) is None
    assert asked(Endpoint.CHAT, tools=[SEARCH, FUNCTION]) is None
    assert asked(Endpoint.RESPONSES, web_search_options={}) is None


def test_what_is_expected_is_one_call_of_each_and_no_more_than_there_can_be() -> None:
    tools = asked(Endpoint.RESPONSES, tools=[SEARCH, FILES])
    assert tools is not None
    assert tools.expected_calls == (("file_search", 1), ("web_search", 1))
    tools = asked(Endpoint.RESPONSES, tools=[SEARCH, FILES], max_tool_calls=1)
    assert tools is not None
    assert len(tools.expected_calls) == 1


# Responses


def item(kind: str, **members: Any) -> dict[str, Any]:
    return {"type": kind, "id": "x", "status": "completed", **members}


def searched(action: str | None = "search") -> dict[str, Any]:
    return item("web_search_call", **({} if action is None else {"action": {"type": action}}))


MESSAGE = item("message", content=[{"type": "output_text", "text": '{"type":"web_search_call"}', "annotations": []}])
OUTPUTS: dict[str, tuple[Any, ToolCalls | None]] = {
    "nothing was called": ([MESSAGE], ()),
    "there is none": ([], ()),
    "it is no list": ("web_search_call", None),
    "it does not say": (None, None),
    "searches": ([searched(), searched(None), MESSAGE], (("web_search", 2),)),
    "pages that were opened": ([searched(), searched("open_page"), searched("find_in_page")], (("web_search", 1),)),
    "several tools": (
        [item("file_search_call"), searched(), item("image_generation_call", result="aGVsbG8=")],
        (("file_search", 1), ("image_generation", 1), ("web_search", 1)),
    ),
    "one container": ([item("code_interpreter_call", container_id="a")] * 3, (("code_interpreter", 1),)),
    "containers": (
        [item("code_interpreter_call", container_id=one) for one in ("a", "b", "a")],
        (("code_interpreter", 2),),
    ),
    "containers without a name": ([item("code_interpreter_call")] * 2, (("code_interpreter", 2),)),
    "what the client runs": (
        [item("function_call", name="web_search"), item("custom_tool_call"), item("mcp_call")],
        (),
    ),
    "a tool of tomorrow": ([item("maps_call")], (("maps", 1),)),
    "nonsense": ([None, 5, "web_search_call", {}, {"type": 7}, {"type": ["web_search_call"]}], ()),
}


def told(endpoint: Endpoint, answer: dict[str, Any]) -> ToolCalls | None:
    body = orjson.dumps({"model": "m", **answer})
    return read_answer(endpoint, body, model="m", context_tokens=4096, choices=1).tool_calls


def named(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def stream(endpoint: Endpoint, *events: bytes, has_hosted_tools: bool = True) -> EventedStream:
    made = EventedStream(endpoint=endpoint, model="m", context_tokens=4096, has_hosted_tools=has_hosted_tools)
    for event in events:
        assert made.feed(event) == event
    return made


RESPONSES_USAGE = {"input_tokens": 10, "output_tokens": 3}


@pytest.mark.parametrize("how", OUTPUTS)
def test_a_response_tells_calls_by_its_output(how: str) -> None:
    output, calls = OUTPUTS[how]
    answer = {"status": "completed", "output": output, "usage": RESPONSES_USAGE}
    assert told(Endpoint.RESPONSES, answer) == calls
    assert told(Endpoint.RESPONSES, {**answer, "status": "failed"}) == calls
    assert told(Endpoint.RESPONSES, {**answer, "error": {"message": "overloaded"}}) == calls


@pytest.mark.parametrize("has_hosted_tools", [True, False])
@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
@pytest.mark.parametrize("how", OUTPUTS)
def test_a_streamed_response_tells_them_at_its_end(how: str, kind: str, has_hosted_tools: bool) -> None:
    output, calls = OUTPUTS[how]
    end = named(kind, response={"output": output, "usage": RESPONSES_USAGE})
    assert stream(Endpoint.RESPONSES, end, has_hosted_tools=has_hosted_tools).tool_calls() == (calls or ())


@pytest.mark.parametrize("how", OUTPUTS)
def test_a_response_that_is_cut_short_has_told_those_that_had_begun(how: str) -> None:
    output, calls = OUTPUTS[how]
    events = [named("response.created", response={"output": [], "usage": None})]
    for place, one in enumerate(output if type(output) is list else ()):
        begun = one and {**one, "action": None} if type(one) is dict else one
        events += [
            named("response.output_item.added", output_index=place, item=begun),
            named("response.web_search_call.searching", output_index=place, item_id="x"),
            named("response.output_item.done", output_index=place, item=one),
        ]
    assert stream(Endpoint.RESPONSES, *events).tool_calls() == (calls or ())
    first = named("response.output_item.added", output_index=0, item=item("web_search_call", status="in_progress"))
    assert stream(Endpoint.RESPONSES, first).tool_calls() == (("web_search", 1),)
    assert stream(Endpoint.RESPONSES, first, has_hosted_tools=False).tool_calls() == ()
    ended = named("response.completed", response={"usage": RESPONSES_USAGE})
    assert stream(Endpoint.RESPONSES, first, ended).tool_calls() == (("web_search", 1),)


def test_a_stream_of_which_nothing_came_does_not_say() -> None:
    for endpoint in (Endpoint.RESPONSES, Endpoint.MESSAGES):
        assert stream(endpoint).tool_calls() is None
        assert stream(endpoint, b": comment\n\n").tool_calls() is None


def test_items_without_a_place_are_counted_each() -> None:
    done = named("response.output_item.done", output_index=[0], item=searched())
    assert stream(Endpoint.RESPONSES, done, done).tool_calls() == (("web_search", 2),)


def test_an_item_that_tells_a_usage_of_its_own_is_counted_and_is_not_the_end() -> None:
    image = item("image_generation_call", usage={"input_tokens": 1, "output_tokens": 9}, result="aGVsbG8=")
    made = stream(Endpoint.RESPONSES, named("response.output_item.done", output_index=0, item=image))
    assert (made.tool_calls(), made.is_finished, made.usage()) == ((("image_generation", 1),), False, None)


def test_what_was_called_before_a_response_failed_is_told() -> None:
    made = EventedStream(endpoint=Endpoint.RESPONSES, model="m", context_tokens=4096, has_hosted_tools=True)
    made.feed(named("response.output_item.done", output_index=0, item=searched()))
    made.feed(named("response.failed", response={"error": {"code": "server_error"}, "usage": None}))
    assert made.fault
    assert made.tool_calls() == (("web_search", 1),)


# Messages

USAGE = {"input_tokens": 10, "output_tokens": 3}


def block(name: str) -> dict[str, Any]:
    return {"type": "server_tool_use", "id": "srvtoolu_1", "name": name, "input": {}}


MESSAGES: dict[str, tuple[dict[str, Any], list[Any], ToolCalls]] = {
    "nothing was called": ({}, [{"type": "text", "text": "server_tool_use"}], ()),
    "by the usage": ({"web_search_requests": 3, "web_fetch_requests": 2}, [block("web_search")], (("web_search", 3),)),
    "a search that failed is free": ({"web_search_requests": 0}, [block("web_search")], ()),
    "by the blocks": ({}, [block("web_search"), block("web_search"), block("web_fetch")], (("web_search", 2),)),
    "a container by its blocks": (
        {},
        [block("bash_code_execution"), block("text_editor_code_execution")],
        (("code_execution", 1),),
    ),
    "more than containers": (
        {"web_search_requests": 1, "code_execution_requests": 4},
        [],
        (("code_execution", 4), ("web_search", 1)),
    ),
    "a tool of tomorrow": ({"maps_requests": 1}, [], (("maps", 1),)),
    "nonsense": ({"web_search_requests": "3", "x_requests": True, "y_requests": -1, "z": 4}, [None, 5, {}], ()),
}


@pytest.mark.parametrize("how", MESSAGES)
def test_a_message_tells_calls_in_its_usage(how: str) -> None:
    tools, content, calls = MESSAGES[how]
    usage = {**USAGE, "server_tool_use": tools or None}
    assert told(Endpoint.MESSAGES, {"content": content, "stop_reason": "end_turn", "usage": usage}) == calls


@pytest.mark.parametrize("how", MESSAGES)
def test_a_streamed_message_tells_them_at_its_end(how: str) -> None:
    tools, content, calls = MESSAGES[how]
    first = {**USAGE, "server_tool_use": {"web_search_requests": 0} if tools else None}
    usage = {**USAGE, "server_tool_use": tools or None}
    events = [
        named("message_start", message={"usage": first}),
        *(named("content_block_start", index=place, content_block=one) for place, one in enumerate(content)),
        named("message_delta", delta={"stop_reason": "end_turn"}, usage=usage),
    ]
    assert stream(Endpoint.MESSAGES, *events).tool_calls() == calls


def test_a_container_is_told_by_the_message_whole_or_streamed() -> None:
    container = {"id": "container_1", "expires_at": "2026-11-28T00:00:00Z"}
    usage = {**USAGE, "server_tool_use": {"web_search_requests": 1}}
    calls = (("code_execution", 1), ("web_search", 1))
    assert told(Endpoint.MESSAGES, {"content": [], "container": container, "usage": usage}) == calls
    end = named("message_delta", delta={"stop_reason": "end_turn", "container": container}, usage=usage)
    assert stream(Endpoint.MESSAGES, end, has_hosted_tools=False).tool_calls() == calls


def test_a_message_that_is_cut_short_has_told_those_that_had_begun() -> None:
    start = named("message_start", message={"usage": {**USAGE, "server_tool_use": {"web_search_requests": 0}}})
    search = named("content_block_start", index=1, content_block=block("web_search"))
    assert stream(Endpoint.MESSAGES, start, search).tool_calls() == (("web_search", 1),)
    assert stream(Endpoint.MESSAGES, start).tool_calls() == ()


def test_an_error_for_an_answer_tells_nothing() -> None:
    assert told(Endpoint.MESSAGES, {"type": "error", "error": {"type": "overloaded_error"}}) is None


# Chats

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
CHAT_USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}


@pytest.mark.parametrize(
    ("usage", "calls"),
    [
        (CHAT_USAGE, None),
        (None, None),
        ({**CHAT_USAGE, "server_tool_use": {"web_search_requests": 2}}, (("web_search", 2),)),
        ({**CHAT_USAGE, "server_tool_use": {"web_search_requests": 0}}, ()),
        ({**CHAT_USAGE, "server_tool_use": None}, None),
    ],
)
def test_a_chat_tells_them_only_in_its_usage(usage: dict[str, Any] | None, calls: ToolCalls | None) -> None:
    assert told(Endpoint.CHAT, {"choices": [CHOICE], "usage": usage}) == calls
    made = CompletionStream(
        endpoint=Endpoint.CHAT,
        model="m",
        choices=1,
        context_tokens=4096,
        wants_usage=True,
        wants_continuous_usage=False,
        is_usage_continuous=False,
        cost_member=lambda usage: b"{}",
    )
    made.feed(b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"\n\n")
    made.feed(b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\n")
    assert made.tool_calls() == calls


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "name", "action", "container_id", "server_tool_use", "web_search_requests"])
            | st.text(max_size=8),
            inner | st.sampled_from(["web_search_call", "code_interpreter_call", "server_tool_use", "web_search"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(json_values, json_values, json_values, st.sampled_from([Endpoint.RESPONSES, Endpoint.MESSAGES, Endpoint.CHAT]))
def test_whatever_an_answer_says_its_calls_are_counts_of_tools_that_can_be_shown(
    first: Any, second: Any, place: Any, endpoint: Endpoint
) -> None:
    for calls in (
        told(endpoint, {"output": first, "content": first, "usage": second, "container": first}),
        stream(Endpoint.RESPONSES, named("response.output_item.done", output_index=place, item=first)).tool_calls(),
        stream(Endpoint.MESSAGES, named("content_block_start", index=place, content_block=first)).tool_calls(),
    ):
        for tool, count in calls or ():
            assert count > 0
            assert tool.isprintable()
            assert len(tool) <= 64
        assert list(calls or ()) == sorted(calls or ())
