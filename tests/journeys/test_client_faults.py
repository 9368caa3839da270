"""Clients that leave, dawdle or never finish their sentence: what they were sent is charged, and nothing goes on for them."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from payloads import HELLO, form, sound
from whole_app import WholeApp, running

from router.conversation import Conversation
from router.dispatch.plain import PlainExchange

ENDLESS: dict[str, Any] = {"model": "small-model", "messages": HELLO, "max_tokens": 30_000, "ignore_eos": True}
CLOUD: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "stream": True}
# Polled, not slept: it is over as soon as it is so. The row's own bound of 50 ms is a figure for a machine that does nothing
# else.
SOON_SECONDS = 1.0


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_f18_a_client_that_leaves_before_the_first_byte_stops_the_engine(
    jeton: WholeApp, is_streaming: bool
) -> None:
    if is_streaming:
        jeton.replica("small").faults(stall_before_first_token=True)
    client = await jeton.raw(jeton.request("/v1/chat/completions", {**ENDLESS, "stream": is_streaming}))
    await jeton.until(lambda: not jeton.replica("small").engine.is_idle)
    client.leave()
    await jeton.until(lambda: jeton.replica("small").engine.is_idle, SOON_SECONDS)
    await jeton.settled()
    (charge,) = await jeton.charges()
    assert (charge["status"], charge["fault"]) == ("cancelled", "client_gone")
    assert (charge["usage_source"], charge["prompt_tokens"]) == ("estimated", charge["prompt_tokens_estimate"])
    assert charge["cost_nanousd"] > 0


@pytest.mark.parametrize("model", ["small-model", "cloud-model"])
async def test_f18_a_client_that_leaves_a_whole_answer_pays_for_what_was_likely_made_by_then(
    jeton: WholeApp, model: str
) -> None:
    """Nothing of it has been seen: were it therefore nothing, who always left a little early would always pay for the prompt."""
    backend = model.removesuffix("-model")
    jeton.replica(backend).faults(stall_before_first_token=True)
    body = {"model": model, "messages": HELLO, "max_tokens": 4_000}
    client = await jeton.raw(jeton.request("/v1/chat/completions", body))
    await asyncio.sleep(2.5)  # by the forecast the cloud's first token comes after 1.8 s
    client.leave()
    await jeton.settled()
    (charge,) = await jeton.charges()
    assert (charge["status"], charge["usage_source"]) == ("cancelled", "estimated")
    assert charge["completion_tokens"] > 10
    assert charge["cost_nanousd"] > 0


@pytest.mark.parametrize("model", ["small-model", "cloud-model"])
async def test_f18_a_client_that_leaves_mid_stream_stops_the_engine_and_pays_for_what_was_made(
    jeton: WholeApp, model: str
) -> None:
    backend = model.removesuffix("-model")
    body = CLOUD if backend == "cloud" else {**ENDLESS, "stream": True}
    client = await jeton.raw(jeton.request("/v1/chat/completions", body))
    for _ in range(6):
        seen = await client.reader.readuntil(b"}\n\n")
    assert b'"content"' in seen
    client.leave()
    await jeton.until(lambda: jeton.replica(backend).engine.is_idle, SOON_SECONDS)
    await jeton.settled()
    (charge,) = await jeton.charges()
    made = jeton.replica(backend).engine.counters.completion_tokens
    assert (charge["status"], charge["fault"]) == ("cancelled", "client_gone")
    assert charge["usage_source"] == ("recovered" if model == "small-model" else "estimated")
    assert 5 <= charge["completion_tokens"] <= made + 1  # an estimate counts the chunk that says only the role
    assert charge["cost_nanousd"] > 0


async def test_f18_a_client_that_closes_only_its_half_has_left_too(jeton: WholeApp) -> None:
    client = await jeton.raw(jeton.request("/v1/chat/completions", {**ENDLESS, "stream": True}))
    await client.reader.readuntil(b"}\n\n")
    client.writer.write_eof()
    await jeton.until(lambda: jeton.replica("small").engine.is_idle, SOON_SECONDS)


async def test_f18_a_client_that_leaves_inside_its_body_starts_nothing(jeton: WholeApp) -> None:
    request = jeton.request("/v1/chat/completions", ENDLESS)
    client = await jeton.raw(request[:-10])
    await asyncio.sleep(0.05)
    client.leave()
    await jeton.settled()
    assert jeton.seen("small") == []
    assert await jeton.charges() == []


async def test_f18_an_upload_that_is_broken_off_ends_the_attempt(jeton: WholeApp) -> None:
    body = form(("model", "audio-model"), ("file", sound(30)))
    client = await jeton.raw(
        jeton.request("/v1/audio/transcriptions", body, content_type="multipart/form-data; boundary=limit")[:-1000]
    )
    await jeton.until(lambda: jeton.in_flight == {"audio/1": 1})
    client.leave()
    await jeton.settled()
    (charge,) = await jeton.charges()
    assert (charge["status"], charge["fault"]) == ("cancelled", "client_gone")


async def test_f19_a_client_that_closes_right_after_the_last_chunk_was_served(jeton: WholeApp) -> None:
    for end in (b"data: [DONE]\n\n", b'"finish_reason":"length"'):
        body = {**ENDLESS, "max_tokens": 5, "stream": True}
        client = await jeton.raw(jeton.request("/v1/chat/completions", body))
        await client.reader.readuntil(end)
        client.leave()
        await jeton.settled()
    for charge in await jeton.charges():
        assert (charge["status"], charge["fault"], charge["completion_tokens"]) == ("ok", "", 5)


async def test_f19_so_was_one_that_asked_for_usage_and_closes_at_the_finish_reason(jeton: WholeApp) -> None:
    """Here the finish goes out before the usage has come, so that the client may be gone when it does."""
    for body in ({**ENDLESS, "max_tokens": 5, "stream": True}, {**CLOUD, "max_tokens": 5}):
        asking = {**body, "stream_options": {"include_usage": True}}
        client = await jeton.raw(jeton.request("/v1/chat/completions", asking))
        await client.reader.readuntil(b'"finish_reason":"length"')
        client.leave()
        await jeton.settled()
    for charge in await jeton.charges():
        assert (charge["status"], charge["fault"]) == ("ok", "")
        assert 5 <= charge["completion_tokens"] <= 7  # a cloud that was not heard to the end has said no number


class Firehose:
    """A backend that streams as fast as it is read. sent_bytes: what its socket has taken."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.is_over = False
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            await self._pour(writer)
            self.is_over = True
        else:  # a health check
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async def _pour(self, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 2**10)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        chunk = {"model": "tiny-8b", "choices": [{"index": 0, "delta": {"content": "x" * 4000}}]}
        event = b"data: " + json.dumps(chunk).encode() + b"\n\n"
        with suppress(ConnectionError):
            while True:
                writer.write(event)
                await writer.drain()
                self.sent_bytes += len(event)


