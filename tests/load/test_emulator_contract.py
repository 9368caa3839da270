"""The emulator against a real vLLM 0.32.0: the recorded requests, replayed; status, headers, JSON shape and SSE framing compared.

Texts and token counts are the model's own and are not compared; key order, types, nulls, error messages and chunking are.
"""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from load.emulator import EmulatedFleet, Kind, ReplicaSpec

RECORDED = Path(__file__).parent / "recorded"
DEFAULT = ReplicaSpec(model="tiny", aliases=("tiny-alias",), context_tokens=4096, has_tool_parser=False)
SERVERS = {
    "default": DEFAULT,
    "full": ReplicaSpec(
        model="tiny",
        context_tokens=4096,
        has_prompt_tokens_details=True,
        has_request_id_headers=True,
        has_request_metrics=True,
        has_load_tracking=True,
    ),
    "embed_bert": ReplicaSpec(model="tiny-embed", kind=Kind.EMBED, context_tokens=512),
    "audio": ReplicaSpec(model="tiny-whisper", kind=Kind.TRANSCRIBE),
}

# Deliberate differences, by server and name. "message": the shape holds, the error's words do not. "skip": not emulated.
EXCEPTIONS: dict[tuple[str, str], tuple[str, str]] = {
    ("default", "chat_err_content_int"): ("message", "vLLM lists the failures of ten message types, the emulator the first"),
    ("default", "chat_err_messages_norole"): ("message", "the same"),
    ("default", "comp_err_neg_token"): ("message", "vLLM lists the failures of every form a prompt may have"),
    ("default", "chat_err_logit_bias"): ("skip", "the token is out of the tiny vocabulary, not of the emulator's"),
    ("embed_bert", "err_missing"): ("message", "vLLM lists the failures of seven request types"),
    ("audio", "err_no_file"): ("message", "counts the form's fields with their defaults"),
    ("default", "chat_json_schema"): ("finish", "the tiny model never closed its object; the emulated one does"),
    ("full", "chat_tools_auto"): ("finish", "the tiny model never calls a tool of its own accord"),
    ("full", "chat_tools_named"): ("skip", "the tiny model wrote a call that does not parse, so it came back as text"),
    ("full", "chat_tools_required"): ("skip", "the same"),
    ("full", "chat_tools_named_stream"): ("skip", "arguments were `false`, not an object; see test_tools.py for the events"),
    ("default", "chat_structured_choice"): ("finish", "the same answer, but the emulated model is not bound to the first choice"),
    ("audio", "verbose"): ("skip", "the tiny model marked no segments, so the recorded lists are empty"),
    ("default", "chat_stop"): ("finish", "the stop string is one of the tiny model's words; see test_reply.py"),
    ("default", "chat_stop_incl"): ("finish", "the same"),
    ("default", "chat_stop_stream"): ("finish", "the same"),
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """An HTTP answer taken apart. chunks: of a chunked body, as they came."""

    status: int
    headers: dict[str, str]
    body: bytes
    chunks: list[bytes]


def recorded(server: str) -> list[Any]:
    with gzip.open(RECORDED / f"{server}.jsonl.gz", "rt") as lines:
        return [pytest.param(server, row, id=f"{server}-{row['name']}") for row in map(json.loads, lines)]


def parse(raw: bytes) -> Answer:
    head, _, rest = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split()[1])
    if status == 100:
        return parse(rest)
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    if headers.get("transfer-encoding") != "chunked":
        return Answer(status, headers, rest, [])
    chunks: list[bytes] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        chunk, rest = rest[:length], rest[length + 2 :]
        if length:
            chunks.append(chunk)
        else:
            assert rest == b""
    return Answer(status, headers, b"".join(chunks), chunks)


