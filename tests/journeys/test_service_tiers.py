"""Service tiers from the client to the row: asked for, told by the cloud, priced, held, refused; `running` audits the books."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from payloads import HELLO
from scripted_backend import json_answer, scripted_backend, stream_answer
from whole_app import PRICES, WholeApp, running

from router.domain.money import usd_text

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "max_tokens": 40}
# Nano-dollars a token: prompt, cached, completion.
PLAIN, FLEX, PRIORITY = (2000, 500, 8000), (1000, 250, 4000), (4000, 1000, 16000)


def rates(prompt: int, cached: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_usd_per_million": prompt / 1000,
        "cached_usd_per_million": cached / 1000,
        "completion_usd_per_million": completion / 1000,
    }


TIERED = {
    **PRICES,
    "tokens": [{**PRICES["tokens"][0], "service_tiers": {"flex": rates(*FLEX), "priority": rates(*PRIORITY)}}],
}


def at(tier: tuple[int, int, int], charge: Any) -> int:
    prompt, cached, completion = tier
    uncached = charge["prompt_tokens"] - charge["cached_tokens"]
    cost: int = uncached * prompt + charge["cached_tokens"] * cached + charge["completion_tokens"] * completion
    return cost


def warnings(jeton: WholeApp) -> list[tuple[str, str]]:
    return [
        (event["backend"], event["service_tier"])
        for event in jeton.events
        if event["log_level"] == "warning" and "service_tier" in event
    ]


@pytest.mark.parametrize(("asked", "told", "tier"), [
    (None, "default", PLAIN), ("auto", "default", PLAIN), ("flex", "flex", FLEX), ("priority", "priority", PRIORITY),
])  # fmt: skip
async def test_the_real_client_hears_the_tier_and_pays_its_rates_streamed_or_not(
    tmp_path: Path, asked: str | None, told: str, tier: tuple[int, int, int]
) -> None:
    more: dict[str, Any] = {} if asked is None else {"service_tier": asked}
    async with running(tmp_path, prices=TIERED) as jeton:
        whole = await jeton.sdk.chat.completions.create(**BODY, **more)
        stream = await jeton.sdk.chat.completions.create(
            **BODY, **more, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        response = await jeton.sdk.responses.create(model="cloud-model", input="Hello", max_output_tokens=40, **more)
        events = await jeton.sdk.responses.create(
            model="cloud-model", input="Hello", max_output_tokens=40, stream=True, **more
        )
        last = [event async for event in events][-1].response
        assert (whole.service_tier, response.service_tier, last.service_tier) == (told, told, told)
        assert {chunk.service_tier for chunk in chunks} == {told}
        charges = await jeton.charges()
        assert [(row["usage_source"], row["cost_status"]) for row in charges] == [("provider", "priced")] * 4
        assert [row["cost_nanousd"] for row in charges] == [at(tier, row) for row in charges]
        assert chunks[-1].jeton_cost["nanousd"] == charges[1]["cost_nanousd"]
        assert [body.get("service_tier") for body in jeton.seen("cloud")] == [asked] * 4
        assert warnings(jeton) == []


async def test_a_tier_that_the_price_has_no_rates_for_is_asked_of_nobody_who_bills_by_it(tmp_path: Path) -> None:
    def cloud_first(config: dict[str, Any]) -> None:
        config["policy"] = {"name": "always_large"}
        config["aliases"]["both"] = {"backends": ["cloud", "small"]}

    async with running(tmp_path, cloud_first) as jeton:
        with pytest.raises(openai.BadRequestError) as refused:
            await jeton.sdk.chat.completions.create(**BODY, service_tier="flex")
        assert refused.value.param == "service_tier"
        assert "no price for the service tier 'flex'" in str(refused.value)
        answer = await jeton.http.post(PATH, json={**BODY, "model": "both", "service_tier": "flex"})
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "small")
        assert jeton.seen("cloud") == []
        told = await jeton.http.post("/jeton/explain", json={**BODY, "model": "both", "service_tier": "flex"})
        assert told.json()["features"]["service_tier"] == "flex"
        assert [one["why"] for one in told.json()["exclusions"] if one["backend"] == "cloud"] == [
            "its price has no rates for the service tier `flex`"
        ]


CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
DELTA = {"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def whole(usage: dict[str, Any] | None = USAGE, **told: Any) -> Callable[..., Any]:
    return json_answer(json.dumps({"model": "gpt-x", "choices": [CHOICE], "usage": usage, **told}).encode())


def streamed(usage: dict[str, Any] | None = USAGE, **told: Any) -> Callable[..., Any]:
    chunks = [{"model": "gpt-x", "choices": [DELTA], **told}]
    if usage is not None:
        chunks.append({"model": "gpt-x", "choices": [], "usage": usage, **told})
    return stream_answer(*(json.dumps(chunk).encode() for chunk in chunks), b"[DONE]")


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize(
    ("asked", "told", "tier"),
    [
        ("flex", {}, FLEX),  # an older server, which says nothing
        ("flex", {"service_tier": None}, FLEX),
        ("priority", {"service_tier": "default"}, PLAIN),  # beyond its ramp, OpenAI serves the request as any other
        (None, {"service_tier": "flex"}, FLEX),  # of a project whose tier that is
    ],
)
async def test_what_the_answer_says_counts_and_where_it_says_nothing_what_was_asked_for(
    tmp_path: Path, asked: str | None, told: dict[str, Any], tier: tuple[int, int, int], is_streaming: bool
) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2), prices=TIERED) as jeton:
        backend.answer = (streamed if is_streaming else whole)(**told)
        body = {**BODY, "stream": is_streaming, "service_tier": asked}
        assert (await jeton.http.post(PATH, json=body)).status_code == 200
        (charge,) = await jeton.charges()
        assert charge["cost_nanousd"] == at(tier, charge) > 0


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_an_answer_without_usage_is_estimated_under_its_tier(tmp_path: Path, is_streaming: bool) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2), prices=TIERED) as jeton:
        backend.answer = (streamed if is_streaming else whole)(usage=None)
        for asked in ("flex", "priority"):
            await jeton.http.post(PATH, json={**BODY, "stream": is_streaming, "service_tier": asked})
        flex, priority = await jeton.charges()
        assert (flex["usage_source"], priority["usage_source"]) == ("estimated", "estimated")
        assert flex["cost_nanousd"] == at(FLEX, flex) > 0
        assert priority["cost_nanousd"] == at(PRIORITY, priority) > 0


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_a_tier_nobody_asked_for_and_nobody_has_a_price_of_leaves_the_cost_unknown_and_is_told_once(
    tmp_path: Path, is_streaming: bool
) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2), prices=TIERED) as jeton:
        backend.answer = (streamed if is_streaming else whole)(service_tier="scale")
        body = {**BODY, "stream": is_streaming, "stream_options": {"include_usage": True}}
        for _ in range(2):
            answer = await jeton.http.post(PATH, json=body if is_streaming else BODY)
            assert answer.status_code == 200
            assert "x-jeton-cost-usd" not in answer.headers
            assert ('"nanousd":null' in answer.text) is is_streaming
        charges = await jeton.charges()
        assert [(row["cost_status"], row["cost_nanousd"]) for row in charges] == [("unpriced", None)] * 2
        assert warnings(jeton) == [("cloud", "scale")]
        metrics = (await jeton.http.get("/metrics")).text
        assert 'jeton_unpriced_attempts_total{backend="cloud"} 2.0' in metrics


async def test_what_the_provider_charged_is_the_cost_of_a_tier_without_rates(tmp_path: Path) -> None:
    async with scripted_backend() as backend, running(tmp_path, backend.at(pool=2)) as jeton:
        backend.answer = whole(usage={**USAGE, "cost": 0.000042}, service_tier="priority")
        assert (await jeton.http.post(PATH, json=BODY)).headers["x-jeton-cost-usd"] == "0.000042000"
        (charge,) = await jeton.charges()
        assert (charge["cost_nanousd"], charge["cost_status"]) == (42_000, "priced")
        assert warnings(jeton) == []


async def test_a_price_ceiling_and_a_budget_go_by_the_tier_that_is_asked_for(tmp_path: Path) -> None:
    def budgeted(config: dict[str, Any]) -> None:
        config["tenants"][0]["budgets"] = [{"usd": 1, "per": "day"}]

    async with running(tmp_path, budgeted, prices=TIERED) as jeton:

        async def least_nanousd(tier: str) -> int:
            """Of a ceiling: what the refusal says that the cheapest may cost."""
            body = {**BODY, "service_tier": tier}
            refused = await jeton.http.post(PATH, json=body, headers={"x-jeton-max-usd": "0.000000001"})
            assert refused.json()["error"]["code"] == "price_ceiling"
            return round(
                float(refused.json()["error"]["message"].partition("may cost up to $")[2].split(". ")[0]) * 1e9
            )

        plain, flex, priority = [await least_nanousd(tier) for tier in ("default", "flex", "priority")]
        assert flex < plain < priority
        for tier, status in (("flex", 200), ("default", 400), ("priority", 400)):
            ceiling = {"x-jeton-max-usd": usd_text(flex)}
            answer = await jeton.http.post(PATH, json={**BODY, "service_tier": tier}, headers=ceiling)
            assert answer.status_code == status, tier
        (charge,) = await jeton.charges()
        (account,) = jeton.app._bursar.accounts
        assert account.spent_nanousd == charge["cost_nanousd"] == at(FLEX, charge) <= flex


async def test_no_unknown_cost_slips_past_a_budget(tmp_path: Path) -> None:
    def budgeted(config: dict[str, Any]) -> None:
        config["tenants"][0]["budgets"] = [{"usd": "0.003", "per": "month"}]

    async with scripted_backend() as backend:

        def change(config: dict[str, Any]) -> None:
            budgeted(config)
            backend.at(pool=2)(config)

        async with running(tmp_path, change) as jeton:
            backend.answer = whole(service_tier="priority")
            statuses = [(await jeton.http.post(PATH, json=BODY)).status_code for _ in range(20)]
            served = statuses.count(200)
            assert 0 < served < 20
            assert statuses == [200] * served + [429] * (20 - served)
            charges = await jeton.charges()
            assert [row["cost_status"] for row in charges] == ["unpriced"] * served
            (account,) = jeton.app._bursar.accounts
            assert (account.spent_nanousd, account.held_nanousd) == (0, 0)
            assert 0 <= account.left_nanousd < account.unknown_nanousd / served


async def test_what_is_served_on_a_lease_is_told_the_tier_and_costs_what_it_costs(tmp_path: Path) -> None:
    async with running(tmp_path) as jeton:
        for tier in ("flex", "priority"):
            body = {**BODY, "model": "small-model", "service_tier": tier}
            assert (await jeton.http.post(PATH, json=body)).status_code == 200
        assert [row["cost_status"] for row in await jeton.charges()] == ["priced"] * 2
        assert [body["service_tier"] for body in jeton.seen("small")] == ["flex", "priority"]


async def test_a_tier_that_is_no_name_is_a_bad_request(tmp_path: Path) -> None:
    async with running(tmp_path) as jeton:
        answer = await jeton.http.post(PATH, json={**BODY, "service_tier": 2})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "service_tier")