@asynccontextmanager
async def over_firehose(tmp_path: Path, write_seconds: float) -> AsyncIterator[tuple[WholeApp, Firehose]]:
    hose = Firehose()
    server = await asyncio.start_server(hose.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def change(config: dict[str, Any]) -> None:
        config["server"]["write_seconds"] = write_seconds
        config["health"] = {"interval_seconds": 600}
        config["pools"][0]["backends"][0]["replicas"] = [{"url": url}]

    async with server, running(tmp_path, change) as jeton:
        yield jeton, hose


async def test_f20_a_client_that_hardly_reads_pauses_the_backend_and_is_cut_when_it_stops(tmp_path: Path) -> None:
    async with over_firehose(tmp_path, write_seconds=2.0) as (jeton, hose):
        # One byte at a time through the smallest of buffers.
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", jeton.port))
        await loop.sock_sendall(client, jeton.request("/v1/chat/completions", {**ENDLESS, "stream": True}))
        sent_bytes = -1
        while hose.sent_bytes > sent_bytes or not sent_bytes:  # until every buffer on the way is full
            sent_bytes = hose.sent_bytes
            for _ in range(3):
                assert await loop.sock_recv(client, 1)
                await asyncio.sleep(0.05)
        watched = jeton.app._watchdog._watched
        (exchange,) = [item for item in watched if isinstance(item, PlainExchange)]
        assert [item for item in watched if isinstance(item, Conversation)]
        (connection,) = [one for one in jeton.server.server_state.connections if one.transport.get_write_buffer_size()]
        held_bytes = exchange._buffered + connection.transport.get_write_buffer_size()
        assert exchange._is_paused
        assert 0 < held_bytes <= 256 * 2**10
        assert hose.sent_bytes <= 2**20  # all lag, the kernel's included
        assert not hose.is_over
        await jeton.until(lambda: hose.is_over, seconds=15)  # now it reads nothing: cut, and with it the backend
        await jeton.settled()
        client.close()
        (charge,) = await jeton.charges()
        assert (charge["status"], charge["fault"]) == ("cancelled", "client_gone")


async def test_f20_a_slow_client_that_goes_on_reading_is_not_cut(tmp_path: Path) -> None:
    async with over_firehose(tmp_path, write_seconds=1.0) as (jeton, hose):
        client = await jeton.raw(jeton.request("/v1/chat/completions", {**ENDLESS, "stream": True}))
        deadline = asyncio.get_running_loop().time() + 3.0
        while asyncio.get_running_loop().time() < deadline:
            assert await client.reader.read(2**20)
            await asyncio.sleep(0.02)
        assert not hose.is_over


def slow_loris(config: dict[str, Any]) -> None:
    config["server"] |= {"header_seconds": 0.4, "body_seconds": 0.4}


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[WholeApp]:
    async with running(tmp_path, slow_loris) as whole:
        yield whole


async def test_f21_headers_that_do_not_come_are_answered_408(strict: WholeApp) -> None:
    for start in (b"", b"POST /v1/chat/completions HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nhost: a\r\nx: "):
        client = await strict.raw(start)
        status, _, body = await client.answer()
        assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")
        assert await client.rest() == b""


async def test_f21_one_byte_at_a_time_does_not_help(strict: WholeApp) -> None:
    client = await strict.raw()
    answered = asyncio.create_task(client.answer())
    request = iter(strict.request("/v1/chat/completions", ENDLESS))
    while not answered.done():
        client.send(bytes([next(request)]))
        await asyncio.sleep(0.01)
    status, _, _ = await answered
    assert status == 408
    assert strict.seen("small") == []


async def test_f21_a_body_that_does_not_come_is_answered_408(strict: WholeApp) -> None:
    request = strict.request("/v1/chat/completions", ENDLESS)
    client = await strict.raw(request[:-5])
    status, headers, body = await client.answer()
    assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")
    assert headers["connection"] == "close"
    assert await client.rest() == b""
    assert strict.seen("small") == []


async def test_f21_who_was_refused_cannot_keep_the_connection_with_a_body_that_trickles(strict: WholeApp) -> None:
    """Without an API key, before any of the body was read."""
    client = await strict.raw(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n")
    assert (await client.answer())[0] == 401
    ending = asyncio.create_task(client.rest())
    for _ in range(1000):
        if ending.done():
            break
        client.send(b"a")
        await asyncio.sleep(0.01)
    assert ending.done()
    assert await ending == b""


async def test_the_rest_of_a_refused_body_may_come_and_the_connection_stays(strict: WholeApp) -> None:
    body = b"a" * 1000
    refused = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
    client = await strict.raw(refused)
    assert (await client.answer())[0] == 401
    client.send(body + strict.request("/v1/chat/completions", {**ENDLESS, "max_tokens": 2}))
    assert (await client.answer())[0] == 200
    await asyncio.sleep(1.5)  # more than is left for the rest of a body
    client.send(refused + body)
    assert (await client.answer())[0] == 401


async def test_f21_a_connection_between_two_requests_may_be_idle(strict: WholeApp) -> None:
    request = strict.request("/v1/chat/completions", {**ENDLESS, "max_tokens": 2})
    client = await strict.raw(request)
    assert (await client.answer())[0] == 200
    await asyncio.sleep(0.8)
    client.send(request)
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_a_client_of_http_1_0_gets_a_stream_without_chunks_that_ends_with_the_connection(
    jeton: WholeApp, path: str
) -> None:
    """As nginx asks unless told otherwise, and load balancers' checks. RFC 9112, 6.1: no Transfer-Encoding for those."""
    body = {**ENDLESS, "input": "Hello", "max_tokens": 5, "max_output_tokens": 5, "stream": True}
    client = await jeton.raw(jeton.request(path, body).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    status, headers = await client.head()
    assert (status, headers["connection"]) == (200, "close")
    assert "transfer-encoding" not in headers
    events = (await client.rest()).split(b"\n\n")
    assert events.pop() == b""
    assert all(event.startswith((b"data: ", b"event: ")) for event in events)
    assert b"[DONE]" in events[-1] or b"response.completed" in events[-1]
    await jeton.settled()
    assert [charge["status"] for charge in await jeton.charges()] == ["ok"]


async def test_two_requests_at_once_on_one_connection_are_answered_in_order(jeton: WholeApp) -> None:
    first = jeton.request("/v1/chat/completions", {**ENDLESS, "max_tokens": 20})
    second = jeton.request("/tokenize", {"model": "small-model", "prompt": "one"})
    client = await jeton.raw(first + second)
    answers = [await client.answer(), await client.answer()]
    assert [status for status, _, _ in answers] == [200, 200]
    assert ["choices" in json.loads(body) for _, _, body in answers] == [True, False]


async def test_a_pipelining_client_that_leaves_ends_what_is_under_way(jeton: WholeApp) -> None:
    short = jeton.request("/v1/chat/completions", {**ENDLESS, "max_tokens": 2})
    endless = jeton.request("/v1/chat/completions", {**ENDLESS, "stream": True})
    client = await jeton.raw(short + endless)
    assert (await client.answer())[0] == 200
    await client.reader.readuntil(b"}\n\n")
    client.leave()
    await jeton.settled()
    assert [charge["status"] for charge in await jeton.charges()] == ["ok", "cancelled"]
