"""Amazon Bedrock behind jeton: signed or with an API key, whole or as an event stream, over real sockets."""

import asyncio
import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from openai import BadRequestError
from payloads import HELLO, WEATHER
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
KEY_ID, SECRET = "AKIDEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
MODEL = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0"


@pytest.fixture(autouse=True)
def _nobody_elses_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "nobodys"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "nobodys-config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def credentials(directory: Path, secret: str = SECRET, key_id: str = KEY_ID) -> Path:
    path = directory / "credentials"
    path.write_text(f"[router]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n")
    return path


def bedrock(directory: Path, *, is_signed: bool = True, word: str = "bedrock", **more: Any) -> Any:
    """With a file of credentials, or with an API key."""

    def change(backend: dict[str, Any]) -> None:
        backend["served_model"] = MODEL
        backend["completion_tokens_max"] = 64
        backend["capabilities"] = ["chat", "tools", "json_schema", "vision"]
        if is_signed:
            del backend["replicas"][0]["api_key_env"]

    parameters = {"credentials_file": "credentials", "profile": "router", "region": "eu-central-1"} if is_signed else {}
    if is_signed and not (directory / "credentials").exists():
        credentials(directory)
    spec = {"aliases": (MODEL,), "is_multimodal": True, "block_tokens": 16, "access_key": (KEY_ID, SECRET)}
    spec |= more.pop("spec", {})
    provider = {"name": word, "parameters": parameters}
    return provided(directory, "bedrock", provider=provider, spec=spec, change=change, **more)


@pytest.mark.parametrize("is_signed", [True, False])
async def test_a_chat_is_the_same_streamed_or_not_and_so_is_its_cost(tmp_path: Path, is_signed: bool) -> None:
    async with bedrock(tmp_path, is_signed=is_signed) as jeton:
        whole, _ = await the_same_streamed_or_not(jeton, BODY)
        assert whole.model == "cloud-model"
        shown = jeton.replica("cloud").requests_seen[-1].headers["authorization"]
        assert shown.startswith("AWS4-HMAC-SHA256" if is_signed else f"Bearer {CLOUD_KEY}")
        assert SECRET not in repr(jeton.events)


async def test_a08_what_was_read_from_the_cache_is_priced_once(tmp_path: Path) -> None:
    body = {**BODY, "messages": [{"role": "user", "content": "The same long prompt. " * 60}]}
    async with bedrock(tmp_path) as jeton:
        for is_streaming in (False, False, True):
            assert (await jeton.http.post(PATH, json={**body, "stream": is_streaming})).status_code == 200
        fresh, whole, streamed = await jeton.charges()
        assert fresh["cached_tokens"] == 0 < whole["cached_tokens"] == streamed["cached_tokens"]
        for row in (fresh, whole, streamed):
            assert row["prompt_tokens"] == fresh["prompt_tokens"]
            uncached = row["prompt_tokens"] - row["cached_tokens"]
            assert row["cost_nanousd"] == (
                uncached * 2000 + row["cached_tokens"] * 500 + row["completion_tokens"] * 8000
            )


async def test_tools_schemas_and_pictures_go_there_and_back(tmp_path: Path) -> None:
    async with bedrock(tmp_path) as jeton:
        await tools_go_there_and_back(jeton, BODY)
        await a_schema_and_a_picture_are_understood(jeton, BODY)


def client(url: str, secret: str = SECRET) -> Any:
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="eu-central-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


async def test_the_emulated_bedrock_is_one_to_boto3(tmp_path: Path) -> None:
    async with bedrock(tmp_path) as jeton:
        replica = jeton.replica("cloud")

        def converse(secret: str = SECRET) -> Any:
            messages = [{"role": "user", "content": [{"text": "Say hello."}]}]
            there = client(replica.url, secret)
            whole = there.converse(modelId=MODEL, messages=messages, inferenceConfig={"maxTokens": 8})
            events = there.converse_stream(modelId=MODEL, messages=messages, inferenceConfig={"maxTokens": 8})
            return whole, list(events["stream"])

        whole, events = await asyncio.to_thread(converse)
        said = "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event)
        assert said == whole["output"]["message"]["content"][0]["text"]
        assert events[-1]["metadata"]["usage"]["outputTokens"] == whole["usage"]["outputTokens"] == 8
        assert whole["stopReason"] == "max_tokens"
        with pytest.raises(ClientError) as raised:
            await asyncio.to_thread(converse, "another secret")
        assert raised.value.response["Error"]["Code"] == "InvalidSignatureException"
        replica.faults(status=429, times=1)
        with pytest.raises(ClientError) as raised:
            await asyncio.to_thread(converse)
        assert raised.value.response["Error"]["Code"] == "ThrottlingException"


