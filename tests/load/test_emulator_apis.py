"""The paths as clients use them: the openai SDK where it has a method, raw HTTP where it has none."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from load.emulator import Dialect, EmulatedFleet, Kind, Replica, ReplicaSpec, Style

HELLO: list[Any] = [{"role": "user", "content": "hello world"}]
WEATHER: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
SPECS = {
    "vllm": ReplicaSpec(model="m", has_prompt_tokens_details=True),
    "reasoner": ReplicaSpec(model="m", style=Style(reasoning_share=0.5, completion_tokens_median=30)),
    "cloud": ReplicaSpec(model="m", dialect=Dialect.OPENAI, api_key="sk", requests_per_minute=20),
    "embed": ReplicaSpec(model="m", kind=Kind.EMBED),
    "audio": ReplicaSpec(model="m", kind=Kind.TRANSCRIBE),
}


@pytest.fixture
async def replicas() -> AsyncIterator[dict[str, Replica]]:
    async with EmulatedFleet.start(list(SPECS.values())) as fleet:
        yield dict(zip(SPECS, fleet.replicas, strict=True))


def sdk(replica: Replica, key: str = "sk") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{replica.url}/v1", api_key=key, max_retries=0)


async def post(replica: Replica, path: str, **body: object) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10) as client:
        return await client.post(replica.url + path, json=body)


async def test_a_tool_call_streams_its_name_and_then_its_arguments(replicas: dict[str, Replica]) -> None:
    messages: list[Any] = [{"role": "user", "content": 'weather in "Rome"?'}]
    async with sdk(replicas["vllm"]) as client:
        whole = await client.chat.completions.create(model="m", messages=messages, tools=WEATHER)
        stream = await client.chat.completions.create(model="m", messages=messages, tools=WEATHER, stream=True)
        chunks = [chunk async for chunk in stream]
    call = whole.choices[0].message.tool_calls[0]  # type: ignore[index]
    assert whole.choices[0].finish_reason == "tool_calls"
    assert whole.choices[0].message.content is None
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Rome"})
    deltas = [tool for chunk in chunks for tool in chunk.choices[0].delta.tool_calls or []]
    assert deltas[0].function is not None
    assert deltas[0].function.name == "get_weather"
    assert deltas[0].id
    assert all(delta.id is None for delta in deltas[1:])
    assert "".join(delta.function.arguments or "" for delta in deltas if delta.function) == call.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_structured_output_parses_into_the_model_that_asked_for_it(replicas: dict[str, Replica]) -> None:
    class Person(BaseModel):
        name: str
        age: int

    async with sdk(replicas["vllm"]) as client:
        answer = await client.chat.completions.parse(model="m", messages=HELLO, response_format=Person)
        response = await client.responses.parse(model="m", input="hello", text_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)
    assert isinstance(response.output_parsed, Person)


async def test_responses_and_their_streams_agree(replicas: dict[str, Replica]) -> None:
    async with sdk(replicas["vllm"]) as client:
        whole = await client.responses.create(model="m", input="hello", max_output_tokens=30)
        async with client.responses.stream(model="m", input="hello", max_output_tokens=30) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        called = await client.responses.create(
            model="m", input="the weather", tools=[{"type": "function", "strict": False, **WEATHER[0]["function"]}]
        )
    assert whole.output_text == final.output_text != ""
    assert whole.status == "incomplete"
    assert [getattr(event, "sequence_number", None) for event in events] == list(range(len(events)))
    assert called.output[0].type == "function_call"


async def test_a_reasoning_model_thinks_in_a_channel_of_its_own(replicas: dict[str, Replica]) -> None:
    replica = replicas["reasoner"]
    answer = (await post(replica, "/v1/chat/completions", messages=HELLO)).json()
    message = answer["choices"][0]["message"]
    assert message["reasoning"]
    assert message["content"]
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    stream = await post(replica, "/v1/chat/completions", messages=HELLO, stream=True)
    deltas = [
        json.loads(line[6:])["choices"][0]["delta"] for line in stream.text.splitlines() if line.startswith("data: {")
    ]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == message["reasoning"]
    assert "".join(delta.get("content") or "" for delta in deltas) == message["content"]
    thought = (await post(replica, "/v1/messages", messages=HELLO, model="m", max_tokens=500)).json()
    assert [block["type"] for block in thought["content"]] == ["thinking", "text"]
    items = (await post(replica, "/v1/responses", input="hello")).json()["output"]
    assert [item["type"] for item in items] == ["reasoning", "message"]


async def test_messages_call_tools_in_anthropics_shapes(replicas: dict[str, Replica]) -> None:
    replica = replicas["vllm"]
    body: dict[str, Any] = {
        "model": "m",
        "max_tokens": 200,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "weather, please"}]}],
        "tools": [{"name": "get_weather", "input_schema": WEATHER[0]["function"]["parameters"]}],
    }
    answer = (await post(replica, "/v1/messages", **body)).json()
    assert (answer["stop_reason"], answer["content"][0]["type"]) == ("tool_use", "tool_use")
    stream = await post(replica, "/v1/messages", **body, stream=True)
    events = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: ")]
    partial = "".join(
        event["delta"].get("partial_json", "") for event in events if event["type"] == "content_block_delta"
    )
    assert json.loads(partial) == answer["content"][0]["input"]
    result = {"type": "tool_result", "tool_use_id": answer["content"][0]["id"], "content": "sunny"}
    body["messages"] += [
        {"role": "assistant", "content": answer["content"]},
        {"role": "user", "content": [result]},
    ]
    assert (await post(replica, "/v1/messages", **body)).json()["stop_reason"] == "end_turn"


async def test_a_prefix_seen_before_is_reported_as_cached_but_not_across_salts(replicas: dict[str, Replica]) -> None:
    messages = [{"role": "user", "content": "the quick brown fox " * 200}]

    async def cached(**members: object) -> int:
        answer = await post(replicas["vllm"], "/v1/chat/completions", messages=messages, max_tokens=2, **members)
        details: dict[str, int] = answer.json()["usage"]["prompt_tokens_details"]
        return details["cached_tokens"]

    assert await cached() == 0
    assert await cached() == 768
    assert await cached(cache_salt="tenant") == 0


async def test_a_stream_is_resumed_exactly_from_its_token_ids(replicas: dict[str, Replica]) -> None:
    replica = replicas["vllm"]
    whole = (await post(replica, "/v1/chat/completions", messages=HELLO, return_token_ids=True)).json()
    ids = whole["choices"][0]["token_ids"]
    resumed = await post(
        replica,
        "/v1/completions",
        prompt=[*whole["prompt_token_ids"], *ids[:10]],
        max_tokens=1000,
        return_token_ids=True,
    )
    choice = resumed.json()["choices"][0]
    assert choice["token_ids"] == ids[10:]
    assert whole["choices"][0]["message"]["content"].endswith(choice["text"])
    assert choice["finish_reason"] == "stop"


async def test_a_cloud_says_what_openai_says_and_no_more(replicas: dict[str, Replica]) -> None:
    replica = replicas["cloud"]
    async with sdk(replica) as client:
        whole = await client.chat.completions.create(model="m", messages=HELLO)
        stream = await client.chat.completions.create(
            model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        with pytest.raises(openai.BadRequestError, match="Unknown parameter: 'cache_salt'"):
            await client.chat.completions.create(model="m", messages=HELLO, extra_body={"cache_salt": "x"})
        options: Any = {"continuous_usage_stats": True}
        with pytest.raises(openai.BadRequestError, match="continuous_usage_stats"):
            await client.chat.completions.create(model="m", messages=HELLO, stream=True, stream_options=options)
        with pytest.raises(openai.NotFoundError) as not_found:
            await client.chat.completions.create(model="nope", messages=HELLO)
    assert not_found.value.code == "model_not_found"
    assert whole.model_dump(exclude_unset=True)["choices"][0].keys() == {
        "index",
        "message",
        "logprobs",
        "finish_reason",
    }
    assert [chunk.usage is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-2].choices[0].delta.model_dump(exclude_unset=True) == {}
    assert chunks[-2].choices[0].finish_reason == "stop"
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    async with sdk(replica, key="wrong") as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            await stranger.models.list()
    assert refused.value.code == "invalid_api_key"
    async with httpx.AsyncClient() as client_:
        assert (await client_.get(f"{replica.url}/metrics")).status_code == 404


async def test_a_cloud_limits_the_requests_of_a_minute(replicas: dict[str, Replica]) -> None:
    async with httpx.AsyncClient(headers={"authorization": "Bearer sk"}) as client:
        url = f"{replicas['cloud'].url}/v1/chat/completions"
        answers = await asyncio.gather(
            *(client.post(url, json={"model": "m", "messages": HELLO, "max_tokens": 1}) for _ in range(22))
        )
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 2
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60


async def test_embeddings_are_stable_unit_vectors_and_likeness_follows_words(replicas: dict[str, Replica]) -> None:
    replica = replicas["embed"]
    async with sdk(replica) as client:
        first = await client.embeddings.create(model="m", input=["the quick fox", "a budget"])
        again = await client.embeddings.create(model="m", input="the quick fox", encoding_format="float")
    assert first.data[0].embedding == pytest.approx(again.data[0].embedding)
    assert sum(number**2 for number in first.data[0].embedding) == pytest.approx(1, abs=1e-5)
    documents = ["the budget of a cluster", "the quick brown fox jumps", "weather"]
    answer = (await post(replica, "/v1/rerank", query="quick fox", documents=documents, top_n=2)).json()
    assert answer["results"][0]["index"] == 1
    assert len(answer["results"]) == 2
    scores = (await post(replica, "/v1/score", text_1="quick fox", text_2=documents)).json()["data"]
    assert max(scores, key=lambda row: row["score"])["index"] == 1
    assert replica.engine.counters.completion_tokens == 0


def wav(seconds: float) -> bytes:
    """Silence, 16 kHz, 16 bits."""
    data = bytes(int(seconds * 32_000))
    head = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVEfmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", len(data)
    )
    return head + data


async def test_a_long_sound_is_billed_by_its_seconds_and_bounded_by_its_windows(replicas: dict[str, Replica]) -> None:
    async with sdk(replicas["audio"]) as client:
        short = await client.audio.transcriptions.create(model="m", file=("a.wav", wav(2.5)))
        long = await client.audio.transcriptions.create(
            model="m", file=("a.wav", wav(65)), extra_body={"max_completion_tokens": 5}
        )
        with pytest.raises(openai.BadRequestError, match="Maximum file size exceeded"):
            await client.audio.transcriptions.create(model="m", file=("a.wav", bytes(26 * 2**20)))
    assert short.usage is not None
    assert long.usage is not None
    assert (short.usage.type, short.usage.seconds) == ("duration", 3)  # type: ignore[union-attr]
    assert long.usage.seconds == 65  # type: ignore[union-attr]
    assert len(long.text.split()) <= 15 < len(short.text.split()) * 10


async def test_a_prompt_that_fills_the_context_is_refused_with_its_limit() -> None:
    async with EmulatedFleet.start([ReplicaSpec(context_tokens=64)]) as fleet:
        for path, body in (
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "fox " * 100}]}),
            ("/v1/completions", {"prompt": "fox " * 100}),
        ):
            refused = await post(fleet.replicas[0], path, **body)
            assert refused.status_code == 400
            assert "maximum context length is 64 tokens" in refused.json()["error"]["message"]
        cut = (
            await post(fleet.replicas[0], "/v1/completions", prompt="fox " * 40, max_tokens=60, ignore_eos=True)
        ).json()
        assert cut["usage"]["total_tokens"] == 64
        assert cut["choices"][0]["finish_reason"] == "length"


async def test_log_probabilities_fall_and_belong_to_the_tokens(replicas: dict[str, Replica]) -> None:
    async with sdk(replicas["vllm"]) as client:
        answer = await client.chat.completions.create(
            model="m", messages=HELLO, max_tokens=5, logprobs=True, top_logprobs=3
        )
    logged = answer.choices[0].logprobs
    assert logged is not None
    assert logged.content is not None
    assert "".join(entry.token for entry in logged.content) == answer.choices[0].message.content
    for entry in logged.content:
        ranked = [top.logprob for top in entry.top_logprobs]
        assert ranked == sorted(ranked, reverse=True)
        assert entry.logprob <= 0
        assert entry.top_logprobs[0].token == entry.token
