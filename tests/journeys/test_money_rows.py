"""What a request cost, however it went: the rows of the ledger beside what was asked and answered."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import whole_app
from every_endpoint import requests_to_every_endpoint
from payloads import HELLO, form, sound
from scripted_backend import OK_JSON, json_answer, scripted_backend, stream_answer
from whole_app import PRICES, WholeApp, running

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "max_tokens": 40}
# Of `cloud`, nano-dollars a token.
PROMPT, CACHED, COMPLETION = 2000, 500, 8000


def at_list_price(charge: Any) -> int:
    uncached = charge["prompt_tokens"] - charge["cached_tokens"]
    cost: int = uncached * PROMPT + charge["cached_tokens"] * CACHED + charge["completion_tokens"] * COMPLETION
    return cost


def chunk(content: str | None = None, finish: str | None = None, usage: Any = None) -> bytes:
    choices = [] if content is None else [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]
    return json.dumps({"model": "gpt-x", "choices": choices, "usage": usage}).encode()


def usage(completion_tokens: int, **more: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": 10,
        "completion_tokens": completion_tokens,
        "total_tokens": 10 + completion_tokens,
    } | more


async def test_a01_the_same_work_costs_the_same_streamed_or_not(jeton: WholeApp) -> None:
    whole = await jeton.http.post(PATH, json=BODY)
    quiet = await jeton.http.post(PATH, json={**BODY, "stream": True})
    told = await jeton.http.post(PATH, json={**BODY, "stream": True, "stream_options": {"include_usage": True}})
    charges = await jeton.charges()
    costs = {charge["cost_nanousd"] for charge in charges}
    assert len(charges) == 3
    assert costs == {at_list_price(charges[0])}
    assert whole.headers["x-jeton-cost-usd"] == f"0.{costs.pop():09d}"
    assert "jeton_cost" not in quiet.text
    assert f'"jeton_cost":{{"usd":{whole.headers["x-jeton-cost-usd"]},' in told.text


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_a01_a_provider_that_says_it_costs_nothing_is_not_believed(tmp_path: Path, is_streaming: bool) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2)) as jeton:
        said = usage(5, cost=0)
        message = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        backend.answer = json_answer(json.dumps({"model": "gpt-x", "choices": [message], "usage": said}).encode())
        if is_streaming:
            backend.answer = stream_answer(chunk("Hello", "stop"), chunk(usage=said), b"[DONE]")
        assert (await jeton.http.post(PATH, json={**BODY, "stream": is_streaming})).status_code == 200
        (charge,) = await jeton.charges()
        assert charge["provider_cost_nanousd"] == 0
        assert charge["cost_nanousd"] == 10 * PROMPT + 5 * COMPLETION


STREAMS_WITH_USAGE = {
    "on the last chunk, with choices": [chunk("a"), chunk("b", "stop", usage(7))],
    "after the finish, without choices": [chunk("a"), chunk("b", "stop"), chunk(usage=usage(7))],
    "partial ones before": [chunk("a", usage=usage(1)), chunk("b", "stop", usage(2)), chunk(usage=usage(7))],
    "an early one without choices": [chunk(usage=usage(1)), chunk("a"), chunk("b", "stop"), chunk(usage=usage(7))],
    "null on every other": [chunk("a"), chunk("b"), chunk("c", "stop"), chunk(usage=usage(7))],
}


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("how", STREAMS_WITH_USAGE)
async def test_a03_the_last_usage_counts_wherever_it_stands(tmp_path: Path, how: str, asks: bool) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2)) as jeton:
        backend.answer = stream_answer(*STREAMS_WITH_USAGE[how], b"[DONE]")
        body = {**BODY, "stream": True} | ({"stream_options": {"include_usage": True}} if asks else {})
        answer = await jeton.http.post(PATH, json=body)
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        (charge,) = await jeton.charges()
        assert (charge["status"], charge["usage_source"], charge["completion_tokens"]) == ("ok", "provider", 7)
        assert charge["cost_nanousd"] == 10 * PROMPT + 7 * COMPLETION
        text = "".join(choice["delta"]["content"] for event in events for choice in event["choices"])
        assert text in ("ab", "abc"), "usage was not taken for the end"
        assert answer.text.endswith("data: [DONE]\n\n")
        assert asks or not any(event.get("usage") for event in events)


async def test_a04_a05_a06_a_cancelled_stream_has_a_row_priced_by_the_tokens_it_shows(jeton: WholeApp) -> None:
    for model in ("cloud-model", "small-model"):
        client = await jeton.raw(jeton.request(PATH, {**BODY, "model": model, "max_tokens": 2000, "stream": True}))
        for _ in range(5):
            await client.reader.readuntil(b"}\n\n")
        client.leave()
        await jeton.settled()  # the engines too: nobody goes on generating
    cloud, small = await jeton.charges()
    assert (cloud["status"], small["status"]) == ("cancelled", "cancelled")
    assert (cloud["usage_source"], small["usage_source"]) == ("estimated", "recovered")
    assert cloud["completion_tokens"] >= 4
    assert cloud["cost_nanousd"] == at_list_price(cloud)
    assert small["completion_tokens"] >= 4
    assert small["cost_nanousd"] > 0


async def test_a07_a_fallback_is_priced_line_by_line(tmp_path: Path) -> None:
    def cloud_first(config: dict[str, Any]) -> None:
        config["policy"] = {"name": "always_large"}
        config["aliases"]["both"] = {"backends": ["cloud", "small"]}
        config["health"] = {"interval_seconds": 600}

    async with running(tmp_path, cloud_first) as jeton:
        jeton.replica("cloud").faults(reset_before_first_byte=True)
        answer = await jeton.http.post(PATH, json={**BODY, "model": "both"})
        cloud, small = await jeton.charges()
        assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "2")
        assert (cloud["backend"], cloud["status"], cloud["billing"]) == ("cloud", "failed", "metered")
        assert (small["backend"], small["status"], small["billing"]) == ("small", "ok", "leased")
        assert cloud["price_id"].startswith("tokens@")
        assert small["price_id"].startswith("gpu@")
        # It may have been run before it broke, and then it is on the bill: the prompt at least.
        assert cloud["cost_nanousd"] == cloud["prompt_tokens"] * PROMPT > 0
        assert answer.headers["x-jeton-cost-usd"] == f"0.{cloud['cost_nanousd'] + small['cost_nanousd']:09d}"


async def test_a16_f38_every_endpoint_leaves_a_priced_row(jeton: WholeApp) -> None:
    requests = requests_to_every_endpoint()
    for path, request in requests.values():
        answer = await jeton.http.post(path, **request)
        assert answer.status_code == 200, answer.text
        assert "x-jeton-cost-usd" in answer.headers
    charges = await jeton.charges()
    assert [charge["endpoint"] for charge in charges] == [endpoint.value for endpoint in requests]
    for charge in charges:
        assert (charge["tenant"], charge["status"], charge["cost_status"]) == ("tests", "ok", "priced")
        assert charge["cost_nanousd"] > 0


@pytest.mark.parametrize(
    "said",
    [None, {}, {"tokens": 7}, {"prompt_tokens": "10", "completion_tokens": 5}, [1, 2], "7", {"prompt_tokens": 10}],
)
async def test_a21_usage_of_an_unknown_shape_is_estimated_and_flagged(tmp_path: Path, said: Any) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2)) as jeton:
        text = "Nineteen words or so, that somebody may count, to see how many tokens there are in the end."
        message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        whole = json_answer(json.dumps({"model": "gpt-x", "choices": [message], "usage": said}).encode())
        words = [chunk(word + " ") for word in text.split()]
        stream = stream_answer(*words, chunk("", "stop"), chunk(usage=said), b"[DONE]")
        for backend.answer, is_streaming in ((whole, False), (stream, True)):
            answer = await jeton.http.post(PATH, json={**BODY, "stream": is_streaming})
            assert answer.status_code == 200
            assert text.split()[-1] in answer.text
        for charge in await jeton.charges():
            assert (charge["status"], charge["usage_source"]) == ("ok", "estimated")
            assert 15 <= charge["completion_tokens"] <= 30
            assert charge["cost_nanousd"] == at_list_price(charge)


async def test_a23_a_vllm_is_made_to_count_whoever_asks(jeton: WholeApp) -> None:
    for options in ({}, {"stream_options": None}, {"stream_options": {"include_usage": False}}):
        await jeton.http.post(PATH, json={**BODY, "model": "small-model", "stream": True, **options})
    for charge in await jeton.charges():
        assert charge["usage_source"] == "provider"
        assert charge["completion_tokens"] > 0
    made = sum(replica.engine.counters.completion_tokens for replica in jeton.fleet["small"])
    assert made == sum(charge["completion_tokens"] for charge in await jeton.charges())


async def test_a10_a_price_of_zero_is_a_price_it_decides_and_it_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others take 0 for unset and route as if it were dear, or not at all."""
    free = {f"{name}_usd_per_million": 0 for name in ("prompt", "cached", "completion")}
    row = whole_app.PRICES["tokens"][0] | free | {"unusual_price_confirmed": True}
    monkeypatch.setitem(whole_app.PRICES, "tokens", [row])
    async with running(tmp_path) as jeton:
        answer = await jeton.http.post(
            "/v1/chat/completions", json={"model": "anything", "messages": HELLO, "max_tokens": 20}
        )
        assert answer.headers["x-jeton-backend"] == "cloud"
        assert float(answer.headers["x-jeton-cost-usd"]) == 0
        (charge,) = await jeton.charges()
        assert (charge["cost_nanousd"], charge["cost_status"]) == (0, "priced")
        text = (await jeton.http.get("/metrics")).text
        assert 'jeton_unpriced_attempts_total{backend="cloud"} 0' in text


