"""An error tells what a good answer tells: who was asked last, how many were, and what all of it cost, where that is known."""

import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from payloads import HELLO
from test_reading_on import CASCADE_PRICES, cascaded
from whole_app import WholeApp, running

from load.drive.client import ask
from load.drive.outcome import Outcome
from router.domain.money import nanousd_from_usd

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "small-model", "messages": HELLO, "max_tokens": 8}


def unchecked(config: dict[str, Any]) -> None:
    """Health is what requests tell."""
    config["health"] = {"interval_seconds": 600}


@pytest.fixture
async def jeton(tmp_path: Path) -> Any:
    async with running(tmp_path, unchecked) as whole:
        yield whole


def told_nanousd(headers: Mapping[str, str]) -> int:
    return nanousd_from_usd(Decimal(headers["x-jeton-cost-usd"]))


async def cost_nanousd(jeton: WholeApp) -> int:
    return sum(row["cost_nanousd"] for row in await jeton.charges())


@pytest.mark.parametrize(("is_streaming", "fault"), [(True, {"eof_after_chunks": 0}), (False, {"abort_finish": True})])
async def test_when_all_have_failed_the_cost_of_all_is_told(
    jeton: WholeApp, is_streaming: bool, fault: dict[str, Any]
) -> None:
    for replica in jeton.fleet["small"]:
        replica.faults(**fault)
    refused = await jeton.http.post(PATH, json={**BODY, "stream": is_streaming})
    assert (refused.status_code, refused.headers["x-jeton-attempts"]) == (502, "2")
    assert [row["status"] for row in await jeton.charges()] == ["failed", "failed"]
    assert told_nanousd(refused.headers) == await cost_nanousd(jeton) > 0
    labels = {name: refused.headers[f"x-jeton-{name}"] for name in ("backend", "model", "tier", "policy")}
    assert labels == {"backend": "small", "model": "small-model", "tier": "small", "policy": "quality_floor"}
    assert refused.headers["x-jeton-reason"]
    assert len(refused.headers.get_list("x-request-id")) == 1


async def test_what_a_backend_refuses_has_cost_nothing_but_an_attempt(jeton: WholeApp) -> None:
    jeton.replica("cloud").faults(status=422)
    refused = await jeton.http.post(PATH, json={**BODY, "model": "cloud-model"})
    assert (refused.status_code, refused.headers["x-jeton-attempts"]) == (422, "1")
    assert refused.headers["x-jeton-cost-usd"] == "0.000000000"


@pytest.mark.parametrize(("body", "status"), [({**BODY, "model": "none"}, 404), ({"model": "small-model"}, 400)])
async def test_where_nobody_was_asked_nothing_was_spent(jeton: WholeApp, body: dict[str, Any], status: int) -> None:
    refused = await jeton.http.post(PATH, json=body)
    assert (refused.status_code, refused.headers["x-jeton-attempts"]) == (status, "0")
    assert refused.headers["x-jeton-cost-usd"] == "0.000000000"
    assert "x-jeton-backend" not in refused.headers


