"""Clients that leave what is billed to its end: it is read on, within bounds, and the row says what it used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from payloads import HELLO
from whole_app import PRICES, WholeApp, running

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "max_tokens": 60}
LONG = {**BODY, "max_tokens": 2_000, "stream": True}


def reads_on(**bounds: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        (cloud,) = config["pools"][2]["backends"]
        cloud["when_client_leaves"] = "read_on"
        config["read_on"] = bounds

    return change


async def leave(jeton: WholeApp, body: dict[str, Any]) -> None:
    """Once the answer is on its way, where it is a stream, else once it is made."""
    client = await jeton.raw(jeton.request(PATH, body))
    if body.get("stream"):
        await client.reader.readuntil(b"}\n\n")
    else:
        await jeton.until(lambda: not jeton.replica("cloud").engine.is_idle)
    client.leave()


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}])
async def test_a05_what_a_provider_bills_after_the_client_left_is_read_on_and_the_row_is_exact(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    async with running(tmp_path, reads_on()) as jeton:
        await jeton.http.post(PATH, json=BODY)
        await leave(jeton, {**BODY, **asked})
        await jeton.settled()
        whole, charge = await jeton.charges()
        assert (charge["status"], charge["fault"]) == ("cancelled", "client_gone")
        assert charge["usage_source"] == whole["usage_source"] == "provider"
        assert charge["completion_tokens"] == whole["completion_tokens"]
        assert charge["cost_nanousd"] == whole["cost_nanousd"]


async def test_a05_what_is_left_is_read_on_for_so_long_and_estimated_beyond(tmp_path: Path) -> None:
    async with running(tmp_path, reads_on(seconds_max=0.3)) as jeton:
        jeton.replica("cloud").faults(stall_after_chunks=3)
        await leave(jeton, LONG)
        await jeton.settled()  # the engine, too: it is stopped
        (charge,) = await jeton.charges()
        assert (charge["status"], charge["fault"], charge["usage_source"]) == ("cancelled", "client_gone", "estimated")
        assert charge["completion_tokens"] > 0


async def test_a05_what_is_left_is_read_on_for_so_many_bytes_and_estimated_beyond(tmp_path: Path) -> None:
    async with running(tmp_path, reads_on(bytes_max=2_000)) as jeton:
        await leave(jeton, LONG)
        await jeton.settled()
        (charge,) = await jeton.charges()
        assert (charge["status"], charge["fault"], charge["usage_source"]) == ("cancelled", "client_gone", "estimated")


async def test_a05_so_many_are_read_on_at_once_and_the_others_stopped(tmp_path: Path) -> None:
    async with running(tmp_path, reads_on(at_once_max=1, seconds_max=2.0)) as jeton:
        jeton.replica("cloud").faults(stall_after_chunks=3)
        await leave(jeton, LONG)
        await jeton.until(lambda: jeton.app._failover._reading_on == 1)
        await leave(jeton, LONG)
        await jeton.until(lambda: sum(jeton.in_flight.values()) == 1)
        assert jeton.app._failover._reading_on == 1, "the first one is not what was stopped"
        await jeton.settled()
        assert [(one["status"], one["usage_source"]) for one in await jeton.charges()] == [
            ("cancelled", "estimated")
        ] * 2


async def test_a05_an_answer_that_was_read_on_is_there_for_the_client_that_asks_again(tmp_path: Path) -> None:
    async with running(tmp_path, reads_on()) as jeton:
        body = json.dumps({**BODY, "stream": True}).encode()
        client = await jeton.raw(jeton.request(PATH, body, idempotency_key="again"))
        await client.reader.readuntil(b"}\n\n")
        client.leave()
        await jeton.settled()
        headers = {"idempotency-key": "again", "content-type": "application/json"}
        answer = await jeton.http.post(PATH, content=body, headers=headers)
        assert answer.headers.get("idempotent-replayed") == "true", answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
        assert len(await jeton.charges()) == 1


async def test_a05_for_a_client_that_left_no_other_backend_is_asked(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        reads_on()(config)
        config["policy"] = {"name": "always_large"}
        config["aliases"]["both"] = {"backends": ["cloud", "small"]}
        config["timeouts"] = {"first_byte_seconds": 0.5}

    async with running(tmp_path, change) as jeton:
        jeton.replica("cloud").faults(stall_before_first_token=True)
        client = await jeton.raw(jeton.request(PATH, {**BODY, "model": "both", "stream": True}))
        await jeton.until(lambda: bool(jeton.seen("cloud")))
        client.leave()
        await jeton.settled()
        (charge,) = await jeton.charges()
        assert (charge["backend"], charge["status"], charge["fault"]) == ("cloud", "failed", "stall")


def cascaded(**bounds: Any) -> Callable[[dict[str, Any]], None]:
    """`cloud` first, whose answers never pass, then `large`, which is metered too, and dear; a budget holds for both."""

    def change(config: dict[str, Any]) -> None:
        reads_on(**bounds)(config)
        (cloud,) = config["pools"][2]["backends"]
        cloud["tier"] = "small"
        large = config["pools"][1]["backends"].pop(0)
        del large["profile"]
        config["pools"][2]["backends"].append(large | {"price": "dear"})
        told = {"logprob_mean_min": -0.001, "quality_min": 1.0, "chance_min": 0.0, "stream_tokens": 4}
        config["policy"] = {"name": "cascade", "parameters": told}
        config["aliases"]["pair"] = {"backends": ["cloud", "large"]}
        config["tenants"][0]["budgets"] = [{"usd": "10", "per": "day"}]

    return change


DEAR = {**PRICES["tokens"][0], "prompt_usd_per_million": 20, "completion_usd_per_million": 80}
CASCADE_PRICES = {**PRICES, "dear": [DEAR]}
DISCARDED = {**BODY, "model": "pair", "stream": True, "stream_options": {"include_usage": True}}


async def test_a05_a_discarded_stream_is_read_on_and_the_next_one_does_not_wait_for_it(tmp_path: Path) -> None:
    async with running(tmp_path, cascaded(), prices=CASCADE_PRICES) as jeton:
        whole = await jeton.http.post(PATH, json=BODY)
        assert whole.headers["x-jeton-backend"] == "cloud"
        answer = await jeton.http.post(PATH, json=DISCARDED)
        assert (answer.headers["x-jeton-backend"], answer.headers["x-jeton-attempts"]) == ("large", "2")
        await jeton.settled()
        exact, *both = await jeton.charges()
        cloud, large = sorted(both, key=lambda row: str(row["backend"]))
        assert (cloud["status"], cloud["fault"], cloud["usage_source"]) == ("cancelled", "not_accepted", "provider")
        assert cloud["completion_tokens"] == exact["completion_tokens"]
        assert cloud["cost_nanousd"] == exact["cost_nanousd"]
        assert (large["backend"], large["status"]) == ("large", "ok")
        (account,) = jeton.app._bursar.of("tests", "tests")
        assert account.held_nanousd == 0
        assert account.spent_nanousd == sum(row["cost_nanousd"] for row in (exact, cloud, large))


async def test_a05_what_a_request_cost_is_not_told_while_its_discarded_stream_is_read_on(tmp_path: Path) -> None:
    async with running(tmp_path, cascaded(seconds_max=1.0), prices=CASCADE_PRICES) as jeton:
        jeton.replica("cloud").faults(stall_after_chunks=8)
        answer = await jeton.http.post(PATH, json=DISCARDED)
        assert answer.headers["x-jeton-backend"] == "large"
        assert '"jeton_cost":{"usd":null,"nanousd":null,' in answer.text
        (account,) = jeton.app._bursar.of("tests", "tests")
        assert account.held_nanousd > 0, "it is still being read"
        await jeton.settled()
        rows = {row["backend"]: row for row in await jeton.charges()}
        cloud = rows["cloud"]
        assert (cloud["status"], cloud["fault"], cloud["usage_source"]) == ("cancelled", "not_accepted", "estimated")
        assert cloud["completion_tokens"] >= 4
        assert account.held_nanousd == 0
        assert account.spent_nanousd == sum(row["cost_nanousd"] for row in rows.values())


@pytest.mark.parametrize("bounds", [{"at_once_max": 0}, {"bytes_max": 1}])
async def test_a05_beyond_the_bounds_a_discarded_stream_is_stopped_and_estimated(
    tmp_path: Path, bounds: dict[str, Any]
) -> None:
    async with running(tmp_path, cascaded(**bounds), prices=CASCADE_PRICES) as jeton:
        jeton.replica("cloud").faults(stall_after_chunks=8)
        assert (await jeton.http.post(PATH, json=DISCARDED)).headers["x-jeton-backend"] == "large"
        await jeton.settled()
        rows = {row["backend"]: row for row in await jeton.charges()}
        cloud = rows["cloud"]
        assert (cloud["status"], cloud["fault"], cloud["usage_source"]) == ("cancelled", "not_accepted", "estimated")


@pytest.mark.parametrize("how", ["the router ends", "the replica is taken away", "it breaks"])
async def test_a05_a_discarded_stream_that_cannot_be_read_to_its_end_is_charged_once(tmp_path: Path, how: str) -> None:
    def change(config: dict[str, Any]) -> None:
        cascaded()(config)
        if how == "it breaks":
            config["timeouts"] = {"chunk_seconds": 0.5}

    async with running(tmp_path, change, prices=CASCADE_PRICES) as jeton:
        jeton.replica("cloud").faults(stall_after_chunks=8)
        assert (await jeton.http.post(PATH, json=DISCARDED)).headers["x-jeton-backend"] == "large"
        failover = jeton.app._failover
        assert failover._reading_on == 1
        if how == "the router ends":
            async with jeton.app._leftovers.running():
                pass  # its end is what there is to see
            assert failover._reading_on == 0
        elif how == "the replica is taken away":
            assert failover.give_up("cloud/1") == 1
        await jeton.settled()
        assert (failover._reading_on, failover._under_way, failover._given_up) == (0, {}, set())
        rows = {row["backend"]: row for row in await jeton.charges()}
        cloud = rows["cloud"]
        expected = ("failed", "stall") if how == "it breaks" else ("cancelled", "not_accepted")
        assert (cloud["status"], cloud["fault"]) == expected
        assert cloud["completion_tokens"] >= 4
        (account,) = jeton.app._bursar.of("tests", "tests")
        assert account.held_nanousd == 0
        assert account.spent_nanousd == sum(row["cost_nanousd"] for row in rows.values())
