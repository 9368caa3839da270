"""A configuration that changes while requests are under way: they end on what they started with."""

import json
from dataclasses import replace
from typing import Any

import pytest
from bookkeeping import assert_books_balance
from payloads import HELLO
from whole_app import CLOUD_KEY, PEPPER, PRICES, WholeApp

from router.classify.classifier import Classifier

PATH = "/v1/chat/completions"
LONG: dict[str, Any] = {
    "model": "small-model",
    "messages": HELLO,
    "max_tokens": 30_000,
    "ignore_eos": True,
    "stream": True,
}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload reads them from the environment, as the start did."""
    monkeypatch.setenv("JETON_API_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("CLOUD_API_KEY", CLOUD_KEY)


def write(jeton: WholeApp, config: dict[str, Any], usd_per_hour: float) -> None:
    """Prices first: the file of the fleet is the one whose change is waited for."""
    prices = json.loads(json.dumps(PRICES))
    prices["gpu"][0]["usd_per_hour"] = usd_per_hour
    for name, value in (("prices.yaml", {"prices": prices}), ("router.yaml", config)):
        beside = jeton.directory / f".{name}"
        beside.write_text(json.dumps(value))
        beside.replace(jeton.directory / name)


async def test_a_reload_may_name_another_classifier(jeton: WholeApp) -> None:
    async def explained() -> float:
        answer = await jeton.http.post("/jeton/explain", json={"model": "auto", "messages": HELLO})
        suffices: float = answer.json()["prediction"]["small_suffices"]
        return suffices

    before = await explained()
    learned = Classifier.load().learned
    sure = replace(learned.calibration, small_suffices=(50.0, 0.0))
    replace(learned, calibration=sure).save(jeton.directory / "ours.npz")
    write(jeton, jeton.config | {"classifier": "ours.npz"}, usd_per_hour=3.6)
    await jeton.until(lambda: jeton.app._loaded.config.classifier is not None, seconds=15)
    assert before < 0.999 < await explained()


async def test_a_reload_may_take_second_attempts_away(jeton: WholeApp) -> None:
    write(jeton, jeton.config | {"retries": {"budget_ratio": 0, "budget_per_second": 0}}, usd_per_hour=3.6)
    await jeton.until(lambda: jeton.app._loaded.config.retries.budget_ratio == 0, seconds=15)
    for replica in ("small", "large"):
        jeton.replica(replica).faults(status=503)
    body = {"model": "auto", "messages": HELLO, "max_tokens": 3}
    answers = [await jeton.http.post(PATH, json=body) for _ in range(8)]
    assert 503 in {answer.status_code for answer in answers}
    second = [charge for charge in await jeton.charges() if charge["number"] > 1]
    assert len(second) <= 1, "one is left of what there was"


async def test_a_reload_leaves_streams_alone_and_the_books_balanced(jeton: WholeApp) -> None:
    streams = [await jeton.raw(jeton.request(PATH, LONG)) for _ in range(3)]
    for stream in streams:
        await stream.reader.readuntil(b"}\n\n")
    assert sum(jeton.in_flight.values()) == 3
    config = json.loads(json.dumps(jeton.config))
    del config["pools"][0]["backends"][0]["replicas"][1]
    config["aliases"]["new-name"] = {"backends": ["small"]}
    write(jeton, config, usd_per_hour=7.2)
    await jeton.until(lambda: "new-name" in jeton.app._pipeline.deployment.aliases, seconds=15)
    for stream in streams:  # those at the replica that is gone, too
        await stream.reader.readuntil(b"}\n\n")
    answer = await jeton.http.post(PATH, json={**LONG, "model": "new-name", "max_tokens": 3, "stream": False})
    assert answer.status_code == 200
    for stream in streams:
        stream.leave()
    await jeton.settled()
    charges = await jeton.charges()
    assert [charge["status"] for charge in charges] == ["cancelled"] * 3 + ["ok"]
    assert {charge["replica"] for charge in charges[:3]} == {"small/1", "small/2"}
    old, new = charges[0]["price_id"], charges[3]["price_id"]
    assert old != new
    assert [charge["price_id"] for charge in charges] == [old] * 3 + [new]
    assert_books_balance(jeton.app._accountant.totals(), open_attempts=0)


async def test_f39_a_bad_configuration_changes_nothing(jeton: WholeApp) -> None:
    before = jeton.app._pipeline.deployment
    config = json.loads(json.dumps(jeton.config))
    config["baseline"] = "nobody"
    write(jeton, config, usd_per_hour=3.6)
    await jeton.until(lambda: any(event["log_level"] == "error" for event in jeton.events), seconds=15)
    assert jeton.app._pipeline.deployment is before
    answer = await jeton.http.post(PATH, json={**LONG, "max_tokens": 3, "stream": False})
    assert answer.status_code == 200
    assert 'jeton_reloads_total{result="refused"}' in (await jeton.http.get("/metrics")).text
    (said,) = [event for event in jeton.events if event["log_level"] == "error"]
    assert "nobody" in str(said)
    jeton.events.remove(said)  # the one error that this journey may leave in the log
