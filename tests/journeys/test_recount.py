"""Answers without usage from engines that can count: their rows have the tokens that the usage would have had."""

from pathlib import Path
from typing import Any

import pytest
from payloads import HELLO
from whole_app import WholeApp, running

CHAT = "/v1/chat/completions"
ASKED: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": HELLO}),
    (
        CHAT,
        {
            "messages": [*HELLO, {"role": "assistant", "content": "Hi."}, *HELLO],
            "stream": True,
            "n": 2,
            "temperature": 1,
        },
    ),
    ("/v1/completions", {"prompt": "Once upon a time, there was", "stream": True}),
    ("/v1/completions", {"prompt": ["Once upon a time", "In the beginning"], "max_tokens": 5}),
    ("/v1/completions", {"prompt": [5, 7, 11, 13]}),
]


@pytest.mark.parametrize(("path", "asked"), ASKED)
async def test_a23_where_a_vllm_says_no_usage_its_tokenizer_counts_the_same(
    jeton: WholeApp, path: str, asked: dict[str, Any]
) -> None:
    body = {"model": "large-model", "max_tokens": 20, "seed": 1, "temperature": 0, **asked}
    replica = jeton.replica("large")
    assert (await jeton.http.post(path, json=body)).status_code == 200
    replica.faults(usage="missing")
    answer = await jeton.http.post(path, json=body)
    assert answer.status_code == 200
    assert "x-jeton-cost-usd" not in answer.headers, "it is not known yet"
    await jeton.settled()
    told, counted = await jeton.charges()
    assert (told["usage_source"], counted["usage_source"]) == ("provider", "tokenized")
    assert (counted["status"], counted["prompt_tokens"]) == ("ok", told["prompt_tokens"])
    assert counted["completion_tokens"] == pytest.approx(told["completion_tokens"], abs=asked.get("n", 1))
    assert counted["cost_nanousd"] > 0
    assert counted["ended_ns"] >= counted["first_token_ns"] if asked.get("stream") else counted["ended_ns"] > 0


async def test_a23_a_stream_that_is_left_before_any_usage_is_counted_as_far_as_it_went(jeton: WholeApp) -> None:
    jeton.replica("large").faults(usage="missing")
    body = {"model": "large-model", "messages": HELLO, "max_tokens": 2_000, "ignore_eos": True, "stream": True}
    client = await jeton.raw(jeton.request(CHAT, body))
    for _ in range(5):
        await client.reader.readuntil(b"}\n\n")
    client.leave()
    await jeton.settled()
    (charge,) = await jeton.charges()
    assert (charge["status"], charge["fault"], charge["usage_source"]) == ("cancelled", "client_gone", "tokenized")
    assert charge["completion_tokens"] >= 4


async def test_a23_where_it_cannot_be_counted_it_is_estimated_and_not_asked_again_for_a_while(tmp_path: Path) -> None:
    async with running(tmp_path) as jeton:
        replica = jeton.replica("large")
        replica.faults(usage="missing")
        tokenizer = [request for request in replica.requests_seen if request.path == "/tokenize"]
        assert tokenizer == []
        body = {"model": "large-model", "messages": HELLO, "max_tokens": 20}
        jeton.app._recount._resting["large/1"] = float("inf")
        assert (await jeton.http.post(CHAT, json=body)).status_code == 200
        await jeton.settled()
        (charge,) = await jeton.charges()
        assert (charge["status"], charge["usage_source"]) == ("ok", "estimated")
        assert not any(request.path == "/tokenize" for request in replica.requests_seen)
