"""What a client sends reaches the backend, and what the backend says reaches the client: untouched but for what must change.

Each request is sent twice, to jeton and to the replica itself, of which there is one to a backend: what it has cached shows in
an answer's usage, and which of two replicas answers depends on their load. The emulated model answers alike, so that the two
answers can be compared byte for byte, but for the id, the time, and the model's name.
"""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from payloads import CITY, CLOCK, HELLO, WEATHER
from whole_app import SPECS, WholeApp, running

# Anything that OpenAI, vLLM or nobody knows. A backend gets it all.
EVERY_MEMBER = {
    "messages": [{"role": "system", "content": "Be brief.", "name": "boss"}, *HELLO],
    "max_completion_tokens": 7,
    "temperature": 0.3,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.05,
    "seed": 7,
    "stop": ["\n\n"],
    "frequency_penalty": 0.1,
    "presence_penalty": -0.1,
    "repetition_penalty": 1.1,
    "logit_bias": {"50256": -100},
    "user": "somebody",
    "metadata": {"a": "b"},
    "store": False,
    "service_tier": "auto",
    "reasoning_effort": "low",
    "prediction": {"type": "content", "content": "Hello"},
    "chat_template_kwargs": {"enable_thinking": False},
    "priority": 3,
    "skip_special_tokens": True,
    "vllm_xargs": {"k": [1, 2.5, None]},
    "not_invented_yet": {"deep": [{"er": [None, True, 1e-9, 12345678901234567890123, "ü\u2028💶"]}]},
    "parallel_tool_calls": True,
    "tool_choice": "none",
}

CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tools": {"tools": [WEATHER, CLOCK], "messages": [{"role": "user", "content": "weather and clock in Oslo"}]},
    "schema": {"response_format": CITY},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "two": {"n": 2},
    "stop": {"stop": ["e"]},
    "ids": {"return_token_ids": True},
}
COMPLETIONS: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "Once"},
    "list": {"prompt": ["Once", "upon"]},
    "echo": {"prompt": "Once", "echo": True},
    "logprobs": {"prompt": "Once", "logprobs": 2},
    "two": {"prompt": "Once", "n": 2},
}
STREAMS = {
    "quiet": {"stream": True},
    "usage": {"stream": True, "stream_options": {"include_usage": True}},
    "continuous": {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    "whole": {},
}

OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/responses", {"input": "Say hello.", "max_output_tokens": 9, "instructions": "Be brief."}),
    ("/v1/responses", {"input": "weather in Oslo?", "tools": [{"type": "function", **WEATHER["function"]}]}),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 9, "system": "Be brief."}),
    ("/v1/chat/completions", {"messages": HELLO}),
]
POOLING: list[tuple[str, dict[str, Any]]] = [
    ("/v1/embeddings", {"input": ["one", "two"]}),
    ("/v1/embeddings", {"input": "one", "encoding_format": "base64"}),
    ("/v1/rerank", {"query": "cats", "documents": ["a cat", "a dog"]}),
    ("/v1/score", {"text_1": "cats", "text_2": ["a cat", "a dog"]}),
]

VARYING = re.compile(
    rb'"id": ?"(?:chatcmpl|cmpl|resp|msg|chatcmpl-tool|rs|fc|embd|score)[-_][^"]*"|"(?:created|created_at)": ?\d+'
    rb'|"(?:item_id|call_id)": ?"[^"]*"'
)
COST = re.compile(rb',"jeton_cost":\{[^}]*\}')


def as_compared(body: bytes, model: str) -> bytes:
    named = re.sub(rb'"model": ?"%b"' % model.encode(), b'"model":"it"', body)
    return COST.sub(b"", VARYING.sub(b'"id":"*"', named))


@pytest.fixture
async def jeton(tmp_path: Path) -> AsyncIterator[WholeApp]:
    async with running(tmp_path, specs={"small": SPECS["small"][:1]}) as whole:
        yield whole


