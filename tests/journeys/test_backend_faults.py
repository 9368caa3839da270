"""Backends that fail, before the first byte and after it: who is asked next, what the client sees, what is charged.

`small-model` has two replicas, asked in the order of their ids while both are idle; `large-model` has one.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from payloads import HELLO
from scripted_backend import json_answer, scripted_backend
from whole_app import SPECS, WholeApp, running

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "small-model", "messages": HELLO, "max_tokens": 8}
STREAM: dict[str, Any] = {**BODY, "stream": True}
# Of these a client never sees anything; each says what the ledger calls it.
BEFORE_THE_FIRST_BYTE: dict[str, tuple[dict[str, Any], str]] = {
    "reset": ({"reset_before_first_byte": True}, "reset"),
    "500": ({"status": 500}, "http_500"),
    "502": ({"status": 502}, "http_502"),
    "503": ({"status": 503}, "http_503"),
    "504": ({"status": 504}, "http_504"),
    "html": ({"html": True}, "not_json"),
    "empty": ({"empty": True}, "not_json"),
    "non_json": ({"non_json": True}, "not_json"),
    "abort_finish": ({"abort_finish": True}, "aborted"),
    "short_body": ({"short_body": True}, "eof"),
}


def unchecked(config: dict[str, Any]) -> None:
    """Health is what requests tell: the first check has passed when the first request comes, the next is far."""
    config["health"] = {"interval_seconds": 600}


def impatient(config: dict[str, Any]) -> None:
    unchecked(config)
    config["timeouts"] = {"first_byte_seconds": 0.75, "chunk_seconds": 0.75}


@pytest.fixture
async def jeton(tmp_path: Any, request: pytest.FixtureRequest) -> Any:
    async with running(tmp_path, getattr(request, "param", unchecked)) as whole:
        yield whole


async def texts_until_error(jeton: WholeApp, **body: Any) -> tuple[list[str], openai.APIError]:
    """What OpenAI's SDK gives of a stream before it raises."""
    stream = await jeton.sdk.chat.completions.create(**{**STREAM, **body})
    texts = []
    try:
        async for chunk in stream:
            texts.append(chunk.choices[0].delta.content or "")
    except openai.APIError as error:
        return texts, error
    raise AssertionError(f"the stream ended without an error after {texts}")


async def whole_text(jeton: WholeApp, **body: Any) -> str:
    answer = await jeton.sdk.chat.completions.create(**{**BODY, **body})
    return answer.choices[0].message.content or ""


# Four characters a token, as prompts are estimated, and the emulated tokenizer makes twice as many of it.
DENSE = '"0x9f,1,{}][' * 250


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_a_prompt_that_turns_out_too_long_goes_where_it_fits(tmp_path: Path, is_streaming: bool) -> None:
    def narrow(config: dict[str, Any]) -> None:
        config["policy"] = {"name": "always_small"}
        for pool in config["pools"]:
            for backend in pool["backends"]:
                if backend["name"] in specs:
                    backend["context_tokens"] = 1024

    specs = {name: tuple(replace(one, context_tokens=1024) for one in SPECS[name]) for name in ("small", "cloud")}
    ask = {"messages": [{"role": "user", "content": DENSE}], "max_tokens": 8, "stream": is_streaming}
    async with running(tmp_path, narrow, specs) as jeton:
        answer = await jeton.http.post(PATH, json={"model": "anything", **ask})
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")
        await jeton.settled()
        refused, _ = await jeton.charges()
        assert (refused["backend"], refused["fault"], refused["completion_tokens"]) == ("small", "refused", 0)
        assert jeton.seen("cloud") == []  # its window is no larger
        answer = await jeton.http.post(PATH, json={"model": "small-model", **ask})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
        assert error["message"].startswith("This model's maximum context length is 1024 tokens.")
        assert len(jeton.seen("small")) == 2


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_f01_a_backend_that_refuses_connections_is_replaced(jeton: WholeApp, is_streaming: bool) -> None:
    jeton.replica("small").faults(refuse=True)
    answer = await jeton.http.post("/v1/chat/completions", json={**BODY, "stream": is_streaming})
    first, second = await jeton.charges()
    assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "2")
    assert (first["replica"], first["status"], first["fault"]) == ("small/1", "failed", "connect")
    assert (first["prompt_tokens"], first["completion_tokens"]) == (0, 0)
    assert (second["replica"], second["status"], second["completion_tokens"]) == ("small/2", "ok", 8)


