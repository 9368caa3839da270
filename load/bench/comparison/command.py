"""The command: run, tell, write the page."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import click
import yaml

from load.bench.answers import read_outcomes
from load.bench.comparison.judged import Judged, Verdicts
from load.bench.comparison.page import MADE, RECORDED, Row, page
from load.simulate import table
from load.simulate.scenario import Laboratory, PolicyChoice, read_scenario
from router.selection.loader import policy_names

HERE = Path(__file__).parent / MADE.folder
RECORDED_HERE = Path(__file__).parent / RECORDED.folder
SETTINGS = Path(__file__).parent / "policies.yaml"
DAY = date(2026, 11, 26)  # prices in force
# The configurations name the variable; nothing is asked there.
ENVIRONMENT = {"CLOUD_API_KEY": "none"}


@click.command()
@click.option("--scenario", "wanted", multiple=True, help="Only this one. Repeatable.")
@click.option("--policy", "names", multiple=True, help="Only this one. Repeatable.")
@click.option("--seed", "seeds", type=int, multiple=True, help="Instead of the scenarios'. Repeatable.")
@click.option(
    "--traces",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Instead of the scenarios that come with their traces, those on recorded ones, which are in this folder.",
)
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the page there.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
def comparison(
    wanted: tuple[str, ...],
    names: tuple[str, ...],
    seeds: tuple[int, ...],
    traces: Path | None,
    processes: int,
    out: Path | None,
    json_path: Path | None,
) -> None:
    """Every policy on every scenario of this package, in simulated time."""
    if out is not None and names:
        raise click.UsageError("the page is of all policies: leave out --policy, or write figures with --json")
    files = scenarios(HERE if traces is None else RECORDED_HERE)
    if missing := set(wanted) - files.keys():
        raise click.UsageError(f"there is no scenario {', '.join(sorted(missing))}; there are {', '.join(files)}")
    found: dict[str, list[Row]] = {}
    with ProcessPoolExecutor(processes) as workers:
        for name in wanted or files:
            chosen = [choice for choice in choices(name) if not names or choice.called in names]
            run = partial(measure, files[name], seeds=seeds, traces=traces)
            began_seconds = time.monotonic()
            found[name] = list(workers.map(run, chosen))
            click.echo(f"{name}, {time.monotonic() - began_seconds:.0f} s:")
            for row in sorted(found[name], key=lambda row: row.usd):
                click.echo("  " + " | ".join(row.cells()))
    if json_path is not None:
        told = {name: [row.told() for row in rows] for name, rows in found.items()}
        json_path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if out is not None:
        said = {name: _said(files[name]) for name in found}
        about = MADE if traces is None else RECORDED
        out.write_text(page(found, said, DAY, _settings()["measured"], about), encoding="utf-8")
        click.echo(f"written to {out}")


def measure(path: Path, choice: PolicyChoice, seeds: Sequence[int] = (), traces: Path | None = None) -> Row:
    """One policy on one scenario: means over the seeds. traces: the folder of its trace, if that is not the scenario's own."""
    scenario = read_scenario(path)
    if traces is not None and scenario.trace is not None:
        scenario = scenario.model_copy(update={"trace": traces.absolute() / scenario.trace})
    laboratory = Laboratory(scenario, path.parent, ENVIRONMENT, DAY)
    judged = PolicyChoice(
        name=f"{Judged.__module__}:{Judged.__name__}",
        parameters={"inner": choice.name, "parameters": choice.parameters},
        label=choice.called,
    )
    right, runs, verdicts = read_outcomes(), [], []
    for seed in seeds or scenario.seeds:
        Judged.listening = Verdicts(right)
        runs.append(table.figures(*laboratory.run(judged, seed)))
        verdicts.append(Judged.listening)
    return Row.of(choice.called, table.over_seeds(runs), verdicts)


def scenarios(folder: Path = HERE) -> dict[str, Path]:
    """Their files, by name."""
    return {file.stem: file for file in sorted(folder.glob("*.yaml")) if not file.stem.endswith(("_fleet", "prices"))}


def choices(scenario: str) -> list[PolicyChoice]:
    """Every policy as it ships, but for what the settings say of it; and those that run once more under another name."""
    settings = _settings()
    shipped = [
        PolicyChoice(name=name, parameters=settings["parameters"].get(name, {}))
        for name in policy_names()
        if scenario in settings["only"].get(name, [scenario])
    ]
    variants = [PolicyChoice(label=label, **variant) for label, variant in settings["variants"].items()]
    return [*shipped, *variants]


def _settings() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    return found


def _said(path: Path) -> str:
    """What a scenario's file says of itself, in its first line."""
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
