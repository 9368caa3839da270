"""The examples of `deploy/config/capacity/` over real HTTP, on replicas that are emulated: each does what its first lines say."""

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from capacity_example import serving
from payloads import form, sound

TOKENS = 3


async def ask(
    http: httpx.AsyncClient, model: str = "auto", prompt: str = "What is a jeton?", **headers: str
) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS}
    answer = await http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] <= TOKENS
    assert float(answer.headers["x-jeton-cost-usd"]) > 0
    return answer


async def asked(http: httpx.AsyncClient, model: str = "auto", prompt: str = "What is a jeton?", **headers: str) -> str:
    """Who answered."""
    backend = (await ask(http, model, prompt, **headers)).headers["x-jeton-backend"]
    assert isinstance(backend, str)
    return backend


async def ranked(
    http: httpx.AsyncClient, model: str = "auto", prompt: str = "What is a jeton?"
) -> list[dict[str, Any]]:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS}
    ranking = (await http.post("/jeton/explain", json=body)).json()["ranking"]
    assert isinstance(ranking, list)
    return ranking


async def test_precisions_are_tiers_and_who_wants_all_bits_gets_them(tmp_path: Path) -> None:
    async with serving("quantization", tmp_path) as jeton:
        http = jeton.http
        assert await asked(http, "llama-full") == "llama-bf16"
        ranking = await ranked(http)
        assert {one["quantization"] for one in ranking} == {"bf16", "fp8", "nvfp4", "awq-int4"}
        assert await asked(http) == ranking[0]["backend"]
        quality = {one["tier"]: one["quality"] for one in ranking}
        assert quality["int4"] < quality["fp4"] < quality["fp8"] < quality["bf16"] == 1.0


async def test_the_generation_whose_token_is_cheapest_answers_while_it_is_there_and_cpus_whom_they_are_asked_for(
    tmp_path: Path,
) -> None:
    async with serving("generations", tmp_path) as jeton:
        http = jeton.http
        first, second = [one["backend"] for one in await ranked(http)][:2]
        assert await asked(http) == first
        jeton.replica(first).faults(refuse=True)
        answer = await ask(http)
        assert (answer.headers["x-jeton-backend"], answer.headers["x-jeton-attempts"]) == (second, "2")
        assert await asked(http, "patient", "jeton " * 6000) == "cpu"
        assert (await ranked(http, "auto", "jeton " * 6000))[0]["backend"] != "cpu"


async def test_near_answers_its_own_region_and_far_what_is_long(tmp_path: Path) -> None:
    region = {"x-jeton-region": "eu-central"}
    async with serving("near_and_far", tmp_path) as jeton:
        http = jeton.http
        assert await asked(http, **region) == "near"
        assert await asked(http, prompt="jeton " * 40_000, **region) == "far"
        for replica in jeton.fleet["near"]:
            replica.faults(refuse=True)
        assert await asked(http, **region) == "far"


async def test_commitments_before_on_demand_before_tokens_of_whom_takes_them(tmp_path: Path) -> None:
    async with serving("commitments", tmp_path) as jeton:
        http = jeton.http
        assert await asked(http) == "committed"
        jeton.replica("committed").faults(refuse=True)
        assert await asked(http) == "on-demand"
        jeton.replica("on-demand").faults(refuse=True)
        await jeton.until(lambda: (jeton.health["committed-1"], jeton.health["on-demand-1"]) == ("down", "down"))
        assert await asked(http) == "deepinfra"
        jeton.replica("deepinfra").faults(status=429, retry_after=60)
        assert await asked(http) == "together"
        seen = len(jeton.seen("deepinfra"))
        assert await asked(http) == "together"
        assert len(jeton.seen("deepinfra")) == seen  # it said for how long to leave it alone


async def test_spot_takes_all_but_a_share_and_nothing_once_it_is_told_to_leave(tmp_path: Path) -> None:
    async with serving("spot", tmp_path) as jeton:
        http = jeton.http
        names = Counter([await asked(http) for _ in range(60)])
        assert names["spot"] > names["steady"]
        declared = {one["backend"]: one for one in await ranked(http)}["spot"]["preemption"]["per_hour"]
        for replica in ("spot-1", "spot-2"):
            assert jeton.app._fleet.leave(replica, "the provider said so")
        before = len(jeton.seen("spot"))
        assert {await asked(http) for _ in range(5)} == {"steady"}
        assert len(jeton.seen("spot")) == before
        for replica in ("spot-1", "spot-2"):
            assert jeton.app._fleet.stay(replica)
        learned = {one["backend"]: one for one in await ranked(http)}["spot"]["preemption"]
        assert learned["seen"] == 2
        assert learned["per_hour"] > 1.9 * declared  # two more in a hundred hours and some seconds
        assert 'jeton_preemptions_seen{backend="spot"} 2.0' in (await http.get("/metrics")).text


async def test_drafted_tokens_are_preferred_where_they_are_cheaper(tmp_path: Path) -> None:
    async with serving("speculation", tmp_path) as jeton:
        http = jeton.http
        quotes = {one["backend"]: one["quote"]["marginal"]["nanousd"] for one in await ranked(http)}
        assert quotes["drafting"] < quotes["plain"]
        assert await asked(http) == "drafting"


async def test_speech_is_written_down_by_its_own_pool_and_bought_by_the_minute_when_that_is_away(
    tmp_path: Path,
) -> None:
    async with serving("audio", tmp_path) as jeton:
        http = jeton.http
        headers = {"content-type": "multipart/form-data; boundary=limit"}
        body = form(("model", "speech"), ("file", sound(6.0)))

        async def heard() -> httpx.Response:
            answer = await http.post("/v1/audio/transcriptions", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.json()["text"]
            return answer

        answer = await heard()
        assert answer.headers["x-jeton-backend"] == "whisper-l4"
        for replica in jeton.fleet["whisper-l4"]:
            replica.faults(refuse=True)
        await jeton.until(lambda: {jeton.health["whisper-1"], jeton.health["whisper-2"]} == {"down"})
        answer = await heard()
        assert answer.headers["x-jeton-backend"] == "bought"
        assert float(answer.headers["x-jeton-cost-usd"]) == pytest.approx(0.006 * 6 / 60)
        told = [(charge["backend"], charge["audio_seconds"]) for charge in await jeton.charges()]
        assert told[-1] == ("bought", 6.0)
