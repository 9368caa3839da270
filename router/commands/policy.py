"""`jeton policy`: what policies there are, and the file of a new one."""

import ast
import inspect
import keyword
import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from router.selection.loader import policy_class, policy_names

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

POLICY = '''"""The cheapest candidate on time; the quickest where none is. (Say here what your policy prefers.)

When: say in which case it is the right one; `jeton policy list` shows this.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from policies import cheapest_first, quickest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

ON_TIME = "cheapest on time"
LATE = "quickest, none on time"


class {class_name}(BaseModel, frozen=True, extra="forbid"):
    """ttft_seconds_max: the objective for the time to the first token."""

    needs: ClassVar[frozenset[str]] = frozenset({{"price", "ttft"}})
    reasons: ClassVar[tuple[str, ...]] = (ON_TIME, LATE)

    ttft_seconds_max: float = Field(default=2.0, gt=0)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Every candidate once, best first."""
        on_time = [one for one in candidates if one.ttft_seconds <= self.ttft_seconds_max]
        late = [one for one in candidates if one.ttft_seconds > self.ttft_seconds_max]
        return [
            *(Choice(one, ON_TIME) for one in cheapest_first(on_time)),
            *(Choice(one, LATE) for one in quickest_first(late)),
        ]
'''

TEST = '''"""What `{name}` prefers, case by case: the candidates, and their order with the reasons."""

import pytest

from {module} import LATE, ON_TIME, {class_name}
from router.domain.decision import Candidate
from router.domain.fleet import Backend, Billing, EngineKind, Load, Pool, PoolKind, Replica
from router.domain.request import Endpoint, InferenceRequest, Prompt

REQUEST = InferenceRequest("r", "tenant", "key", Endpoint.CHAT, "auto", True, Prompt("hello"), frozenset())

CASES = {{
    "the cheapest of those on time": (
        [("a/1", {{"quote": 9}}), ("b/1", {{"quote": 5}}), ("c/1", {{"quote": 1, "ttft": 9.0}})],
        [("b/1", ON_TIME), ("a/1", ON_TIME), ("c/1", LATE)],
    ),
    "the quickest when none is": (
        [("a/1", {{"quote": 1, "ttft": 9.0}}), ("b/1", {{"quote": 5, "ttft": 3.0}})],
        [("b/1", LATE), ("a/1", LATE)],
    ),
}}


def candidate(name: str, *, quote: int = 1000, ttft: float = 0.5, quality: float = 1.0, level: int = 1) -> Candidate:
    pool = Pool("central", PoolKind.CENTRAL, Billing.LEASED)
    replica = Replica(name, name.split("/")[0], "http://10.0.0.1:8000")
    backend = Backend(
        replica.backend, pool, "m", "m", "large", "fp8", EngineKind.VLLM, 8192, frozenset(), "p", "h", (replica,)
    )
    return Candidate(backend, replica, Load(), ttft, 0.02, 100.0, quality, quote, quote, quote, level)


@pytest.mark.parametrize("case", CASES)
def test_the_order_is(case: str) -> None:
    candidates, expected = CASES[case]
    ranking = {class_name}().rank(REQUEST, [candidate(name, **traits) for name, traits in candidates])
    assert [(choice.candidate.replica.id, choice.reason) for choice in ranking] == expected
'''


@click.group()
def policy() -> None:
    """Show the routing policies, or begin a new one."""


@policy.command("list")
@click.argument("names", nargs=-1)
def list_(names: tuple[str, ...]) -> None:
    """Tell every policy: what it prefers, when to use it, what it needs, and its parameters. NAMES: only these."""
    found = [(name, _class(name)) for name in names or policy_names()]
    for position, (name, kind) in enumerate(found):
        if position:
            click.echo()
        click.echo(click.style(name, bold=True))
        for line in _lines(name, kind):
            click.echo(f"  {line}" if line else "")


@policy.command()
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where `policies/` and `tests/policies/` are, or the directory of a package of your own; here unless told.",
)
def new(name: str, directory: Path) -> None:
    """Write NAME's one file and its test, to change. In a checkout of jeton its name is enough in `router.yaml`; elsewhere say
    `NAME:Class`, with the file on Python's path."""
    if NAME.fullmatch(name) is None:
        raise click.ClickException(
            f"{name!r} is no name for a policy: use small letters, digits and single underscores"
        )
    class_name = "".join(word.capitalize() for word in name.split("_"))
    is_checkout = (directory / "policies" / "__init__.py").is_file()
    file = directory / ("policies" if is_checkout else "") / f"{name}.py"
    test = directory / ("tests/policies" if is_checkout else "") / f"test_{name}.py"
    for path in (file, test):
        if path.exists():
            raise click.ClickException(f"{path} is there already")
    # A file of its own beside others' packages would hide the one of its name from everybody.
    if name in policy_names() or (not is_checkout and name in _packages()):
        raise click.ClickException(f"{name!r} is taken; choose another name")
    if keyword.iskeyword(name):
        raise click.ClickException(f"{name!r} is a word of Python's own; choose another name")
    if class_name in _imported(POLICY.format(class_name="Policy")) | _imported(
        TEST.format(name="", module="m", class_name="P")
    ):
        raise click.ClickException(
            f"{class_name}, its class, is what the new files know something else by; choose another name"
        )
    module = f"policies.{name}" if is_checkout else name
    test.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(POLICY.format(class_name=class_name), encoding="utf-8")
    test.write_text(TEST.format(name=name, module=module, class_name=class_name), encoding="utf-8")
    click.echo(f"written: {file}\nwritten: {test}")
    click.echo(f"in router.yaml: `policy: {{name: {name if is_checkout else f'{name}:{class_name}'}}}`")


def _class(name: str) -> type[BaseModel]:
    try:
        return policy_class(name)
    except LookupError as error:
        raise click.ClickException(str(error.args[0])) from error
    except Exception as error:  # a file of somebody's own may fail in any way when it is imported
        what = f"the policy {name} cannot be loaded: {type(error).__name__}: {error}; correct its file"
        raise click.ClickException(what) from error


def _packages() -> set[str]:
    """The names of what can be imported here."""
    return {*sys.stdlib_module_names, *sys.modules, *(module.name for module in pkgutil.iter_modules())}


def _imported(source: str) -> set[str]:
    """The names that a module takes from others."""
    imports = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
    return {alias.name for node in imports for alias in node.names}


def _lines(name: str, kind: type[BaseModel]) -> list[str]:
    about = inspect.getdoc(sys.modules[kind.__module__]) or ""
    needs = ", ".join(sorted(getattr(kind, "needs", ()))) or "nothing"
    lines = [*about.splitlines(), "", f"needs: {needs}"]
    if kind.model_fields:
        lines += ["", *(inspect.getdoc(kind) or "").splitlines(), ""]
        lines += [f"{field} = {_shown(info.default)}" for field, info in kind.model_fields.items()]
    return lines


def _shown(value: Any) -> str:
    return "(required)" if "Undefined" in repr(value) else repr(value)
