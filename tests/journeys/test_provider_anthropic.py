"""Anthropic behind jeton: chats of OpenAI's SDK translated, Messages of Anthropic's own passed, over real sockets."""

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest
from openai import BadRequestError
from payloads import HELLO
from provided import PATH, provided
from translated import (
    a_broken_stream_ends_with_an_error_event,
    a_schema_and_a_picture_are_understood,
    another_answers,
    the_same_streamed_or_not,
    tools_go_there_and_back,
)
from whole_app import CLOUD_KEY, WholeApp

BODY: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "max_tokens": 30}
NATIVE: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "max_tokens": 30}
# Of `cloud`, nano-dollars a token; the row has no price of its own for what is written to the cache.
PROMPT, CACHED, COMPLETION = 2000, 500, 8000


def as_anthropic(backend: dict[str, Any]) -> None:
    backend["completion_tokens_max"] = 64
    backend["capabilities"] = ["chat", "messages", "tools", "json_schema", "vision"]


def claude(directory: Path, **more: Any) -> Any:
    spec = {"is_multimodal": True, "block_tokens": 16} | more.pop("spec", {})
    return provided(directory, "anthropic", spec=spec, change=as_anthropic, **more)


def own_sdk(jeton: WholeApp) -> anthropic.AsyncAnthropic:
    client = anthropic.AsyncAnthropic(base_url=jeton.url, api_key=jeton.api_key, max_retries=0, timeout=60)
    jeton._clients.append(client)
    return client


async def test_a_chat_is_the_same_streamed_or_not_and_so_is_its_cost(tmp_path: Path) -> None:
    async with claude(tmp_path) as jeton:
        whole, chunks = await the_same_streamed_or_not(jeton, BODY)
        assert whole.choices[0].finish_reason in ("stop", "length")
        assert chunks[-1].choices == []
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


async def test_a08_what_was_read_from_the_cache_and_written_to_it_is_priced_once(tmp_path: Path) -> None:
    body = {**BODY, "messages": [{"role": "user", "content": "The same long prompt. " * 60}]}
    async with claude(tmp_path) as jeton:
        for path in (PATH, PATH, "/v1/messages"):
            assert (await jeton.http.post(path, json=body)).status_code == 200
        fresh, cached, native = await jeton.charges()
        assert fresh["cached_tokens"] == 0 < fresh["cache_write_tokens"]
        assert cached["cached_tokens"] == native["cached_tokens"] == fresh["cache_write_tokens"]
        assert fresh["prompt_tokens"] == cached["prompt_tokens"] == native["prompt_tokens"]
        for row in (fresh, cached, native):
            uncached = row["prompt_tokens"] - row["cached_tokens"]
            assert row["cost_nanousd"] == (
                uncached * PROMPT + row["cached_tokens"] * CACHED + row["completion_tokens"] * COMPLETION
            )