async def test_what_ran_into_a_deadline_is_told(jeton: WholeApp) -> None:
    jeton.replica("small").faults(stall_before_first_token=True)
    refused = await jeton.http.post(PATH, json=BODY, headers={"x-jeton-deadline-ms": "700"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (504, "deadline_passed")
    (charge,) = await jeton.charges()
    assert (charge["status"], charge["fault"]) == ("cancelled", "deadline")
    assert refused.headers["x-jeton-attempts"] == "1"
    assert told_nanousd(refused.headers) == charge["cost_nanousd"] > 0


async def test_what_was_spent_before_a_ceiling_is_told(jeton: WholeApp) -> None:
    body = {**BODY, "stream": True}
    most = (await jeton.http.post("/jeton/explain", json=body, headers={"x-jeton-max-usd": "1"})).json()["ranking"][0]
    jeton.replica("small").faults(eof_after_chunks=0)
    refused = await jeton.http.post(PATH, json=body, headers={"x-jeton-max-usd": most["hold"]["usd"]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "price_ceiling")
    assert refused.headers["x-jeton-attempts"] == "1"
    assert told_nanousd(refused.headers) == await cost_nanousd(jeton) > 0


async def test_what_was_spent_before_a_budget_ended_is_told(tmp_path: Path) -> None:
    """A cascade writes off what `cloud` said, and a budget that was enough for either has no room left for `dear`."""

    def change(config: dict[str, Any]) -> None:
        unchecked(config)
        (cloud,) = config["pools"][2]["backends"]
        cloud["tier"] = "small"
        config["pools"][2]["backends"].append(
            {**cloud, "name": "dear", "model": "dear", "tier": "large", "price": "dear"}
        )
        told = {"logprob_mean_min": -0.001, "quality_min": 1.0, "chance_min": 0.0}
        config["policy"] = {"name": "cascade", "parameters": told}
        config["aliases"]["pair"] = {"backends": ["cloud", "dear"]}
        config["tenants"][0]["budgets"] = [{"usd": "0.01", "per": "day"}]

    async with running(tmp_path, change, prices=CASCADE_PRICES) as jeton:
        body = {**BODY, "model": "pair"}
        (account,) = jeton.app._bursar.of("tests", "tests")
        ranking = (await jeton.http.post("/jeton/explain", json=body)).json()["ranking"]
        assert [one["backend"] for one in ranking] == ["cloud", "dear"]
        account.spent_nanousd = 10_000_000 - ranking[1]["hold"]["nanousd"]
        refused = await jeton.http.post(PATH, json=body)
        account.spent_nanousd = await cost_nanousd(jeton)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
        assert [row["fault"] for row in await jeton.charges()] == ["not_accepted"]
        assert (refused.headers["x-jeton-backend"], refused.headers["x-jeton-attempts"]) == ("cloud", "1")
        assert told_nanousd(refused.headers) == await cost_nanousd(jeton) > 0


async def test_a_cost_that_is_not_known_yet_is_not_told(tmp_path: Path) -> None:
    """`cloud` is still read on for what it bills when `large` has failed."""
    async with running(tmp_path, cascaded(seconds_max=1.0), prices=CASCADE_PRICES) as jeton:
        jeton.replica("cloud").faults(stall_after_chunks=8)
        jeton.replica("large").faults(status=500)
        refused = await jeton.http.post(PATH, json={**BODY, "model": "pair", "max_tokens": 40, "stream": True})
        assert (refused.status_code, refused.headers["x-jeton-attempts"]) == (502, "2")
        assert refused.headers["x-jeton-backend"] == "large"
        assert "x-jeton-cost-usd" not in refused.headers
        await jeton.settled()


@pytest.mark.parametrize("wants_usage", [True, False])
async def test_a_stream_that_breaks_tells_its_cost_where_its_end_would_have(jeton: WholeApp, wants_usage: bool) -> None:
    jeton.replica("small", 0).faults(eof_after_chunks=0)
    jeton.replica("small", 1).faults(eof_after_chunks=4)
    told = {"stream_options": {"include_usage": True}} if wants_usage else {}
    stream = await jeton.sdk.chat.completions.create(**BODY, stream=True, **told)
    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "backend_failed"
    assert isinstance(caught.value.body, dict)
    cost = caught.value.body.get("jeton_cost")
    if not wants_usage:
        assert cost is None
        return
    assert cost["nanousd"] == await cost_nanousd(jeton) > 0
    assert nanousd_from_usd(Decimal(str(cost["usd"]))) == cost["nanousd"]
    assert (cost["basis"], cost["usage_source"]) == ("allocated", "recovered")
    assert [row["status"] for row in await jeton.charges()] == ["failed", "failed"]


@pytest.mark.parametrize("fault", [{"eof_after_chunks": 4}, {"eof_after_chunks": 0}])
async def test_a_load_test_counts_what_errors_cost(jeton: WholeApp, fault: dict[str, Any]) -> None:
    for replica in jeton.fleet["small"]:
        replica.faults(**fault)
    outcome = Outcome(0, 0.0, 0.0, is_streamed=True)
    body = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    async with aiohttp.ClientSession() as http:
        await ask(http, jeton.url + PATH, {"authorization": f"Bearer {jeton.api_key}"}, body, outcome, time.monotonic())
    assert outcome.error == ("error_event" if fault["eof_after_chunks"] else "http_502")
    assert outcome.cost_nanousd == await cost_nanousd(jeton)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_events_of_other_apis_stay_as_their_sdks_know_them(jeton: WholeApp, path: str) -> None:
    jeton.replica("large").faults(eof_after_chunks=9)
    body = {"model": "large-model", "input": "Hello", "messages": HELLO, "max_tokens": 50, "stream": True}
    text = (await jeton.http.post(path, json=body)).text
    assert "event: error" in text
    assert "jeton_cost" not in text
