"""Five clients against jeton, each in its own environment and without special settings."""

import pytest
from client_journeys import run_node_journey, run_python_journey
from jeton_server import JetonServer

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]

OPENAI_3 = ".venv-clients-openai3"
LITELLM = ".venv-clients-litellm"


def test_the_openai_sdk_for_python_works(jeton: JetonServer) -> None:
    run_python_journey("test_openai.py", jeton, venv=OPENAI_3)


def test_the_openai_sdk_for_python_works_in_its_version_2(jeton: JetonServer) -> None:
    run_python_journey("test_openai.py", jeton, venv=LITELLM)


def test_the_openai_sdk_for_node_works(jeton: JetonServer) -> None:
    run_node_journey("openai.test.mjs", jeton)


def test_langchains_openai_chat_model_passes_langchains_standard_tests(jeton: JetonServer) -> None:
    run_python_journey("test_langchain.py", jeton, venv=OPENAI_3)


def test_the_llm_command_works(jeton: JetonServer) -> None:
    run_python_journey("test_llm.py", jeton, venv=OPENAI_3)


def test_litellm_works_as_a_client(jeton: JetonServer) -> None:
    # Its map of prices comes with it; without this it asks GitHub for a newer one, three times, wherever it runs.
    run_python_journey("test_litellm.py", jeton, venv=LITELLM, LITELLM_LOCAL_MODEL_COST_MAP="True")
