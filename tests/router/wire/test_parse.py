"""What routing reads of a body, and what it refuses."""

from typing import Any

import pytest

from router.domain.request import Capability, Endpoint
from router.errors import BadRequest
from router.wire.json_body import wrong_member
from router.wire.parse import Bounds, parse
from router.wire.prompts import PROMPT_TEXT_CHARACTERS

HELLO = [{"role": "user", "content": "hello"}]
BOUNDS = Bounds(completion_tokens_max=100_000, choices_max=16)


def chat(**members: Any) -> Any:
    return parse(Endpoint.CHAT, {"model": "auto", "messages": HELLO, **members}, BOUNDS)


@pytest.mark.parametrize(
    ("endpoint", "members", "param"),
    [
        (Endpoint.CHAT, {"messages": HELLO}, "model"),
        (Endpoint.CHAT, {"model": None, "messages": HELLO}, "model"),
        (Endpoint.CHAT, {"model": "", "messages": HELLO}, "model"),
        (Endpoint.CHAT, {"model": 5, "messages": HELLO}, "model"),
        (Endpoint.CHAT, {"model": "m"}, "messages"),
        (Endpoint.CHAT, {"model": "m", "messages": "x"}, "messages"),
        (Endpoint.CHAT, {"model": "m", "messages": []}, "messages"),
        (Endpoint.CHAT, {"model": "m", "messages": ["x"]}, "messages.0"),
        (Endpoint.CHAT, {"model": "m", "messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        (Endpoint.CHAT, {"model": "m", "messages": HELLO, "stream": "true"}, "stream"),
        (Endpoint.CHAT, {"model": "m", "messages": HELLO, "stream": 1}, "stream"),
        (Endpoint.CHAT, {"model": "m", "messages": HELLO, "stream_options": "x"}, "stream_options"),
        (Endpoint.COMPLETIONS, {"model": "m"}, "prompt"),
        (Endpoint.COMPLETIONS, {"model": "m", "prompt": []}, "prompt"),
        (Endpoint.COMPLETIONS, {"model": "m", "prompt": [{}]}, "prompt.0"),
        (Endpoint.EMBEDDINGS, {"model": "m", "input": "x", "stream": True}, "stream"),
        (Endpoint.RERANK, {"model": "m", "query": "x", "documents": ["y"], "stream": True}, "stream"),
        (Endpoint.SCORE, {"model": "m", "text_1": "x", "text_2": "y", "stream": True}, "stream"),
        (Endpoint.TOKENIZE, {"model": "m", "prompt": "x", "stream": True}, "stream"),
        (Endpoint.RESPONSES, {"model": "m"}, "input"),
        (Endpoint.RESPONSES, {"model": "m", "input": "x", "background": True}, "background"),
        (Endpoint.RESPONSES, {"model": "m", "input": "x", "background": "no"}, "background"),
        (Endpoint.RESPONSES, {"model": "m", "input": [1]}, "input.0"),
        (Endpoint.MESSAGES, {"model": "m", "max_tokens": 5}, "messages"),
        (Endpoint.EMBEDDINGS, {"model": "m"}, "input"),
        (Endpoint.RERANK, {"model": "m", "query": "q"}, "documents"),
        (Endpoint.SCORE, {"model": "m"}, "text_1"),
        (Endpoint.TOKENIZE, {"model": "m"}, "prompt"),
    ],
)
def test_b48_what_is_missing_or_of_the_wrong_type_is_refused_by_name(
    endpoint: Endpoint, members: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(endpoint, members, BOUNDS)
    assert refused.value.param == param
    assert param.split(".")[0] in refused.value.message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "missing"),
        ("", "empty"),
        ([], "empty"),
        ("what was asked", "a string"),
        ({"a": 1}, "an object"),
        (True, "a boolean, true"),
        (7, "a number, 7"),
        (0.5, "a number, 0.5"),
        (10**60, "a number, too large"),
    ],
)
def test_what_it_is_instead_is_said_in_words_and_never_quoted(value: object, said: str) -> None:
    assert wrong_member("x", "right", value).message == f"`x` must be right; it is {said}."


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("n", 10**9),
        ("n", 0),
        ("n", -1),
        ("n", True),
        ("n", "3"),
        ("best_of", 10**6),
        ("max_tokens", -1),
        ("max_tokens", 0),
        ("max_tokens", 10**12),
        ("max_completion_tokens", 10**12),
        ("min_tokens", 10**9),
        ("top_logprobs", 10**6),
        ("prompt_logprobs", 10**6),
        ("logprobs", 10**6),
    ],
)
def test_b49_bounds_that_could_hang_or_swamp_a_backend_are_refused_here(member: str, value: object) -> None:
    with pytest.raises(BadRequest) as refused:
        chat(**{member: value})
    assert refused.value.param == member