@pytest.mark.parametrize("fault", BEFORE_THE_FIRST_BYTE)
async def test_f02_f07_f11_f12_a_failure_before_the_first_byte_goes_to_another(jeton: WholeApp, fault: str) -> None:
    how, called = BEFORE_THE_FIRST_BYTE[fault]
    jeton.replica("small").faults(**how)
    answer = await jeton.http.post("/v1/chat/completions", json=BODY)
    first, second = await jeton.charges()
    assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "2")
    assert (first["status"], first["fault"]) == ("failed", called)
    assert second["status"] == "ok"


@pytest.mark.parametrize("fault", BEFORE_THE_FIRST_BYTE)
async def test_f02_f07_f11_f12_when_nobody_is_left_the_client_hears_it_in_openais_words(
    jeton: WholeApp, fault: str
) -> None:
    how, called = BEFORE_THE_FIRST_BYTE[fault]
    jeton.replica("large").faults(**how)
    with pytest.raises(openai.InternalServerError) as caught:
        await jeton.sdk.chat.completions.create(**{**BODY, "model": "large-model"})
    (charge,) = await jeton.charges()
    assert caught.value.status_code == {"503": 503, "504": 504}.get(fault, 502)
    assert "told to fail" not in str(caught.value), "a backend's own words stay here"
    assert (charge["status"], charge["fault"]) == ("failed", called)


@pytest.mark.parametrize("fault", ["html", "empty", "non_json"])
async def test_f12_a_stream_that_is_none_is_a_failure_too(jeton: WholeApp, fault: str) -> None:
    jeton.replica("small").faults(**{fault: True})
    stream = await jeton.sdk.chat.completions.create(**STREAM)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert [charge["fault"] for charge in await jeton.charges()] == ["not_sse", ""]


@pytest.mark.parametrize("how", ["reset_after_chunks", "eof_after_chunks"])
async def test_f03_a_stream_that_breaks_gives_its_chunks_and_then_an_error(jeton: WholeApp, how: str) -> None:
    clean = await whole_text(jeton)
    jeton.replica("small").faults(**{how: 4})
    texts, error = await texts_until_error(jeton)
    charge = (await jeton.charges())[-1]
    assert len(texts) == 4
    assert texts[0] == ""  # the role comes alone
    assert clean.startswith("".join(texts))
    assert error.code == "backend_failed"
    assert (charge["status"], charge["number"]) == ("failed", 1)
    assert (charge["usage_source"], charge["completion_tokens"]) == ("recovered", 3)
    assert charge["cost_nanousd"] > 0


async def test_f03_a_stream_that_breaks_before_its_first_token_is_begun_anew(jeton: WholeApp) -> None:
    jeton.replica("small").faults(eof_after_chunks=0)
    stream = await jeton.sdk.chat.completions.create(**STREAM)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert [charge["status"] for charge in await jeton.charges()] == ["failed", "ok"]


async def test_f03_a_dying_engine_that_says_done_has_not_finished(jeton: WholeApp) -> None:
    """vLLM ends the stream of a dead engine with an error event and `[DONE]`, under a status of 200."""
    jeton.replica("small").faults(engine_dead=True)
    texts, error = await texts_until_error(jeton)
    assert len(texts) == 2
    assert error.code == "backend_failed"
    assert "EngineCore" not in str(error)
    assert (await jeton.charges())[-1]["fault"] == "error_event"


async def test_f03_a_stream_cut_by_its_engine_has_not_finished(jeton: WholeApp) -> None:
    jeton.replica("small").faults(abort_finish=True)
    _, error = await texts_until_error(jeton)
    assert error.code == "backend_failed"
    assert (await jeton.charges())[-1]["fault"] == "aborted"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_f03_the_other_apis_end_in_an_error_event_of_their_own(jeton: WholeApp, path: str) -> None:
    jeton.replica("large").faults(eof_after_chunks=9)
    body = {"model": "large-model", "input": "Hello", "messages": HELLO, "max_tokens": 50, "stream": True}
    text = (await jeton.http.post(path, json=body)).text
    assert text.rstrip().rpartition("\n\n")[2].startswith("event: error\ndata: {")
    (charge,) = await jeton.charges()
    assert (charge["status"], charge["usage_source"]) == ("failed", "estimated")
    assert charge["completion_tokens"] > 0


@pytest.mark.parametrize("jeton", [impatient], indirect=True)
@pytest.mark.parametrize("is_streaming", [False, True])
async def test_f04_a_stall_before_the_first_token_goes_to_another(jeton: WholeApp, is_streaming: bool) -> None:
    jeton.replica("small").faults(stall_before_first_token=True)
    answer = await jeton.http.post("/v1/chat/completions", json={**BODY, "stream": is_streaming})
    first, second = await jeton.charges()
    assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "2")
    assert (first["status"], first["fault"], second["status"]) == ("failed", "stall", "ok")
    await jeton.until(lambda: jeton.replica("small").engine.is_idle)