@pytest.mark.parametrize(
    ("status", "fault", "health"),
    [
        (429, "limited", "limited"),
        (503, "overloaded", "limited"),
        (424, "http_other", "up"),
        (408, "http_other", "up"),
        (500, "http_500", "up"),
        (403, "credentials", "locked_out"),
    ],
)
async def test_the_next_candidate_answers_where_bedrock_does_not(
    tmp_path: Path, status: int, fault: str, health: str
) -> None:
    async with bedrock(tmp_path, is_fallback=True) as jeton:
        first = await another_answers(jeton, BODY, status)
        assert jeton.health["cloud/1"] == health
        assert (first["fault"], first["cost_nanousd"], first["http_status"]) == (fault, 0, status)


async def test_f08_what_bedrock_finds_wrong_is_said_in_openais_shape(tmp_path: Path) -> None:
    async with bedrock(tmp_path) as jeton:
        blank = [{"role": "user", "content": [{"type": "text", "text": "  "}]}]
        answer = await jeton.http.post(PATH, json={**BODY, "messages": blank})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "ValidationException"
        assert "blank" in error["message"]
        assert jeton.health["cloud/1"] == "up"


async def test_f09_a_wrong_secret_takes_the_backend_out_and_is_not_shown(tmp_path: Path) -> None:
    credentials(tmp_path, "notTheRightSecret")
    async with bedrock(tmp_path) as jeton:
        answer = await jeton.http.post(PATH, json=BODY)
        assert answer.status_code == 502
        assert "notTheRightSecret" not in answer.text
        assert len(jeton.replica("cloud").requests_seen) == 1
        assert jeton.health["cloud/1"] == "locked_out"
        assert "notTheRightSecret" not in repr(jeton.events)


async def test_f09_credentials_that_were_refused_are_read_once_more(tmp_path: Path) -> None:
    credentials(tmp_path, "an old secret")
    async with bedrock(tmp_path) as jeton:
        await jeton.app._relay.vault.get(("aws", "router", tmp_path / "credentials"), provider_of(jeton)._fetch)
        credentials(tmp_path)
        answer = await jeton.http.post(PATH, json=BODY)
        assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "1")
        assert len(jeton.replica("cloud").requests_seen) == 2


def provider_of(jeton: WholeApp) -> Any:
    return jeton.app._pipeline.deployment.providers["cloud"]


async def test_without_credentials_nothing_is_sent_and_the_log_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[somebody]\naws_access_key_id = x\n")
    async with bedrock(tmp_path) as jeton:
        answer = await jeton.http.post(PATH, json=BODY)
        assert answer.status_code == 502
        assert not jeton.replica("cloud").requests_seen
        [failed] = [event for event in jeton.events if event["event"] == "attempt failed"]
        assert "AWS credentials" in failed["detail"]


@pytest.mark.parametrize("fault", [{"reset_after_chunks": 4}, {"eof_after_chunks": 4}, {"bad_sse": "bad_json"}])
async def test_f03_a_stream_that_breaks_ends_with_an_error_event(tmp_path: Path, fault: dict[str, Any]) -> None:
    async with bedrock(tmp_path) as jeton:
        await a_broken_stream_ends_with_an_error_event(jeton, BODY, fault)


async def test_an_exception_in_a_stream_is_an_error_event(tmp_path: Path) -> None:
    async with bedrock(tmp_path) as jeton:
        jeton.replica("cloud").faults(engine_dead=True, times=1)
        answer = await jeton.http.post(PATH, json={**BODY, "stream": True})
        *_, last = [line for line in answer.text.splitlines() if line.startswith("data: ")]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "backend_failed"
        assert (await jeton.charges())[0]["fault"] == "error_event"


@pytest.mark.parametrize(
    ("member", "need"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"user": "ann"}, "user"),
        ({"tools": [WEATHER], "parallel_tool_calls": False}, "single_tool_call"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://images.example.org/c"}}]}]},
         "image_urls"),
    ],
)  # fmt: skip
async def test_what_converse_has_no_place_for_is_refused_by_name_before_anything_is_sent(
    tmp_path: Path, member: dict[str, Any], need: str
) -> None:
    async with bedrock(tmp_path, media=["images.example.org"]) as jeton:
        with pytest.raises(BadRequestError, match=f"cannot do {need}"):
            await jeton.sdk.chat.completions.create(**{**BODY, **member})
        assert not jeton.replica("cloud").requests_seen


async def test_where_bedrock_speaks_openais_api_it_is_asked_with_its_api_key(tmp_path: Path) -> None:
    async with bedrock(tmp_path, is_signed=False, word="bedrock_openai") as jeton:
        whole = await jeton.sdk.chat.completions.create(**BODY)
        stream = await jeton.sdk.chat.completions.create(**BODY, stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream]) == whole.choices[0].message.content
        request = jeton.replica("cloud").requests_seen[-1]
        assert request.path == "/openai/v1/chat/completions"
        assert request.headers["authorization"] == f"Bearer {CLOUD_KEY}"
