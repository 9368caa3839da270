"""The `llm` command with jeton as one of its models: what its documentation calls an OpenAI-compatible model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def llm(tmp_path: Path) -> "Llm":
    return Llm(tmp_path)


class Llm:
    """The command with a user directory of its own, in which jeton is declared as `extra-openai-models.yaml` has it."""

    def __init__(self, directory: Path) -> None:
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
        self.environment["LLM_USER_PATH"] = str(directory)
        model = {
            "model_id": "jeton",
            "model_name": "auto",
            "api_base": os.environ["OPENAI_BASE_URL"],
            "api_key_name": "jeton",
            "supports_tools": True,
            "supports_schema": True,
        }
        (directory / "extra-openai-models.yaml").write_text(json.dumps([model]))  # JSON is YAML
        (directory / "keys.json").write_text(json.dumps({"jeton": os.environ["OPENAI_API_KEY"]}))

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "llm", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.mark.parametrize("streaming", [(), ("--no-stream",)])
def test_a_prompt_is_answered(llm: Llm, streaming: tuple[str, ...]) -> None:
    result = llm("prompt", "-m", "jeton", *streaming, "Say something.")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_usage_is_shown(llm: Llm) -> None:
    result = llm("prompt", "-m", "jeton", "--usage", "Say something.")
    assert result.returncode == 0, result.stderr
    assert "Token usage:" in result.stderr


def test_a_schema_is_kept(llm: Llm) -> None:
    result = llm("prompt", "-m", "jeton", "--schema", "name, age int", "Invent a dog.")
    assert result.returncode == 0, result.stderr
    dog = json.loads(result.stdout)
    assert isinstance(dog["name"], str)
    assert isinstance(dog["age"], int)


def test_a_tool_is_offered_and_the_conversation_ends(llm: Llm) -> None:
    result = llm("prompt", "-m", "jeton", "-T", "llm_version", "--chain-limit", "3", "Which version of llm is this?")
    assert result.returncode == 0, result.stderr


def test_a_wrong_key_is_said_to_be_wrong(llm: Llm) -> None:
    result = llm("prompt", "-m", "jeton", "--key", "sk-nobody", "Say something.")
    assert result.returncode != 0
    assert "API key" in result.stderr
