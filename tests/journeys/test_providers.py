"""Clouds whose API is OpenAI's, each in its own way: over real sockets to an emulated endpoint of theirs."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, InternalServerError, RateLimitError
from payloads import HELLO, WEATHER, sound
from provided import PATH, provided
from scripted_backend import scripted_backend, stream_answer
from whole_app import CLOUD_KEY, WholeApp

from load.emulator.fronts.openrouter import cost_usd
from load.emulator.spec import Kind
from router.domain.money import nanousd_from_usd

BODY: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "max_tokens": 12}
COMPATIBLE = ["openai", "together", "fireworks", "deepinfra", "groq", "openrouter", "azure"]
AZURE_DATED: dict[str, Any] = {"name": "azure", "parameters": {"api_version": "2024-10-21"}}


async def text_of(jeton: WholeApp, **more: Any) -> str:
    stream = await jeton.sdk.chat.completions.create(**{**BODY, "stream": True, **more})
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


@pytest.mark.parametrize("dialect", COMPATIBLE)
async def test_a_chat_is_answered_and_metered_streamed_or_not(tmp_path: Path, dialect: str) -> None:
    async with provided(tmp_path, dialect) as jeton:
        whole = await jeton.sdk.chat.completions.create(**BODY)
        assert await text_of(jeton) == whole.choices[0].message.content
        charges = await jeton.charges()
        assert [(row["status"], row["usage_source"]) for row in charges] == [("ok", "provider")] * 2
        assert {(row["prompt_tokens"], row["completion_tokens"]) for row in charges} == {
            (whole.usage.prompt_tokens, whole.usage.completion_tokens)
        }
        assert whole.model == "cloud-model"


@pytest.mark.parametrize("dialect", COMPATIBLE)
async def test_a_stream_looks_like_openais(tmp_path: Path, dialect: str) -> None:
    async with provided(tmp_path, dialect) as jeton:
        answer = await jeton.http.post(PATH, json={**BODY, "stream": True, "stream_options": {"include_usage": True}})
        *chunks, last, done = [
            line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")
        ]
        assert done == "[DONE]"
        assert all(json.loads(chunk)["choices"] for chunk in chunks)
        assert {json.loads(chunk)["model"] for chunk in chunks} == {"cloud-model"}
        usage = json.loads(last)
        assert usage["choices"] == []
        assert usage["jeton_cost"]["nanousd"] == (await jeton.charges())[0]["cost_nanousd"]
        assert not {"cost", "cost_details", "is_byok"} & usage["usage"].keys()


@pytest.mark.parametrize("dialect", COMPATIBLE)
async def test_tools_pass(tmp_path: Path, dialect: str) -> None:
    async with provided(tmp_path, dialect) as jeton:
        answer = await jeton.sdk.chat.completions.create(
            **{**BODY, "max_tokens": 200}, tools=[WEATHER], tool_choice="required"
        )
        assert answer.choices[0].message.tool_calls[0].function.name == "get_weather"


@pytest.mark.parametrize("dialect", COMPATIBLE)
async def test_f09_a_key_that_is_refused_takes_the_backend_out_and_shows_nothing_of_it(
    tmp_path: Path, dialect: str
) -> None:
    async with provided(tmp_path, dialect, spec={"api_key": "another"}) as jeton:
        with pytest.raises(InternalServerError) as raised:
            await jeton.sdk.chat.completions.create(**BODY)
        assert raised.value.status_code == 502
        assert CLOUD_KEY not in str(raised.value) + repr(jeton.events)
        await jeton.until(lambda: jeton.health["cloud/1"] == "locked_out")


@pytest.mark.parametrize(("dialect", "wait_seconds"), [("openai", 1), ("groq", 8), ("openrouter", 17), ("azure", 3)])
async def test_f06_a_cloud_that_limits_us_is_left_alone_for_as_long_as_it_says_in_its_own_way(
    tmp_path: Path, dialect: str, wait_seconds: int
) -> None:
    async with provided(tmp_path, dialect) as jeton:
        jeton.replica("cloud").faults(status=429)
        with pytest.raises(RateLimitError) as raised:
            await jeton.sdk.chat.completions.create(**BODY)
        assert raised.value.response.headers["retry-after"] == str(wait_seconds)
        assert jeton.health["cloud/1"] == "limited"
        until = jeton.app._fleet.snapshot.health["cloud/1"].until_seconds
        assert wait_seconds - 1 < until - jeton.app._fleet.clock() + 1
        assert until - jeton.app._fleet.clock() <= wait_seconds


@pytest.mark.parametrize("dialect", COMPATIBLE)
async def test_the_next_candidate_answers_when_a_cloud_is_out_of_credit(tmp_path: Path, dialect: str) -> None:
    async with provided(tmp_path, dialect, is_fallback=True) as jeton:
        jeton.replica("cloud").faults(status=402)
        answer = await jeton.http.post(PATH, json={**BODY, "model": "anything"})
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")
        assert jeton.health["cloud/1"] == "limited"
        assert "out of credit" in jeton.app._fleet.snapshot.health["cloud/1"].why
        first = (await jeton.charges())[0]
        assert (first["fault"], first["cost_nanousd"]) == ("no_credit", 0)


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_a24_what_openrouter_billed_is_the_cost(tmp_path: Path, is_streaming: bool) -> None:
    async with provided(tmp_path, "openrouter") as jeton:
        await jeton.http.post(PATH, json={**BODY, "stream": is_streaming})
        [charge] = await jeton.charges()
        billed = nanousd_from_usd(cost_usd(charge["prompt_tokens"], charge["completion_tokens"]))
        assert charge["provider_cost_nanousd"] == charge["cost_nanousd"] == billed > 0
        assert billed != charge["prompt_tokens"] * 2000 + charge["completion_tokens"] * 8000  # by the price book
        [sent] = jeton.seen("cloud")
        assert sent["usage"] == {"include": True}
        assert sent["provider"] == {"require_parameters": True}


async def test_openrouters_bill_on_a_chunk_that_says_something_is_taken_apart(tmp_path: Path) -> None:
    choice = {"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    used = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cost": 0.000042}
    said = json.dumps({"id": "g", "model": "x", "choices": [choice], "usage": used}).encode()
    async with scripted_backend() as backend:
        backend.answer = stream_answer(said, b"[DONE]")

        def there(row: dict[str, Any]) -> None:
            row["replicas"][0]["url"] = backend.url

        async with provided(tmp_path, "openrouter", change=there) as jeton:
            body = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
            answer = await jeton.http.post(PATH, json=body)
            chunk, last, done = [line for line in answer.text.splitlines() if line]
            assert "usage" not in chunk
            assert '"choices":[]' in last
            assert '"cost"' not in last
            assert done == "data: [DONE]"
            assert (await jeton.charges())[0]["cost_nanousd"] == 42_000


async def test_a_form_with_sound_goes_to_a_provider_under_its_path_and_with_its_key(tmp_path: Path) -> None:
    def hears(row: dict[str, Any]) -> None:
        row["capabilities"] = ["transcriptions"]

    spec = {"kind": Kind.TRANSCRIBE, "context_tokens": 4096}
    async with provided(tmp_path, "groq", spec=spec, change=hears) as jeton:
        file = ("sound.wav", io.BytesIO(sound()), "audio/wav")
        heard = await jeton.sdk.audio.transcriptions.create(model="cloud-model", file=file)
        assert heard.text
        request = jeton.replica("cloud").requests_seen[-1]
        assert request.path == "/openai/v1/audio/transcriptions"
        assert request.headers["authorization"] == f"Bearer {CLOUD_KEY}"


async def test_openrouters_bill_is_shown_to_those_who_ask_for_it(tmp_path: Path) -> None:
    async with provided(tmp_path, "openrouter") as jeton:
        silent = await jeton.http.post(PATH, json=BODY)
        asked = await jeton.http.post(PATH, json={**BODY, "usage": {"include": True}})
        assert "cost" not in silent.json()["usage"]
        assert asked.json()["usage"]["cost"] > 0


@pytest.mark.parametrize("member", [{"models": ["dear/model"]}, {"route": "fallback"}, {"preset": "@preset/dear"}])
async def test_openrouter_is_not_let_choose_another_model(tmp_path: Path, member: dict[str, Any]) -> None:
    async with provided(tmp_path, "openrouter", is_fallback=True) as jeton:
        refused = await jeton.http.post(PATH, json={**BODY, **member})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(member)))
        answer = await jeton.http.post(PATH, json={**BODY, **member, "model": "anything"})
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")
        assert jeton.seen("cloud") == []


async def test_f08_openrouters_moderation_is_the_clients_affair(tmp_path: Path) -> None:
    async with provided(tmp_path, "openrouter") as jeton:
        jeton.replica("cloud").faults(status=403, times=1)
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 403
        assert jeton.health["cloud/1"] == "up"
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 200


@pytest.mark.parametrize(
    ("dialect", "member", "need"),
    [
        ("groq", {"n": 2}, "n"),
        ("groq", {"logprobs": True}, "logprobs"),
        ("groq", {"logit_bias": {"50256": -100}}, "logit_bias"),
        ("groq", {"frequency_penalty": 0.5}, "penalties"),
        ("together", {"logprobs": True}, "logprobs"),
        ("deepinfra", {"logit_bias": {"50256": -100}}, "logit_bias"),
        ("openrouter", {"n": 2}, "n"),
    ],
)
async def test_what_a_provider_cannot_do_is_asked_of_another_or_refused_by_name(
    tmp_path: Path, dialect: str, member: dict[str, Any], need: str
) -> None:
    async with provided(tmp_path, dialect, is_fallback=True) as jeton:
        with pytest.raises(BadRequestError) as raised:
            await jeton.sdk.chat.completions.create(**BODY, **member)
        assert f"cannot do {need}" in str(raised.value)
        answer = await jeton.http.post(PATH, json={**BODY, **member, "model": "anything"})
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")
        assert answer.headers["x-jeton-attempts"] == "1"
        assert jeton.seen("cloud") == []


@pytest.mark.parametrize(
    ("dialect", "member", "need"),
    [("openrouter", {"n": 2}, "n"), ("deepinfra", {"logit_bias": {"5": 1}}, "logit_bias")],
)
async def test_what_a_provider_cannot_do_is_not_asked_of_its_completions_either(
    tmp_path: Path, dialect: str, member: dict[str, Any], need: str
) -> None:
    async with provided(tmp_path, dialect, is_fallback=True) as jeton:
        body = {"model": "cloud-model", "prompt": "Hello", "max_tokens": 3, **member}
        refused = await jeton.http.post("/v1/completions", json=body)
        assert (refused.status_code, f"cannot do {need}" in refused.text) == (400, True)
        answer = await jeton.http.post("/v1/completions", json={**body, "model": "anything"})
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")
        assert jeton.seen("cloud") == []


async def test_what_must_be_heard_goes_to_a_backend_that_hears(tmp_path: Path) -> None:
    def hears(row: dict[str, Any]) -> None:
        row["capabilities"] = ["chat", "audio"]

    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    body = {"model": "anything", "messages": [{"role": "user", "content": [part]}], "max_tokens": 3}
    async with provided(tmp_path, "openai", change=hears, is_fallback=True) as jeton:
        told = (await jeton.http.post("/jeton/explain", json=body)).json()
        assert [one["backend"] for one in told["ranking"]] == ["cloud"]
        assert [one["why"] for one in told["exclusions"] if one["backend"] == "large"] == ["cannot do audio"]
        refused = await jeton.http.post(PATH, json={**body, "model": "large-model"})
        assert (refused.status_code, "cannot do audio. Models that can: cloud-model." in refused.text) == (400, True)


async def test_a_member_that_changes_nothing_excludes_nobody(tmp_path: Path) -> None:
    async with provided(tmp_path, "groq") as jeton:
        idle = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "seed": None}
        answer = await jeton.http.post(PATH, json={**BODY, **idle})
        assert answer.status_code == 400  # Groq's own word on an empty `logit_bias`; it was asked
        assert "logit_bias" in answer.text
        assert (await jeton.http.post(PATH, json={**BODY, "frequency_penalty": 0})).status_code == 200


@pytest.mark.parametrize("provider", ["azure", AZURE_DATED])
async def test_azures_surfaces_are_both_spoken(tmp_path: Path, provider: Any) -> None:
    async with provided(tmp_path, "azure", provider=provider) as jeton:
        assert await text_of(jeton)
        request = jeton.replica("cloud").requests_seen[-1]
        is_dated = provider == AZURE_DATED
        assert request.path == (
            "/openai/deployments/gpt-x/chat/completions" if is_dated else "/openai/v1/chat/completions"
        )
        assert request.headers["api-key"] == CLOUD_KEY
        assert "authorization" not in request.headers


async def test_azures_filter_results_arrive_on_a_chunk_with_a_choice(tmp_path: Path) -> None:
    async with provided(tmp_path, "azure") as jeton:
        answer = await jeton.http.post(PATH, json={**BODY, "stream": True})
        first = json.loads(answer.text.split("\n\n")[0].removeprefix("data: "))
        assert first["choices"][0]["delta"]
        assert first["prompt_filter_results"][0]["prompt_index"] == 0
        assert answer.text.count("prompt_filter_results") == 1


async def test_f08_a_prompt_that_azures_filter_stops_is_refused_in_its_words(tmp_path: Path) -> None:
    async with provided(tmp_path, "azure", is_fallback=True) as jeton:
        jeton.replica("cloud").faults(content_filter=True)
        answer = await jeton.http.post(PATH, json={**BODY, "model": "anything"})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "content_filter"
        assert jeton.health["cloud/1"] == "up"


async def test_azure_takes_entras_token_from_a_file_and_the_next_one_without_a_restart(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("eyJ-first\n")

    def from_file(backend: dict[str, Any]) -> None:
        backend["replicas"] = [{"url": backend["replicas"][0]["url"], "api_key_file": "token"}]

    entra = {"name": "azure", "parameters": {"auth": "entra"}}
    async with provided(
        tmp_path, "azure", provider=entra, spec={"entra_token": "eyJ-second"}, change=from_file
    ) as jeton:
        token.write_text(
            "eyJ-second\n"
        )  # at the first request jeton may not have seen it yet: a 401, one look, one more try
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 200
        assert len(await jeton.charges()) == 1
        seen = jeton.replica("cloud").requests_seen
        assert seen[-1].headers["authorization"] == "Bearer eyJ-second"
        assert "eyJ" not in repr(jeton.events)
