"""Providers that are quicker or less reliable than was thought: seen in their answers, and heeded by the next decision."""

from pathlib import Path
from typing import Any

from capacity_example import serving
from payloads import HELLO
from whole_app import WholeApp

BODY = {"messages": HELLO, "max_tokens": 4, "stream": True}


def impatient(config: dict[str, Any]) -> None:
    """An objective that no cloud is forecast to meet before anything was seen of it."""
    config["policy"] = {"name": "slo", "parameters": {"ttft_seconds_max": 1.0}}


async def explained(jeton: WholeApp) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Candidates by backend, and why backends are none."""
    answer = (await jeton.http.post("/jeton/explain", json=BODY | {"model": "auto"})).json()
    ranking = {choice["backend"]: choice for choice in answer["ranking"]}
    return ranking, {one["backend"]: one["why"] for one in answer["exclusions"]}


async def test_what_a_provider_takes_and_how_often_it_answers_is_learned(tmp_path: Path) -> None:
    async with serving("commitments", tmp_path, impatient) as jeton:
        before, _ = await explained(jeton)
        assert before["deepinfra"]["ttft_seconds"] > 1.0
        assert before["deepinfra"]["reason"].startswith("least violation")
        http, cloud = jeton.http, jeton.replica("deepinfra")
        for number in range(10):
            if number % 2:
                cloud.faults(status=500, times=1)
            answer = await http.post("/v1/chat/completions", json=BODY | {"model": "deepinfra"})
            assert answer.status_code == (502 if number % 2 else 200)
        for _ in range(15):
            assert (await http.post("/v1/chat/completions", json=BODY | {"model": "together"})).status_code == 200
        after, left_out = await explained(jeton)
        # Never five failures in a row, so that it is not ejected.
        assert left_out["deepinfra"] == "answers 75% of what it is asked, less than 80%"
        together = after["together"]
        assert together["ttft_seconds"] < 1.0
        assert not together["reason"].startswith("least violation")
        assert together["experience"]["availability_ratio"] == 1.0
        assert together["experience"]["answers"] > 10
        # Whoever asks for that one gets it, for nobody else can.
        assert (await http.post("/v1/chat/completions", json=BODY | {"model": "deepinfra"})).status_code == 200
        text = (await http.get("/metrics")).text
        told = {
            line.split(" ")[0]: float(line.split(" ")[1])
            for line in text.splitlines()
            if "jeton_backend_" in line and line[0] != "#"
        }
        assert told['jeton_backend_availability_ratio{backend="together"}'] == 1.0
        assert told['jeton_backend_availability_ratio{backend="deepinfra"}'] < 0.8
        assert told['jeton_backend_ttft_seconds{backend="together"}'] < 1.0
        assert 'jeton_backend_tpot_seconds{backend="together"}' in told
        assert 'jeton_backend_ttft_seconds{backend="committed"}' not in told
