"""An answer is what it is, whole or streamed; what is none is told apart by kind. Against emulated servers over sockets."""

import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from load.drive.client import ask
from load.drive.outcome import Outcome
from load.emulator.fleet import EmulatedFleet
from load.emulator.replica import Replica
from load.emulator.spec import ReplicaSpec

BODY = {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 12, "ignore_eos": True}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    async with EmulatedFleet.start([ReplicaSpec()]) as fleet:
        yield fleet.replicas[0]


async def outcome_of(url: str, *, is_streamed: bool, **more: Any) -> Outcome:
    body = {**BODY, **(STREAM if is_streamed else {}), **more}
    outcome = Outcome(0, 0.0, 0.0, is_streamed)
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        await ask(http, f"{url}/v1/chat/completions", {}, body, outcome, time.monotonic())
    return outcome


async def test_a_streams_first_text_gaps_and_usage_are_seen(replica: Replica) -> None:
    outcome = await outcome_of(replica.url, is_streamed=True)
    assert outcome.is_ok, outcome.error
    assert outcome.completion_tokens == 12
    assert outcome.prompt_tokens
    assert len(outcome.gaps_seconds) == 11
    assert outcome.first_seconds is not None
    assert 0 < outcome.first_seconds < outcome.ended_seconds
    assert outcome.first_seconds + sum(outcome.gaps_seconds) <= outcome.ended_seconds
    assert outcome.tpot_seconds is not None
    assert outcome.model == replica.spec.model


async def test_a_whole_answer_has_usage_and_no_first_token(replica: Replica) -> None:
    outcome = await outcome_of(replica.url, is_streamed=False)
    assert outcome.is_ok, outcome.error
    assert (outcome.completion_tokens, outcome.first_seconds, outcome.gaps_seconds) == (12, None, [])


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 503}, "http_503"),
        ({"status": 429, "retry_after": 1.0}, "http_429"),
        ({"html": True}, "not_openai"),
        ({"abort_finish": True}, "aborted"),
        ({"reset_before_first_byte": True}, "ServerDisconnectedError"),
    ],
)
async def test_what_is_no_answer_is_told_by_its_kind(
    replica: Replica, fault: dict[str, Any], error: str, is_streamed: bool
) -> None:
    replica.faults(**fault)
    outcome = await outcome_of(replica.url, is_streamed=is_streamed)
    if "reset_before_first_byte" in fault:
        assert outcome.error in ("ServerDisconnectedError", "ClientOSError")
    else:
        assert outcome.error == error
    assert outcome.ended_seconds > 0


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"eof_after_chunks": 4}, {"unfinished", "ClientPayloadError"}),
        ({"reset_after_chunks": 4}, {"ClientPayloadError", "ClientOSError", "ClientConnectionResetError"}),
        ({"engine_dead": True}, {"error_event"}),
        ({"usage": "missing"}, {""}),
        ({"bad_sse": "crlf"}, {""}),
    ],
)
async def test_a_stream_that_breaks_off_is_no_answer_whatever_its_status_was(
    replica: Replica, fault: dict[str, Any], error: set[str]
) -> None:
    replica.faults(**fault)
    outcome = await outcome_of(replica.url, is_streamed=True)
    assert outcome.error in error
    if "usage" in fault:
        assert outcome.completion_tokens is None


async def test_a_port_without_a_listener_and_a_silent_server_are_told_apart(replica: Replica) -> None:
    replica.faults(hang=True)
    assert (await outcome_of(replica.url, is_streamed=True)).error == "timeout"
    replica.faults(refuse=True)
    assert (await outcome_of(replica.url, is_streamed=True)).error == "connect"
