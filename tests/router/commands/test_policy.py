"""`jeton policy`: the list, and a new policy that works as it is written."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from router.commands.policy import policy
from router.selection.loader import policy_class, policy_names


def run(*arguments: str) -> str:
    result = CliRunner().invoke(policy, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(policy, arguments)
    assert result.exit_code == 1
    return result.output


@pytest.mark.parametrize("name", policy_names())
def test_every_policy_is_told_with_its_case_its_needs_and_its_parameters(name: str) -> None:
    told = run("list", name)
    kind = policy_class(name)
    assert told.startswith(name)
    assert "When: " in told
    assert "needs: " in told
    for field, info in kind.model_fields.items():
        assert f"{field} = {info.default!r}" in told
        assert field in (kind.__doc__ or "")


def test_all_are_told_unless_some_are_named() -> None:
    told = run("list")
    assert [line for line in told.splitlines() if line in policy_names()] == policy_names()


def test_one_that_there_is_not_is_refused_with_the_nearest() -> None:
    assert "did you mean 'cascade'" in refused("list", "cascad")


@pytest.mark.parametrize(("text", "why"), [("def (", "SyntaxError"), ("raise ValueError('no')", "ValueError: no")])
def test_one_whose_file_is_broken_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    (tmp_path / "broken_policy.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert f"broken_policy:Mine cannot be loaded: {why}" in refused("list", "broken_policy:Mine")


@pytest.mark.parametrize("is_checkout", [True, False])
def test_a_new_policy_and_its_test_work_as_they_are_written(tmp_path: Path, is_checkout: bool) -> None:
    if is_checkout:
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies/__init__.py").write_text(
            "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
        )
    told = run("new", "my_own", "--directory", str(tmp_path))
    assert ("name: my_own}" if is_checkout else "name: my_own:MyOwn}") in told
    test = tmp_path / ("tests/policies" if is_checkout else "") / "test_my_own.py"
    folder = tmp_path / "policies" if is_checkout else tmp_path
    assert (folder / "my_own.py").is_file()
    # A checkout's own `policies` would hide the real one's helpers here; the file is the same as outside of it.
    module = folder if is_checkout else tmp_path
    text = test.read_text().replace("from policies.my_own", "from my_own")
    test.write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(test)],
        cwd=module,
        env={"PYTHONPATH": f"{module}:{Path(__file__).parents[3]}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 passed" in result.stdout


@pytest.mark.parametrize("name", ["My", "my-own", "_x", "a__b", "1st", "../up"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    assert "no name for a policy" in refused("new", "--directory", str(tmp_path), "--", name)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    run("new", "mine", "--directory", str(tmp_path))
    assert "is there already" in refused("new", "mine", "--directory", str(tmp_path))
    assert "is taken" in refused("new", "slo", "--directory", str(tmp_path))
    assert "is taken" in refused("new", "json", "--directory", str(tmp_path))


@pytest.mark.parametrize("is_checkout", [True, False])
@pytest.mark.parametrize(
    ("name", "why"),
    [("class", "a word of Python's own"), ("candidate", "Candidate, its class"), ("pool", "Pool, its class")],
)
def test_a_name_with_which_the_files_could_not_work_is_refused(
    tmp_path: Path, name: str, why: str, is_checkout: bool
) -> None:
    if is_checkout:
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies/__init__.py").touch()
    before = sorted(tmp_path.rglob("*"))
    assert why in refused("new", name, "--directory", str(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["router", "policies", "pydantic", "typing", "pytest", "uvicorn"])
def test_a_file_of_ones_own_never_hides_a_package(tmp_path: Path, name: str) -> None:
    assert "is taken" in refused("new", name, "--directory", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
