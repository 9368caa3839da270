"""`jeton load simulate` and `jeton load compare`: one policy, or several, on a scenario in simulated time."""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from load.report import pages
from load.simulate import table
from load.simulate.recording import Recorder, Recording
from load.simulate.scenario import Laboratory, PolicyChoice, Simulation, read_scenario
from load.simulate.world import World
from router.config_source import ConfigRefused

_scenario = click.argument(
    "scenario_path", metavar="SCENARIO", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
_json = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Write all figures there.",
)
_report = click.option(
    "--report",
    "report_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Write a page with plots there.",
)
_day = click.option(
    "--day", type=click.DateTime(["%Y-%m-%d"]), default=None, help="Prices in force on this day; today where left out."
)


_bound = click.option(
    "--bound",
    "has_bounds",
    is_flag=True,
    help="And what the same answers must have cost with hindsight, by linear programs; needs jeton[bound].",
)


@click.command("simulate")
@_scenario
@click.option("--policy", "wanted", default=None, help="One of the scenario's; its first where left out.")
@click.option("--seed", type=int, default=None, help="Instead of the scenario's first.")
@_bound
@_json
@_report
@_day
def simulate(
    scenario_path: Path,
    wanted: str | None,
    seed: int | None,
    has_bounds: bool,
    json_path: Path | None,
    report_path: Path | None,
    day: datetime | None,
) -> None:
    """Run a trace under one policy, in simulated time.

    The router's own decisions, prices and meters; engines by their profiles; failures, preemptions, prices that change and
    autoscaling as the scenario has them. The same seed gives the same figures to the last digit.
    """
    laboratory = _laboratory(scenario_path, day)
    [choice, *_] = _policies(laboratory, () if wanted is None else (wanted,))
    seed = laboratory.scenario.seeds[0] if seed is None else seed
    with Console(stderr=True).status("simulating"):
        done, recording = _run(laboratory, choice, seed, has_bounds, is_recorded=report_path is not None)
    found = table.figures(done.tally, done.bill, done.bounds)
    shown = Table(title=f"{scenario_path.stem}, {choice.called}, seed {seed}", show_header=False, box=None)
    for name, value in found.items():
        shown.add_row(name, f"{value:,.6g}")
    for what in (done.tally.refused, done.happened):
        for name, count in sorted(what.items()):
            shown.add_row(name, f"{count:,}")
    for name, answered in sorted(done.tally.backends.items()):
        bill, idle = done.bill.by_backend.get(name, (0, 0))
        leased = f", leased for ${bill / 1e9:,.4f}, idle ${idle / 1e9:,.4f}" if bill else ""
        shown.add_row(name, f"{answered:,} answers{leased}")
    Console().print(shown)
    if json_path is not None:
        told = {**_about(laboratory, scenario_path), "policy": choice.called, "seed": seed, **table.told_of_one(done)}
        json_path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if report_path is not None and recording is not None:
        course = pages.Course(choice.called, done.tally, recording)
        subtitle = f"simulated, seed {seed} · {_made(laboratory)}"
        text = pages.simulated(f"{scenario_path.stem}: {choice.called}", subtitle, course, found, done.tally.objectives)
        report_path.write_text(text, encoding="utf-8")


@click.command("compare")
@_scenario
@click.option("--policy", "wanted", multiple=True, help="Only this one of the scenario's policies. Repeatable.")
@click.option("--seed", "seeds", type=int, multiple=True, help="Instead of the scenario's. Repeatable.")
@_bound
@_json
@_report
@_day
def compare(
    scenario_path: Path,
    wanted: tuple[str, ...],
    seeds: tuple[int, ...],
    has_bounds: bool,
    json_path: Path | None,
    report_path: Path | None,
    day: datetime | None,
) -> None:
    """Compare routing policies on a trace, in simulated time.

    Every policy sees the same requests at the same times, decides with the router's own code, and pays by the same prices.
    Figures are means over the seeds with their 95 % interval. A star: no other policy is at least as good in cost, quality,
    TTFT p99 and goodput, and better in one.
    """
    laboratory = _laboratory(scenario_path, day)
    policies = _policies(laboratory, wanted)
    seeds = seeds or laboratory.scenario.seeds
    found: dict[str, Mapping[str, table.Figure]] = {}
    courses: list[pages.Course] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulating", total=len(policies) * len(seeds))
        for choice in policies:
            runs = []
            for seed in seeds:
                is_recorded = report_path is not None and seed == seeds[0]
                done, recording = _run(laboratory, choice, seed, has_bounds, is_recorded=is_recorded)
                runs.append(table.figures(done.tally, done.bill, done.bounds))
                if recording is not None:
                    courses.append(pages.Course(choice.called, done.tally, recording))
                progress.advance(task)
            found[choice.called] = table.over_seeds(runs)
    shown = Table("policy", *(heading for heading, _, _ in table.columns(found)), title=scenario_path.stem)
    for row in table.rows(found):
        shown.add_row(*row)
    Console().print(shown)
    if json_path is not None:
        told = {**_about(laboratory, scenario_path), "seeds": list(seeds), "policies": table.told(found)}
        json_path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if report_path is not None:
        seeds_told = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        subtitle = f"simulated, {seeds_told}; plots of seed {seeds[0]} · {_made(laboratory)}"
        wanted_times = courses[0].tally.objectives
        text = pages.compared(f"{scenario_path.stem}: policies compared", subtitle, found, courses, wanted_times)
        report_path.write_text(text, encoding="utf-8")


def _run(
    laboratory: Laboratory, choice: PolicyChoice, seed: int, has_bounds: bool, *, is_recorded: bool
) -> tuple[Simulation, Recording | None]:
    """Recording changes no figure. Raises click's errors where there can be no bound."""
    recorders: list[Recorder] = []

    def look_on(world: World) -> None:
        if is_recorded:
            recorders.append(Recorder.of(world))

    try:
        done = laboratory.simulate(choice, seed, look_on, has_bounds=has_bounds)
    except ImportError as error:
        raise click.ClickException("a bound takes scipy: pip install 'jeton[bound]'") from error
    except ValueError as error:
        raise click.ClickException(f"{choice.called}, seed {seed}: {error}") from error
    return done, recorders[0].recording() if recorders else None


def _laboratory(path: Path, day: datetime | None) -> Laboratory:
    """Raises click's errors for a scenario that cannot be used."""
    try:
        scenario = read_scenario(path)
        return Laboratory(scenario, path.parent, os.environ, date.today() if day is None else day.date())
    except ConfigRefused as refused:
        raise click.ClickException(str(refused)) from refused
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def _policies(laboratory: Laboratory, wanted: Sequence[str]) -> list[PolicyChoice]:
    """Those of these names, or all. Raises click's UsageError for a name that none has."""
    policies = [choice for choice in laboratory.policies if not wanted or choice.called in wanted]
    missing = set(wanted) - {choice.called for choice in policies}
    if missing:
        known = ", ".join(choice.called for choice in laboratory.policies)
        raise click.UsageError(f"the scenario has no policy {', '.join(sorted(missing))}; it has {known}")
    return policies


def _made(laboratory: Laboratory) -> str:
    return f"prices of {laboratory.day} · made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by jeton {version('jeton')}"


def _about(laboratory: Laboratory, path: Path) -> dict[str, Any]:
    """What figures belong to."""
    return {
        "scenario": path.name,
        "jeton_version": version("jeton"),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "prices_of": laboratory.day.isoformat(),
    }