def test_b52_members_that_steer_proxies_elsewhere_are_dropped() -> None:
    parsed = chat(api_base="http://evil", base_url="http://evil", api_key="sk-evil", temperature=0.5)
    assert set(parsed.members) == {"model", "messages", "temperature"}


def test_the_last_user_message_is_what_the_classifier_reads() -> None:
    parsed = chat(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "image_url", "image_url": {}}]},
        ]
    )
    assert (parsed.prompt.text, parsed.prompt.system_text, parsed.prompt.turns) == ("second", "be brief", 4)
    assert parsed.prompt.has_images
    assert Capability.VISION in parsed.needs


def test_a_long_prompt_is_clipped_for_classification_and_counted_whole() -> None:
    parsed = chat(messages=[{"role": "user", "content": "word " * 100_000}])
    assert len(parsed.prompt.text) == PROMPT_TEXT_CHARACTERS
    assert parsed.prompt.tokens_estimate == pytest.approx(125_000, rel=0.01)


LONG = "line of a file\n" * 1000
TOOL_USE = {"type": "tool_use", "id": "t", "name": "read", "input": {"path": LONG}}
TOOL_RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": LONG}]}
CALL = {"id": "t", "type": "function", "function": {"name": "read", "arguments": LONG}}


@pytest.mark.parametrize(
    ("endpoint", "members"),
    [
        (Endpoint.CHAT, {"messages": HELLO, "tools": [{"type": "function", "function": {"description": LONG}}]}),
        (Endpoint.CHAT, {"messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": [CALL]}]}),
        (Endpoint.CHAT, {"messages": [*HELLO, {"role": "assistant", "content": "", "tool_calls": [CALL]}]}),
        (Endpoint.MESSAGES, {"messages": [*HELLO, {"role": "assistant", "content": [TOOL_USE]}]}),
        (Endpoint.MESSAGES, {"messages": [*HELLO, {"role": "user", "content": [TOOL_RESULT]}]}),
        (Endpoint.MESSAGES, {"messages": [*HELLO, {"role": "user", "content": [TOOL_RESULT | {"content": LONG}]}]}),
        (Endpoint.RESPONSES, {"input": [{"type": "function_call", "name": "read", "arguments": LONG}]}),
        (Endpoint.RESPONSES, {"input": [{"type": "function_call_output", "call_id": "t", "output": LONG}]}),
        (Endpoint.RESPONSES, {"input": "hello", "tools": [{"type": "function", "description": LONG}]}),
    ],
)
def test_tools_their_calls_and_results_are_part_of_the_prompt_and_not_for_the_classifier(
    endpoint: Endpoint, members: dict[str, Any]
) -> None:
    prompt = parse(endpoint, {"model": "m", **members}, BOUNDS).prompt
    assert prompt.tokens_estimate == pytest.approx(len(LONG) / 4, rel=0.1)
    assert prompt.said_tokens_estimate < 20


def test_an_image_that_a_tool_has_taken_is_an_image() -> None:
    result = TOOL_RESULT | {"content": [{"type": "image", "source": {"data": "A" * 100_000}}]}
    parsed = parse(Endpoint.MESSAGES, {"model": "m", "messages": [{"role": "user", "content": [result]}]}, BOUNDS)
    assert Capability.VISION in parsed.needs
    assert parsed.prompt.tokens_estimate < 300


@pytest.mark.parametrize(
    ("members", "needs"),
    [
        ({}, set()),
        ({"tools": [{}]}, {Capability.TOOLS}),
        ({"tools": [{}], "tool_choice": "none"}, set()),
        ({"logprobs": True}, {Capability.LOGPROBS}),
        ({"logprobs": False}, set()),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {Capability.JSON_SCHEMA}),
        ({"response_format": {"type": "text"}}, set()),
    ],
)
def test_what_a_request_needs_follows_from_its_members(members: dict[str, Any], needs: set[Capability]) -> None:
    assert chat(**members).needs == needs | {Capability.CHAT}