NINETEEN = "Nineteen words or so, that somebody may count, to see how many tokens there are in the end."


def given_up(finish: str, said: Any = None, text: str = NINETEEN, **more: Any) -> bytes:
    message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"model": "gpt-x", "choices": [message], "usage": said, **more}).encode()


TOLD = {"prompt_tokens": 40, "completion_tokens": 400, "total_tokens": 440}
FAILED_WITH_USAGE = {
    "error": (given_up("error", TOLD), "aborted"),
    "abort": (given_up("abort", TOLD), "aborted"),
    "an error beside it": (given_up("error", TOLD, error={"code": 502, "message": "It broke."}), "error_body"),
}


@pytest.mark.parametrize("how", FAILED_WITH_USAGE)
async def test_a_whole_answer_that_was_given_up_is_charged_by_the_usage_it_tells(tmp_path: Path, how: str) -> None:
    body, fault = FAILED_WITH_USAGE[how]
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2)) as jeton:
        backend.answer = json_answer(body)
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 502
        for charge in await jeton.charges():
            assert (charge["status"], charge["fault"], charge["usage_source"]) == ("failed", fault, "provider")
            assert (charge["prompt_tokens"], charge["completion_tokens"]) == (40, 400)
            assert charge["cost_nanousd"] == 40 * PROMPT + 400 * COMPLETION


