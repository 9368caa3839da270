"""`jeton load scenarios`: published figures, reckoned again."""

import re
from collections.abc import Sequence
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from load.scenarios.cases import figures_by_case
from load.scenarios.claim import Compared, Restated, written
from load.scenarios.table import Line, Result, markdown, summary
from router.config_policy import policy_at
from router.config_shape import check_shape
from router.config_source import ConfigRefused, read_source

PUBLISHED = Path(__file__).with_name("published")
# What the command writes into a file: a claim's last two members, on a line each.
OURS = re.compile(r"^( +)ours: .*\n(?: +verdict: .*\n)?", re.MULTILINE)
CHANGED = 4
# In a file or pipe, where rich would assume 80.
COLUMNS_PIPE = 150


@click.command("scenarios")
@click.argument("names", nargs=-1)
@click.option("--directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=PUBLISHED,
              help="Where the files are. Default: those that come with jeton.")  # fmt: skip
@click.option("--write", is_flag=True, help="Put what came of it into the files.")
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write all as Markdown.")
def scenarios(names: Sequence[str], directory: Path, write: bool, page: Path | None) -> None:
    """Reckon published figures again: all of them, or those NAMES.

    Exit code 4: something came out otherwise than the files quote it.
    """
    paths = {path.stem: path for path in sorted(directory.glob("*.yaml"))}
    unknown = [name for name in names if name not in paths]
    if unknown:
        raise click.UsageError(f"there is no {', '.join(unknown)}; there are {', '.join(paths)}")
    results: list[Result] = []
    changed: list[str] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        chosen = names or tuple(paths)
        task = progress.add_task("reckoning", total=len(chosen))
        for name in chosen:
            progress.update(task, description=name)
            result = reckoned(name, paths[name])
            results.append(result)
            if any((line.ours, line.verdict) != (line.claim.ours, line.claim.verdict) for line in result.lines):
                changed.append(name)
                if write:
                    rewrite(paths[name], result.lines)
            progress.advance(task)
    _print(results)
    if page is not None:
        page.write_text(markdown(results), encoding="utf-8")
    if changed and not write:
        Console().print(f"otherwise than quoted: {', '.join(changed)} (--write puts it into the files)", soft_wrap=True)
        raise click.exceptions.Exit(CHANGED)


def read(path: Path) -> Restated:
    """Raises ConfigRefused, OSError."""
    source = read_source(path)
    restated = check_shape(source, Restated)
    mistakes = list(source.mistakes)
    for name, case in restated.cases.items():
        if isinstance(case, Compared):
            policy_at(source, ("cases", name, "policy"), case.policy.name, case.policy.parameters, mistakes)
    if mistakes:
        raise ConfigRefused(mistakes)
    return restated


def quoted(name: str, path: Path) -> Result:
    """As the file quotes it, nothing reckoned."""
    restated = read(path)
    return Result(name, restated, [Line(claim, claim.ours, claim.verdict) for claim in restated.claims])


def reckoned(name: str, path: Path) -> Result:
    try:
        restated = read(path)
        found = figures_by_case(restated, path.parent)
        lines = [
            Line(claim, written(claim.form, figure), claim.judge(figure))
            for claim in restated.claims
            for figure in [claim.figure(found)]
        ]
    except ConfigRefused as refused:
        raise click.ClickException(str(refused)) from refused
    except (LookupError, ValueError) as error:
        raise click.ClickException(f"{path}: {error.args[0]}") from error
    return Result(name, restated, lines)


def rewrite(path: Path, lines: Sequence[Line]) -> None:
    """The file's members `ours` and `verdict`, claim by claim. Raises ClickException where a claim has none."""
    text = path.read_text(encoding="utf-8")
    if len(OURS.findall(text)) != len(lines):
        raise click.ClickException(f'{path}: end each claim with a line `ours: ""`')
    following = iter(lines)

    def written_over(found: re.Match[str]) -> str:
        indent, line = found.group(1), next(following)
        return f'{indent}ours: "{line.ours}"\n{indent}verdict: "{line.verdict}"\n'

    path.write_text(OURS.sub(written_over, text), encoding="utf-8")


def _print(results: Sequence[Result]) -> None:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = COLUMNS_PIPE
    table = Table(box=SIMPLE_HEAD)
    for heading in ("scenario", "what is said"):
        table.add_column(heading)
    for heading in ("published", "ours"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for row in summary(results):
        table.add_row(*row)
    console.print(table)
