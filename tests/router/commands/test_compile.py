import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from router.commands import compile as command
from router.commands.compile import compile_

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: nothing can be compiled")


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing is compiled."""
    monkeypatch.setattr(command, "DIRECTORY", tmp_path / "jeton_compiled")
    monkeypatch.setattr(command, "compiled_modules", dict)
    return tmp_path / "jeton_compiled"


def test_without_a_c_compiler_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(compile_)
    assert result.exit_code == 1
    assert result.stderr == "Error: a C compiler (cc) is missing\n"


def test_where_it_need_not_be_a_missing_compiler_is_said_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(compile_, ["--if-possible"])
    assert result.exit_code == 0
    assert "a C compiler (cc) is missing, so nothing is compiled: all works" in result.stderr


@needs_compiler
def test_without_pythons_headers_it_says_where_they_should_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command.sysconfig, "get_path", lambda _: str(tmp_path))
    result = CliRunner().invoke(compile_)
    assert result.exit_code == 1
    assert f"Python's headers are missing ({tmp_path}; on Debian, python3-dev)" in result.stderr


@needs_compiler
def test_where_it_need_not_be_a_compiler_that_fails_is_said_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise SystemExit("error: command 'cc' failed")

    monkeypatch.setattr(command, "_compile", broken)
    result = CliRunner().invoke(compile_, ["--if-possible"])
    assert result.exit_code == 0
    assert "the compiler failed (error: command 'cc' failed), so nothing is compiled" in result.stderr
    assert CliRunner().invoke(compile_).exit_code == 1


def test_what_was_compiled_can_be_removed(directory: Path) -> None:
    directory.mkdir()
    (directory / "any.so").touch()
    for _ in range(2):  # which may be nothing
        assert CliRunner().invoke(compile_, ["--remove"]).exit_code == 0
        assert not directory.exists()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """All that there is to compile, installed: other packages lie beside it."""
    package = tmp_path / "small"
    package.mkdir()
    (package / "__init__.py").touch()
    (tmp_path / "mypy_extensions.py").touch()  # mypy refuses this name where it is the project's own
    monkeypatch.setattr(command, "PROJECT", tmp_path)
    monkeypatch.setattr(command, "PACKAGES", ("small",))
    monkeypatch.setattr(command, "MODULES", ("small/code.py",))
    return package


@needs_compiler
def test_what_is_installed_among_others_is_compiled(package: Path, directory: Path) -> None:
    (package / "code.py").write_text("NUMBER: int = 1\n")
    result = CliRunner().invoke(compile_)
    assert result.exit_code == 0, result.output
    assert "code" in {path.name.split(".")[0] for path in (directory / "small").iterdir()}
    assert {path.name for path in directory.parent.iterdir()} == {"small", "mypy_extensions.py", "jeton_compiled"}


@needs_compiler
def test_code_that_cannot_be_compiled_leaves_nothing_behind(package: Path, directory: Path) -> None:
    (package / "code.py").write_text('NUMBER: int = "text"\n')
    result = CliRunner().invoke(compile_)
    assert result.exit_code != 0
    assert not directory.exists()
    assert {path.name for path in directory.parent.iterdir()} == {"small", "mypy_extensions.py"}