async def send(port: int, request: bytes) -> bytes:
    """One request on a connection of its own; the answer as it came, to the end that its framing names."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    raw = b""
    while True:
        data = await reader.read(65536)
        raw += data
        if not data or _is_whole(raw, request):
            break
    writer.close()
    return raw


def _is_whole(raw: bytes, request: bytes) -> bool:
    head, separator, rest = raw.partition(b"\r\n\r\n")
    if not separator:
        return False
    if head.startswith(b"HTTP/1.1 100"):
        return _is_whole(rest, request)
    if b"transfer-encoding: chunked" in head:
        return rest.endswith(b"\r\n0\r\n\r\n") or rest == b"0\r\n\r\n"
    length = re.search(rb"content-length: (\d+)", head)
    return request.startswith(b"HEAD") or (length is not None and len(rest) >= int(length[1]))


def shape(value: object) -> object:
    """Keys in order, and the kind of every value; of a list the distinct shapes of its members."""
    if isinstance(value, dict):
        # Maps whose keys are data: token texts and token ids.
        if value and all(isinstance(part, float) for part in value.values()) and "time_to_first_token_ms" not in value:
            return "map of numbers"
        if value and all(re.fullmatch(r"\d+", key) for key in value):
            return ["map", shape(next(iter(value.values())))]
        return {key: "bytes" if key == "bytes" else shape(part) for key, part in value.items()}
    if isinstance(value, list):
        distinct: list[object] = []
        for part in map(shape, value):
            if part not in distinct:
                distinct.append(part)
        return distinct
    if isinstance(value, bool) or value is None:
        return str(value)
    return type(value).__name__


def events(answer: Answer) -> list[object]:
    """The shapes of a stream's events in order, repeats folded into one."""
    folded: list[object] = []
    for chunk in answer.chunks:
        assert chunk.endswith(b"\n\n"), "every HTTP chunk is one whole event"
        assert chunk.count(b"\n\n") == 1
        lines = chunk.decode().rstrip("\n").split("\n")
        name = lines[0] if lines[0].startswith("event:") else ""
        data = lines[-1].removeprefix("data: ")
        told: object = data if data == "[DONE]" else shape(json.loads(data))
        if [name, told] != folded[-1:]:
            folded.append([name, told])
    return [event for position, event in enumerate(folded) if position == 0 or event != folded[position - 1]]


def without_stop_reason(told: list[object]) -> list[object]:
    """Events with `stop_reason` left open, for answers that end for another reason than the tiny model's."""
    return [json.loads(re.sub(r'"stop_reason": "\w+"', '"stop_reason": "…"', json.dumps(event))) for event in told]


def told_headers(answer: Answer) -> dict[str, str]:
    """The headers that matter, with what differs from answer to answer reduced to being there."""
    kept = {name: value for name, value in answer.headers.items() if name != "date"}
    for name in ("content-length", "x-request-id", "metadata"):
        if name in kept:
            kept[name] = "…"
    if "location" in kept:
        kept["location"] = kept["location"].partition("://")[2].partition("/")[2]
    return kept


@pytest.fixture
async def ports() -> AsyncIterator[dict[str, int]]:
    async with EmulatedFleet.start(list(SERVERS.values())) as fleet:
        yield {name: replica.port for name, replica in zip(SERVERS, fleet.replicas, strict=True)}


@pytest.mark.parametrize(("server", "row"), [pair for server in SERVERS for pair in recorded(server)])
async def test_the_emulator_answers_a_recorded_request_as_vllm_did(
    server: str, row: dict[str, str], ports: dict[str, int]
) -> None:
    kind, why = EXCEPTIONS.get((server, row["name"]), ("", ""))
    if kind == "skip":
        pytest.skip(why)
    expected = parse(row["response"].encode("latin-1"))
    answer = parse(await send(ports[server], row["request"].encode("latin-1")))
    assert answer.status == expected.status
    assert told_headers(answer) == told_headers(expected)
    if expected.chunks and "event-stream" in expected.headers["content-type"]:
        told, recorded_events = events(answer), events(expected)
        if kind == "finish":
            told, recorded_events = without_stop_reason(told), without_stop_reason(recorded_events)
        assert told == recorded_events
    elif expected.headers.get("content-type") == "application/json" and expected.body:
        ours, theirs = json.loads(answer.body), json.loads(expected.body)
        if kind == "finish":
            for choice in (*ours["choices"], *theirs["choices"]):
                choice["stop_reason"] = None
        assert shape(ours) == shape(theirs)
        if answer.status >= 400 and kind != "message":
            assert ours == theirs
    elif "octet-stream" not in expected.headers.get("content-type", ""):
        assert answer.body == expected.body
