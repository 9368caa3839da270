"""The admin port: who may do what there, that none of it is to be had elsewhere, and replicas that are announced to leave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from payloads import HELLO
from whole_app import CLOUD_KEY, PEPPER, WholeApp, running

from router.access.keys import api_key_hash, new_api_key

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "small-model", "messages": HELLO, "max_tokens": 3}
ADMIN_KEY = new_api_key()
ENDPOINTS = (
    ("GET", "/replicas"),
    ("POST", "/replicas/small/1/leave"),
    ("POST", "/replicas/small/1/stay"),
    ("POST", "/reload"),
)


def administered(config: dict[str, Any]) -> None:
    hashed = api_key_hash(ADMIN_KEY, PEPPER.encode())
    config["admin"] = {"port": 0, "api_keys": [{"name": "operator", "hash": hashed}]}


@contextlib.asynccontextmanager
async def admin_of(jeton: WholeApp) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    url = f"http://127.0.0.1:{jeton.app.admin_port}"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


async def states(admin: httpx.AsyncClient) -> dict[str, str]:
    return {replica["id"]: replica["state"] for replica in (await admin.get("/replicas")).json()["replicas"]}


async def test_b57_nothing_of_the_admin_port_is_on_the_data_port(tmp_path: Path) -> None:
    async with running(tmp_path, administered) as jeton:
        for key in (jeton.api_key, ADMIN_KEY):
            for method, path in (*ENDPOINTS, ("GET", "/admin"), ("POST", "/v1/../reload"), ("GET", "/admin/replicas")):
                headers = {"authorization": f"Bearer {key}"}
                answer = await jeton.http.request(method, path, headers=headers)
                assert answer.status_code == 404, path
                assert answer.json()["error"]["code"] == "unknown_path"
        refused = await jeton.http.post(PATH, json=BODY, headers={"authorization": f"Bearer {ADMIN_KEY}"})
        assert refused.status_code == 401, "an admin is no tenant"
        assert set(jeton.health.values()) == {"up"}


@pytest.mark.parametrize("key", ["", "sk-wrong", "the tenant's"])
async def test_b57_nobody_administers_without_an_admin_key(tmp_path: Path, key: str) -> None:
    async with running(tmp_path, administered) as jeton, admin_of(jeton) as admin:
        value = jeton.api_key if key == "the tenant's" else key
        for method, path in (*ENDPOINTS, ("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("PUT", "/reload")):
            answer = await admin.request(method, path, headers={"authorization": f"Bearer {value}" if value else ""})
            assert answer.status_code == 401, path
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
        assert set(jeton.health.values()) == {"up"}


async def test_b57_wrong_admin_keys_are_slowed_down_and_right_ones_pass(tmp_path: Path) -> None:
    async with running(tmp_path, administered) as jeton, admin_of(jeton) as admin:
        answers = [await admin.get("/replicas", headers={"authorization": f"Bearer {n}"}) for n in range(40)]
        assert {answer.status_code for answer in answers} == {401, 429}
        assert (await admin.get("/replicas")).status_code == 200


async def test_without_an_admin_section_there_is_no_admin_port(jeton: WholeApp) -> None:
    assert jeton.app.admin_port is None


async def test_what_an_admin_asks_wrongly_is_said_in_openais_shape(tmp_path: Path) -> None:
    async with running(tmp_path, administered) as jeton, admin_of(jeton) as admin:
        for path, body, status, param in (
            ("/replicas/nobody/7/leave", {}, 404, None),
            ("/replicas/nobody/7/stay", {}, 404, None),
            ("/replicas/small/1/leave", {"seconds": -1}, 400, "seconds"),
            ("/replicas/small/1/leave", {"seconds": "x"}, 400, "seconds"),
            ("/replicas/small/1/leave", {"when": 1}, 400, "when"),
            ("/replicas/small/1/leave", [], 400, None),
            ("/nothing", {}, 404, None),
        ):
            answer = await admin.post(path, json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (status, param), path
        assert (await admin.get("/reload")).status_code == 405
        answer = await admin.post("/replicas/small/1/leave", content=b'{"seconds": 5}')
        assert answer.status_code == 415
        assert "`Content-Type: application/json`" in answer.json()["error"]["message"]
        is_json = {"content-type": "application/json"}
        answer = await admin.post("/replicas/small/1/leave", content=b'{"seconds": 5', headers=is_json)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, None)
        assert error["message"].startswith("The body is not valid JSON: ")


async def test_a_reload_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JETON_API_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("CLOUD_API_KEY", CLOUD_KEY)
    async with running(tmp_path, administered) as jeton, admin_of(jeton) as admin:
        assert (await admin.post("/reload")).status_code == 202
        applied = 'jeton_reloads_total{result="applied"} 1.0'
        async with asyncio.timeout(60):
            while applied not in (await jeton.http.get("/metrics")).text:
                await asyncio.sleep(0.01)
        assert (await admin.get("/replicas")).status_code == 200


async def test_f33_a_replica_that_is_announced_to_leave_gets_no_new_work_and_ends_what_it_has(tmp_path: Path) -> None:
    async with running(tmp_path, administered) as jeton, admin_of(jeton) as admin:
        leaving, stream = await begun_stream(jeton, max_tokens=60)
        staying = {"small/1": "small/2", "small/2": "small/1"}[leaving]
        answer = await admin.post(f"/replicas/{leaving}/leave", json={"seconds": 3600, "why": "spot"})
        assert (answer.status_code, answer.json()) == (202, {"replica": leaving, "seconds": 3600, "workers": 1})
        for _ in range(10):
            answer = await jeton.http.post(PATH, json=BODY)
            assert answer.status_code == 200
        assert "[DONE]" in await stream
        (one,) = [
            replica for replica in (await admin.get("/replicas")).json()["replicas"] if replica["id"] == "small/1"
        ]
        assert one | {"given_up_in_seconds": 1} == {
            "id": leaving,
            "backend": "small",
            "state": "leaving",
            "why": "is leaving: spot",
            "in_flight": 0,
            "given_up_in_seconds": 1,
        }
        assert [row["replica"] for row in await jeton.charges()] == [leaving, *[staying] * 10]
        assert {row["status"] for row in await jeton.charges()} == {"ok"}
        assert (await admin.post(f"/replicas/{staying}/leave")).status_code == 202
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 503
        assert (await admin.post(f"/replicas/{leaving}/stay")).status_code == 202
        assert (await jeton.http.post(PATH, json=BODY)).status_code == 200
        found = await states(admin)
        assert (found.pop(leaving), found.pop(staying)) == ("up", "leaving")
        assert found == dict.fromkeys(("large/1", "cloud/1", "embed/1", "audio/1"), "up")


async def test_f33_before_the_deadline_what_has_not_answered_moves_and_what_has_ends_with_an_error(
    tmp_path: Path,
) -> None:
    def in_turn(config: dict[str, Any]) -> None:
        administered(config)
        config["policy"] = {"name": "round_robin"}
        config["timeouts"] = {
            "first_byte_seconds": 600,
            "chunk_seconds": 600,
        }  # what stalls here does so until it is given up

    async with running(tmp_path, in_turn) as jeton, admin_of(jeton) as admin:
        for replica in jeton.fleet["small"]:
            replica.faults(stall_after_chunks=3, times=1)
        leaving, broken = await begun_stream(jeton, max_tokens=100)
        for replica in jeton.fleet["small"]:
            replica.clear_faults()
        replica = jeton.replica("small", int(leaving[-1]) - 1)
        waiting = []
        for number, is_streaming in enumerate((False, True)):
            assert (await jeton.http.post(PATH, json=BODY)).status_code == 200  # it is the other's turn
            replica.faults(stall_before_first_token=True, times=1)
            waiting.append(asyncio.ensure_future(jeton.http.post(PATH, json={**BODY, "stream": is_streaming})))
            await jeton.until(lambda expected=number + 2: jeton.in_flight == {leaving: expected}, 60)  # type: ignore[misc]
        await admin.post(f"/replicas/{leaving}/leave", json={"seconds": 0.5})
        for answer in await asyncio.gather(*waiting):
            assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "2"), answer.text
            assert b'"error"' not in answer.content
        text = await broken
        assert '"error"' in text
        assert "[DONE]" not in text
        assert jeton.in_flight == {}
        rows = await jeton.charges()
        ends = sorted((row["replica"] == leaving, row["status"], row["fault"]) for row in rows)
        assert ends == [(False, "ok", "")] * 4 + [(True, "failed", "leaving")] * 3
        assert rows[0]["completion_tokens"] > 0, "what was made until then is charged"
        assert jeton.health[leaving] == "leaving", "it has not failed"


async def test_f33_a_replica_that_comes_back_as_another_process_is_no_longer_leaving(tmp_path: Path) -> None:
    async with running(tmp_path, administered) as jeton, admin_of(jeton) as admin:
        await admin.post("/replicas/small/1/leave", json={"seconds": 3600})
        jeton.replica("small").faults(api_death=True, seconds=6)
        await jeton.until(lambda: jeton.health["small/1"] == "down", 60)
        await jeton.until(lambda: jeton.health["small/1"] == "up", 60)


async def begun_stream(jeton: WholeApp, **members: Any) -> tuple[str, "asyncio.Future[str]"]:
    """The replica at which it runs, and all that will come of it; it has begun to answer."""
    client = await jeton.raw(jeton.request(PATH, {**BODY, "stream": True, "ignore_eos": True, **members}))
    assert (await client.head())[0] == 200
    (replica,) = jeton.in_flight

    async def rest() -> str:
        found = b""
        while not found.endswith(b"0\r\n\r\n"):
            piece = await client.reader.read(65536)
            if not piece:
                break
            found += piece
        return found.decode()

    return replica, asyncio.ensure_future(rest())