@pytest.mark.parametrize("jeton", [impatient], indirect=True)
async def test_f04_when_all_stall_the_client_hears_504(jeton: WholeApp) -> None:
    jeton.replica("large").faults(stall_before_first_token=True)
    with pytest.raises(openai.InternalServerError) as caught:
        await jeton.sdk.chat.completions.create(**{**BODY, "model": "large-model"})
    assert caught.value.status_code == 504


@pytest.mark.parametrize("jeton", [impatient], indirect=True)
async def test_f05_a_stall_inside_a_stream_ends_it_with_an_error(jeton: WholeApp) -> None:
    jeton.replica("small").faults(stall_after_chunks=3)
    texts, error = await texts_until_error(jeton, max_tokens=30_000, extra_body={"ignore_eos": True})
    (charge,) = await jeton.charges()
    assert len(texts) == 3
    assert error.code == "backend_timeout"
    assert (charge["fault"], charge["usage_source"], charge["completion_tokens"]) == ("stall", "recovered", 2)
    await jeton.until(lambda: jeton.replica("small").engine.is_idle)  # it was closed: vLLM makes no more


async def test_f06_a_limited_backend_rests_as_long_as_it_says_and_is_not_ejected(jeton: WholeApp) -> None:
    jeton.replica("small", 0).faults(status=429, retry_after=7.0)
    raw = await jeton.sdk.chat.completions.with_raw_response.create(**BODY)
    assert raw.headers["x-jeton-attempts"] == "2"
    health = jeton.app._fleet.snapshot.health["small/1"]
    assert health.state == "limited"
    assert 6 < health.until_seconds - jeton.app._fleet.clock() <= 7
    again = await jeton.sdk.chat.completions.with_raw_response.create(**BODY)
    assert again.headers["x-jeton-attempts"] == "1"


async def test_f06_when_all_are_limited_the_smallest_wait_is_told(jeton: WholeApp) -> None:
    jeton.replica("small", 0).faults(status=429, retry_after=3600.0)
    jeton.replica("small", 1).faults(status=429, retry_after=5.0)
    waits = []
    for _ in range(2):  # once the backends say so, once we know
        with pytest.raises(openai.RateLimitError) as caught:
            await jeton.sdk.chat.completions.create(**BODY)
        waits.append(int(caught.value.response.headers["retry-after"]))
    assert waits == [5, 5]
    health = jeton.app._fleet.snapshot.health["small/1"]
    assert health.until_seconds - jeton.app._fleet.clock() <= 60, "capped"
    assert len(await jeton.charges()) == 2


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_f07_five_failures_in_a_row_eject(jeton: WholeApp, status: int) -> None:
    jeton.replica("small").faults(status=status)
    for _ in range(5):
        assert jeton.health["small/1"] == "up"
        assert (await jeton.http.post("/v1/chat/completions", json=BODY)).status_code == 200
    assert jeton.health["small/1"] == "ejected"
    answer = await jeton.http.post("/v1/chat/completions", json=BODY)
    assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "1")


@pytest.mark.parametrize(
    ("status", "exception"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (413, openai.APIStatusError),
        (422, openai.UnprocessableEntityError),
    ],
)
async def test_f08_what_the_backend_finds_wrong_is_passed_on_and_never_retried(
    jeton: WholeApp, status: int, exception: type[openai.APIStatusError]
) -> None:
    jeton.replica("small").faults(status=status)
    with pytest.raises(exception, match="This replica was told to fail") as caught:
        await jeton.sdk.chat.completions.create(**BODY)
    (charge,) = await jeton.charges()
    assert caught.value.status_code == status
    assert caught.value.type == "invalid_request_error"
    assert (charge["status"], charge["fault"], charge["http_status"]) == ("failed", "refused", status)
    assert set(jeton.health.values()) == {"up"}


