"""The response cache in the whole of jeton: what is served from it, to whom, and what the books say of it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from payloads import HELLO, PIXEL
from prometheus_client.parser import text_string_to_metric_families
from scripted_backend import ScriptedBackend, json_answer, scripted_backend
from whole_app import PEPPER, WholeApp, running

from router.__main__ import main
from router.access.keys import api_key_hash, new_api_key
from router.conversation import Conversation
from router.ledger.budget import Account
from router.selection.holdout import Holdout

PATH = "/v1/chat/completions"
COLD: dict[str, Any] = {"model": "small-model", "messages": HELLO, "temperature": 0, "max_tokens": 20}


def cached(config: dict[str, Any]) -> None:
    config["cache"] = {"ttl_seconds": 3600}


@pytest.fixture
async def jeton(tmp_path: Path) -> AsyncIterator[WholeApp]:
    async with running(tmp_path, cached) as whole:
        yield whole


async def ask(jeton: WholeApp, body: dict[str, Any] = COLD, path: str = PATH, **headers: str) -> httpx.Response:
    """headers: `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await jeton.http.post(path, json=body, headers=named)


def said(answer: httpx.Response) -> str:
    return answer.headers.get("x-jeton-cache", "")


def asked(jeton: WholeApp, backend: str = "small") -> int:
    return len(jeton.seen(backend))


async def sums(jeton: WholeApp, name: str, *by: str) -> dict[tuple[str, ...], float]:
    """A metric's samples, summed by labels."""
    text = (await jeton.http.get("/metrics")).text
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                key = tuple(sample.labels[label] for label in by)
                found[key] = found.get(key, 0) + sample.value
    return found


async def test_the_same_question_is_answered_once_and_told_twice(jeton: WholeApp) -> None:
    first, second = await ask(jeton), await ask(jeton)
    assert (said(first), said(second)) == ("miss", "hit")
    assert second.content == first.content
    assert asked(jeton) == 1
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    for name in ("content-type", "x-jeton-backend", "x-jeton-model", "x-jeton-tier", "x-jeton-policy"):
        assert second.headers[name] == first.headers[name]
    assert float(first.headers["x-jeton-cost-usd"]) > 0
    assert second.headers["x-jeton-cost-usd"] == "0.000000000"
    assert (second.headers["x-jeton-attempts"], second.headers["x-jeton-reason"]) == ("0", "cache hit")


async def test_a19_served_tokens_are_booked_apart_at_no_cost_and_what_was_saved_is_known(jeton: WholeApp) -> None:
    await ask(jeton)
    before = await sums(jeton, "jeton_tokens_total", "pool", "class")
    saved_before = sum((await sums(jeton, "jeton_saved_usd_total", "method")).values())
    await ask(jeton)
    (provider, served) = await jeton.charges()
    assert (provider["pool"], served["pool"], served["backend"]) == ("edge", "cache", "cache")
    assert (served["cost_nanousd"], served["cost_status"], served["status"]) == (0, "priced", "ok")
    for tokens in ("prompt_tokens", "completion_tokens"):
        assert served[tokens] == provider[tokens] > 0
    assert served["cached_tokens"] == 0
    assert served["baseline_nanousd"] > 0
    after = await sums(jeton, "jeton_tokens_total", "pool", "class")
    assert {key: value for key, value in after.items() if key[0] != "cache"} == before, "no provider's totals move"
    assert after["cache", "prompt"] == provider["prompt_tokens"]
    assert after["cache", "completion"] == provider["completion_tokens"]
    assert (await sums(jeton, "jeton_bill_usd_total", "pool"))["cache",] == 0
    saved = sum((await sums(jeton, "jeton_saved_usd_total", "method")).values()) - saved_before
    assert saved == pytest.approx(served["baseline_nanousd"] / 1e9)
    assert await sums(jeton, "jeton_cache_requests_total", "result") == {
        ("miss",): 1,
        ("hit",): 1,
        ("shared",): 0,
        ("bypass",): 0,
    }
    assert (await sums(jeton, "jeton_cache_entries"))[()] == 1


async def test_reports_and_exports_take_recalled_answers_as_they_are(jeton: WholeApp, tmp_path: Path) -> None:
    for _ in range(3):
        await ask(jeton)
    await jeton.charges()
    arguments = ["report", "--config", str(tmp_path / "router.yaml"), "--output", str(tmp_path / "report")]
    made = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    assert made.exit_code == 0, made.output
    listed = await asyncio.to_thread(
        CliRunner().invoke, main, ["ledger", "--ledger", str(jeton.ledger_path), "sum", "--by", "pool"]
    )
    assert "cache" in listed.output, listed.output


@pytest.mark.parametrize("options", [None, {"include_usage": True}])
async def test_a_stream_is_told_again_as_a_stream(jeton: WholeApp, options: dict[str, Any] | None) -> None:
    body = {**COLD, "stream": True, **({"stream_options": options} if options else {})}
    first, second = await ask(jeton, body), await ask(jeton, body)
    assert (said(first), said(second)) == ("miss", "hit")
    assert second.headers["content-type"] == first.headers["content-type"]
    assert asked(jeton) == 1
    assert second.text.endswith("data: [DONE]\n\n")
    if options is None:
        assert second.content == first.content
        return
    costs = []
    for answer in (first, second):
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        costs.append(events[-1].pop("jeton_cost"))
        assert events[-1]["usage"]["completion_tokens"] > 0
    assert costs[0]["nanousd"] > 0
    assert costs[1] == {"usd": 0, "nanousd": 0, "basis": "metered", "usage_source": "provider"}


async def test_a_stream_and_a_whole_answer_are_two(jeton: WholeApp) -> None:
    assert [said(await ask(jeton, {**COLD, "stream": stream})) for stream in (False, True)] == ["miss", "miss"]


async def test_every_api_that_generates_text_is_remembered(jeton: WholeApp) -> None:
    for path, body in (
        ("/v1/completions", {"prompt": "Once", "max_tokens": 5}),
        ("/v1/responses", {"input": "Once", "max_output_tokens": 20}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 5}),
    ):
        for stream in (False, True):
            asking = {"model": "small-model", "temperature": 0, "stream": stream, **body}
            answers = [await ask(jeton, asking, path) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
            assert [said(answer) for answer in answers] == ["miss", "hit"], path
            assert answers[0].content == answers[1].content


async def test_openais_sdk_takes_a_recalled_answer_for_any_other(jeton: WholeApp) -> None:
    asking: Any = {"model": "small-model", "messages": HELLO, "seed": 7, "max_tokens": 10}
    first, second = [await jeton.sdk.chat.completions.create(**asking) for _ in range(2)]
    assert first == second
    texts = []
    for _ in range(2):
        stream = await jeton.sdk.chat.completions.create(**asking, stream=True)
        texts.append("".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]))
    assert texts[0] == texts[1] != ""
    assert asked(jeton) == 2


@pytest.mark.parametrize("members", [{"temperature": 0.7}, {"temperature": None}])
async def test_what_may_come_out_otherwise_is_never_remembered(jeton: WholeApp, members: dict[str, Any]) -> None:
    answers = [await ask(jeton, {**COLD, **members}) for _ in range(2)]
    assert [said(answer) for answer in answers] == ["", ""]
    assert asked(jeton) == 2
    assert jeton.app._cache.entries == 0


async def test_media_at_an_address_may_be_other_media_tomorrow(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        cached(config)
        config["media"] = {"domains": ["images.example.com"]}

    def seeing(url: str) -> dict[str, Any]:
        parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
        return {**COLD, "model": "large-model", "messages": [{"role": "user", "content": parts}]}

    async with running(tmp_path, change) as jeton:
        for url, told in ((PIXEL, ["miss", "hit"]), ("https://images.example.com/a.png", ["", ""])):
            assert [said(await ask(jeton, seeing(url))) for _ in range(2)] == told


async def test_tenants_see_only_their_own(tmp_path: Path) -> None:
    other = new_api_key()

    def two(config: dict[str, Any]) -> None:
        cached(config)
        keys = [{"name": "k", "hash": api_key_hash(other, PEPPER.encode())}]
        config["tenants"].append({"name": "others", "api_keys": keys})

    async with running(tmp_path, two) as jeton:
        assert said(await ask(jeton)) == "miss"
        assert said(await ask(jeton, authorization=f"Bearer {other}")) == "miss"
        assert said(await ask(jeton, authorization=f"Bearer {other}")) == "hit"
        assert (await ask(jeton, authorization="Bearer sk-jeton-wrong")).status_code == 401
        assert asked(jeton) == 2


async def test_models_are_not_taken_for_one_another(jeton: WholeApp) -> None:
    for model in ("small-model", "large-model"):
        answers = [await ask(jeton, {**COLD, "model": model}) for _ in range(2)]
        assert [said(answer) for answer in answers] == ["miss", "hit"]
        assert answers[1].headers["x-jeton-model"] == model


async def test_clients_may_want_it_fresh_or_without_a_trace(jeton: WholeApp) -> None:
    assert said(await ask(jeton, cache_control="no-store")) == "bypass"
    assert jeton.app._cache.entries == 0
    assert said(await ask(jeton)) == "miss"
    assert said(await ask(jeton, cache_control="no-store")) == "bypass"
    assert said(await ask(jeton, cache_control="max-age=0, No-Cache")) == "bypass"
    assert asked(jeton) == 4
    assert said(await ask(jeton, cache_control="max-age=0")) == "hit"


async def test_identical_requests_under_way_are_dispatched_once(jeton: WholeApp) -> None:
    answers = await asyncio.gather(*(ask(jeton) for _ in range(20)))
    assert {answer.content for answer in answers} == {answers[0].content}
    told = [said(answer) for answer in answers]
    assert told.count("miss") == 1
    assert set(told) <= {"miss", "hit", "shared"}
    assert asked(jeton) == 1
    charges = await jeton.charges()
    assert [charge["pool"] for charge in charges].count("cache") == 19
    assert sum(charge["cost_nanousd"] for charge in charges if charge["pool"] == "cache") == 0


@pytest.fixture
async def silent(tmp_path: Path) -> AsyncIterator[tuple[WholeApp, ScriptedBackend]]:
    """A backend that answers when it is told to, in the place of `small`."""
    async with scripted_backend() as backend:
        backend.answer = json_answer(completion("stop"))
        backend.speaks.clear()

        def change(config: dict[str, Any]) -> None:
            backend.at(0)(config)
            cached(config)

        async with running(tmp_path, change) as jeton:
            yield jeton, backend


def leader_is_gone(jeton: WholeApp) -> bool:
    (flight,) = jeton.app._cache._flights.values()
    call = getattr(flight.on_unfollowed, "__self__", None)
    assert isinstance(call, Conversation)
    return call.is_gone


async def test_what_a_leader_that_left_asked_for_goes_on_for_the_others(
    silent: tuple[WholeApp, ScriptedBackend],
) -> None:
    jeton, backend = silent
    leader = await jeton.raw(jeton.request(PATH, COLD))
    await jeton.until(lambda: len(backend.heads) == 1, seconds=15)
    following = [asyncio.create_task(ask(jeton)) for _ in range(5)]
    await jeton.until(lambda: jeton.app._cache.waiting == 5, seconds=15)
    leader.leave()
    await jeton.until(lambda: leader_is_gone(jeton), seconds=15)
    backend.speaks.set()
    answers = await asyncio.gather(*following)
    assert [(answer.status_code, said(answer)) for answer in answers] == [(200, "shared")] * 5
    assert len(backend.heads) == 1
    asked_once, *served = await jeton.charges()
    assert (asked_once["backend"], asked_once["status"]) == ("small", "ok")
    assert [row["backend"] for row in served] == ["cache"] * 5
    await jeton.settled()


async def test_a_stream_whose_leader_left_in_its_midst_is_whole_for_the_others(jeton: WholeApp) -> None:
    body = {**COLD, "stream": True, "max_tokens": 400, "ignore_eos": True}
    leader = await jeton.raw(jeton.request(PATH, body))
    await leader.reader.readuntil(b'"content"')
    following = [asyncio.create_task(ask(jeton, body)) for _ in range(3)]
    await jeton.until(lambda: jeton.app._cache.waiting == 3)
    leader.leave()
    await jeton.until(lambda: leader_is_gone(jeton))
    answers = await asyncio.gather(*following)
    assert {(answer.status_code, said(answer)) for answer in answers} == {(200, "shared")}
    assert {answer.text.endswith("data: [DONE]\n\n") for answer in answers} == {True}
    assert asked(jeton) == 1
    made, *served = await jeton.charges()
    assert (made["status"], made["completion_tokens"]) == ("ok", 400)
    assert {row["completion_tokens"] for row in served} == {400}
    await jeton.settled()


async def test_once_the_last_follower_has_left_too_the_backend_is_told(
    silent: tuple[WholeApp, ScriptedBackend],
) -> None:
    jeton, backend = silent
    clients = [await jeton.raw(jeton.request(PATH, COLD))]
    await jeton.until(lambda: len(backend.heads) == 1, seconds=15)
    for number in (1, 2):
        clients.append(await jeton.raw(jeton.request(PATH, COLD)))
        await jeton.until(lambda number=number: jeton.app._cache.waiting == number, seconds=15)
    clients[0].leave()
    await jeton.until(lambda: leader_is_gone(jeton), seconds=15)
    clients[1].leave()
    await jeton.until(lambda: jeton.app._cache.waiting == 1, seconds=15)
    assert (jeton.app._cache.flights, len(backend.heads)) == (1, 1)
    clients[2].leave()
    await jeton.settled()
    assert jeton.app._cache.flights == 0
    (charge,) = await jeton.charges()
    assert (charge["status"], charge["fault"]) == ("cancelled", "client_gone")
    assert len(backend.heads) == 1


async def test_where_a_leader_runs_out_of_its_own_time_one_of_the_others_leads_them(
    silent: tuple[WholeApp, ScriptedBackend],
) -> None:
    jeton, backend = silent
    leading = asyncio.create_task(ask(jeton, x_jeton_deadline_ms="700"))
    await jeton.until(lambda: len(backend.heads) == 1, seconds=15)
    following = [asyncio.create_task(ask(jeton)) for _ in range(5)]
    await jeton.until(lambda: jeton.app._cache.waiting == 5, seconds=15)
    assert (await leading).json()["error"]["code"] == "deadline_passed"
    await jeton.until(lambda: len(backend.heads) == 2, seconds=15)
    assert jeton.app._cache.waiting == 4
    backend.speaks.set()
    told = sorted([said(answer) for answer in await asyncio.gather(*following)])
    assert told == ["miss", "shared", "shared", "shared", "shared"]
    assert len(backend.heads) == 2


async def test_when_a_leader_that_left_fails_another_backend_is_asked_for_the_others(tmp_path: Path) -> None:
    async with scripted_backend() as backend:
        backend.answer = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
        backend.speaks.clear()

        def change(config: dict[str, Any]) -> None:
            backend.at(0)(config)
            cached(config)
            config["health"] = {"interval_seconds": 600}
            config["policy"] = {"name": "always_small"}
            (cloud,) = config["pools"][2]["backends"]
            cloud |= {"model": "small-model", "tier": "small"}

        async with running(tmp_path, change) as jeton:
            leader = await jeton.raw(jeton.request(PATH, COLD))
            await jeton.until(lambda: len(backend.heads) == 1, seconds=15)
            following = asyncio.create_task(ask(jeton))
            await jeton.until(lambda: jeton.app._cache.waiting == 1, seconds=15)
            leader.leave()
            await jeton.until(lambda: leader_is_gone(jeton), seconds=15)
            backend.speaks.set()
            answer = await following
            assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "cloud")
            rows = [(row["backend"], row["status"]) for row in await jeton.charges()]
            assert rows == [("small", "failed"), ("cloud", "ok"), ("cache", "ok")]


async def test_a_follower_that_leaves_takes_nothing_from_the_leader(silent: tuple[WholeApp, ScriptedBackend]) -> None:
    jeton, backend = silent
    leading = asyncio.create_task(ask(jeton))
    await jeton.until(lambda: len(backend.heads) == 1, seconds=15)
    follower = await jeton.raw(jeton.request(PATH, COLD))
    await jeton.until(lambda: jeton.app._cache.waiting == 1, seconds=15)
    follower.leave()
    await jeton.until(lambda: jeton.app._cache.waiting == 0, seconds=15)
    backend.speaks.set()
    answer = await leading
    assert (answer.status_code, said(answer)) == (200, "miss")
    assert len(backend.heads) == 1
    assert jeton.app._cache.flights == 0


def budgeted(**more: Any) -> Callable[[dict[str, Any]], None]:
    """A dollar in all. more: of the budget."""

    def change(config: dict[str, Any]) -> None:
        cached(config)
        config["tenants"][0]["budgets"] = [{"usd": "1", "per": "total", **more}]

    return change


@contextlib.contextmanager
def used_up(jeton: WholeApp, ratio: float = 1.0) -> Iterator[Account]:
    """As if so much of the budget had been spent, which the books do not have."""
    (account,) = jeton.app._bursar.of("tests", "tests")
    really_nanousd, account.spent_nanousd = account.spent_nanousd, round(ratio * 10**9)
    try:
        yield account
    finally:
        account.spent_nanousd = really_nanousd


async def test_who_has_no_money_left_is_told_what_is_known_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path, budgeted()) as jeton:
        first = await ask(jeton)
        await jeton.charges()
        with used_up(jeton) as account:
            again = await ask(jeton)
            assert (again.status_code, said(again), again.content) == (200, "hit", first.content)
            assert (again.headers["x-jeton-cost-usd"], again.headers["x-jeton-backend"]) == ("0.000000000", "small")
            for other in ({"max_tokens": 19}, {"temperature": 0.7}, {"stream": True}):
                refused = await ask(jeton, {**COLD, **other})
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
                assert said(refused) == ""
            for directive in ("no-cache", "no-store"):
                assert (await ask(jeton, cache_control=directive)).status_code == 429
            assert (account.spent_nanousd, account.held_nanousd) == (10**9, 0)
        assert asked(jeton) == 1
        _, served = await jeton.charges()
        assert (served["backend"], served["cost_nanousd"]) == ("cache", 0)
        assert (await sums(jeton, "jeton_cache_requests_total", "result"))["miss",] == 1, "who is refused has not asked"


async def test_without_money_what_was_sent_under_a_key_is_given_again(tmp_path: Path) -> None:
    async with running(tmp_path, budgeted()) as jeton:
        warm = {**COLD, "temperature": 0.7}
        first = await ask(jeton, warm, idempotency_key="again")
        with used_up(jeton):
            again = await ask(jeton, warm, idempotency_key="again")
            assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
            assert again.content == first.content
            assert (await ask(jeton, warm, idempotency_key="another")).status_code == 429


async def test_without_money_a_limit_of_requests_still_holds(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        budgeted()(config)
        config["tenants"][0]["requests_per_minute"] = 2

    async with running(tmp_path, change) as jeton:
        await ask(jeton)
        with used_up(jeton):
            assert said(await ask(jeton)) == "hit"
            refused = await ask(jeton)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")


async def test_without_money_the_answer_is_that_to_which_the_budget_had_degraded(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        budgeted(degrade={"at_ratio": 0.5, "tiers": ["small"]})(config)
        config["policy"] = {"name": "always_large"}

    async with running(tmp_path, change) as jeton:
        body = {**COLD, "model": "anything"}
        large = await ask(jeton, body)
        with used_up(jeton, 0.6):
            small = await ask(jeton, body)
        with used_up(jeton):
            again = await ask(jeton, body)
        assert [one.headers["x-jeton-backend"] for one in (large, small, again)] == ["large", "small", "small"]
        assert [said(one) for one in (large, small, again)] == ["miss", "miss", "hit"]


async def test_without_money_nobody_is_held_out_from_what_is_known(tmp_path: Path) -> None:
    async with running(tmp_path, budgeted()) as jeton:
        body = {**COLD, "model": "auto"}
        first = await ask(jeton, body)
        pipeline = jeton.app._pipeline
        pipeline.deployment = replace(pipeline.deployment, holdout=Holdout("large", 1.0))
        with used_up(jeton):
            again = await ask(jeton, body)
        assert (said(again), again.content) == ("hit", first.content)
        assert said(await ask(jeton, body)) == "", "with money it is dispatched, and measures"


@pytest.mark.parametrize("is_answered", [True, False])
async def test_without_money_an_answer_that_is_being_made_is_waited_for(tmp_path: Path, is_answered: bool) -> None:
    async with scripted_backend() as backend:
        backend.answer = json_answer(completion("stop" if is_answered else None))
        backend.speaks.clear()

        def change(config: dict[str, Any]) -> None:
            budgeted()(config)
            backend.at(0)(config)

        async with running(tmp_path, change) as jeton:
            leading = asyncio.create_task(ask(jeton))
            await jeton.until(lambda: len(backend.heads) == 1, seconds=15)
            with used_up(jeton):
                following = asyncio.create_task(ask(jeton))
                await jeton.until(lambda: jeton.app._cache.waiting == 1, seconds=15)
                backend.speaks.set()
                answer = await following
            assert (answer.status_code, said(answer)) == ((200, "shared") if is_answered else (429, ""))
            assert (await leading).status_code == 200
            assert len(backend.heads) == 1


def completion(finish: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


async def test_only_whole_answers_with_a_real_end_are_kept(tmp_path: Path) -> None:
    async with scripted_backend() as backend:

        def change(config: dict[str, Any]) -> None:
            backend.at(0)(config)
            cached(config)
            config["cache"]["answer_bytes_max"] = 1_000

        async with running(tmp_path, change) as jeton:
            for body in (completion(None), completion("stop").replace(b'"a"', b'"' + b"a" * 1_000 + b'"')):
                backend.answer = json_answer(body)
                assert [said(await ask(jeton)) for _ in range(2)] == ["miss", "miss"]
            backend.answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}"
            assert [(await ask(jeton)).status_code for _ in range(2)] == [400, 400]
            assert jeton.app._cache.entries == 0
            backend.answer = json_answer(completion("stop"))
            assert [said(await ask(jeton)) for _ in range(2)] == ["miss", "hit"]


async def test_it_is_off_unless_it_is_configured(tmp_path: Path) -> None:
    async with running(tmp_path) as jeton:
        assert [said(await ask(jeton)) for _ in range(2)] == ["", ""]
        assert asked(jeton) == 2


async def test_a_reload_switches_it_on_and_off(tmp_path: Path) -> None:
    async with running(tmp_path) as jeton:
        loaded = jeton.app._loaded

        def switch(cache: dict[str, Any] | None) -> None:
            config = type(loaded.config).model_validate({**loaded.config.model_dump(by_alias=True), "cache": cache})
            jeton.app.apply(type(loaded)(**{**_members(loaded), "config": config}))

        switch({})
        assert [said(await ask(jeton)) for _ in range(2)] == ["miss", "hit"]
        switch(None)
        assert said(await ask(jeton)) == ""
        assert jeton.app._cache.entries == 0


def _members(loaded: Any) -> dict[str, Any]:
    return {name: getattr(loaded, name) for name in loaded.__dataclass_fields__}
