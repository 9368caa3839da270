"""What a user of OpenAI's Python SDK does, with nothing set but OPENAI_BASE_URL and OPENAI_API_KEY.

Runs on openai 2 and 3, and in the same words over emulated backends and over a real vLLM: what the models say differs, what
the SDK makes of it may not. Temperature 0 and short answers, for a real model with random weights.
"""

import json
from decimal import Decimal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

MODEL = "chat-small"
QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}, "celsius": {"type": "boolean"}},
    "required": ["city", "celsius"],
    "additionalProperties": False,
}
WEATHER_TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather now", "parameters": WEATHER, "strict": True},
}


@pytest.fixture
def client() -> OpenAI:
    return OpenAI()


def is_weather(value: object) -> bool:
    """Whether it has the shape of WEATHER."""
    return (
        isinstance(value, dict)
        and value.keys() == {"city", "celsius"}
        and value["city"] in {"Paris", "Rome"}
        and isinstance(value["celsius"], bool)
    )


def test_aliases_and_models_are_listed(client: OpenAI) -> None:
    assert {"auto", "chat-small", "chat-large"} <= {model.id for model in client.models.list()}


@pytest.mark.parametrize("model", ["auto", "chat-small", "chat-large"])
def test_a_chat_is_answered_and_its_tokens_add_up(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16, temperature=0)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_an_answer_says_where_it_came_from_and_what_it_cost(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=8)
    assert raw.headers["x-request-id"]
    assert raw.headers["x-jeton-tier"] == "small"
    assert raw.headers["x-jeton-attempts"] == "1"
    assert raw.headers["x-jeton-model"] == raw.parse().model
    for name in ("backend", "policy", "reason"):
        assert raw.headers[f"x-jeton-{name}"]
    assert Decimal(raw.headers["x-jeton-cost-usd"]) > 0


def test_a_stream_says_what_the_whole_answer_says(client: OpenAI) -> None:
    asked = {"model": MODEL, "messages": QUESTION, "max_tokens": 24, "temperature": 0, "seed": 7}
    whole = client.chat.completions.create(**asked).choices[0]
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == [whole.finish_reason]


def test_a_stream_ends_with_usage_and_cost_when_asked(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens
    assert last.model_extra["jeton_cost"]


def test_several_choices_come_back(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4, n=3, temperature=0.5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


@pytest.mark.parametrize("tool_choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_tool_is_called_with_arguments_of_its_schema(client: OpenAI, tool_choice: object) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, tools=[WEATHER_TOOL], tool_choice=tool_choice, max_tokens=400, temperature=0
    )
    calls = answer.choices[0].message.tool_calls
    assert {call.function.name for call in calls} == {"get_weather"}
    assert all(is_weather(json.loads(call.function.arguments)) for call in calls)


def test_a_tool_call_streams_and_its_result_is_taken_back(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        tools=[WEATHER_TOOL],
        tool_choice="required",
        max_tokens=400,
        temperature=0,
        stream=True,
    )
    deltas = [call for chunk in stream for call in chunk.choices[0].delta.tool_calls or () if call.index == 0]
    call_id = next(delta.id for delta in deltas if delta.id)
    arguments = "".join(delta.function.arguments or "" for delta in deltas if delta.function)
    assert is_weather(json.loads(arguments))
    call = {"id": call_id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    history = [
        *QUESTION,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": "18 degrees"},
    ]
    answer = client.chat.completions.create(
        model=MODEL, messages=history, tools=[WEATHER_TOOL], tool_choice="none", max_tokens=8
    )
    assert answer.choices[0].message.content


def test_an_answer_keeps_to_a_json_schema(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_tokens=400,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": WEATHER}},
    )
    assert answer.choices[0].finish_reason == "stop"
    assert is_weather(json.loads(answer.choices[0].message.content))


def test_a_text_completion_is_answered(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8, temperature=0)
    assert answer.choices[0].text
    assert answer.usage.completion_tokens > 0


def test_a_response_is_answered_whole_and_streamed(client: OpenAI) -> None:
    whole = client.responses.create(model=MODEL, input="Say something.", max_output_tokens=16, temperature=0)
    assert whole.output_text
    events = list(
        client.responses.create(model=MODEL, input="Say something.", max_output_tokens=16, temperature=0, stream=True)
    )
    assert events[0].type == "response.created"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_come_one_for_each_text(client: OpenAI, encoding: str) -> None:
    answer = client.embeddings.create(model="embed", input=["one", "one and two"], encoding_format=encoding)
    assert [row.index for row in answer.data] == [0, 1]
    assert len({len(row.embedding) for row in answer.data}) == 1
    assert answer.usage.prompt_tokens > 0


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(openai.AuthenticationError) as refusal:
        OpenAI(api_key="sk-nobody").chat.completions.create(model=MODEL, messages=QUESTION)
    assert refusal.value.code == "invalid_api_key"


def test_an_unknown_model_is_refused_with_the_nearest_names(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="chat-small") as refusal:
        client.chat.completions.create(model="chat-smal", messages=QUESTION)
    assert refusal.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 10**9}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": "x"}, "messages"),
        ({"stream": "true"}, "stream"),
    ],
)
def test_a_wrong_body_is_refused_with_the_name_of_what_is_wrong(
    client: OpenAI, body: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model=MODEL, messages=QUESTION, extra_body=body)
    assert refusal.value.type == "invalid_request_error"
    assert refusal.value.param == param


def test_a_backends_own_refusal_arrives_as_the_same_exception(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=3)


async def test_many_streams_run_side_by_side_and_may_be_left_early() -> None:
    async with AsyncOpenAI() as client:
        streams = [
            await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=400, stream=True)
            for _ in range(8)
        ]
        for stream in streams:
            async with stream:
                async for chunk in stream:
                    assert chunk.choices
                    break
        answer = await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4)
        assert answer.choices[0].message.content
