import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from router import __main__
from router.__main__ import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_shown_for_a_command_is_its_own(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.get_short_help_str(limit=200) == COMMANDS[name][1]


def test_help_imports_no_command_of_the_router() -> None:
    code = (
        "import sys; from router.__main__ import main\n"
        "try: main(['--help'], prog_name='jeton')\n"
        "finally: print([name for name in sys.modules if name.startswith('router.commands.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["chekc"])
    assert result.exit_code == 2
    assert "No such command 'chekc'" in result.stderr


def test_a_command_that_cannot_be_loaded_leaves_the_help_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "no.such.module:command", "jeton.commands")
    monkeypatch.setattr(__main__, "entry_points", lambda group: [broken])
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "(cannot be loaded: No module named 'no')" in result.stdout
    assert "check" in result.stdout


def test_a_file_that_cannot_be_written_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    @click.command()
    def write() -> None:
        (tmp_path / "file" / "in it").write_text("")

    monkeypatch.setattr(main, "get_command", lambda *_: write)
    result = CliRunner().invoke(main, ["write"])
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path / 'file' / 'in it'}: Not a directory\n"