FAILED_WITHOUT_USAGE = {
    "given up": (json_answer(given_up("error")), "aborted"),
    "usage that cannot be": (json_answer(given_up("error", usage(-5))), "aborted"),
    "broken off": (
        OK_JSON + b"transfer-encoding: chunked\r\n\r\n" + b"a0\r\n" + given_up("stop")[:160] + b"\r\nno length\r\n",
        "protocol",
    ),
    "no JSON any more": (json_answer(given_up("stop")[:160]), "not_json"),
}


@pytest.mark.parametrize("how", FAILED_WITHOUT_USAGE)
async def test_a_whole_answer_that_failed_without_usage_is_charged_by_what_came_of_it(tmp_path: Path, how: str) -> None:
    answer, fault = FAILED_WITHOUT_USAGE[how]
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2)) as jeton:
        backend.answer = answer
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 502
        for charge in await jeton.charges():
            assert (charge["status"], charge["fault"], charge["usage_source"]) == ("failed", fault, "estimated")
            assert 15 <= charge["completion_tokens"] <= 30
            assert charge["cost_nanousd"] == at_list_price(charge)


@pytest.mark.parametrize(("code", "fault"), [(429, "limited"), (529, "overloaded")])
async def test_a_limit_told_in_a_200_costs_nothing_whatever_usage_is_told(
    tmp_path: Path, code: int, fault: str
) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2)) as jeton:
        backend.answer = json_answer(given_up("error", TOLD, error={"code": code, "message": "Not now."}))
        assert (await jeton.http.post(PATH, json=BODY)).status_code in (429, 503)
        for charge in await jeton.charges():
            assert (charge["fault"], charge["cost_nanousd"]) == (fault, 0)


async def test_what_was_never_sent_for_the_ledger_was_stuck_costs_nothing(jeton: WholeApp) -> None:
    """Nothing is asked of a provider before its attempt is on disk; a client that leaves until then owes nothing."""
    with closing(sqlite3.connect(jeton.ledger_path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        client = await jeton.raw(jeton.request(PATH, BODY))
        await jeton.until(lambda: sum(jeton.in_flight.values()) == 1)
        client.leave()
        await jeton.until(lambda: not any(jeton.in_flight.values()))
        blocker.execute("ROLLBACK")
    await jeton.settled()
    (charge,) = await jeton.charges()
    assert not jeton.seen("cloud")
    assert (charge["status"], charge["fault"]) == ("cancelled", "client_gone")
    assert (charge["prompt_tokens"], charge["completion_tokens"], charge["cost_nanousd"]) == (0, 0, 0)


BY_THE_HOUR = {
    "kind": "tokens",
    "from": "2026-01-01",
    "prompt_usd_per_million": 0,
    "completion_usd_per_million": 0,
    "audio_usd_per_hour": 0.36,
    "source": "a round figure for tests",
}


@pytest.mark.parametrize(
    ("task", "response_format"),
    [("transcriptions", "verbose_json"), ("translations", "verbose_json"), ("translations", "json")],
)
async def test_a21_sound_that_is_billed_by_the_hour_is_estimated_where_no_usage_is_told(
    tmp_path: Path, task: str, response_format: str
) -> None:
    """By the length that the answer tells of it, else by its bytes."""

    def change(config: dict[str, Any]) -> None:
        audio = config["pools"][1]["backends"].pop()
        del audio["profile"]
        config["pools"][2]["backends"].append({**audio, "engine": "openai", "price": "sound"})

    async with running(tmp_path, change, prices={**PRICES, "sound": [BY_THE_HOUR]}) as jeton:
        body = form(("model", "audio-model"), ("response_format", response_format), ("file", sound(20)))
        headers = {"content-type": "multipart/form-data; boundary=limit"}
        answer = await jeton.http.post(f"/v1/audio/{task}", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        (charge,) = await jeton.charges()
        assert (charge["status"], charge["usage_source"], charge["cost_status"]) == ("ok", "estimated", "priced")
        assert 20 <= charge["audio_seconds"] < 20.1
        assert charge["cost_nanousd"] == round(charge["audio_seconds"] * 100_000) >= 2_000_000
