"""Text generation through the whole of jeton, as OpenAI's SDK asks for it."""

import json
from typing import Any

import pytest
from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk
from payloads import CITY, CLOCK, HELLO, PIXEL, WEATHER
from whole_app import WholeApp

from policies import quality_floor


async def chunks_of(stream: AsyncStream[ChatCompletionChunk]) -> list[ChatCompletionChunk]:
    return [chunk async for chunk in stream]


async def test_a_chat_comes_back_whole_with_what_it_cost(jeton: WholeApp) -> None:
    raw = await jeton.sdk.chat.completions.with_raw_response.create(model="small-model", messages=HELLO, max_tokens=12)
    answer = raw.parse()
    (charge,) = await jeton.charges()
    assert answer.model == "small-model"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (charge["prompt_tokens"], charge["completion_tokens"]) == (answer.usage.prompt_tokens, 12)
    assert (charge["status"], charge["usage_source"], charge["cost_status"]) == ("ok", "provider", "priced")
    assert raw.headers["x-jeton-cost-usd"] == f"0.{charge['cost_nanousd']:09d}"


async def test_every_answer_says_where_it_came_from(jeton: WholeApp) -> None:
    whole = await jeton.sdk.chat.completions.with_raw_response.create(model="small-model", messages=HELLO, max_tokens=2)
    stream = await jeton.sdk.chat.completions.with_raw_response.create(
        model="chat-small", messages=HELLO, max_tokens=2, stream=True
    )
    await chunks_of(stream.parse())
    charges = await jeton.charges()
    for raw, charge in zip((whole, stream), charges, strict=True):
        assert raw.headers["x-request-id"] == charge["request_id"]
        assert raw.headers["x-jeton-backend"] == charge["backend"] == "small"
        assert raw.headers["x-jeton-model"] == charge["model"] == "small-model"
        assert raw.headers["x-jeton-tier"] == charge["tier"] == "small"
        assert raw.headers["x-jeton-policy"] == charge["policy"] == "quality_floor"
        assert raw.headers["x-jeton-reason"] == charge["reason"]
        assert raw.headers["x-jeton-attempts"] == "1"
    assert charges[0]["request_id"] != charges[1]["request_id"]
    assert "x-jeton-cost-usd" not in stream.headers, "it is not known when the headers are sent"


