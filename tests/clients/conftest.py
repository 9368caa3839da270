"""Emulated vLLM replicas and jeton in front of them, as processes, for as long as the tests run."""

from collections.abc import Iterator

import pytest
from emulated_fleet import EmulatedProcess
from jeton_server import JetonServer, fleet_config, new_api_key

# Run by the clients' own interpreters (client_journeys.py); ours has not all of their clients.
collect_ignore = ["journeys"]


@pytest.fixture(scope="session")
def jeton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JetonServer]:
    directory = tmp_path_factory.mktemp("jeton")
    emulated: dict[str, EmulatedProcess] = {}
    try:
        emulated["small"] = EmulatedProcess.start(directory, "small")
        emulated["large"] = EmulatedProcess.start(directory, "large", replicas=2)
        emulated["embed"] = EmulatedProcess.start(directory, "embed", "--kind", "embed")
        urls = {backend: process.wait_until_ready() for backend, process in emulated.items()}
        api_key = new_api_key()
        server = JetonServer.start(directory, fleet_config(**urls, api_key=api_key, context_tokens=32_768), api_key)
        try:
            yield server
        finally:
            exit_code = server.stop()
        assert exit_code == 0
    finally:
        for process in emulated.values():
            process.stop()
