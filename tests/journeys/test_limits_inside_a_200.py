"""A provider that says under a status of 200 that it was asked too much, or has too much to do: in a body or in a stream."""

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from payloads import HELLO
from provided import PATH, provided
from scripted_backend import OK_STREAM, ScriptedBackend, json_answer, scripted_backend
from whole_app import WholeApp

from load.emulator.fronts.bedrock import frame

BODY: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "max_tokens": 12}
MESSAGES = "/v1/messages"


def streamed(*pieces: bytes) -> bytes:
    body = b"".join(pieces)
    return OK_STREAM + b"content-length: %d\r\n\r\n" % len(body) + body


def error_of(code: int | str, **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": "Provider returned error", **more}}


def openrouter(*, says: str = "", **members: Any) -> bytes:
    """A stream that says something, or only that it is at work, and then has a chunk with these members."""
    chunk = {"id": "g", "object": "chat.completion.chunk", "created": 1, "model": "x"}
    said = {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": says}, "finish_reason": None}]}
    last = {**chunk, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}], **members}
    events = [said] * bool(says) + [last]
    return streamed(b": OPENROUTER PROCESSING\n\n", *(b"data: " + json.dumps(one).encode() + b"\n\n" for one in events))


def anthropic(kind: str, *, says: str = "", has_begun: bool = True) -> bytes:
    usage = {"input_tokens": 9, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "x", "content": [], "usage": usage}
    events: list[dict[str, Any]] = []
    if has_begun:
        events += [{"type": "message_start", "message": message}, {"type": "ping"}]
    if says:
        events.append({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
        events.append({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": says}})
    events.append({"type": "error", "error": {"type": kind, "message": "No."}})
    return streamed(*(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events))


def bedrock(kind: str, *, says: str = "") -> bytes:
    def event(name: str, payload: Mapping[str, Any]) -> bytes:
        return frame({":message-type": "event", ":event-type": name}, json.dumps(payload).encode())

    said = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": says}}) if says else b""
    told = frame({":message-type": "exception", ":exception-type": kind}, b'{"message": "No."}')
    return streamed(event("messageStart", {"role": "assistant"}), said, told).replace(
        b"text/event-stream", b"application/vnd.amazon.eventstream"
    )


def asking(
    directory: Path, backend: ScriptedBackend, dialect: str, *, is_fallback: bool = False
) -> AbstractAsyncContextManager[WholeApp]:
    def there(row: dict[str, Any]) -> None:
        row["replicas"][0]["url"] = backend.url
        row["completion_tokens_max"] = 64
        if dialect == "anthropic":
            row["capabilities"] = ["chat", "messages"]

    return provided(directory, dialect, change=there, is_fallback=is_fallback)


def is_spotless(jeton: WholeApp) -> bool:
    """Whether no failure is held against it."""
    return jeton.app._fleet._book.is_spotless("cloud/1")


@pytest.mark.parametrize(
    ("dialect", "path", "is_streaming", "answer", "fault"),
    [
        ("openrouter", PATH, False, json_answer(json.dumps(error_of(429)).encode()), "limited"),
        ("openrouter", PATH, False, json_answer(json.dumps(error_of(503)).encode()), "overloaded"),
        ("openrouter", PATH, False, json_answer(json.dumps(error_of(529)).encode()), "overloaded"),
        ("openrouter", PATH, True, openrouter(**error_of(429)), "limited"),
        ("openrouter", PATH, True, openrouter(**error_of("529")), "overloaded"),
        ("anthropic", PATH, True, anthropic("rate_limit_error"), "limited"),
        ("anthropic", PATH, True, anthropic("overloaded_error"), "overloaded"),
        ("anthropic", MESSAGES, True, anthropic("overloaded_error", has_begun=False), "overloaded"),
        ("bedrock", PATH, True, bedrock("throttlingException"), "limited"),
        ("bedrock", PATH, True, bedrock("serviceUnavailableException"), "overloaded"),
    ],
)
async def test_what_comes_in_the_place_of_an_answer_leaves_it_alone_costs_nothing_and_another_answers(
    tmp_path: Path, dialect: str, path: str, is_streaming: bool, answer: bytes, fault: str
) -> None:
    async with scripted_backend() as backend:
        backend.answer = answer
        async with asking(tmp_path, backend, dialect, is_fallback=True) as jeton:
            body = {**BODY, "model": "anything", "stream": is_streaming}
            served = await jeton.http.post(path, json=body)
            assert (served.status_code, served.headers["x-jeton-backend"]) == (200, "large")
            first, second = await jeton.charges()
            assert (first["status"], first["fault"], first["http_status"]) == ("failed", fault, 200)
            assert (first["prompt_tokens"], first["completion_tokens"], first["cost_nanousd"]) == (0, 0, 0)
            assert second["status"] == "ok"
            assert jeton.health["cloud/1"] == "limited"
            assert is_spotless(jeton)


@pytest.mark.parametrize(
    ("dialect", "answer", "fault"),
    [
        ("openrouter", openrouter(says="Hello", **error_of(429)), "limited"),
        ("anthropic", anthropic("overloaded_error", says="Hello"), "overloaded"),
        ("bedrock", bedrock("throttlingException", says="Hello"), "limited"),
    ],
)
async def test_what_comes_in_the_middle_leaves_it_alone_and_what_had_come_is_charged(
    tmp_path: Path, dialect: str, answer: bytes, fault: str
) -> None:
    async with scripted_backend() as backend:
        backend.answer = answer
        async with asking(tmp_path, backend, dialect, is_fallback=True) as jeton:
            served = await jeton.http.post(PATH, json={**BODY, "model": "anything", "stream": True})
            first, *_, last = [line[6:] for line in served.text.splitlines() if line.startswith("data: ")]
            assert json.loads(first)["choices"][0]["delta"]["content"] == "Hello"
            assert json.loads(last)["error"]["code"] == "backend_failed"
            (charge,) = await jeton.charges()
            assert (charge["status"], charge["fault"], charge["usage_source"]) == ("failed", fault, "estimated")
            assert charge["completion_tokens"] > 0
            assert charge["cost_nanousd"] > 0
            assert jeton.health["cloud/1"] == "limited"
            assert is_spotless(jeton)


@pytest.mark.parametrize(("code", "status", "told"), [(429, 429, "rate_limit_exceeded"), (503, 503, "unavailable")])
@pytest.mark.parametrize("is_streaming", [False, True])
async def test_where_nobody_else_can_answer_the_client_hears_what_the_status_would_say_and_how_long_to_wait(
    tmp_path: Path, code: int, status: int, told: str, is_streaming: bool
) -> None:
    error = error_of(code, metadata={"retry_after_seconds": 17})
    async with scripted_backend() as backend:
        backend.answer = openrouter(**error) if is_streaming else json_answer(json.dumps(error).encode())
        async with asking(tmp_path, backend, "openrouter") as jeton:
            refused = await jeton.http.post(PATH, json={**BODY, "stream": is_streaming})
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, told)
            assert refused.headers["retry-after"] == "17"
            left_seconds = jeton.app._fleet.snapshot.health["cloud/1"].until_seconds - jeton.app._fleet.clock()
            assert 1 < left_seconds <= 17


@pytest.mark.parametrize(
    ("dialect", "answer"),
    [
        ("openrouter", openrouter(**error_of(502))),
        ("anthropic", anthropic("api_error")),
        ("bedrock", bedrock("modelStreamErrorException")),
    ],
)
async def test_any_other_error_counts_as_a_failure(tmp_path: Path, dialect: str, answer: bytes) -> None:
    async with scripted_backend() as backend:
        backend.answer = answer
        async with asking(tmp_path, backend, dialect, is_fallback=True) as jeton:
            await jeton.http.post(PATH, json={**BODY, "model": "anything", "stream": True})
            assert (await jeton.charges())[0]["fault"] == "error_event"
            assert jeton.health["cloud/1"] == "up"
            assert not is_spotless(jeton)
