"""The examples of `deploy/config/capacity/` over real HTTP, on replicas that are emulated: each does what its first lines say."""

import asyncio
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from capacity_example import HERE, serving
from payloads import form, sound

from router.config_file import load
from router.deployment import deploy

DAY = date(2026, 11, 26)
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


async def test_the_cheapest_precision_above_the_floor_answers_and_who_wants_all_bits_gets_them(tmp_path: Path) -> None:
    async with serving("quantization", tmp_path) as jeton:
        http = jeton.http
        assert await asked(http, "llama-full") == "llama-bf16"
        for model, quality_min in (("auto", 0.98), ("draft", 0.94)):
            ranking = await ranked(http, model)
            ratios = {one["quantization"]: one["quality_ratio"] for one in ranking}
            assert ratios.keys() == {"bf16", "fp8", "int8", "nvfp4", "awq-int4", "gptq-int4"}
            assert all(one["quality"] == one["quality_ratio"] for one in ranking)  # of one tier, whose own is 1
            enough = [one for one in ranking if one["quality"] >= quality_min]
            assert 0 < len(enough) < len(ranking)
            cheapest = min(enough, key=lambda one: one["quote"]["marginal"]["nanousd"])
            assert await asked(http, model) == ranking[0]["backend"] == cheapest["backend"]
        assert ratios["bf16"] == 1.0
        assert await asked(http) == "llama-fp8"
        jeton.replica("llama-nvfp4").faults(refuse=True)
        answer = await ask(http, "draft")
        assert (answer.headers["x-jeton-backend"], answer.headers["x-jeton-attempts"]) == ("llama-int4", "2")


async def test_what_is_declared_of_quality_leaves_the_baseline_and_the_cost_as_they_are(tmp_path: Path) -> None:
    booked = []
    for ratio in (1.0, 0.5):

        def change(config: dict[str, Any], ratio: float = ratio) -> None:
            config.update(policy={"name": "always_large"}, policies=[])
            for backend in config["pools"][0]["backends"]:
                backend["quality_ratio"] = ratio

        directory = tmp_path / str(ratio)
        directory.mkdir()
        async with serving("quantization", directory, change) as jeton:
            assert await asked(jeton.http) == "llama-nvfp4"
            assert {one["quality"] for one in await ranked(jeton.http)} == {ratio}
            (charge,) = await jeton.charges()
            booked.append([charge[name] for name in ("backend", "standard_nanousd", "baseline_nanousd")])
    assert booked[0] == booked[1]
    assert 0 < booked[0][1] < booked[0][2]


async def test_the_generation_whose_token_is_cheapest_answers_while_it_is_there_and_cpus_whom_they_are_asked_for(
    tmp_path: Path,
) -> None:
    async with serving("generations", tmp_path) as jeton:
        http = jeton.http
        first, second, *others = [one["backend"] for one in await ranked(http)]
        assert {first, second, *others} == {"h100", "h200", "b200", "mi300x", "gaudi3", "a100", "l40s", "l4", "cpu"}
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


async def test_drafts_are_learned_by_the_kind_of_answer_and_each_goes_where_its_tokens_are_cheaper(
    tmp_path: Path,
) -> None:
    """What the engines do with drafts nobody tells the router, whose profile says that four of five are right."""
    profiles = deploy(load(HERE / "speculation.yaml", environ={}, day=DAY), DAY).profiles
    specs = {
        "plain": {"profile": profiles["plain"]},
        "drafting": {"profile": profiles["drafting"], "acceptance_by_kind": {"code": 0.9, "chat": 0.1}},
    }
    prompts = {"code": "Write a function in Python that sorts an array", "chat": "Good morning, my dear friend"}
    tokens, answers = 96, {"code": 6, "chat": 14}

    async with serving(
        "speculation", tmp_path, lambda config: config.update(policy={"name": "marginal_cost"}), specs
    ) as jeton:
        http = jeton.http

        def body(kind: str, model: str = "auto") -> dict[str, Any]:
            messages = [{"role": "user", "content": prompts[kind]}]
            lengths = {"max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True}
            return {"model": model, "messages": messages, "stream": True, **lengths}

        async def explained(kind: str) -> dict[str, dict[str, Any]]:
            told = (await http.post("/jeton/explain", json=body(kind))).json()
            assert told["prediction"]["category"] == kind
            return {one["backend"]: one for one in told["ranking"]}

        async def is_learned() -> bool:
            seen = {kind: (await explained(kind))["drafting"]["drafting"]["answers"] for kind in prompts}
            return all(seen[kind] > answers[kind] - 0.5 for kind in prompts)

        before = {kind: await explained(kind) for kind in prompts}
        assert [next(iter(one)) for one in before.values()] == ["drafting", "drafting"]
        assert before["chat"]["plain"]["drafting"] is None

        asked_for = [kind for kind, count in answers.items() for _ in range(count)]
        bodies = [body(kind, "drafting") for kind in asked_for]
        for answer in await asyncio.gather(*(http.post("/v1/chat/completions", json=one) for one in bodies)):
            assert answer.status_code == 200, answer.text
        async with asyncio.timeout(20):
            while not await is_learned():
                await asyncio.sleep(0.02)

        after = {kind: await explained(kind) for kind in prompts}
        assert {kind: next(iter(one)) for kind, one in after.items()} == {"code": "drafting", "chat": "plain"}
        learned = {kind: one["drafting"]["drafting"] for kind, one in after.items()}
        assert learned["chat"]["tokens_per_step"] < learned["chat"]["profile_tokens_per_step"]
        assert learned["chat"]["tokens_per_step"] < learned["code"]["tokens_per_step"]
        assert after["chat"]["drafting"]["tpot_seconds"] > before["chat"]["drafting"]["tpot_seconds"]
        for kind, backend in (("code", "drafting"), ("chat", "plain")):
            answer = await http.post("/v1/chat/completions", json=body(kind) | {"max_tokens": 16, "min_tokens": 16})
            assert answer.headers["x-jeton-backend"] == backend
        metrics = (await http.get("/metrics")).text
        assert 'jeton_backend_tokens_per_step{answer_kind="chat",backend="drafting"}' in metrics
        assert 'backend="plain",answer_kind' not in metrics


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