async def test_its_standard_tier_is_the_default_one_and_costs_the_plain_rates(tmp_path: Path) -> None:
    async with claude(tmp_path) as jeton:
        whole = await jeton.sdk.chat.completions.create(**BODY, service_tier="auto")
        told = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = [chunk async for chunk in await jeton.sdk.chat.completions.create(**BODY, **told)]
        native = await own_sdk(jeton).messages.create(**NATIVE, service_tier="standard_only")
        assert (whole.service_tier, chunks[-1].service_tier, native.usage.service_tier) == (
            "default",
            "default",
            "standard",
        )
        assert [row["cost_status"] for row in await jeton.charges()] == ["priced"] * 3
        refused = await jeton.http.post("/v1/messages", json={**NATIVE, "service_tier": "priority"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_tools_go_there_and_back(tmp_path: Path) -> None:
    async with claude(tmp_path) as jeton:
        await tools_go_there_and_back(jeton, BODY)


async def test_a_schema_and_a_picture_are_understood(tmp_path: Path) -> None:
    async with claude(tmp_path) as jeton:
        await a_schema_and_a_picture_are_understood(jeton, BODY)


async def test_a_picture_at_an_address_goes_there_as_an_address(tmp_path: Path) -> None:
    url = "https://images.example.org/a.png"
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    async with claude(tmp_path, media=["images.example.org"]) as jeton:
        answer = await jeton.http.post(PATH, json={**BODY, "messages": [{"role": "user", "content": parts}]})
        assert answer.status_code == 200
        [sent] = jeton.seen("cloud")
        assert sent["messages"][0]["content"][1] == {"type": "image", "source": {"type": "url", "url": url}}


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_messages_pass_natively_to_anthropics_own_sdk(tmp_path: Path, is_streaming: bool) -> None:
    async with claude(tmp_path) as jeton:
        client = own_sdk(jeton)
        if is_streaming:
            async with client.messages.stream(**NATIVE, metadata={"user_id": "ann"}) as stream:
                message = await stream.get_final_message()
        else:
            message = await client.messages.create(**NATIVE, metadata={"user_id": "ann"})
        assert message.content[0].text
        assert message.model == ("cloud-model")
        [row] = await jeton.charges()
        assert row["completion_tokens"] == message.usage.output_tokens
        assert row["prompt_tokens"] == (
            message.usage.input_tokens
            + (message.usage.cache_read_input_tokens or 0)
            + (message.usage.cache_creation_input_tokens or 0)
        )
        request = jeton.replica("cloud").requests_seen[-1]
        assert json.loads(request.body)["metadata"] == {"user_id": "ann"}
        assert request.headers["x-api-key"] == CLOUD_KEY
        assert "authorization" not in request.headers


async def test_the_emulated_anthropic_is_one_to_anthropics_own_sdk(tmp_path: Path) -> None:
    async with claude(tmp_path) as jeton:
        url = jeton.replica("cloud").url
        there = {"model": "gpt-x", "messages": HELLO, "max_tokens": 8}
        async with anthropic.AsyncAnthropic(base_url=url, api_key=CLOUD_KEY, max_retries=0) as client:
            assert (await client.messages.create(**there)).stop_reason == "max_tokens"
            assert (await client.messages.count_tokens(model="gpt-x", messages=HELLO)).input_tokens > 0
            for status, error in ((429, anthropic.RateLimitError), (529, anthropic.InternalServerError)):
                jeton.replica("cloud").faults(status=status, times=1)
                with pytest.raises(error) as raised:
                    await client.messages.create(**there)
                assert raised.value.body["error"]["type"] == {429: "rate_limit_error", 529: "overloaded_error"}[status]
        async with anthropic.AsyncAnthropic(base_url=url, api_key="another", max_retries=0) as stranger:
            with pytest.raises(anthropic.AuthenticationError):
                await stranger.messages.create(**there)


@pytest.mark.parametrize(
    ("status", "fault", "health"),
    [
        (429, "limited", "limited"),
        (529, "overloaded", "limited"),
        (402, "no_credit", "limited"),
        (401, "credentials", "locked_out"),
        (500, "http_500", "up"),
    ],
)
async def test_the_next_candidate_answers_where_anthropic_does_not(
    tmp_path: Path, status: int, fault: str, health: str
) -> None:
    async with claude(tmp_path, is_fallback=True) as jeton:
        first = await another_answers(jeton, BODY, status)
        assert jeton.health["cloud/1"] == health
        assert (first["fault"], first["cost_nanousd"]) == (fault, 0)


async def test_an_overloaded_anthropic_alone_is_a_503_that_may_be_tried_again(tmp_path: Path) -> None:
    async with claude(tmp_path) as jeton:
        jeton.replica("cloud").faults(status=529)
        answer = await jeton.http.post(PATH, json=BODY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1


async def test_f08_what_anthropic_refuses_is_said_in_openais_shape(tmp_path: Path) -> None:
    async with claude(tmp_path) as jeton:
        wrong = [{"role": "tool", "tool_call_id": "c", "content": "an answer to nothing"}]
        answer = await jeton.http.post(PATH, json={**BODY, "messages": wrong})
        assert answer.status_code == 400
        assert "tool_use" in answer.json()["error"]["message"]
        jeton.replica("cloud").faults(status=413)
        refused = await jeton.http.post(PATH, json=BODY)
        assert (refused.status_code, refused.json()["error"]["type"]) == (413, "invalid_request_error")


@pytest.mark.parametrize("fault", [{"reset_after_chunks": 5}, {"eof_after_chunks": 5}])
async def test_f03_a_stream_that_breaks_ends_with_an_error_event(tmp_path: Path, fault: dict[str, Any]) -> None:
    async with claude(tmp_path) as jeton:
        await a_broken_stream_ends_with_an_error_event(jeton, BODY, fault)


async def test_a_stream_that_fails_before_it_says_anything_is_taken_over_by_another(tmp_path: Path) -> None:
    async with claude(tmp_path, is_fallback=True) as jeton:
        jeton.replica("cloud").faults(engine_dead=True)  # its error event comes after two that say nothing yet
        answer = await jeton.http.post(PATH, json={**BODY, "model": "anything", "stream": True})
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")
        assert answer.text.endswith("data: [DONE]\n\n")
        first = (await jeton.charges())[0]
        assert (first["fault"], first["cost_nanousd"]) == ("overloaded", 0)


@pytest.mark.parametrize(
    ("member", "need"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"presence_penalty": 1}, "penalties"),
        ({"response_format": {"type": "json_object"}}, "json_object"),
        ({"top_k": 4}, "extensions"),
    ],
)
async def test_what_anthropic_has_no_place_for_goes_elsewhere_before_anything_is_sent(
    tmp_path: Path, member: dict[str, Any], need: str
) -> None:
    async with claude(tmp_path, is_fallback=True) as jeton:
        with pytest.raises(BadRequestError, match=f"cannot do {need}"):
            await jeton.sdk.chat.completions.create(**BODY, extra_body=member)
        answer = await jeton.http.post(PATH, json={**BODY, **member, "model": "anything"})
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")
        assert answer.headers["x-jeton-attempts"] == "1"
        assert jeton.seen("cloud") == []


async def test_the_newer_version_of_the_api_has_no_temperature(tmp_path: Path) -> None:
    newer = {"name": "anthropic", "parameters": {"version": "2026-10-21"}}
    async with claude(tmp_path, provider=newer) as jeton:
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 200
        assert jeton.replica("cloud").requests_seen[-1].headers["anthropic-version"] == "2026-10-21"
        refused = await jeton.http.post(PATH, json={**BODY, "temperature": 0})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")
        assert len(jeton.seen("cloud")) == 1
    async with claude(tmp_path) as jeton:
        assert (await jeton.http.post(PATH, json={**BODY, "temperature": 0})).status_code == 200


async def test_what_is_found_out_only_in_translation_goes_elsewhere_or_is_refused_by_name(tmp_path: Path) -> None:
    async with claude(tmp_path, is_fallback=True) as jeton:
        answer = await jeton.http.post(PATH, json={**BODY, "model": "anything", "temperature": 1.5})
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")
        alone = await jeton.http.post(PATH, json={**BODY, "temperature": 1.5})
        assert alone.status_code == 400
        assert alone.json()["error"]["param"] == "temperature"
        assert jeton.seen("cloud") == []
        assert jeton.health["cloud/1"] == "up"
        rows = [row for row in await jeton.charges() if row["backend"] == "cloud"]
        assert [(row["fault"], row["cost_nanousd"]) for row in rows] == [("untranslatable", 0)] * 2


async def test_f18_a_client_that_leaves_is_told_to_anthropic_at_once(tmp_path: Path) -> None:
    async with claude(tmp_path) as jeton:
        client = await jeton.raw(jeton.request(PATH, {**BODY, "stream": True, "max_tokens": 60}))
        await client.reader.readuntil(b'"content"')
        client.leave()
        await jeton.settled()
        [row] = await jeton.charges()
        assert row["status"] in ("cancelled", "ok")


@pytest.mark.parametrize("path", [PATH, "/v1/messages"])
async def test_a04_a08_who_leaves_pays_for_a_cached_prompt_what_a_cached_one_costs(tmp_path: Path, path: str) -> None:
    body = {**BODY, "messages": [{"role": "user", "content": "The same long prompt. " * 60}]}
    async with claude(tmp_path) as jeton:
        assert (await jeton.http.post(path, json=body)).status_code == 200
        jeton.replica("cloud").faults(stall_after_chunks=8, times=1)
        client = await jeton.raw(jeton.request(path, {**body, "stream": True}))
        await client.reader.readuntil(b'"content' if path == PATH else b"content_block_delta")
        client.leave()
        await jeton.settled()
        whole, left = await jeton.charges()
        assert (left["status"], left["usage_source"]) == ("cancelled", "estimated")  # for its completion is
        assert left["prompt_tokens"] == whole["prompt_tokens"]
        assert left["cached_tokens"] == whole["cache_write_tokens"] > 0
        uncached = left["prompt_tokens"] - left["cached_tokens"]
        assert left["cost_nanousd"] == (
            uncached * PROMPT + left["cached_tokens"] * CACHED + left["completion_tokens"] * COMPLETION
        )
