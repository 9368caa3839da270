"""What is compiled is used only while it is what the sources say. The compiler itself runs where there is one: see
`test_compile.py`; here stands any file for what it makes."""

import ast
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from router import compiled
from router.compiled import DIGEST_FILE, MODULES, PROJECT, ROOMS, CompiledFinder, compiled_modules, sources_digest

SUFFIX = EXTENSION_SUFFIXES[0]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A directory as `jeton compile` leaves it."""
    directory = tmp_path / "jeton_compiled"
    for name in ("router/pricing/meter", "abc__mypyc"):
        file = directory / f"{name}{SUFFIX}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not machine code")
    (directory / DIGEST_FILE).write_text(sources_digest())
    return directory


def test_what_was_compiled_of_these_sources_is_found_by_the_modules_names(made: Path) -> None:
    assert compiled_modules(made) == {
        "router.pricing.meter": made / f"router/pricing/meter{SUFFIX}",
        "abc__mypyc": made / f"abc__mypyc{SUFFIX}",
    }


def test_what_was_compiled_of_other_sources_is_passed_over(made: Path) -> None:
    (made / DIGEST_FILE).write_text("0" * 32)
    assert compiled_modules(made) == {}


def test_where_nothing_was_compiled_there_is_nothing(tmp_path: Path) -> None:
    assert compiled_modules(tmp_path / "nowhere") == {}


def test_what_was_compiled_for_another_python_is_passed_over(made: Path) -> None:
    (made / "router" / "pricing" / "meter.cpython-39-x86_64-linux-gnu.so").write_bytes(b"")
    assert set(compiled_modules(made)) == {"router.pricing.meter", "abc__mypyc"}


def copied(tmp_path: Path) -> Path:
    for room in ROOMS:
        shutil.copytree(PROJECT / room, tmp_path / room, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize("room", ROOMS)
def test_one_byte_in_any_of_the_rooms_changes_the_digest(room: str, tmp_path: Path) -> None:
    project = copied(tmp_path)
    assert sources_digest(project) == sources_digest()
    with (project / room / "__init__.py").open("a") as file:
        file.write("#")
    assert sources_digest(project) != sources_digest()


def test_what_is_to_be_compiled_is_there() -> None:
    assert [module for module in MODULES if not (PROJECT / module).is_file()] == []
    assert len(set(MODULES)) == len(MODULES)


def classes(module: Path) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ClassDef)]


def test_no_class_that_python_runs_inherits_from_a_compiled_one() -> None:
    """Which Python refuses, and only when one is made."""
    compiled_classes = {
        one.name
        for module in MODULES
        for one in classes(PROJECT / module)
        if not one.decorator_list and not {ast.unparse(base) for base in one.bases} & {"Protocol", "NamedTuple"}
    }
    heirs = [
        f"{path.relative_to(PROJECT)}: {one.name}({ast.unparse(base)})"
        for package in ("router", "policies", "load")
        for path in (PROJECT / package).rglob("*.py")
        if str(path.relative_to(PROJECT)) not in MODULES
        for one in classes(path)
        for base in one.bases
        if ast.unparse(base) in compiled_classes
    ]
    assert heirs == []


def test_only_what_was_compiled_is_found_by_the_finder(made: Path) -> None:
    finder = CompiledFinder(compiled_modules(made))
    assert finder.find_spec("router.pricing.cost", None) is None
    spec = finder.find_spec("router.pricing.meter", None)
    assert spec is not None
    assert spec.origin == str(made / f"router/pricing/meter{SUFFIX}")


def test_switched_off_python_runs_as_it_is_written() -> None:
    code = "import router.pricing.meter as meter, load.engine.engine as engine; print(meter.__file__, engine.__file__)"
    environment = os.environ | {compiled.SWITCH: "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(PROJECT / "router/pricing/meter.py"), str(PROJECT / "load/engine/engine.py")]
