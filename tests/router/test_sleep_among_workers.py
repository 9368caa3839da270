"""Replicas that scale to zero, under several workers: what one keeps awake the others know."""

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from emulated_fleet import EmulatedProcess
from groups import until
from jeton_server import JetonServer, fleet_config, new_api_key

from router.domain.fleet import ScaleToZero

COLD_SECONDS = 2.0
HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


@pytest.mark.timeout(400)
def test_what_one_worker_has_woken_is_awake_to_both(tmp_path: Path) -> None:
    flags = "--cold-start-seconds", str(COLD_SECONDS), "--idle-seconds", "3600"
    always, asleep = EmulatedProcess.start(tmp_path, "small"), EmulatedProcess.start(tmp_path, "large", *flags)
    api_key, server = new_api_key(), None
    headers = {"authorization": f"Bearer {api_key}"}

    def explained(server: JetonServer) -> list[dict[str, Any]]:
        """Of `large`, by so many answers on connections of their own that each worker has given one."""
        answers = [
            httpx.post(f"{server.url}/jeton/explain", json=HELLO | {"model": "large"}, headers=headers, trust_env=False)
            for _ in range(12)
        ]
        return [answer.raise_for_status().json()["ranking"][0] for answer in answers]

    def is_awake(server: JetonServer) -> bool:
        return all((one["cold_start_seconds"], one["waking"]["nanousd"]) == (0.0, 0) for one in explained(server))

    try:
        config = fleet_config(always.wait_until_ready(), asleep.urls, ["http://127.0.0.1:7"], api_key)
        large = config["pools"][1]["backends"][0]
        terms = ScaleToZero(COLD_SECONDS, 3600.0)
        large["scale_to_zero"] = {"cold_start_seconds": terms.cold_start_seconds, "idle_seconds": terms.idle_seconds}
        server = JetonServer.start(tmp_path, config, api_key, "--workers", "2")
        log = tmp_path / "jeton.log"
        until(lambda: log.read_text().count("ready  ") == 2)
        until(lambda: _listens(asleep))
        assert all(one["cold_start_seconds"] == COLD_SECONDS and one["waking"]["nanousd"] for one in explained(server))

        body = HELLO | {"model": "large"}
        path = f"{server.url}/v1/chat/completions"
        httpx.post(path, json=body, headers=headers, timeout=60, trust_env=False).raise_for_status()
        until(lambda: is_awake(server))
        text = "\n".join(server.metrics())
        assert 'jeton_replica_wakes_total{backend="large",replica="large/1"} 1.0' in text

        assert server.stop() == 0
    finally:
        if server is not None and server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
        for process in (always, asleep):
            process.stop()


def _listens(process: EmulatedProcess) -> bool:
    """Without a request, which would wake it."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", int(process.urls[0].rpartition(":")[2])), 1.0):
        return True
    return False