async def test_a_whole_answer_may_take_longer_than_the_first_event_of_a_stream(tmp_path: Path) -> None:
    """A backend sends the status line of an answer that is not streamed with its last token."""

    def change(config: dict[str, Any]) -> None:
        unchecked(config)
        config["timeouts"] = {"first_byte_seconds": 0.4}

    async with running(tmp_path, change) as jeton:
        answer = await jeton.http.post(PATH, json={**BODY, "max_tokens": 400, "ignore_eos": True})
        assert (answer.status_code, answer.headers.get("x-jeton-attempts")) == (200, "1")
        [charge] = await jeton.charges()
        assert charge["completion_tokens"] == 400
        assert (charge["ended_ns"] - charge["opened_ns"]) / 1e9 > 0.8, "the answer was too short to tell"
        jeton.replica("small", 0).faults(hang=True, times=1)
        answer = await jeton.http.post(PATH, json=BODY)  # of a few tokens it is soon known that they do not come
        assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "2")


@pytest.mark.parametrize("provider", [None, "openai"])
async def test_an_account_that_openai_calls_over_its_quota_is_empty_and_not_limited(
    tmp_path: Path, provider: str | None
) -> None:
    """Its 429 says so in its code alone, and not for how long to wait."""
    error = {"message": "You exceeded your current quota.", "type": "insufficient_quota", "code": "insufficient_quota"}
    async with scripted_backend() as backend:
        backend.answer = json_answer(json.dumps({"error": error}).encode()).replace(
            b"200 OK", b"429 Too Many Requests", 1
        )

        def change(config: dict[str, Any]) -> None:
            cloud = config["pools"][2]["backends"][0]
            cloud["capabilities"] = ["chat"]
            cloud["replicas"] = [{"url": backend.url, "api_key_env": "CLOUD_API_KEY"}]
            if provider is not None:
                cloud["provider"] = provider

        async with running(tmp_path, change) as jeton:
            answer = await jeton.http.post("/v1/chat/completions", json={**BODY, "model": "cloud-model"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "backend_failed")
            health = jeton.app._fleet.snapshot.health["cloud/1"]
            assert (health.state, health.why) == ("limited", "our account there is out of credit")
            [charge] = await jeton.charges()
            assert (charge["fault"], charge["http_status"], charge["cost_nanousd"]) == ("no_credit", 429, 0)


@pytest.mark.parametrize(("status", "fault", "why"), [(402, "no_credit", "credit"), (529, "overloaded", "overloaded")])
async def test_an_empty_account_and_too_much_work_are_not_the_clients_fault_where_no_provider_is_named_either(
    jeton: WholeApp, status: int, fault: str, why: str
) -> None:
    jeton.replica("small", 0).faults(status=status)
    answer = await jeton.http.post("/v1/chat/completions", json=BODY)
    assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "2")
    health = jeton.app._fleet.snapshot.health["small/1"]
    assert health.state == "limited"
    assert why in health.why
    first = (await jeton.charges())[0]
    assert (first["fault"], first["http_status"], first["completion_tokens"]) == (fault, status, 0)


@pytest.mark.parametrize("status", [401, 403])
async def test_f09_a_backend_that_refuses_our_key_is_out_and_its_words_stay_here(jeton: WholeApp, status: int) -> None:
    jeton.replica("large").faults(status=status)
    with pytest.raises(openai.InternalServerError) as caught:
        await jeton.sdk.chat.completions.create(**{**BODY, "model": "large-model"})
    assert caught.value.status_code == 502
    assert "told to fail" not in caught.value.response.text
    assert jeton.health["large/1"] == "locked_out"
    assert [event for event in jeton.events if event.get("replica") == "large/1" and event["log_level"] == "warning"]
    with pytest.raises(openai.InternalServerError) as caught:
        await jeton.sdk.chat.completions.create(**{**BODY, "model": "large-model"})
    assert caught.value.status_code == 503


@pytest.mark.parametrize("kind", ["crlf", "no_space", "comments", "split_utf8", "multi_line"])
async def test_f10_unusual_but_legal_events_pass(jeton: WholeApp, kind: str) -> None:
    clean = await whole_text(jeton)
    jeton.replica("small").faults(bad_sse=kind)
    stream = await jeton.sdk.chat.completions.create(**STREAM)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text.replace("é", "") == clean
    assert (await jeton.charges())[-1]["status"] == "ok"


@pytest.mark.parametrize("kind", ["bad_json", "bad_utf8", "long_line", "no_blank_line"])
async def test_f10_unusable_events_end_the_stream_with_an_error(jeton: WholeApp, kind: str) -> None:
    jeton.replica("small").faults(bad_sse=kind)
    texts, error = await texts_until_error(jeton)
    assert len(texts) == 2
    assert error.code == "backend_failed"
    assert (await jeton.charges())[-1]["fault"] == "bad_event"


