"""What is not inference: models, health, metrics, explain, the OpenAPI page; and which names lead where."""

from pathlib import Path
from typing import Any

import openai
import pytest
from payloads import HELLO
from whole_app import WholeApp, running


def few_rights(config: dict[str, Any]) -> None:
    config["tenants"][0] |= {"models": ["small-model"], "requests_per_minute": 2}
    config["server"]["body_bytes_max"] = 10_000


async def test_models_lists_aliases_backends_and_models_with_tier_context_and_price(jeton: WholeApp) -> None:
    models = {model.id: model async for model in jeton.sdk.models.list()}
    assert set(models) == {
        *("auto", "chat-small", "anything"),
        *("small", "large", "cloud", "embed", "audio"),
        *("small-model", "large-model", "cloud-model", "embed-model", "audio-model"),
    }
    small: Any = (models["small"].model_extra or {})["jeton"]
    cloud: Any = (models["cloud"].model_extra or {})["jeton"]
    assert (small["tier"], small["context_tokens"], small["price"]["usd_per_hour"]) == ("small", 32768, "3.600000000")
    assert cloud["price"]["usd_per_million"]["completion"] in ("8", "8.00")
    one = await jeton.sdk.models.retrieve("small")
    assert one == models["small"]


async def test_a_model_that_is_not_there_is_not_found(jeton: WholeApp) -> None:
    with pytest.raises(openai.NotFoundError, match="Nearest: small-model"):
        await jeton.sdk.models.retrieve("smal-model")


async def test_an_unknown_model_is_refused_with_the_nearest_names(jeton: WholeApp) -> None:
    with pytest.raises(openai.NotFoundError, match=r"'smal-modl' does not exist\. Nearest: small-model") as caught:
        await jeton.sdk.chat.completions.create(model="smal-modl", messages=HELLO)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert await jeton.charges() == []


async def test_a_model_that_cannot_do_it_says_who_can(jeton: WholeApp) -> None:
    with pytest.raises(openai.BadRequestError, match=r"cannot do embeddings\. Models that can: embed-model"):
        await jeton.sdk.embeddings.create(model="small-model", input="one")


async def test_health_says_alive_and_ready_says_that_it_can_serve(jeton: WholeApp) -> None:
    assert (await jeton.http.get("/health")).status_code == 200
    ready = await jeton.http.get("/ready")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    jeton.app.drain()
    ready = await jeton.http.get("/ready")
    assert (ready.status_code, ready.json()["why"]) == (503, "shutting down")
    assert (await jeton.http.get("/health")).status_code == 200


async def test_the_money_in_metrics_is_the_ledgers(jeton: WholeApp) -> None:
    for model in ("small-model", "cloud-model"):
        await jeton.sdk.chat.completions.create(model=model, messages=HELLO, max_tokens=5)
    small, cloud = await jeton.charges()
    text = (await jeton.http.get("/metrics")).text
    costs = {
        backend: float(line.rpartition(" ")[2]) * 1e9
        for line in text.splitlines()
        for backend in ("small", "cloud")
        if line.startswith("jeton_cost_usd_total") and f'backend="{backend}"' in line and 'basis="allocated"' in line
    }
    assert {backend: round(cost) for backend, cost in costs.items()} == {
        "small": small["cost_nanousd"],
        "cloud": cloud["cost_nanousd"],
    }


async def test_what_replicas_took_corrects_their_forecasts_and_is_told(jeton: WholeApp) -> None:
    drift = jeton.app.lessons.drifts.of("small/1")
    other = jeton.app.lessons.drifts.of("small/2")
    assert drift is not None
    assert other is not None
    stream = await jeton.sdk.chat.completions.create(model="small-model", messages=HELLO, max_tokens=20, stream=True)
    async for _ in stream:
        pass
    assert drift.tpot.observations + other.tpot.observations == 1
    for minute in range(1, 6):  # what a faster engine than the profile's would have made of more of them
        for _ in range(5):
            drift.tpot.observe(0.02, 0.015)
        drift.tpot.close(minute, 1)
    ratio = drift.tpot.ratio
    assert ratio < 1.0
    text = (await jeton.http.get("/metrics")).text
    assert f'jeton_profile_correction_ratio{{backend="small",kind="tpot",replica="small/1"}} {ratio}' in text
    decision = (await jeton.http.post("/jeton/explain", json={"model": "anything", "messages": HELLO})).json()
    told = {row["replica"]: row["profile_correction"] for row in decision["ranking"]}
    assert told["small/1"]["tpot_ratio"] == pytest.approx(ratio)
    assert told["cloud/1"] is None  # nobody's profile, nobody's drift