async def test_a_reason_of_several_lines_is_told_in_one(jeton: WholeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy of one's own may say what it likes: no header can, and the answer is paid for by then."""
    monkeypatch.setattr(quality_floor, "BELOW", "cheap\r\n  and near")
    raw = await jeton.sdk.chat.completions.with_raw_response.create(model="small-model", messages=HELLO, max_tokens=2)
    (charge,) = await jeton.charges()
    assert raw.headers["x-jeton-reason"] == charge["reason"] == "cheap and near"


async def test_a_stream_says_what_the_whole_answer_says(jeton: WholeApp) -> None:
    whole = await jeton.sdk.chat.completions.create(model="small-model", messages=HELLO, max_tokens=20)
    chunks = await chunks_of(
        await jeton.sdk.chat.completions.create(model="small-model", messages=HELLO, max_tokens=20, stream=True)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert {chunk.model for chunk in chunks} == {"small-model"}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["length"]


async def test_usage_that_nobody_asked_for_is_not_seen_and_yet_booked(jeton: WholeApp) -> None:
    chunks = await chunks_of(
        await jeton.sdk.chat.completions.create(model="small-model", messages=HELLO, max_tokens=8, stream=True)
    )
    (charge,) = await jeton.charges()
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert (charge["completion_tokens"], charge["usage_source"]) == (8, "provider")


async def test_usage_that_was_asked_for_comes_last_with_the_cost(jeton: WholeApp) -> None:
    chunks = await chunks_of(
        await jeton.sdk.chat.completions.create(
            model="small-model", messages=HELLO, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    (charge,) = await jeton.charges()
    *others, last = chunks
    assert all(chunk.usage is None for chunk in others)
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (charge["prompt_tokens"], 8)
    cost = (last.model_extra or {})["jeton_cost"]
    assert cost["nanousd"] == charge["cost_nanousd"]
    assert (cost["basis"], cost["usage_source"]) == ("allocated", "provider")


async def test_continuous_usage_is_seen_only_by_those_who_asked(jeton: WholeApp) -> None:
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await chunks_of(
        await jeton.sdk.chat.completions.create(
            model="small-model", messages=HELLO, max_tokens=4, stream=True, stream_options=options
        )
    )
    counts = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage is not None]
    assert len(counts) == len(chunks)
    assert counts == sorted(counts)
    assert counts[-1] == 4


async def test_tools_are_called_one_or_several_at_once(jeton: WholeApp) -> None:
    question: Any = [{"role": "user", "content": "What is the weather in Oslo, and what does the clock say?"}]
    one = await jeton.sdk.chat.completions.create(
        model="small-model", messages=question, tools=[WEATHER, CLOCK], parallel_tool_calls=False
    )
    both = await jeton.sdk.chat.completions.create(model="small-model", messages=question, tools=[WEATHER, CLOCK])
    streamed = await chunks_of(
        await jeton.sdk.chat.completions.create(
            model="small-model", messages=question, tools=[WEATHER, CLOCK], stream=True
        )
    )
    names = [[call.function.name for call in answer.choices[0].message.tool_calls or []] for answer in (one, both)]  # type: ignore[union-attr]
    assert names == [["get_weather"], ["get_weather", "get_clock"]]
    assert both.choices[0].finish_reason == "tool_calls"
    calls: dict[int, str] = {}
    for chunk in streamed:
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.function is not None
            calls[delta.index] = calls.get(delta.index, "") + (delta.function.arguments or "")
    assert list(calls) == [0, 1]
    assert all(isinstance(json.loads(arguments), dict) for arguments in calls.values())


async def test_a_tool_result_goes_back_into_the_conversation(jeton: WholeApp) -> None:
    question: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    asked = await jeton.sdk.chat.completions.create(model="small-model", messages=question, tools=[WEATHER])
    calls = asked.choices[0].message.tool_calls
    assert calls
    turns = [*question, asked.choices[0].message, {"role": "tool", "tool_call_id": calls[0].id, "content": "Rain."}]
    answer = await jeton.sdk.chat.completions.create(
        model="small-model", messages=turns, tools=[WEATHER], max_completion_tokens=6
    )
    assert answer.choices[0].message.content


async def test_a_json_schema_is_kept_to(jeton: WholeApp) -> None:
    answer = await jeton.sdk.chat.completions.create(model="small-model", messages=HELLO, response_format=CITY)
    city = json.loads(answer.choices[0].message.content or "")
    assert type(city["name"]) is str
    assert type(city["people"]) is int


async def test_logprobs_pass(jeton: WholeApp) -> None:
    answer = await jeton.sdk.chat.completions.create(
        model="small-model", messages=HELLO, max_tokens=3, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [len(token.top_logprobs) for token in logprobs.content] == [2, 2, 2]


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_two_choices_come_back_and_both_are_booked(jeton: WholeApp, is_streaming: bool) -> None:
    answer: Any = await jeton.sdk.chat.completions.create(
        model="small-model", messages=HELLO, max_tokens=5, n=2, stream=is_streaming
    )
    parts = await chunks_of(answer) if is_streaming else [answer]
    finished = {choice.index for part in parts for choice in part.choices if choice.finish_reason is not None}
    (charge,) = await jeton.charges()
    assert finished == {0, 1}
    assert charge["completion_tokens"] == 10


async def test_reasoning_comes_before_the_answer(jeton: WholeApp) -> None:
    answer = await jeton.sdk.chat.completions.create(model="large-model", messages=HELLO)
    assert (answer.choices[0].message.model_extra or {})["reasoning"]
    assert answer.choices[0].message.content
    chunks = await chunks_of(await jeton.sdk.chat.completions.create(model="large-model", messages=HELLO, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    reasoning = "".join((delta.model_extra or {}).get("reasoning") or "" for delta in deltas)
    assert reasoning == (answer.choices[0].message.model_extra or {})["reasoning"]
    assert "".join(delta.content or "" for delta in deltas) == answer.choices[0].message.content


async def test_a_picture_goes_to_the_backend_that_can_see(jeton: WholeApp) -> None:
    look: Any = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}],
        }
    ]
    raw = await jeton.sdk.chat.completions.with_raw_response.create(model="auto", messages=look, max_tokens=4)
    assert raw.headers["x-jeton-backend"] == "large"
    assert jeton.seen("large")[-1]["messages"] == look


async def test_completions_take_several_prompts_and_token_ids(jeton: WholeApp) -> None:
    texts = await jeton.sdk.completions.create(model="small-model", prompt=["One", "Two"], max_tokens=4)
    ids = await jeton.sdk.completions.create(model="small-model", prompt=[1, 2, 3], max_tokens=4)
    stream = await jeton.sdk.completions.create(model="small-model", prompt=["One", "Two"], max_tokens=4, stream=True)
    streamed = ["", ""]
    async for chunk in stream:
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert [choice.text for choice in texts.choices] == streamed
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 3
    assert [charge["completion_tokens"] for charge in await jeton.charges()] == [8, 4, 8]


async def test_completions_echo_their_prompt_even_with_nothing_after_it(jeton: WholeApp) -> None:
    more = await jeton.sdk.completions.create(model="small-model", prompt="Once upon", max_tokens=3, echo=True)
    alone = await jeton.sdk.completions.create(
        model="small-model", prompt="Once upon", max_tokens=0, echo=True, logprobs=1
    )
    assert more.choices[0].text.startswith("Once upon")
    assert alone.choices[0].text == "Once upon"


async def test_auto_finds_a_backend_of_any_tier(jeton: WholeApp) -> None:
    raw = await jeton.sdk.chat.completions.with_raw_response.create(model="auto", messages=HELLO, max_tokens=2)
    assert raw.parse().model in ("small-model", "large-model", "cloud-model")
    assert raw.headers["x-jeton-model"] == raw.parse().model


async def test_a_backend_or_a_model_is_pinned_by_its_name(jeton: WholeApp) -> None:
    for name in ("large", "large-model"):
        raw = await jeton.sdk.chat.completions.with_raw_response.create(model=name, messages=HELLO, max_tokens=2)
        assert raw.headers["x-jeton-backend"] == "large"
    assert [body["model"] for body in jeton.seen("large")] == ["huge-70b", "huge-70b"]


async def test_a_metered_cloud_is_asked_with_its_own_key_and_priced_by_its_tokens(jeton: WholeApp) -> None:
    raw = await jeton.sdk.chat.completions.with_raw_response.create(model="cloud-model", messages=HELLO, max_tokens=9)
    usage = raw.parse().usage
    (charge,) = await jeton.charges()
    assert usage is not None
    assert charge["cost_nanousd"] == usage.prompt_tokens * 2000 + 9 * 8000
    (request,) = [seen for seen in jeton.replica("cloud").requests_seen if seen.path == "/v1/chat/completions"]
    assert request.headers["authorization"] == "Bearer sk-cloud-0123456789abcdef"
    assert jeton.api_key not in str(request)
