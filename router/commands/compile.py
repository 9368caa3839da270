"""`jeton compile`: the hot modules to machine code, by mypyc. What uses it is `router/compiled.py`."""

import shutil
import sysconfig
import tempfile
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path

import click

from router.compiled import DIGEST_FILE, DIRECTORY, MODULES, PROJECT, SWITCH, compiled_modules, sources_digest

PACKAGES = ("load", "policies", "router")
CONFIG = """\
[mypy]
strict = True
follow_imports = silent
"""


@click.command("compile")
@click.option("--remove", "is_removal", is_flag=True, help="Remove what was compiled: Python runs as it is written.")
@click.option("--if-possible", is_flag=True, help="End well, and say why, where it cannot be done.")
def compile_(is_removal: bool, if_possible: bool) -> None:
    """Compile the modules that every request passes through.

    They take less of the CPU then: a request under load about a quarter less, a simulated one little more than half. Needs
    mypy, setuptools, a C compiler and Python's headers, and some minutes. When the sources change, what was compiled is passed
    over until it is made again; it is also passed over where JETON_COMPILED is 0.
    """
    if is_removal:
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        return
    if compiled_modules():
        if not if_possible:
            click.echo("compiled already")
        return
    why = _missing()
    if not why:
        click.echo(f"compiling {len(MODULES)} modules, which takes some minutes")
        try:
            _compile()
        except (Exception, SystemExit) as error:  # mypyc and setuptools end the program
            if not if_possible:
                raise
            why = f"the compiler failed ({error})"
    if not why:
        click.echo(f"compiled into {DIRECTORY}; {SWITCH}=0 turns it off")
    elif if_possible:
        click.echo(f"{why}, so nothing is compiled: all works, and costs more CPU (`jeton compile --help`)", err=True)
    else:
        raise click.ClickException(why)


def _missing() -> str:
    """Of what it needs; empty where all is there."""
    for module, package in (("mypyc", "mypy"), ("setuptools", "setuptools")):
        if find_spec(module) is None:
            return f"{module} is missing (pip install {package})"
    if shutil.which("cc") is None:
        return "a C compiler (cc) is missing"
    headers = Path(sysconfig.get_path("include"))
    return (
        "" if (headers / "Python.h").is_file() else f"Python's headers are missing ({headers}; on Debian, python3-dev)"
    )


def _compile() -> None:
    """All or nothing: the directory is there only when it is whole."""
    from mypyc.build import mypycify
    from setuptools import setup

    DIRECTORY.parent.mkdir(parents=True, exist_ok=True)
    digest = sources_digest()
    with tempfile.TemporaryDirectory(dir=DIRECTORY.parent, prefix="jeton_compiling_") as made:
        sources = Path(made) / "sources"
        for package in PACKAGES:
            shutil.copytree(PROJECT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
        config = Path(made) / "mypy.ini"
        config.write_text(f"{CONFIG}cache_dir = {made}/cache\n")
        built = Path(made) / "built"
        # Beside an installed package lie others', which mypy takes for the project's own: nothing but its sources is here.
        with chdir(sources):
            extensions = mypycify(
                [f"--config-file={config}", *MODULES], opt_level="2", debug_level="0", target_dir=f"{made}/c"
            )
            setup(
                name="jeton-compiled",
                packages=[],
                py_modules=[],
                ext_modules=extensions,
                script_args=["--quiet", "build_ext", f"--build-lib={built}", f"--build-temp={made}/o"],
            )
        (built / DIGEST_FILE).write_text(digest)
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        built.rename(DIRECTORY)
