"""Google Vertex AI behind jeton: tokens of a service account, renewed in time, over real sockets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from payloads import HELLO, WEATHER
from provided import PATH, provided
from translated import another_answers
from whole_app import WholeApp

from load.emulator.reply import Style

BODY: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "max_tokens": 30}
PLACE = "/v1/projects/a-project/locations/europe-west4/endpoints/openapi"


def service_account(path: Path, token_uri: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {
        "type": "service_account",
        "project_id": "a-project",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "jeton@a-project.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(account))


def vertex(directory: Path, *, changed: Callable[[Path], None] = lambda path: None, **more: Any) -> Any:
    """The account's token endpoint is the emulated replica itself, whose port is known when the configuration is written.
    changed: spoils the account's file before jeton sees it."""
    path = directory / "account.json"

    def change(backend: dict[str, Any]) -> None:
        [replica] = backend["replicas"]
        del replica["api_key_env"]
        service_account(path, f"{replica['url']}/token")
        (directory / "theirs.json").write_text(path.read_text())
        changed(path)

    provider = {
        "name": "vertex",
        "parameters": {"project": "a-project", "location": "europe-west4", "credentials_file": "account.json"},
    }
    spec = {"service_account": str(directory / "theirs.json"), "style": Style(reasoning_share=0.5)} | more.pop(
        "spec", {}
    )
    return provided(directory, "vertex", provider=provider, spec=spec, change=change, **more)


def front(jeton: WholeApp) -> Any:
    return jeton.replica("cloud")._front


async def test_a_chat_is_the_same_streamed_or_not_and_thought_is_counted_once(tmp_path: Path) -> None:
    async with vertex(tmp_path) as jeton:
        whole = await jeton.sdk.chat.completions.create(**BODY)
        stream = await jeton.sdk.chat.completions.create(**BODY, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == whole.choices[0].message.content
        usage = whole.usage
        thought = usage.completion_tokens_details.reasoning_tokens
        assert thought > 0
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens + thought  # as Vertex has it
        for row in await jeton.charges():
            assert row["completion_tokens"] == usage.completion_tokens + thought
            assert row["reasoning_tokens"] == thought
            assert row["usage_source"] == "provider"
        request = jeton.replica("cloud").requests_seen[-1]
        assert request.path == f"{PLACE}/chat/completions"
        assert front(jeton).tokens_issued == 1
        assert "ya29." not in repr(jeton.events)


async def test_tools_pass(tmp_path: Path) -> None:
    async with vertex(tmp_path) as jeton:
        answer = await jeton.sdk.chat.completions.create(
            **{**BODY, "max_tokens": 200}, tools=[WEATHER], tool_choice="required"
        )
        assert answer.choices[0].message.tool_calls[0].function.name == "get_weather"


async def test_a_token_is_renewed_before_it_ends_and_no_request_is_refused(tmp_path: Path) -> None:
    async with vertex(tmp_path, spec={"token_seconds": 8}) as jeton:
        http = jeton.http
        while front(jeton).tokens_issued < 2:
            assert (await http.post(PATH, json={**BODY, "max_tokens": 2})).status_code == 200
        assert (await http.post(PATH, json=BODY)).status_code == 200
        assert {row["status"] for row in await jeton.charges()} == {"ok"}
        assert {row["number"] for row in await jeton.charges()} == {1}


async def test_f09_a_token_that_is_refused_is_got_anew_and_one_attempt_is_enough(tmp_path: Path) -> None:
    async with vertex(tmp_path) as jeton:
        await jeton.http.post(PATH, json=BODY)
        front(jeton).tokens.clear()  # revoked
        answer = await jeton.http.post(PATH, json=BODY)
        assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "1")
        assert front(jeton).tokens_issued == 2


async def test_f09_an_account_that_google_does_not_know_takes_the_backend_out_and_shows_nothing(tmp_path: Path) -> None:
    def another_key(path: Path) -> None:
        service_account(path, json.loads(path.read_text())["token_uri"])

    async with vertex(tmp_path, changed=another_key, is_fallback=True) as jeton:
        answer = await jeton.http.post(PATH, json={**BODY, "model": "anything"})
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")
        assert jeton.health["cloud/1"] == "locked_out"
        assert "PRIVATE KEY" not in repr(jeton.events)
        [failed] = [event for event in jeton.events if event["event"] == "attempt failed"]
        assert failed["detail"] == "a token of Google's cannot be had: RefreshError"


async def test_f09_an_account_file_that_is_none_is_said_to_be_so(tmp_path: Path) -> None:
    async with vertex(tmp_path, changed=lambda path: path.write_text("{}") and None) as jeton:
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 502
        [failed] = [event for event in jeton.events if event["event"] == "attempt failed"]
        assert failed["detail"].startswith("a token of Google's cannot be had")


async def test_f06_a_quota_that_is_used_up_leaves_it_alone_for_as_long_as_the_details_say(tmp_path: Path) -> None:
    async with vertex(tmp_path) as jeton:
        jeton.replica("cloud").faults(status=429)
        answer = await jeton.http.post(PATH, json=BODY)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "13")
        assert jeton.health["cloud/1"] == "limited"


async def test_f08_errors_in_a_list_are_read(tmp_path: Path) -> None:
    async with vertex(tmp_path) as jeton:
        jeton.replica("cloud").faults(status=400, times=1)
        answer = await jeton.http.post(PATH, json=BODY)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "INVALID_ARGUMENT"
        assert answer.json()["error"]["message"] == "This replica was told to fail."


@pytest.mark.parametrize(("status", "fault", "health"), [(503, "overloaded", "limited"), (500, "http_500", "up")])
async def test_the_next_candidate_answers_where_vertex_does_not(
    tmp_path: Path, status: int, fault: str, health: str
) -> None:
    async with vertex(tmp_path, is_fallback=True) as jeton:
        first = await another_answers(jeton, BODY, status)
        assert jeton.health["cloud/1"] == health
        assert first["fault"] == fault


@pytest.mark.parametrize(
    ("member", "need"),
    [({"logit_bias": {"1": 1}}, "logit_bias"), ({"user": "ann"}, "user"), ({"top_k": 3}, "extensions")],
)
async def test_what_vertex_would_leave_out_in_silence_is_not_sent_there(
    tmp_path: Path, member: dict[str, Any], need: str
) -> None:
    async with vertex(tmp_path) as jeton:
        answer = await jeton.http.post(PATH, json={**BODY, **member})
        assert answer.status_code == 400
        assert f"cannot do {need}" in answer.text
        assert not jeton.replica("cloud").requests_seen
