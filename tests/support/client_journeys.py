"""Runs the journeys of `tests/clients` in the environment of the client that they are about."""

import subprocess
import sys
from pathlib import Path

from jeton_server import JetonServer

PROJECT = Path(__file__).parents[2]
JOURNEYS = PROJECT / "tests/clients/journeys"
NODE_JOURNEYS = PROJECT / "tests/clients/node"

JOURNEY_SECONDS_MAX = 600


def run_python_journey(file: str, jeton: JetonServer, *, venv: str | None = None, **environment: str) -> None:
    """Run a file of pytest journeys with the interpreter of `venv`, or with our own. Raises AssertionError with its output."""
    python = PROJECT / venv / "bin/python" if venv else Path(sys.executable)
    _run([str(python), "-m", "pytest", "-c", "pytest.ini", "--color=no", file], JOURNEYS, jeton, environment)


def run_node_journey(file: str, jeton: JetonServer) -> None:
    """Run a file of Node's own test runner. Raises AssertionError with its output."""
    _run(["node", "--test", file], NODE_JOURNEYS, jeton, {})


def _run(command: list[str], directory: Path, jeton: JetonServer, environment: dict[str, str]) -> None:
    result = subprocess.run(
        command,
        cwd=directory,
        env=jeton.client_environment | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=JOURNEY_SECONDS_MAX,
    )
    print(result.stdout)
    assert result.returncode == 0, f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout}"