async def test_f12_a_finish_reason_that_is_no_name_is_passed_on(tmp_path: Path) -> None:
    body = json.dumps({"id": "x", "model": "m", "choices": [{"index": 0, "finish_reason": ["stop"]}]}).encode()
    async with scripted_backend() as backend:
        backend.answer = json_answer(body)
        async with running(tmp_path, backend.at(2)) as jeton:
            answer = await jeton.http.post("/v1/chat/completions", json={**BODY, "model": "cloud-model"})
            assert (answer.status_code, answer.json()["choices"][0]["finish_reason"]) == (200, ["stop"])


@pytest.mark.parametrize("usage", ["missing", "negative", "absurd"])
@pytest.mark.parametrize("model", ["small-model", "cloud-model"])
async def test_f13_usage_that_is_missing_or_cannot_be_is_estimated_and_counted(
    jeton: WholeApp, usage: str, model: str
) -> None:
    jeton.replica(model.removesuffix("-model")).faults(usage=usage)
    await jeton.sdk.chat.completions.create(**{**BODY, "model": model})
    for options in ({}, {"stream_options": {"include_usage": True}}):
        stream = await jeton.sdk.chat.completions.create(**{**STREAM, "model": model, **options})
        assert [chunk async for chunk in stream]
    await jeton.settled()
    source = "tokenized" if (usage, model) == ("missing", "small-model") else "estimated"
    for charge in await jeton.charges():
        assert (charge["status"], charge["usage_source"]) == ("ok", source)
        assert charge["prompt_tokens"] > 0
        assert 4 <= charge["completion_tokens"] <= 16
        assert charge["cost_nanousd"] > 0
    assert f'jeton_usage_total{{source="{source}"}} 3.0' in (await jeton.http.get("/metrics")).text


def soon_readmitted(config: dict[str, Any]) -> None:
    config["health"] = {"interval_seconds": 0.1, "ejection_seconds": 0.3}


@pytest.mark.parametrize("jeton", [soon_readmitted], indirect=True)
async def test_f14_a_green_health_check_does_not_save_a_backend_that_fails_and_a_probe_readmits_it(
    jeton: WholeApp,
) -> None:
    jeton.replica("small").faults(status=500)
    for _ in range(5):
        await jeton.http.post("/v1/chat/completions", json=BODY)
    assert jeton.health["small/1"] == "ejected"
    hits = jeton.replica("small").fault_hits
    await jeton.until(lambda: jeton.replica("small").fault_hits > hits)  # a probe, which fails
    assert jeton.health["small/1"] == "ejected"
    jeton.replica("small").clear_faults()
    await jeton.until(lambda: jeton.health["small/1"] == "up")


async def test_f15_retries_do_not_multiply_an_outage(jeton: WholeApp) -> None:
    for replica in jeton.fleet["small"]:
        replica.faults(status=500)
    began = jeton.app._fleet.clock()
    client = jeton.http
    for _ in range(100):
        answer = await client.post("/v1/chat/completions", json=BODY)
        assert answer.status_code == 502
    seconds = jeton.app._fleet.clock() - began
    attempts = len(await jeton.charges())
    assert 100 <= attempts <= 1.2 * 100 + 10 * (seconds + 1)


async def test_f35_an_invalid_certificate_puts_the_backend_out_and_nothing_goes_plain(tmp_path: Any) -> None:
    """Spoken to in TLS, a plain port has no certificate at all."""

    def in_tls(config: dict[str, Any]) -> None:
        unchecked(config)
        cloud = config["pools"][2]["backends"][0]
        cloud["replicas"][0]["url"] = cloud["replicas"][0]["url"].replace("http:", "https:")

    async with running(tmp_path, in_tls) as jeton:
        with pytest.raises(openai.InternalServerError) as caught:
            await jeton.sdk.chat.completions.create(**{**BODY, "model": "cloud-model"})
        assert caught.value.status_code == 502
        assert not jeton.replica("cloud").requests_seen
        assert [charge["status"] for charge in await jeton.charges()] == ["failed"]


async def test_a_deadline_for_the_whole_request_ends_in_504(tmp_path: Any) -> None:
    def short(config: dict[str, Any]) -> None:
        unchecked(config)
        config["timeouts"] = {"total_seconds": 0.5}

    async with running(tmp_path, short) as jeton:
        answer = await jeton.http.post("/v1/chat/completions", json={**BODY, "max_tokens": 30_000, "ignore_eos": True})
        assert answer.status_code == 504
        texts, error = await texts_until_error(jeton, max_tokens=30_000, extra_body={"ignore_eos": True})
        assert texts
        assert error.code == "backend_timeout"
        assert [charge["fault"] for charge in await jeton.charges()] == ["deadline", "deadline"]
