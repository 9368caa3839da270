"""Each fault, as a raw client sees it."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from load.emulator import EmulatedFleet, Replica, ReplicaSpec
from load.emulator.faults import ABSURD_TOKENS, LONG_LINE_BYTES, Fault

BODY = {"messages": [{"role": "user", "content": "hello world"}], "max_tokens": 8}


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    async with EmulatedFleet.start([ReplicaSpec()]) as fleet:
        yield fleet.replicas[0]


async def raw(replica: Replica, seconds: float = 5.0, **members: object) -> tuple[bytes, str]:
    """What arrives on the socket, and how it ended: "eof", "reset" or "silence"."""
    body = json.dumps({**BODY, **members}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
    writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
    got = b""
    try:
        async with asyncio.timeout(seconds):
            while data := await reader.read(65536):
                got += data
        ended = "eof"
    except ConnectionResetError:
        ended = "reset"
    except TimeoutError:
        ended = "silence"
    writer.close()
    return got, ended


def data_lines(got: bytes) -> list[bytes]:
    return [line for line in got.split(b"\n") if line.startswith(b"data: ")]


async def test_without_a_fault_a_stream_ends_as_it_should(replica: Replica) -> None:
    got, ended = await raw(replica, stream=True)
    assert ended == "eof"
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert len(data_lines(got)) == 10


async def test_a_reset_before_the_first_byte_sends_nothing(replica: Replica) -> None:
    replica.faults(reset_before_first_byte=True)
    assert await raw(replica, stream=True) == (b"", "reset")


@pytest.mark.parametrize(("fault", "ending"), [("reset_after_chunks", "reset"), ("eof_after_chunks", "eof")])
async def test_a_stream_is_cut_after_exactly_k_events(replica: Replica, fault: str, ending: str) -> None:
    replica.faults(**{fault: 3})
    got, ended = await raw(replica, stream=True)
    assert ended == ending
    assert len(data_lines(got)) == 3
    assert not got.endswith(b"0\r\n\r\n")
    assert replica.engine.running == 0


async def test_a_stall_is_silence_on_an_open_connection(replica: Replica) -> None:
    replica.faults(stall_after_chunks=2)
    got, ended = await raw(replica, seconds=0.2, stream=True)
    assert (len(data_lines(got)), ended) == (2, "silence")
    replica.faults(stall_before_first_token=True)
    got, ended = await raw(replica, seconds=0.2, stream=True)
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert (data_lines(got), ended) == ([], "silence")
    assert await raw(replica, seconds=0.2) == (b"", "silence")


async def test_the_engine_dies_under_a_stream_and_health_stays_green(replica: Replica) -> None:
    replica.faults(engine_dead=True)
    got, _ = await raw(replica, stream=True)
    assert data_lines(got)[-2].startswith(b'data: {"error": {"message": "EngineCore encountered an issue.')
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b"finish_reason" in got
    assert b'"finish_reason":"' not in got
    got, _ = await raw(replica, stream=True)
    assert got.startswith(b"HTTP/1.1 500")
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{replica.url}/health")).status_code == 200


async def test_an_aborted_finish_is_a_clean_stream_all_the_same(replica: Replica) -> None:
    replica.faults(abort_finish=True)
    got, _ = await raw(replica, stream=True)
    assert json.loads(data_lines(got)[-2][6:])["choices"][0]["finish_reason"] == "abort"
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    got, _ = await raw(replica)
    assert b'"finish_reason":"abort"' in got


@pytest.mark.parametrize(("usage", "expected"), [("negative", -8), ("absurd", ABSURD_TOKENS)])
async def test_token_counts_can_be_nonsense(replica: Replica, usage: str, expected: int) -> None:
    replica.faults(usage=usage)
    got, _ = await raw(replica)
    assert json.loads(got.partition(b"\r\n\r\n")[2])["usage"]["completion_tokens"] == expected
    got, _ = await raw(replica, stream=True, stream_options={"include_usage": True})
    assert json.loads(data_lines(got)[-2][6:])["usage"]["completion_tokens"] == expected


async def test_token_counts_can_be_missing(replica: Replica) -> None:
    replica.faults(usage="missing")
    got, _ = await raw(replica)
    assert b'"usage"' not in got
    got, _ = await raw(replica, stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    assert b'"usage"' not in got
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_a_short_body_promises_more_than_it_sends(replica: Replica) -> None:
    replica.faults(short_body=True)
    got, ended = await raw(replica)
    head, _, body = got.partition(b"\r\n\r\n")
    promised = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert ended == "eof"
    assert 0 < len(body) < promised


@pytest.mark.parametrize(
    ("fault", "content_type", "start"),
    [
        ("html", b"text/html", b"<!doctype"),
        ("empty", b"application/json", b""),
        ("non_json", b"application/json", b"ok, but"),
    ],
)
async def test_a_200_can_be_something_else_entirely(
    replica: Replica, fault: str, content_type: bytes, start: bytes
) -> None:
    replica.faults(**{fault: True})
    got, _ = await raw(replica, stream=True)
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert content_type in head
    assert body.startswith(start)


async def events_of(replica: Replica, kind: str) -> list[str]:
    """The events as a strict reader of the SSE standard would dispatch them; decoding errors raise."""
    replica.faults(bad_sse=kind)
    got, _ = await raw(replica, stream=True)
    chunks, rest = b"", got.partition(b"\r\n\r\n")[2]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        chunks, rest = chunks + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    events = []
    for event in chunks.decode().replace("\r\n", "\n").split("\n\n"):
        data = [line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
        if data:
            events.append("\n".join(data))
    return events


@pytest.mark.parametrize("kind", ["crlf", "no_space", "comments", "split_utf8", "multi_line"])
async def test_legal_oddities_of_sse_are_readable_to_the_end(replica: Replica, kind: str) -> None:
    events = await events_of(replica, kind)
    assert events[-1] == "[DONE]"
    assert [json.loads(event)["object"] for event in events[:-1]] == ["chat.completion.chunk"] * 9


@pytest.mark.parametrize("kind", ["bad_json", "no_blank_line"])
async def test_illegal_events_are_not_json(replica: Replica, kind: str) -> None:
    events = await events_of(replica, kind)
    with pytest.raises(json.JSONDecodeError):
        [json.loads(event) for event in events[:-1]]


async def test_bytes_that_are_no_utf8_and_lines_without_end(replica: Replica) -> None:
    with pytest.raises(UnicodeDecodeError):
        await events_of(replica, "bad_utf8")
    assert max(map(len, await events_of(replica, "long_line"))) > LONG_LINE_BYTES


async def test_times_bounds_a_fault_and_health_is_never_touched(replica: Replica) -> None:
    replica.faults(status=503, times=2)
    async with httpx.AsyncClient() as client:
        statuses = []
        for _ in range(3):
            statuses.append((await client.post(f"{replica.url}/v1/chat/completions", json=BODY)).status_code)
            assert (await client.get(f"{replica.url}/health")).status_code == 200
            assert (await client.get(f"{replica.url}/metrics")).status_code == 200
    assert statuses == [503, 503, 200]
    assert replica.fault_hits == 2


def test_a_fault_is_one_kind_and_nothing_unknown() -> None:
    for members in ({}, {"html": True, "empty": True}, {"times": 3}, {"status": 200}, {"explode": True}):
        with pytest.raises(ValueError, match="validation error"):
            Fault.model_validate(members)
