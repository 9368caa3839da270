"""Requests with a shadow: the client has its answer and no other, and the shadow is booked as money that bought nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from payloads import HELLO
from whole_app import WholeApp, running

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "anything", "messages": HELLO, "max_tokens": 12}


def shadowed(**members: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config["policy"] = {"name": "always_large"}
        config["shadow"] = {"ratio": 1.0, **members}
        config["tenants"][0]["budgets"] = [{"usd": 100, "per": "total"}]

    return change


def by_status(charges: list[Any]) -> dict[str, Any]:
    return {charge["status"]: charge for charge in charges}


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_a_request_is_put_to_a_second_backend_and_booked_as_a_shadow(tmp_path: Path, is_streaming: bool) -> None:
    async with running(tmp_path, shadowed(backends=["small"])) as jeton:
        body = {**BODY, "stream": is_streaming, **({"stream_options": {"include_usage": True}} if is_streaming else {})}
        answer = await jeton.http.post(PATH, json=body)
        assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "1")
        assert answer.headers["x-jeton-backend"] == "large"
        await jeton.until(lambda: bool(jeton.seen("small")))
        await jeton.settled()
        found = by_status(await jeton.charges())
        assert found.keys() == {"ok", "shadow"}
        shadow = found["shadow"]
        assert (shadow["backend"], shadow["tenant"], shadow["api_key_name"]) == ("small", "shadow", "")
        assert (shadow["usage_source"], shadow["request_id"]) == ("provider", found["ok"]["request_id"])
        assert shadow["cost_nanousd"] > 0
        text = (await jeton.http.get("/metrics")).text
        lost = f'jeton_lost_usd_total{{backend="small",pool="edge",why="shadow"}} {shadow["cost_nanousd"] / 1e9!r}'
        assert lost in text
        assert 'jeton_requests_total{backend="small"' not in text
        # It is in nobody's budget.
        (account,) = jeton.app._bursar.of("tests", "tests")
        assert account.unspent_nanousd == 100 * 10**9 - found["ok"]["cost_nanousd"]


async def test_a_shadow_that_fails_is_a_shadow_and_no_request_of_anybodys(tmp_path: Path) -> None:
    async with running(tmp_path, shadowed(backends=["small"])) as jeton:
        for number in (0, 1):
            jeton.replica("small", number).faults(status=500)
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 200
        await jeton.until(lambda: bool(jeton.seen("small")))
        await jeton.settled()
        found = by_status(await jeton.charges())
        assert found.keys() == {"ok", "shadow"}
        assert found["shadow"]["fault"] == "http_500"


async def test_the_client_does_not_wait_for_a_shadow_and_there_are_so_many_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, shadowed(backends=["small"], at_once_max=1)) as jeton:
        for number in (0, 1):
            jeton.replica("small", number).faults(hang=True)
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 200
        await jeton.until(lambda: len(jeton.app._shadows._under_way) == 1)
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 200
        assert len(jeton.app._shadows._under_way) == 1
        for task in jeton.app._shadows._under_way:
            task.cancel()
        await jeton.settled()
        ends = sorted((charge["status"], charge["fault"]) for charge in await jeton.charges())
        assert ends == [("ok", ""), ("ok", ""), ("shadow", "shutdown")]


async def test_without_a_ratio_nothing_has_a_shadow(jeton: WholeApp) -> None:
    await jeton.http.post(PATH, json=BODY)
    assert [charge["status"] for charge in await jeton.charges()] == ["ok"]
    assert not jeton.app._shadows._under_way


async def test_a_shadow_that_breaks_in_our_own_code_is_booked_and_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("router.shadows.parcel_for", broken)
    async with running(tmp_path, shadowed(backends=["small"]), alarms=frozenset({"unexpected"})) as jeton:
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 200
        await jeton.settled()
        found = by_status(await jeton.charges())
        assert found.keys() == {"ok", "shadow"}
        assert found["shadow"]["fault"] == "internal"