async def test_how_long_an_applications_answers_are_corrects_what_is_expected_of_the_next(jeton: WholeApp) -> None:
    ask = {"model": "anything", "messages": HELLO}
    before = (await jeton.http.post("/jeton/explain", json=ask)).json()
    assert before["length_correction"] is None
    real_tokens = 0
    for _ in range(3):
        answer = await jeton.sdk.chat.completions.create(**ask)
        assert answer.usage is not None
        real_tokens += answer.usage.completion_tokens
    after = (await jeton.http.post("/jeton/explain", json=ask)).json()
    expected_tokens = after["prediction"]["completion_tokens"]
    seen_ratio = real_tokens / 3 / expected_tokens
    # Twice ten answers as expected count beside the three: the application's prior, and through it the category's.
    application_ratio = (3 * seen_ratio + 10) / 13
    ratio = (3 * seen_ratio + 10 * application_ratio) / 13
    assert after["length_correction"]["ratio"] == pytest.approx(ratio, rel=0.01)
    assert after["ranking"][0]["completion_tokens"] == pytest.approx(expected_tokens * ratio, rel=0.01)


async def test_explain_shows_the_decision_and_dispatches_nothing(jeton: WholeApp) -> None:
    body = {"model": "anything", "messages": HELLO, "tools": []}
    decision = (await jeton.http.post("/jeton/explain", json=body)).json()
    assert decision["policy"] == "quality_floor"
    assert {row["backend"] for row in decision["ranking"]} == {"small", "large", "cloud"}
    assert [jeton.seen(backend) for backend in ("small", "large", "cloud")] == [[], [], []]
    assert await jeton.charges() == []


async def test_explain_says_why_a_backend_is_excluded(jeton: WholeApp) -> None:
    look = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}]
    decision = (await jeton.http.post("/jeton/explain", json={"model": "anything", "messages": look})).json()
    excluded = {row["backend"]: row["why"] for row in decision["exclusions"]}
    assert excluded == {"small": "cannot do vision", "cloud": "cannot do vision"}


async def test_the_openapi_page_is_there(jeton: WholeApp) -> None:
    assert (await jeton.http.get("/docs")).status_code == 200
    assert "/v1/models" in (await jeton.http.get("/openapi.json")).json()["paths"]


async def test_what_is_not_there_is_not_found_in_openais_shape(jeton: WholeApp) -> None:
    missing = await jeton.http.get("/v1/nothing")
    wrong = await jeton.http.get("/v1/chat/completions")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_path")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


async def test_our_own_refusals_raise_the_sdks_exceptions(tmp_path: Path) -> None:
    async with running(tmp_path, few_rights) as jeton:
        sdk = jeton.sdk
        with pytest.raises(openai.AuthenticationError):
            await sdk.with_options(api_key="sk-wrong").models.list()
        with pytest.raises(openai.PermissionDeniedError, match="may not use the model 'large-model'"):
            await sdk.chat.completions.create(model="large-model", messages=HELLO)
        with pytest.raises(openai.APIStatusError) as caught:
            await sdk.chat.completions.create(model="small-model", messages=[{"role": "user", "content": "x" * 20_000}])
        assert caught.value.status_code == 413
        with pytest.raises(openai.RateLimitError) as limited:
            await sdk.chat.completions.create(model="small-model", messages=HELLO)
        assert 1 <= int(limited.value.response.headers["retry-after"]) <= 30
        assert [model.id async for model in sdk.models.list()] == ["small-model"]
        assert await jeton.charges() == []


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1//embeddings", "/v1/embeddings"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/models", "/v1/models"),
    ],
)
async def test_a_path_with_a_slip_in_the_base_url_is_told_the_right_one(
    jeton: WholeApp, asked: str, meant: str
) -> None:
    answer = await jeton.http.post(asked, json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == f"There is nothing at {asked}; did you mean {meant}?"


async def test_a_path_that_is_like_no_other_is_told_none(jeton: WholeApp) -> None:
    answer = await jeton.http.post("/v1/images/generations", json={})
    assert answer.json()["error"]["message"] == "There is nothing at /v1/images/generations."
