"""What each policy costs and delivers, live: `python -m load.bench.policies`.

For each policy anew: an emulated fleet (edge, central, cloud), the router before it in a process of its own, and the same
requests at the same times over HTTP: a stretch of a recorded trace, or a scenario of `load/bench/comparison`, with questions of
which it is known whether a small and a large model answer them well. So quality is what real models made of the questions that a
policy sent to each tier, money is the bill (the leases' hours, and the tokens bought, from the ledger), and times are the
client's, from the scheduled moment on. What it is made of is in `load/bench/live/`.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import uvloop
import yaml

from load.bench.answers import read_outcomes
from load.bench.comparison.command import choices, scenarios
from load.bench.live.case import FLEET, Case
from load.bench.live.page import COLUMNS, LAG_SECONDS_MAX, LeftOut, Result, page
from load.bench.live.run import measure
from router.config_source import ConfigRefused
from router.selection.loader import policy_names

SETTINGS = Path(__file__).resolve().parent / "policies.yaml"
FILE = click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path)


@click.command()
@click.option("--policy", "names", multiple=True, help="Repeatable; all that the fleet can serve when left out.")
@click.option(
    "--scenario",
    help="One of `load/bench/comparison/scenarios`, or a file like them: its fleet, requests, objectives and preemptions.",
)
@click.option("--seconds", type=click.FloatRange(5), help="Of sending, for each policy; 60, or the scenario's.")
@click.option(
    "--warmup", "warmup_seconds", type=click.FloatRange(0), help="Of it, at first, not counted; 0, or the scenario's."
)
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 20),
    default=1.0,
    show_default=True,
    help="1 is as recorded, or as the scenario has it.",
)
@click.option("--seed", type=int, help="Of a scenario, instead of its first.")
@click.option(
    "--fleet",
    type=FILE,
    help="A fleet to emulate in the place of `policies_fleet.yaml`, as `load/bench/comparison/scenarios` has them.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Policies, where the machine has room for them.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the page here, too.")
def policies(
    names: tuple[str, ...],
    scenario: str | None,
    seconds: float | None,
    warmup_seconds: float | None,
    speed: float,
    seed: int | None,
    fleet: Path | None,
    at_once: int,
    out: Path | None,
) -> None:
    """Run each policy live on an emulated fleet, and print what it costs and delivers."""
    if scenario is None:
        if seed is not None:
            raise click.UsageError("--seed is of a scenario: name one with --scenario")
        case = Case.of_flags(fleet or FLEET, seconds or 60.0, warmup_seconds or 0.0, speed)
        runs = _runs(names)
    else:
        if fleet is not None:
            raise click.UsageError("a scenario has its fleet: leave out --fleet, or --scenario")
        case = _scenario_case(scenario, seconds, warmup_seconds, speed, seed)
        runs = _scenario_runs(case.scenario, names)
    if case.warmup_seconds >= case.seconds:
        raise click.BadParameter(f"takes all of the {case.seconds:g} s", param_hint="--warmup")
    right, results, left_out = read_outcomes(), [], []
    click.echo(" | ".join(COLUMNS))
    with ProcessPoolExecutor(at_once) as workers:
        for done in workers.map(partial(_run, case=case), runs, runs.values()):
            if isinstance(done, LeftOut):
                left_out.append(done)
                click.echo(f"{done.policy} is left out: {done.why}")
                continue
            results.append(done)
            is_late = done.lag_seconds_p99 > LAG_SECONDS_MAX
            note = "  (the client fell behind: its times mean nothing)" if is_late else ""
            click.echo(" | ".join(done.row(right)) + note)
    if out is not None:
        out.write_text(page(results, right, case, left_out), encoding="utf-8")
        click.echo(f"written to {out}")


def _run(name: str, run: Mapping[str, Any], *, case: Case) -> Result | LeftOut:
    try:
        return uvloop.run(measure(name, run["policy"], run["parameters"], case))
    except ConfigRefused as refused:
        return LeftOut(name, "; ".join(mistake.what for mistake in refused.mistakes) or str(refused))


def _runs(names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """By what they are called: a policy and its parameters."""
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    shipped = tuple(name for name in policy_names() if name not in settings["left_out"])
    return {
        name: settings["variants"].get(name, {"policy": name, "parameters": settings["parameters"].get(name, {})})
        for name in names or (*settings["variants"], *shipped)
    }


def _scenario_runs(scenario: str, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Those that the scenario is run with in simulated time, as they are run there; and what else is asked for, as it ships."""
    there = {one.called: {"policy": one.name, "parameters": one.parameters} for one in choices(scenario)}
    known = {name: {"policy": name, "parameters": {}} for name in policy_names()} | there
    if missing := set(names) - known.keys():
        raise click.BadParameter(
            f"there is no {', '.join(sorted(missing))}; there are {', '.join(known)}", param_hint="--policy"
        )
    return {name: known[name] for name in names or there}


def _scenario_case(
    scenario: str, seconds: float | None, warmup_seconds: float | None, speed: float, seed: int | None
) -> Case:
    known = scenarios()
    path = known.get(scenario, Path(scenario))
    if not path.is_file():
        raise click.BadParameter(f"there is no {scenario}; there are {', '.join(known)}", param_hint="--scenario")
    try:
        return Case.of_scenario(path, seconds=seconds, warmup_seconds=warmup_seconds, speed=speed, seed=seed)
    except ConfigRefused as refused:
        raise click.ClickException(str(refused)) from refused
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path}: {error}") from error


if __name__ == "__main__":
    policies()
