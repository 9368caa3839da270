"""`Idempotency-Key`: what is sent twice is done, and paid, once."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import ConflictError, UnprocessableEntityError
from payloads import HELLO, form, sound
from redis_server import redis_server
from whole_app import PEPPER, WholeApp, running

from router.access.keys import api_key_hash

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "small-model", "messages": HELLO, "max_tokens": 5}
KEY = {"idempotency-key": "5e6c1b1e-the-first"}


def shown(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "idempotent-replayed"}


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        {**BODY, "stream": True, "stream_options": {"include_usage": True}},
        {**BODY, "model": "cloud-model", "stream": True},
    ],
)
async def test_b62_the_same_body_gets_the_first_answer_again_for_one_charge(
    jeton: WholeApp, body: dict[str, Any]
) -> None:
    first = await jeton.http.post(PATH, json=body, headers=KEY)
    again = [await jeton.http.post(PATH, json=body, headers=KEY) for _ in range(3)]
    assert first.status_code == 200
    assert "idempotent-replayed" not in first.headers
    for answer in again:
        assert (answer.status_code, answer.content, shown(answer)) == (200, first.content, shown(first))
        assert answer.headers["idempotent-replayed"] == "true"
    assert len(await jeton.charges()) == 1
    assert "jeton_repeats_total 3.0" in (await jeton.http.get("/metrics")).text


async def test_b62_the_sdks_stream_is_the_same_again(jeton: WholeApp) -> None:
    texts = []
    for _ in range(2):
        stream = await jeton.sdk.chat.completions.create(**BODY, stream=True, extra_headers=KEY)
        texts.append([chunk.model_dump() async for chunk in stream])
    assert texts[0] == texts[1]
    assert len(await jeton.charges()) == 1


async def test_b62_another_body_or_path_is_refused_with_422(jeton: WholeApp) -> None:
    client = jeton.sdk
    await client.chat.completions.create(**BODY, extra_headers=KEY)
    with pytest.raises(UnprocessableEntityError) as raised:
        await client.chat.completions.create(**{**BODY, "max_tokens": 6}, extra_headers=KEY)
    assert raised.value.code == "idempotency_key_reused"
    elsewhere = await jeton.http.post("/v1/messages", json=BODY, headers=KEY)
    assert elsewhere.status_code == 422
    assert len(await jeton.charges()) == 1


async def test_b62_one_that_comes_while_the_first_runs_is_refused_with_409(jeton: WholeApp) -> None:
    body = {**BODY, "model": "large"}
    jeton.replica("large").faults(stall_before_first_token=True, times=1)
    running_one = asyncio.create_task(jeton.http.post(PATH, json=body, headers=KEY))
    await jeton.until(lambda: bool(jeton.in_flight), 60)
    with pytest.raises(ConflictError) as raised:
        await jeton.sdk.chat.completions.create(**body, extra_headers=KEY)
    assert raised.value.code == "idempotency_key_in_use"
    assert raised.value.response.headers["retry-after"] == "1"
    running_one.cancel()
    await asyncio.gather(running_one, return_exceptions=True)
    await jeton.until(lambda: not jeton.in_flight, 60)
    anew = await jeton.http.post(PATH, json=body, headers=KEY)  # its client left: the key is free
    assert (anew.status_code, "idempotent-replayed" in anew.headers) == (200, False)
    assert [charge["status"] for charge in await jeton.charges()] == ["cancelled", "ok"]


async def test_b62_what_was_not_answered_is_run_again(jeton: WholeApp) -> None:
    body = {**BODY, "model": "large", "stream": True}
    jeton.replica("large").faults(eof_after_chunks=2, times=1)
    broken = await jeton.http.post(PATH, json=body, headers=KEY)
    assert b'"error"' in broken.content
    for _ in range(2):
        answer = await jeton.http.post(PATH, json=body, headers=KEY)
        assert b'"error"' not in answer.content
    assert [charge["status"] for charge in await jeton.charges()] == ["failed", "ok"]


async def test_b62_tenants_do_not_share_keys(tmp_path: Path) -> None:
    def second_tenant(config: dict[str, Any]) -> None:
        key = {"name": "other", "hash": api_key_hash("sk-the-other", PEPPER.encode())}
        config["tenants"].append({"name": "others", "api_keys": [key]})

    async with running(tmp_path, second_tenant) as jeton:
        await jeton.http.post(PATH, json=BODY, headers=KEY)
        other = {"authorization": "Bearer sk-the-other", **KEY}
        answer = await jeton.http.post(PATH, json={**BODY, "max_tokens": 6}, headers=other)
        assert answer.status_code == 200
        assert [charge["tenant"] for charge in await jeton.charges()] == ["tests", "others"]


async def test_b62_a_key_that_is_none_is_refused_and_one_may_be_switched_off(tmp_path: Path) -> None:
    async with running(tmp_path) as jeton:
        answer = await jeton.http.post(PATH, json=BODY, headers={"idempotency-key": "x" * 256})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    (tmp_path / "off").mkdir()
    async with running(tmp_path / "off", lambda config: config.update(repeats={"kept_seconds": 0})) as jeton:
        for _ in range(2):
            answer = await jeton.http.post(PATH, json=BODY, headers=KEY)
            assert "idempotent-replayed" not in answer.headers
        assert len(await jeton.charges()) == 2


async def test_b62_an_answer_too_large_to_be_kept_is_not_paid_twice(tmp_path: Path) -> None:
    async with running(tmp_path, lambda config: config.update(repeats={"answer_bytes_max": 100})) as jeton:
        first = await jeton.http.post(PATH, json=BODY, headers=KEY)
        again = await jeton.http.post(PATH, json=BODY, headers=KEY)
        assert (first.status_code, again.status_code) == (200, 409)
        assert again.json()["error"]["code"] == "idempotency_not_kept"
        assert again.headers["x-should-retry"] == "false"
        assert len(await jeton.charges()) == 1


async def test_b62_a_form_passes_without_being_kept(jeton: WholeApp) -> None:
    headers = {"content-type": "multipart/form-data; boundary=limit", **KEY}
    for _ in range(2):
        content = form(("model", "audio"), ("file", sound()))
        answer = await jeton.http.post("/v1/audio/transcriptions", content=content, headers=headers)
        assert answer.status_code == 200, answer.text
    assert len(await jeton.charges()) == 2


async def test_b62_workers_that_share_a_redis_share_answers(tmp_path: Path) -> None:
    for name in ("redis", "a", "b"):
        (tmp_path / name).mkdir()
    with redis_server(tmp_path / "redis") as redis:

        def shared(config: dict[str, Any]) -> None:
            config["redis"] = {"url": redis.url, "timeout_seconds": 5}

        async with running(tmp_path / "a", shared) as one, running(tmp_path / "b", shared) as other:
            first = await one.http.post(PATH, json=BODY, headers=KEY)
            again = first
            async with asyncio.timeout(60):
                while "idempotent-replayed" not in again.headers:
                    again = await other.http.post(PATH, json=BODY, headers=KEY)
                    assert again.status_code in (200, 409)
            assert (again.content, shown(again)) == (first.content, shown(first))
            assert (len(await one.charges()), len(await other.charges())) == (1, 0)
