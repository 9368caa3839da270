"""API keys of backends that stand in files: another one is taken while jeton runs, and shows nowhere."""

from pathlib import Path
from typing import Any

import pytest
from payloads import HELLO
from provided import PATH, provided
from whole_app import CLOUD_KEY, PEPPER, SPECS, WholeApp, running

from load.emulator.spec import Dialect, ReplicaSpec

BODY: dict[str, Any] = {"model": "cloud-model", "messages": HELLO, "max_tokens": 4}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload reads it anew."""
    monkeypatch.setenv("JETON_API_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("CLOUD_API_KEY", CLOUD_KEY)


def in_file(backend: dict[str, Any]) -> None:
    backend["replicas"] = [{"url": backend["replicas"][0]["url"], "api_key_file": "key"}]


async def applied(jeton: WholeApp, times: int) -> None:
    await jeton.until(
        lambda: sum(event["event"] == "configuration applied" for event in jeton.events) >= times, seconds=30
    )


async def test_a_new_key_in_the_file_is_taken_without_a_restart_and_without_a_refusal(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-first\n")
    async with provided(tmp_path, "openai", spec={"api_key": None}, change=in_file) as jeton:
        await jeton.http.post(PATH, json=BODY)
        key.write_text("sk-second\n")
        await applied(jeton, 1)
        await jeton.http.post(PATH, json=BODY)
        shown = [request.headers["authorization"] for request in jeton.replica("cloud").requests_seen]
        assert shown == ["Bearer sk-first", "Bearer sk-second"]
        assert "sk-first" not in repr(jeton.events)
        assert "sk-second" not in repr(jeton.events)


async def test_a_key_that_is_replaced_by_renaming_is_seen_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-first")
    async with provided(tmp_path, "openai", spec={"api_key": None}, change=in_file) as jeton:
        (tmp_path / "next").write_text("sk-second")
        (tmp_path / "next").rename(tmp_path / "key")
        await applied(jeton, 1)
        await jeton.http.post(PATH, json=BODY)
        assert jeton.replica("cloud").requests_seen[-1].headers["authorization"] == "Bearer sk-second"


async def test_an_empty_key_file_is_refused_and_the_old_key_stays(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-first")
    async with provided(tmp_path, "openai", spec={"api_key": None}, change=in_file) as jeton:
        key.write_text("")
        await jeton.until(lambda: any("configuration refused" in event["event"] for event in jeton.events), seconds=30)
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 200
        assert jeton.replica("cloud").requests_seen[-1].headers["authorization"] == "Bearer sk-first"
        key.write_text("sk-second")
        await applied(jeton, 1)
        [refused] = [event for event in jeton.events if "configuration refused" in event["event"]]
        jeton.events.remove(refused)  # what every other journey must not leave behind
        assert "does not hold one line with a key" in refused["mistakes"][0]


@pytest.mark.parametrize("kind", ["vllm", "provider"])
async def test_f09_a_refused_key_is_read_once_more_and_one_attempt_is_enough(tmp_path: Path, kind: str) -> None:
    """The folder is watched, but the request comes first."""
    key = tmp_path / "key"
    key.write_text("sk-first")

    def change(config: dict[str, Any]) -> None:
        config["health"] = {"interval_seconds": 600}
        backend = config["pools"][1 if kind == "vllm" else 2]["backends"][0]
        in_file(backend)
        if kind == "provider":
            del backend["capabilities"]
            backend["provider"] = "openai"

    guarded = {
        "vllm": ("large", ReplicaSpec(SPECS["large"][0].model, api_key="sk-second", is_multimodal=True)),
        "provider": ("cloud", ReplicaSpec("gpt-x", dialect=Dialect.OPENAI, api_key="sk-second")),
    }
    name, spec = guarded[kind]
    async with running(tmp_path, change, {name: (spec,)}) as jeton:
        key.write_text("sk-second")
        answer = await jeton.http.post(PATH, json={**BODY, "model": f"{name}-model"})
        assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "1")


async def test_f09_a_key_that_stays_wrong_is_tried_once(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-first")
    async with provided(tmp_path, "openai", change=in_file) as jeton:
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 502
        assert len(jeton.replica("cloud").requests_seen) == 1
        assert jeton.health["cloud/1"] == "locked_out"
