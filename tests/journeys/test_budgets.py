"""What a tenant and its keys may spend: who is refused, what is said, and what the books hold afterwards."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from every_endpoint import requests_to_every_endpoint
from payloads import HELLO
from redis_server import redis_server
from whole_app import CLOUD_KEY, PEPPER, running

from router.access.keys import api_key_hash, new_api_key
from router.domain.budget import DAY_NS

PATH = "/v1/chat/completions"
# Of `cloud`, nano-dollars a token.
COMPLETION = 8000


def budgeted(*budgets: dict[str, Any], of_key: bool = False, **more: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        tenant = config["tenants"][0]
        (tenant["api_keys"][0] if of_key else tenant)["budgets"] = list(budgets)
        config.update(more)

    return change


def chat(max_tokens: int = 40, model: str = "cloud-model", **more: Any) -> dict[str, Any]:
    return {"json": {"model": model, "messages": HELLO, "max_tokens": max_tokens, **more}}


async def test_a_request_that_does_not_fit_is_refused_with_all_that_helps(tmp_path: Path) -> None:
    async with running(tmp_path, budgeted({"usd": "0.001", "per": "day"})) as jeton:
        good = await jeton.http.post(PATH, **chat())
        assert good.status_code == 200
        refused = await jeton.http.post(PATH, **chat(max_tokens=120))
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert (error["code"], error["type"], error["param"]) == ("budget_exceeded", "insufficient_quota", None)
        left = 10**6 - (await jeton.charges())[0]["cost_nanousd"]
        assert "The budget of $0.001 a day of the tenant tests cannot take this request" in error["message"]
        assert "That is more than the whole budget: set a smaller `max_tokens`." in error["message"]
        assert "retry-after" not in refused.headers
        assert refused.headers["x-should-retry"] == "false"
        for _ in range(20):
            refused = await jeton.http.post(PATH, **chat())
            if refused.status_code == 429:
                break
        message = refused.json()["error"]["message"]
        midnight = datetime.fromtimestamp((jeton.app._clock.now_ns() // DAY_NS + 1) * 86_400, UTC)
        assert f"It renews at {midnight:%Y-%m-%d}T00:00Z; until then set a smaller `max_tokens`." in message
        assert 0 < int(refused.headers["retry-after"]) <= 3600
        assert left > 0
        assert len(jeton.seen("cloud")) == len(await jeton.charges()), "what is refused is not dispatched"


async def test_the_sdk_raises_it_as_a_rate_limit_and_does_not_try_again(tmp_path: Path) -> None:
    async with running(tmp_path, budgeted({"usd": "0.0001", "per": "total"})) as jeton:
        client = jeton.sdk.with_options(max_retries=5)
        with pytest.raises(openai.RateLimitError) as raised:
            await client.chat.completions.create(model="cloud-model", messages=HELLO, max_tokens=500)  # type: ignore[arg-type]
        assert raised.value.code == "budget_exceeded"
        text = (await jeton.http.get("/metrics")).text
        assert 'jeton_budget_refusals_total{code="budget_exceeded",tenant="tests"} 1.0' in text


async def test_what_was_spent_survives_a_restart_and_holds_do_not(tmp_path: Path) -> None:
    change = budgeted({"usd": 1, "per": "day"}, {"usd": 2, "per": "month"}, {"usd": 3, "per": "total"})
    async with running(tmp_path, change) as jeton:
        await asyncio.gather(*(jeton.http.post(PATH, **chat()) for _ in range(10)))
        await jeton.http.post(PATH, **chat(model="small-model"))
        spent = sum(charge["cost_nanousd"] for charge in await jeton.charges())
        assert [account.spent_nanousd for account in jeton.app._bursar.accounts] == [spent] * 3
    (tmp_path / "again").mkdir()
    for name in ("jeton.sqlite", "jeton.sqlite-wal"):
        if (tmp_path / name).exists():
            (tmp_path / "again" / name).write_bytes((tmp_path / name).read_bytes())
    async with running(tmp_path / "again", change) as jeton:
        assert [account.spent_nanousd for account in jeton.app._bursar.accounts] == [spent] * 3
        assert jeton.app._bursar.open_holds == 0
        await jeton.http.post(PATH, **chat())
        await jeton.app._bursar._learn()
        spent = sum(charge["cost_nanousd"] for charge in await jeton.charges())
        assert [account.spent_nanousd for account in jeton.app._bursar.accounts] == [spent] * 3
        text = (await jeton.http.get("/metrics")).text
        assert f'jeton_budget_remaining_usd{{tenant="tests"}} {(10**9 - spent) / 1e9}' in text


async def test_a15_500_at_once_never_pass_the_budget(tmp_path: Path) -> None:
    """Each may cost up to some $0.0007 and costs less; the budget takes some forty of them at their worst."""
    limit = 30_000_000
    async with running(tmp_path, budgeted({"usd": limit / 10**9, "per": "day"})) as jeton:
        headers = {"authorization": f"Bearer {jeton.api_key}"}
        # What 500 connections cost httpx grows with their square.
        async with aiohttp.ClientSession(
            jeton.url, headers=headers, connector=aiohttp.TCPConnector(limit=0)
        ) as session:

            async def ask() -> tuple[int, str, Any]:
                async with session.post(PATH, **chat()) as answer:
                    return answer.status, answer.headers.get("retry-after", ""), await answer.json()

            answers = await asyncio.gather(*(ask() for _ in range(500)))
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 429}
        charges = await jeton.charges()
        assert statuses.count(200) == len(charges) > 10
        assert sum(charge["cost_nanousd"] for charge in charges) <= limit
        retry_after, refused = next((after, body) for status, after, body in answers if status == 429)
        assert "Running requests hold" in refused["error"]["message"]
        assert retry_after == "1"
        assert jeton.app._bursar.open_holds == 0


async def test_a_client_that_leaves_pays_for_what_was_made_and_frees_the_rest(tmp_path: Path) -> None:
    async with running(tmp_path, budgeted({"usd": 1, "per": "day"})) as jeton:
        client = await jeton.raw(jeton.request(PATH, chat(2000, stream=True)["json"]))
        for _ in range(5):
            await client.reader.readuntil(b"}\n\n")
        (account,) = jeton.app._bursar.accounts
        assert account.held_nanousd >= 2000 * COMPLETION
        client.leave()
        await jeton.settled()
        (charge,) = await jeton.charges()
        assert (account.held_nanousd, account.spent_nanousd) == (0, charge["cost_nanousd"])


async def test_a_failed_over_request_holds_one_attempt_at_a_time_and_pays_for_both(tmp_path: Path) -> None:
    change = budgeted({"usd": 1, "per": "day"}, policy={"name": "always_large"}, health={"interval_seconds": 600})
    async with running(tmp_path, change) as jeton:
        jeton.replica("cloud").faults(reset_before_first_byte=True)
        answer = await jeton.http.post(PATH, **chat(model="anything"))
        assert answer.status_code == 200
        charges = await jeton.charges()
        (account,) = jeton.app._bursar.accounts
        assert account.spent_nanousd == sum(charge["cost_nanousd"] for charge in charges)
        assert account.held_nanousd == 0


async def test_under_pressure_requests_go_to_the_cheaper_tier_and_are_refused_last(tmp_path: Path) -> None:
    degrade = {"at_ratio": 0.5, "tiers": ["small"]}
    change = budgeted({"usd": "0.01", "per": "day", "degrade": degrade}, policy={"name": "always_large"})
    async with running(tmp_path, change) as jeton:
        body = chat(max_tokens=200, model="anything")
        assert (await jeton.http.post(PATH, **body)).headers["x-jeton-tier"] == "large"
        (account,) = jeton.app._bursar.accounts
        account.spent_nanousd = 6_000_000
        assert (await jeton.http.post(PATH, **body)).headers["x-jeton-tier"] == "small"
        explained = (await jeton.http.post("/jeton/explain", **body)).json()
        assert explained["is_degraded"] is True
        assert {choice["tier"] for choice in explained["ranking"]} == {"small"}
        why = [exclusion["why"] for exclusion in explained["exclusions"] if exclusion["backend"] == "large"]
        assert why == ["50% of the budget of $0.01 a day of the tenant tests is used, so tier small serves"]
        pinned = await jeton.http.post(PATH, **chat(max_tokens=40, model="large-model"))
        assert pinned.headers["x-jeton-tier"] == "large", "who asks for a model by name gets it until the money is gone"
        text = (await jeton.http.get("/metrics")).text
        assert 'jeton_budget_degraded_total{tenant="tests"} 1.0' in text
        account.spent_nanousd = 10_000_000
        refused = await jeton.http.post(PATH, **body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")


async def test_a_candidate_that_does_not_fit_is_left_out_and_explained(tmp_path: Path) -> None:
    """A leased replica may have to be paid for alone, which is dearer than the cloud's tokens."""
    async with running(tmp_path, budgeted({"usd": "0.022", "per": "total"}, of_key=True)) as jeton:
        explained = (await jeton.http.post("/jeton/explain", **chat(max_tokens=2600, model="anything"))).json()
        excluded = {exclusion["backend"]: exclusion["why"] for exclusion in explained["exclusions"]}
        assert set(excluded) == {"small", "large"}
        assert excluded["small"].startswith("may cost up to $0.02")
        assert excluded["small"].endswith("and $0.022 is left of the budget of $0.022 in total of the API key tests")
        [choice] = explained["ranking"]
        assert choice["backend"] == "cloud"
        assert 2600 * COMPLETION < choice["hold"]["nanousd"] <= 22_000_000


