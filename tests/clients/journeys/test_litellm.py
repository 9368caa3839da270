"""LiteLLM as a client: jeton is its provider `openai/`, by OPENAI_BASE_URL and OPENAI_API_KEY."""

import asyncio
import json

import litellm
import pytest

MODEL = "openai/auto"
MESSAGES = [{"role": "user", "content": "What is magic(3)? Use the tool."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "magic",
        "description": "Applies a magic function to an integer",
        "parameters": {"type": "object", "properties": {"input": {"type": "integer"}}, "required": ["input"]},
    },
}


def test_a_chat_is_answered_and_its_tokens_add_up() -> None:
    answer = litellm.completion(model=MODEL, messages=MESSAGES, max_tokens=16)
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_is_rebuilt_with_its_usage() -> None:
    chunks = list(
        litellm.completion(
            model=MODEL, messages=MESSAGES, max_tokens=16, stream=True, stream_options={"include_usage": True}
        )
    )
    answer = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage.completion_tokens > 0


def test_a_tool_is_called() -> None:
    answer = litellm.completion(model=MODEL, messages=MESSAGES, tools=[TOOL], tool_choice="required")
    call = answer.choices[0].message.tool_calls[0].function
    assert call.name == "magic"
    assert isinstance(json.loads(call.arguments)["input"], int)


def test_many_run_side_by_side() -> None:
    async def ask() -> list[str]:
        asked = (litellm.acompletion(model=MODEL, messages=MESSAGES, max_tokens=8) for _ in range(8))
        return [answer.choices[0].message.content for answer in await asyncio.gather(*asked)]

    assert all(asyncio.run(ask()))


def test_embeddings_come_one_for_each_text() -> None:
    answer = litellm.embedding(model="openai/embed", input=["one", "one and two"])
    assert len(answer.data) == 2


def test_a_wrong_key_and_an_unknown_model_raise_what_litellm_documents() -> None:
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(model=MODEL, messages=MESSAGES, api_key="sk-nobody")
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/chat-smal", messages=MESSAGES)