def parts(*kinds: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": kind, kind: {"url": "data:x/y;base64,AAAA"}} for kind in kinds]}]


@pytest.mark.parametrize(
    ("endpoint", "members", "needs"),
    [
        (Endpoint.CHAT, {"messages": parts("input_audio")}, {Capability.AUDIO}),
        (Endpoint.CHAT, {"messages": parts("audio_url", "text")}, {Capability.AUDIO}),
        (Endpoint.CHAT, {"messages": HELLO, "audio": {"voice": "alloy"}}, {Capability.AUDIO, Capability.EXTENSIONS}),
        (Endpoint.CHAT, {"messages": parts("video_url")}, {Capability.VISION}),
        (Endpoint.RESPONSES, {"input": parts("input_audio")}, {Capability.AUDIO}),
        (Endpoint.RESPONSES, {"input": "x", "include": ["message.output_text.logprobs"]}, {Capability.LOGPROBS}),
        (Endpoint.RESPONSES, {"input": "x", "include": ["reasoning.encrypted_content"]}, set()),
        (Endpoint.COMPLETIONS, {"prompt": "x", "logprobs": 0}, {Capability.LOGPROBS}),
        (Endpoint.COMPLETIONS, {"prompt": "x", "logprobs": None}, set()),
        (Endpoint.COMPLETIONS, {"prompt": "x", "n": 2}, {Capability.N}),
        (Endpoint.COMPLETIONS, {"prompt": "x", "logit_bias": {"5": 1}}, {Capability.LOGIT_BIAS}),
        (Endpoint.COMPLETIONS, {"prompt": "x", "n": 1, "frequency_penalty": 0, "echo": True, "suffix": "y"}, set()),
    ],
)
def test_what_a_request_needs_is_asked_for_in_each_apis_own_way(
    endpoint: Endpoint, members: dict[str, Any], needs: set[Capability]
) -> None:
    assert parse(endpoint, {"model": "m", **members}, BOUNDS).needs == needs | {Capability(endpoint.value)}


@pytest.mark.parametrize(
    ("endpoint", "members"),
    [
        (Endpoint.CHAT, {"messages": parts("image_url")}),
        (Endpoint.CHAT, {"messages": parts("video_url")}),
        (Endpoint.CHAT, {"messages": parts("audio_url")}),
        (Endpoint.CHAT, {"messages": parts("file")}),
        (Endpoint.MESSAGES, {"messages": parts("document")}),
        (Endpoint.RESPONSES, {"input": "x", "previous_response_id": "resp_1"}),
        (Endpoint.RESPONSES, {"input": [{"type": ["no", "name"]}, {"type": "item_reference", "id": "msg_1"}]}),
        (Endpoint.CHAT, {"messages": [*parts("file"), {"role": "user", "content": [{"type": {}, "text": "x"}]}]}),
    ],
)
def test_what_is_elsewhere_is_not_measured_by_the_body(endpoint: Endpoint, members: dict[str, Any]) -> None:
    assert parse(endpoint, {"model": "m", **members}, BOUNDS).prompt.is_partly_elsewhere
    assert not chat(tools=[{}]).prompt.is_partly_elsewhere


@pytest.mark.parametrize(("prompt", "choices"), [("a", 2), (["a", "b", "c"], 6), ([1, 2, 3], 2), ([[1, 2], [3]], 4)])
def test_every_prompt_of_a_completion_makes_its_own_choices(prompt: object, choices: int) -> None:
    parsed = parse(Endpoint.COMPLETIONS, {"model": "m", "prompt": prompt, "n": 2}, BOUNDS)
    assert parsed.choices == choices


def test_each_api_names_its_bound_on_the_answer_in_its_own_way() -> None:
    assert chat(max_tokens=5).completion_tokens_max == 5
    assert chat(max_completion_tokens=6).completion_tokens_max == 6
    assert chat(max_completion_tokens=None, max_tokens=5).completion_tokens_max == 5
    assert chat(max_completion_tokens=1, max_tokens=5).completion_tokens_max == 5  # some heed the one, some the other
    responses = parse(Endpoint.RESPONSES, {"model": "m", "input": "x", "max_output_tokens": 7}, BOUNDS)
    assert responses.completion_tokens_max == 7
    assert chat().completion_tokens_max is None


@pytest.mark.parametrize(
    ("endpoint", "members"),
    [
        (Endpoint.CHAT, {"messages": HELLO, "max_output_tokens": 1}),
        (Endpoint.COMPLETIONS, {"prompt": "x", "max_completion_tokens": 1}),
        (Endpoint.RESPONSES, {"input": "x", "max_tokens": 1}),
        (Endpoint.MESSAGES, {"messages": HELLO, "max_completion_tokens": 1}),
    ],
)
def test_another_apis_bound_promises_nothing_for_backends_pass_over_it(
    endpoint: Endpoint, members: dict[str, Any]
) -> None:
    assert parse(endpoint, {"model": "m", **members}, BOUNDS).completion_tokens_max is None


def test_usage_is_wanted_only_where_the_client_said_so() -> None:
    assert not chat(stream=True).wants_usage
    assert chat(stream=True, stream_options={"include_usage": True}).wants_usage
    only_continuous = chat(stream=True, stream_options={"continuous_usage_stats": True})
    assert not only_continuous.wants_continuous_usage  # alone it does nothing, in vLLM as here