async def both_answers(jeton: WholeApp, path: str, body: dict[str, Any], backend: str = "small") -> tuple[bytes, bytes]:
    """Of jeton, and of the replica, which caches nothing of the one for the other, for jeton salts; each as it is compared."""
    replica = jeton.replica(backend)
    through = await jeton.http.post(path, json={"model": f"{backend}-model", **body})
    async with httpx.AsyncClient(base_url=replica.url, trust_env=False, timeout=60) as client:
        direct = await client.post(path, json={"model": replica.spec.model, **body})
    assert (through.status_code, direct.status_code) == (200, 200), (through.text, direct.text)
    assert through.headers["content-type"] == direct.headers["content-type"]
    return as_compared(through.content, f"{backend}-model"), as_compared(direct.content, replica.spec.model)


@pytest.mark.parametrize("chat", CHATS)
async def test_a_chat_is_answered_as_the_backend_itself_answers(jeton: WholeApp, chat: str) -> None:
    for stream in STREAMS.values():
        body = {"messages": HELLO, "max_tokens": 30, **CHATS[chat], **stream}
        through, direct = await both_answers(jeton, "/v1/chat/completions", body)
        assert through == direct


@pytest.mark.parametrize("completion", COMPLETIONS)
async def test_a_completion_is_answered_as_the_backend_itself_answers(jeton: WholeApp, completion: str) -> None:
    for stream in STREAMS.values():
        through, direct = await both_answers(
            jeton, "/v1/completions", {"max_tokens": 6, **COMPLETIONS[completion], **stream}
        )
        assert through == direct


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_the_other_apis_answer_as_the_backend_itself_does(jeton: WholeApp, is_streaming: bool) -> None:
    for path, body in OTHERS:
        through, direct = await both_answers(jeton, path, {**body, "stream": is_streaming}, "large")
        assert through == direct


async def test_embeddings_and_their_kin_are_answered_as_the_backend_itself_answers(jeton: WholeApp) -> None:
    for path, body in POOLING:
        through, direct = await both_answers(jeton, path, body, "embed")
        assert through == direct


async def test_every_member_reaches_the_backend_untouched(jeton: WholeApp) -> None:
    answer = await jeton.http.post("/v1/chat/completions", json={"model": "small-model", **EVERY_MEMBER})
    assert answer.status_code == 200, answer.text
    (seen,) = jeton.seen("small")
    assert seen.pop("model") == "tiny-8b"
    assert seen.pop("cache_salt")
    assert seen == EVERY_MEMBER


async def test_only_usage_is_added_to_a_stream(jeton: WholeApp) -> None:
    options = {"include_usage": False, "not_invented_yet": 1}
    body = {"model": "small-model", **EVERY_MEMBER, "stream": True, "stream_options": options}
    await jeton.http.post("/v1/chat/completions", json=body)
    (seen,) = jeton.seen("small")
    assert seen["stream_options"] == {"include_usage": True, "continuous_usage_stats": True, "not_invented_yet": 1}


async def test_a_backend_that_is_no_vllm_is_not_asked_for_what_only_vllm_knows(jeton: WholeApp) -> None:
    body = {"model": "cloud-model", "messages": HELLO, "max_tokens": 3, "stream": True, "cache_salt": "mine"}
    answer = await jeton.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    (seen,) = jeton.seen("cloud")
    assert seen == {
        "model": "gpt-x",
        "messages": HELLO,
        "max_tokens": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_of_the_headers_only_those_that_a_backend_may_see_go_on(jeton: WholeApp) -> None:
    await jeton.http.post(
        "/v1/messages",
        json={"model": "small-model", "messages": HELLO, "max_tokens": 2},
        headers={
            "anthropic-version": "2023-06-01",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cookie": "a=b",
            "x-forwarded-for": "1.2.3.4",
            "x-custom": "mine",
        },
    )
    (request,) = [seen for seen in jeton.replica("small").requests_seen if seen.path == "/v1/messages"]
    assert set(request.headers) == {
        "host",
        "user-agent",
        "x-request-id",
        "anthropic-version",
        "traceparent",
        "content-type",
        "content-length",
        "accept",
    }
    assert json.loads(request.body)["model"] == "tiny-8b"
