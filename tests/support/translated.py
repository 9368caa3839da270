"""What holds of every provider whose own API is not OpenAI's. body: of a chat with `cloud-model`."""

import json
from collections.abc import Mapping
from typing import Any

from payloads import CITY, HELLO, PIXEL, WEATHER
from provided import PATH
from whole_app import WholeApp

Body = dict[str, Any]


async def the_same_streamed_or_not(jeton: WholeApp, body: Body) -> tuple[Any, list[Any]]:
    """The whole answer and the chunks, which say, count and cost the same."""
    whole = await jeton.sdk.chat.completions.create(**body)
    stream = await jeton.sdk.chat.completions.create(**body, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    first, second = await jeton.charges()
    assert first["completion_tokens"] == second["completion_tokens"] == whole.usage.completion_tokens
    assert first["prompt_tokens"] == second["prompt_tokens"] == whole.usage.prompt_tokens
    assert (first["usage_source"], second["usage_source"]) == ("provider", "provider")
    assert chunks[-1].jeton_cost["nanousd"] == second["cost_nanousd"]
    return whole, chunks


async def tools_go_there_and_back(jeton: WholeApp, body: Body) -> None:
    """In a conversation, and whole in a stream."""
    asked = {**body, "max_tokens": 60, "tools": [WEATHER], "tool_choice": "required"}
    first = await jeton.sdk.chat.completions.create(**asked)
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    [call] = message.tool_calls
    json.loads(call.function.arguments)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    turns = [*HELLO, message.model_dump(exclude_none=True), *results]
    second = await jeton.sdk.chat.completions.create(**{**body, "messages": turns, "tools": [WEATHER]})
    assert second.choices[0].message.content or second.choices[0].message.tool_calls
    arguments = ""
    async for chunk in await jeton.sdk.chat.completions.create(**asked, stream=True):
        for piece in chunk.choices[0].delta.tool_calls or ():
            arguments += piece.function.arguments or ""
    assert "city" in json.loads(arguments)


async def a_schema_and_a_picture_are_understood(jeton: WholeApp, body: Body) -> None:
    shaped = await jeton.sdk.chat.completions.create(**{**body, "max_tokens": 60}, response_format=CITY)
    assert json.loads(shaped.choices[0].message.content).keys() == {"name", "people"}
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    seen = await jeton.sdk.chat.completions.create(**{**body, "messages": [{"role": "user", "content": parts}]})
    assert seen.choices[0].message.content


async def another_answers(jeton: WholeApp, body: Body, status: int) -> dict[str, Any]:
    """What the attempt came to that got such an answer; `large` gave a better one."""
    jeton.replica("cloud").faults(status=status)
    answer = await jeton.http.post(PATH, json={**body, "model": "anything"})
    assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")
    return (await jeton.charges())[0]


async def a_broken_stream_ends_with_an_error_event(jeton: WholeApp, body: Body, fault: Mapping[str, Any]) -> None:
    jeton.replica("cloud").faults(**fault)
    answer = await jeton.http.post(PATH, json={**body, "stream": True})
    first, *_, last = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"]["content"]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "backend_failed"
    [row] = await jeton.charges()
    assert (row["status"], row["usage_source"]) == ("failed", "estimated")
    assert row["completion_tokens"] > 0
