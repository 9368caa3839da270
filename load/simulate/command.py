"""`jeton load compare`: policies on a scenario, in simulated time, as one table of dollars."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from load.simulate import table
from load.simulate.scenario import Laboratory, Scenario
from router.config_shape import check_shape
from router.config_source import ConfigRefused, read_source


@click.command("compare")
@click.argument("scenario_path", metavar="SCENARIO", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--policy", "wanted", multiple=True, help="Only this one of the scenario's policies. Repeatable.")
@click.option("--seed", "seeds", type=int, multiple=True, help="Instead of the scenario's. Repeatable.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Write all figures there.",
)
@click.option(
    "--day", type=click.DateTime(["%Y-%m-%d"]), default=None, help="Prices in force on this day; today where left out."
)
def compare(
    scenario_path: Path, wanted: tuple[str, ...], seeds: tuple[int, ...], json_path: Path | None, day: datetime | None
) -> None:
    """Compare routing policies on a trace, in simulated time.

    Every policy sees the same requests at the same times, decides with the router's own code, and pays by the same prices.
    Figures are means over the seeds with their 95 % interval. A star: no other policy is at least as good in cost, quality,
    TTFT p99 and goodput, and better in one.
    """
    prices_of = date.today() if day is None else day.date()
    try:
        scenario = check_shape(read_source(scenario_path), Scenario)
        laboratory = Laboratory(scenario, scenario_path.parent, os.environ, prices_of)
    except ConfigRefused as refused:
        raise click.ClickException(str(refused)) from refused
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    policies = [choice for choice in laboratory.policies if not wanted or choice.called in wanted]
    missing = set(wanted) - {choice.called for choice in policies}
    if missing:
        known = ", ".join(choice.called for choice in laboratory.policies)
        raise click.UsageError(f"the scenario has no policy {', '.join(sorted(missing))}; it has {known}")
    seeds = seeds or scenario.seeds
    found: dict[str, Mapping[str, table.Figure]] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulating", total=len(policies) * len(seeds))
        for choice in policies:
            runs = []
            for seed in seeds:
                runs.append(table.figures(*laboratory.run(choice, seed)))
                progress.advance(task)
            found[choice.called] = table.over_seeds(runs)
    shown = Table("policy", *(heading for heading, _, _ in table.COLUMNS), title=scenario_path.stem)
    for row in table.rows(found):
        shown.add_row(*row)
    Console().print(shown)
    if json_path is not None:
        told = {
            "scenario": str(scenario_path.name),
            "jeton_version": version("jeton"),
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "prices_of": prices_of.isoformat(),
            "seeds": list(seeds),
            "policies": table.told(found),
        }
        json_path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
