"""What `docs/emulator.md` and `jeton emulate --help` say of faults is what there is."""

import re
from pathlib import Path
from typing import get_args

from click.testing import CliRunner

from load.__main__ import emulate
from load.emulator.faults import BadSse, Fault

PAGE = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")
MODIFIERS = {"seconds", "times", "retry_after", "shutdown_timeout"}


def test_the_page_names_every_fault_and_every_modifier() -> None:
    assert set(Fault.model_fields) <= set(re.findall(r"`(\w+)`", PAGE))
    assert set(get_args(BadSse)) <= set(re.findall(r"`(\w+)`", PAGE))


def test_the_help_names_every_fault() -> None:
    told = CliRunner().invoke(emulate, ["--help"]).output
    assert {name for name in Fault.model_fields if name not in MODIFIERS and f'"{name}"' not in told} == set()


def test_every_flag_on_the_page_is_one() -> None:
    flags = {option for parameter in emulate.params for option in parameter.opts}
    assert set(re.findall(r"(--[a-z][a-z-]+)", PAGE)) <= flags | {"--help"}
