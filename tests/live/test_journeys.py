"""OpenAI's own SDKs through jeton to a real vLLM."""

import pytest
from client_journeys import run_node_journey, run_python_journey
from jeton_server import JetonServer

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


def test_the_openai_sdk_for_python_works_on_a_real_vllm(jeton: JetonServer) -> None:
    run_python_journey("test_openai.py", jeton)


def test_the_openai_sdk_for_node_works_on_a_real_vllm(jeton: JetonServer) -> None:
    run_node_journey("openai.test.mjs", jeton)
