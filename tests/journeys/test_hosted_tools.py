"""Tools that a cloud runs itself, from the client to the row: asked for, told, priced, held; `running` audits the books."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from payloads import HELLO
from provided import provided
from scripted_backend import json_answer, scripted_backend, stream_answer
from whole_app import PRICES, WholeApp, running

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
SEARCH, FILES = {"type": "web_search"}, {"type": "file_search", "vector_store_ids": ["vs_1"]}
INTERPRETER = {"type": "code_interpreter", "container": {"type": "auto"}}
CLAUDES = {"type": "web_search_20250305", "name": "web_search"}
ASK: dict[str, Any] = {"model": "cloud-model", "input": "Hello", "max_output_tokens": 40}
FEES = {"web_search": 0.01, "file_search": 0.0025, "code_interpreter": 0.03}
WITH_FEES = {**PRICES, "tokens": [{**PRICES["tokens"][0], "tool_call_usd": FEES}]}
A_SEARCH = 10_000_000


def of_tokens(charge: Any) -> int:
    """Nano-dollars, at the rates of PRICES."""
    uncached = charge["prompt_tokens"] - charge["cached_tokens"]
    cost: int = uncached * 2000 + charge["cached_tokens"] * 500 + charge["completion_tokens"] * 8000
    return cost


def of_tools(charge: Any) -> int:
    cost: int = charge["cost_nanousd"] - of_tokens(charge)
    return cost


def warnings(jeton: WholeApp) -> list[tuple[str, str]]:
    return [
        (event["backend"], event["tool"])
        for event in jeton.events
        if event["log_level"] == "warning" and "tool" in event
    ]


@pytest.mark.parametrize(
    ("asked", "fees"),
    [
        ({}, 0),
        ({"tools": [SEARCH]}, 2 * A_SEARCH),  # and a page that it opened
        ({"tools": [SEARCH], "max_tool_calls": 1}, A_SEARCH),
        ({"tools": [SEARCH], "tool_choice": "none"}, 0),
        ({"tools": [FILES, SEARCH]}, 2 * A_SEARCH + 2_500_000),
        ({"tools": [INTERPRETER]}, 30_000_000),  # two runs in one container
    ],
)
async def test_the_real_client_pays_for_the_calls_that_a_response_tells_streamed_or_not(
    tmp_path: Path, asked: dict[str, Any], fees: int
) -> None:
    async with running(tmp_path, prices=WITH_FEES) as jeton:
        whole = await jeton.sdk.responses.create(**ASK, **asked)
        events = [event async for event in await jeton.sdk.responses.create(**ASK, **asked, stream=True)]
        kinds = [item.type for item in whole.output]
        assert kinds == [item.type for item in events[-1].response.output]
        assert ("message" in kinds, len(kinds) > 1) == (True, fees > 0)
        charges = await jeton.charges()
        assert [row["cost_status"] for row in charges] == ["priced"] * 2
        assert [of_tools(row) for row in charges] == [fees] * 2
        assert [body.get("tools") for body in jeton.seen("cloud")] == [asked.get("tools")] * 2
        assert warnings(jeton) == []


async def test_what_the_answer_says_that_it_cost_has_the_calls_in_it(tmp_path: Path) -> None:
    async with running(tmp_path, prices=WITH_FEES) as jeton:
        answer = await jeton.http.post(RESPONSES, json={**ASK, "tools": [SEARCH]})
        (charge,) = await jeton.charges()
        assert round(float(answer.headers["x-jeton-cost-usd"]) * 1e9) == charge["cost_nanousd"] > 2 * A_SEARCH


@pytest.mark.parametrize(("tool", "searches"), [(CLAUDES, 2), ({**CLAUDES, "max_uses": 1}, 1), (None, 0)])
async def test_anthropics_own_client_pays_for_the_searches_that_a_message_tells_streamed_or_not(
    tmp_path: Path, tool: dict[str, Any] | None, searches: int
) -> None:
    body: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "max_tokens": 30}
    body |= {} if tool is None else {"tools": [tool]}

    def as_anthropic(backend: dict[str, Any]) -> None:
        backend["completion_tokens_max"] = 64
        backend["capabilities"] = ["chat", "messages", "tools"]

    async with provided(tmp_path, "anthropic", change=as_anthropic, prices=WITH_FEES) as jeton:
        client = anthropic.AsyncAnthropic(base_url=jeton.url, api_key=jeton.api_key, max_retries=0, timeout=60)
        jeton._clients.append(client)
        whole = await client.messages.create(**body)
        async with client.messages.stream(**body) as stream:
            streamed = await stream.get_final_message()
        for message in (whole, streamed):
            told = message.usage.server_tool_use
            assert (0 if told is None else told.web_search_requests) == searches
        charges = await jeton.charges()
        assert [of_tools(row) for row in charges] == [searches * A_SEARCH] * 2
        assert warnings(jeton) == []


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_a_chat_that_asks_for_a_search_pays_for_one(tmp_path: Path, is_streaming: bool) -> None:
    async with running(tmp_path, prices=WITH_FEES) as jeton:
        body = {"model": "cloud-model", "messages": HELLO, "max_tokens": 40, "stream": is_streaming}
        for options in ({}, {"search_context_size": "low"}, None):
            assert (await jeton.http.post(CHAT, json={**body, "web_search_options": options})).status_code == 200
        assert [of_tools(row) for row in await jeton.charges()] == [A_SEARCH, A_SEARCH, 0]


# What the price does not have


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_calls_without_a_fee_leave_the_cost_unknown_and_are_told_once(tmp_path: Path, is_streaming: bool) -> None:
    async with running(tmp_path) as jeton:
        for _ in range(2):
            body = {**ASK, "tools": [SEARCH, FILES], "stream": is_streaming}
            answer = await jeton.http.post(RESPONSES, json=body)
            assert answer.status_code == 200
            assert "x-jeton-cost-usd" not in answer.headers
        charges = await jeton.charges()
        assert [(row["cost_status"], row["cost_nanousd"]) for row in charges] == [("unpriced", None)] * 2
        assert warnings(jeton) == [("cloud", "file_search"), ("cloud", "web_search")]
        (remedy, _) = [event["remedy"] for event in jeton.events if "tool" in event]
        assert remedy == "state what a call costs under `tool_call_usd` of `tokens` in prices.yaml"
        assert 'jeton_unpriced_attempts_total{backend="cloud"} 2.0' in (await jeton.http.get("/metrics")).text


USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


def whole(*output: Any, **usage: Any) -> bytes:
    answer = {"object": "response", "status": "completed", "model": "gpt-x", "output": list(output)}
    return json_answer(json.dumps({**answer, "usage": USAGE | usage}).encode())


def streamed(*events: dict[str, Any]) -> bytes:
    return stream_answer(*(json.dumps(event).encode() for event in events))


async def test_what_the_provider_charged_is_the_cost_of_calls_without_a_fee(tmp_path: Path) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2)) as jeton:
        backend.answer = whole({"type": "web_search_call"}, cost=0.012)
        answer = await jeton.http.post(RESPONSES, json={**ASK, "tools": [SEARCH]})
        assert answer.headers["x-jeton-cost-usd"] == "0.012000000"
        (charge,) = await jeton.charges()
        assert (charge["cost_nanousd"], charge["cost_status"]) == (12_000_000, "priced")
        assert warnings(jeton) == []


async def test_a_tool_that_nobody_asked_for_is_paid_for_as_well(tmp_path: Path) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2), prices=WITH_FEES) as jeton:
        backend.answer = whole({"type": "web_search_call"})  # of a prompt that the provider keeps, say
        await jeton.http.post(RESPONSES, json=ASK)
        backend.answer = whole({"type": "maps_call"})
        await jeton.http.post(RESPONSES, json=ASK)
        known, unknown = await jeton.charges()
        assert (of_tools(known), unknown["cost_nanousd"]) == (A_SEARCH, None)
        assert warnings(jeton) == [("cloud", "maps")]


CREATED = {"type": "response.created", "response": {"model": "gpt-x", "usage": None}}
ADDED = {"type": "response.output_item.added", "output_index": 0, "item": {"type": "web_search_call"}}
TEXT = {"type": "response.output_text.delta", "output_index": 1, "delta": "Hello"}


@pytest.mark.parametrize(("asked", "searches"), [([SEARCH], 1), ([], 0)])
async def test_a_response_that_breaks_off_pays_for_what_had_been_called(
    tmp_path: Path, asked: list[Any], searches: int
) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2), prices=WITH_FEES) as jeton:
        backend.answer = streamed(CREATED, *([ADDED] if asked else []), TEXT)
        await jeton.http.post(RESPONSES, json={**ASK, "tools": asked, "stream": True})
        (charge,) = await jeton.charges()
        assert (charge["status"], charge["usage_source"]) == ("failed", "estimated")
        assert of_tools(charge) == searches * A_SEARCH


async def test_an_answer_that_breaks_off_before_it_tells_is_taken_to_have_called_each_tool_once(tmp_path: Path) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2), prices=WITH_FEES) as jeton:
        backend.answer = json_answer(
            b'{"object": "response", "output": [{"type": "message", "content": [{"text": "Hello'
        )
        for tools in ([SEARCH, FILES], []):
            assert (await jeton.http.post(RESPONSES, json={**ASK, "tools": tools})).status_code == 502
        both, none = await jeton.charges()
        assert (both["usage_source"], of_tools(both), of_tools(none)) == ("estimated", A_SEARCH + 2_500_000, 0)


async def test_a_request_that_was_refused_has_called_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, prices=WITH_FEES) as jeton:
        body = {**ASK, "tools": [SEARCH], "previous_response_id": "resp_of_another"}
        assert (await jeton.http.post(RESPONSES, json=body)).status_code == 404
        (charge,) = await jeton.charges()
        assert (charge["status"], charge["cost_nanousd"]) == ("failed", 0)


# Budgets and ceilings


def budgeted(*changes: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config["tenants"][0]["budgets"] = [{"usd": 1, "per": "day"}]
        config["policy"] = {"name": "always_large"}
        config["aliases"]["both"] = {"backends": ["cloud", "small"]}
        for one in changes:
            one(config)

    return change


async def test_under_a_budget_nobody_is_asked_for_a_call_whose_fee_is_not_known(tmp_path: Path) -> None:
    async with running(tmp_path, budgeted()) as jeton:
        with pytest.raises(openai.BadRequestError) as refused:
            await jeton.sdk.responses.create(**ASK, tools=[SEARCH])
        assert refused.value.param == "tools"
        assert "no price for calls of web_search" in str(refused.value)
        answer = await jeton.http.post(RESPONSES, json={**ASK, "model": "both", "tools": [SEARCH]})
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "small")
        assert jeton.seen("cloud") == []
        chat = {"model": "both", "messages": HELLO, "web_search_options": {}}
        told = (await jeton.http.post("/jeton/explain", json=chat)).json()
        assert told["features"]["hosted_tools"] == {"web_search": 1}
        assert [one["why"] for one in told["exclusions"] if one["backend"] == "cloud"] == [
            "its price has no fee for calls of `web_search`"
        ]
        assert (await jeton.http.post(CHAT, json={**chat, "model": "cloud-model"})).status_code == 400
        await jeton.sdk.responses.create(**ASK)  # without a tool it is asked as before


async def test_a_budget_holds_for_all_calls_that_there_can_be_and_counts_those_that_there_were(tmp_path: Path) -> None:
    async with running(tmp_path, budgeted(), prices=WITH_FEES) as jeton:

        async def least_nanousd(**asked: Any) -> int:
            """Of a ceiling: what the refusal says that the cheapest may cost."""
            refused = await jeton.http.post(RESPONSES, json=ASK | asked, headers={"x-jeton-max-usd": "0.000000001"})
            assert refused.json()["error"]["code"] == "price_ceiling"
            message = refused.json()["error"]["message"]
            return round(float(message.partition("may cost up to $")[2].split(". ")[0]) * 1e9)

        one = await least_nanousd(tools=[SEARCH], max_tool_calls=1)
        assert await least_nanousd(tools=[SEARCH], max_tool_calls=7) == one + 6 * A_SEARCH
        assert await least_nanousd(tools=[SEARCH]) == one + 9 * A_SEARCH
        assert await least_nanousd(tools=[SEARCH, FILES, INTERPRETER], max_tool_calls=7) == (
            one + 5 * A_SEARCH + 30_000_000
        )
        assert one > A_SEARCH + await least_nanousd(), "what is found fills the window"
        await jeton.sdk.responses.create(**ASK, tools=[SEARCH])
        (charge,) = await jeton.charges()
        (account,) = jeton.app._bursar.accounts
        assert account.spent_nanousd == charge["cost_nanousd"] == of_tokens(charge) + 2 * A_SEARCH
        assert account.held_nanousd == 0


async def test_a_ceiling_without_a_fee_is_a_promise_that_nobody_can_make(tmp_path: Path) -> None:
    async with running(tmp_path) as jeton:
        ceiling = {"x-jeton-max-usd": "5"}
        refused = await jeton.http.post(RESPONSES, json={**ASK, "tools": [SEARCH]}, headers=ceiling)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
        assert (await jeton.http.post(RESPONSES, json=ASK, headers=ceiling)).status_code == 200


async def test_no_unknown_calls_slip_past_a_budget(tmp_path: Path) -> None:
    async with scripted_backend() as backend:

        def small(config: dict[str, Any]) -> None:
            config["tenants"][0]["budgets"] = [{"usd": "0.003", "per": "month"}]

        async with running(tmp_path, budgeted(backend.at(pool=2), small)) as jeton:
            backend.answer = whole({"type": "maps_call"})  # which nobody has asked for
            statuses = [(await jeton.http.post(RESPONSES, json=ASK)).status_code for _ in range(20)]
            served = statuses.count(200)
            assert 0 < served < 20
            assert statuses == [200] * served + [429] * (20 - served)
            assert [row["cost_status"] for row in await jeton.charges()] == ["unpriced"] * served
