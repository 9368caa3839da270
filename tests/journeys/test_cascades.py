"""A cascade: a small model's answer is tested before the client sees any of it, and a larger one's comes if it fails."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from payloads import CITY, HELLO
from whole_app import WholeApp, running

from router.domain.money import nanousd_from_usd, usd_text

PATH = "/v1/chat/completions"
# The emulated model's tokens have log-probabilities from 0 to −2.
ALWAYS, NEVER = -2.5, -0.001


def cascaded(logprob_mean_min: float, **parameters: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        told = {"logprob_mean_min": logprob_mean_min, "quality_min": 1.0, "chance_min": 0.0} | parameters
        config["policy"] = {"name": "cascade", "parameters": told}
        config["aliases"]["pair"] = {"backends": ["small", "cloud"]}

    return change


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "pair", "messages": HELLO, "max_tokens": 40, **more}


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


async def statuses(jeton: WholeApp) -> list[tuple[str, str, str]]:
    return [(row["backend"], row["status"], row["fault"]) for row in await jeton.charges()]


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_an_answer_that_passes_is_the_small_one_s_without_what_was_asked_for_the_test(
    tmp_path: Path, is_streaming: bool
) -> None:
    async with running(tmp_path, cascaded(ALWAYS)) as jeton:
        answer = await jeton.http.post(PATH, json=chat(stream=is_streaming))
        assert answer.status_code == 200
        assert answer.headers["x-jeton-backend"] == "small"
        assert answer.headers["x-jeton-reason"] == "small first, kept if sure"
        assert jeton.seen("small")[0]["logprobs"] is True
        choices = [one["choices"][0] for one in events(answer.text)] if is_streaming else answer.json()["choices"]
        assert choices
        assert all(choice["logprobs"] is None for choice in choices)
        assert await statuses(jeton) == [("small", "ok", "")]


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_an_answer_that_fails_is_written_off_and_the_large_one_s_is_what_the_client_gets(
    tmp_path: Path, is_streaming: bool
) -> None:
    async with running(tmp_path, cascaded(NEVER)) as jeton:
        told = {"stream": True, "stream_options": {"include_usage": True}} if is_streaming else {}
        answer = await jeton.http.post(PATH, json=chat(**told))
        assert answer.status_code == 200
        assert answer.headers["x-jeton-backend"] == "cloud"
        assert answer.headers["x-jeton-attempts"] == "2"
        assert answer.headers["x-jeton-reason"] == "next if not accepted"
        assert "logprobs" not in jeton.seen("cloud")[0]
        assert await statuses(jeton) == [("small", "cancelled", "not_accepted"), ("cloud", "ok", "")]
        first, second = await jeton.charges()
        assert first["cost_nanousd"] > 0
        assert first["completion_tokens"] > 0
        assert first["baseline_nanousd"] == 0  # there it would not have been made
        both_nanousd = first["cost_nanousd"] + second["cost_nanousd"]  # what the request has cost
        if is_streaming:
            assert events(answer.text)[-1]["jeton_cost"]["nanousd"] == both_nanousd
        else:
            assert nanousd_from_usd(Decimal(answer.headers["x-jeton-cost-usd"])) == both_nanousd
        assert jeton.health["small/1"] == jeton.health["small/2"] == "up"
        if is_streaming:
            assert {one["model"] for one in events(answer.text)} == {"cloud-model"}
        await jeton.settled()


async def test_of_a_stream_no_more_is_held_back_than_the_policy_says(tmp_path: Path) -> None:
    """The small one stalls after eight events; four are enough to see that its answer will not do."""
    async with running(tmp_path, cascaded(NEVER, stream_tokens=4)) as jeton:
        for replica in jeton.fleet["small"]:
            replica.faults(stall_after_chunks=8)
        answer = await jeton.http.post(PATH, json=chat(stream=True))
        assert answer.headers["x-jeton-backend"] == "cloud"
        first, _ = await jeton.charges()
        assert (first["status"], first["fault"]) == ("cancelled", "not_accepted")
        assert 4 <= first["completion_tokens"] <= 8
        await jeton.settled()


async def test_a_client_that_asked_for_log_probabilities_gets_them(tmp_path: Path) -> None:
    async with running(tmp_path, cascaded(ALWAYS)) as jeton:
        answer = await jeton.http.post(PATH, json=chat(logprobs=True, top_logprobs=2))
        (first, *_) = answer.json()["choices"][0]["logprobs"]["content"]
        assert len(first["top_logprobs"]) == 2


async def test_the_usage_of_a_tested_stream_is_told_as_the_client_asked(tmp_path: Path) -> None:
    async with running(tmp_path, cascaded(ALWAYS)) as jeton:
        answer = await jeton.http.post(PATH, json=chat(stream=True, stream_options={"include_usage": True}))
        *_, last = events(answer.text)
        (charge,) = await jeton.charges()
        assert last["usage"]["completion_tokens"] == charge["completion_tokens"]
        assert last["jeton_cost"]["nanousd"] == charge["cost_nanousd"]


async def test_an_answer_for_a_schema_that_was_cut_off_fails(tmp_path: Path) -> None:
    async with running(tmp_path, cascaded(ALWAYS)) as jeton:
        answer = await jeton.http.post(PATH, json=chat(response_format=CITY, max_tokens=3))
        assert answer.headers["x-jeton-backend"] == "cloud"
        assert (await statuses(jeton))[0] == ("small", "cancelled", "not_accepted")


async def test_when_the_larger_one_fails_too_the_client_hears_of_that(tmp_path: Path) -> None:
    async with running(tmp_path, cascaded(NEVER)) as jeton:
        jeton.replica("cloud").faults(refuse=True)
        answer = await jeton.http.post(PATH, json=chat())
        # The other small replica is the last choice: nobody is left to hand over to, so its answer is not tested.
        assert answer.status_code == 200
        assert answer.headers["x-jeton-backend"] == "small"
        assert answer.headers["x-jeton-attempts"] == "3"


async def test_a_budget_holds_for_each_attempt_and_pays_for_both(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        cascaded(NEVER)(config)
        config["tenants"][0]["budgets"] = [{"usd": "10", "per": "day"}]

    async with running(tmp_path, change) as jeton:
        await jeton.http.post(PATH, json=chat())
        (account,) = jeton.app._bursar.of("tests", "tests")
        await jeton.until(lambda: account.held_nanousd == 0)
        assert account.spent_nanousd == sum(row["cost_nanousd"] for row in await jeton.charges())


async def most_nanousd(jeton: WholeApp, body: dict[str, Any]) -> int:
    """What an attempt at it can cost, from the refusal of a ceiling that nobody can keep."""
    refused = await jeton.http.post(PATH, json=body, headers={"x-jeton-max-usd": "0.000000001"})
    return nanousd_from_usd(Decimal(re.findall(r"up to \$(0\.\d+)", refused.json()["error"]["message"])[0]))


@pytest.mark.parametrize(
    ("spare_nanousd", "backend", "rows"),
    [
        (0, "cloud", [("small", "cancelled", "not_accepted"), ("cloud", "ok", "")]),
        (-1, "small", [("small", "ok", "")]),
    ],
)
@pytest.mark.parametrize("is_streaming", [False, True])
async def test_an_answer_is_tested_only_under_a_ceiling_that_has_room_for_another_beside_it(
    tmp_path: Path, spare_nanousd: int, backend: str, rows: list[tuple[str, str, str]], is_streaming: bool
) -> None:
    """One nano-dollar below both at their worst, the client gets the answer that there is, whatever it is worth."""

    def change(config: dict[str, Any]) -> None:
        cascaded(NEVER)(config)
        config["aliases"] |= {"one1": {"backends": ["small"]}, "two2": {"backends": ["cloud"]}}  # as long as `pair`

    async with running(tmp_path, change) as jeton:
        body = chat(stream=is_streaming)
        both_nanousd = sum([await most_nanousd(jeton, {**body, "model": model}) for model in ("one1", "two2")])
        told = {"x-jeton-max-usd": usd_text(both_nanousd + spare_nanousd)}
        explained = (await jeton.http.post("/jeton/explain", json=body, headers=told)).json()
        is_tested = explained["ranking"][0]["acceptance"] is not None
        assert is_tested == (backend == "cloud")
        assert ("or its answer does not pass its test, cloud/1 is next" in explained["summary"]) == is_tested
        answer = await jeton.http.post(PATH, json=body, headers=told)
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, backend)
        assert await statuses(jeton) == rows
        await jeton.settled()
