"""Four real vLLM servers on this machine's CPU, and jeton in front of them, for as long as the tests run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from jeton_server import JetonServer, fleet_config, new_api_key
from vllm_server import VllmFleet, VllmServer

# Small speaks tools and tells cached tokens; the others have vLLM's own defaults. 4,096 tokens: what the KV cache holds for
# several sequences of an aborted test at once.
CONTEXT_TOKENS = 4096
SMALL_FLAGS = ("--enable-prompt-tokens-details", "--enable-auto-tool-choice", "--tool-call-parser", "hermes")


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmFleet]:
    directory = tmp_path_factory.mktemp("vllm")
    context = ("--max-model-len", str(CONTEXT_TOKENS))
    started: list[VllmServer] = []
    try:
        started.append(VllmServer.start("small", directory, *context, *SMALL_FLAGS))
        started += [VllmServer.start("large", directory, *context) for _ in range(2)]
        started.append(VllmServer.start("embed", directory))
        for server in started:
            server.wait_until_ready()
        small, first, second, embed = started
        yield VllmFleet(small, (first, second), embed)
    finally:
        for server in started:
            server.stop()


@pytest.fixture(scope="session")
def jeton(fleet: VllmFleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JetonServer]:
    directory: Path = tmp_path_factory.mktemp("jeton")
    api_key = new_api_key()
    urls = {backend: [server.url for server in fleet.replicas(backend)] for backend in ("small", "large", "embed")}
    server = JetonServer.start(directory, fleet_config(**urls, api_key=api_key, context_tokens=CONTEXT_TOKENS), api_key)
    try:
        yield server
    finally:
        exit_code = server.stop()
    assert exit_code == 0