async def test_a16_f38_every_endpoint_moves_the_same_budget_and_is_refused_by_it(tmp_path: Path) -> None:
    requests = requests_to_every_endpoint()
    async with running(tmp_path, budgeted({"usd": 100, "per": "day"})) as jeton:
        (account,) = jeton.app._bursar.accounts
        before = 0
        for path, request in requests.values():
            answer = await jeton.http.post(path, **request)
            assert answer.status_code == 200, answer.text
            assert account.spent_nanousd > before, path
            before = account.spent_nanousd
        assert before == sum(charge["cost_nanousd"] for charge in await jeton.charges())
        account.spent_nanousd = account.budget.limit_nanousd
        for path, request in requests.values():
            answer = await jeton.http.post(path, **request)
            assert answer.status_code == 429, path
            said = json.dumps(answer.json())
            assert "budget of $100.00 a day of the tenant tests" in said
        assert len(await jeton.charges()) == len(requests)


async def test_f22_f24_when_redis_is_away_shares_serve_and_tenants_without_budgets_notice_nothing(
    tmp_path: Path,
) -> None:
    other = new_api_key()
    body = chat(max_tokens=100)
    with redis_server(tmp_path) as redis:

        def shared(config: dict[str, Any]) -> None:
            budgeted({"usd": "0.1", "per": "day"}, redis={"url": redis.url})(config)
            key = {"name": "another", "hash": api_key_hash(other, PEPPER.encode())}
            config["tenants"].append({"name": "another", "api_keys": [key]})

        async with running(tmp_path, shared) as jeton:
            assert (await jeton.http.post(PATH, **body)).status_code == 200
            redis.kill()
            codes: list[str] = []
            for _ in range(60):
                answer = await jeton.http.post(PATH, **body)
                codes.append("" if answer.status_code == 200 else answer.json()["error"]["code"])
                if codes[-1]:
                    assert answer.status_code == 429
                    assert answer.headers["retry-after"] == "1"
                    assert "x-should-retry" not in answer.headers
                    break
            assert codes[-1] == "budget_unavailable"
            assert len(codes) > 2, "the share that was here"
            answer = await jeton.http.post(PATH, **body, headers={"authorization": f"Bearer {other}"})
            assert answer.status_code == 200
            redis.start()

            async def serves() -> bool:
                return (await jeton.http.post(PATH, **body)).status_code == 200

            for _ in range(100):
                if await serves():
                    break
                await asyncio.sleep(0.1)
            assert await serves()
            (account,) = jeton.app._bursar.accounts
            charges = [charge for charge in await jeton.charges() if charge["tenant"] == "tests"]
            assert account.spent_nanousd == sum(charge["cost_nanousd"] for charge in charges)
            await jeton.until(lambda: account.share_nanousd > 0)


async def test_a_budget_added_by_a_reload_knows_what_was_spent_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JETON_API_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("CLOUD_API_KEY", CLOUD_KEY)
    async with running(tmp_path) as jeton:
        await asyncio.gather(*(jeton.http.post(PATH, **chat()) for _ in range(5)))
        jeton.config["tenants"][0]["budgets"] = [{"usd": 1, "per": "day"}]
        (tmp_path / "router.yaml").write_text(json.dumps(jeton.config))
        await jeton.until(lambda: len(jeton.app._bursar.accounts) == 1)
        await asyncio.gather(*(jeton.http.post(PATH, **chat()) for _ in range(5)))
        await jeton.until(lambda: not jeton.app._bursar._ignorant)
        (account,) = jeton.app._bursar.accounts
        charges = await jeton.charges()
        assert (len(charges), account.spent_nanousd) == (10, sum(charge["cost_nanousd"] for charge in charges))
