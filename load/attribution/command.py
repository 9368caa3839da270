"""`jeton attribution`: how far what the meter charges is from what each request truly took of the engine."""

from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path

import click

from load.attribution.mixes import CONCURRENCIES, MIXES
from load.attribution.table import nearness, page, row
from load.profiles import profile_named
from router.profiles import shipped

PROFILES = (
    "l4-llama-3.1-8b-int4",
    "h100-llama-3.1-8b-fp8",
    "h100x2-llama-3.1-70b-fp8",
    "h100-qwen3-30b-a3b-fp8",
)

# The weights were tuned on the first.
SEEDS = (1, 2)


@click.command()
@click.option("--profile", "names", multiple=True, default=PROFILES, show_default=True, help="Repeatable.")
@click.option("--mix", "wanted", multiple=True, help="Names of mixes; all when left out. Repeatable.")
@click.option("--clients", multiple=True, type=click.IntRange(1), default=CONCURRENCIES, show_default=True)
@click.option("--seed", "seeds", multiple=True, type=int, default=SEEDS, show_default=True, help="Repeatable.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the page here, too.")
def attribution(
    names: tuple[str, ...], wanted: tuple[str, ...], clients: tuple[int, ...], seeds: tuple[int, ...], out: Path | None
) -> None:
    """Simulate mixes of requests and hold the meter against the engine's own account of every step.

    Prints one line for each profile, mix and number of clients: median / 95th percentile of the error of a request's charge, by
    the meter, and by the rules that others use.
    """
    unknown = set(wanted) - {mix.name for mix in MIXES}
    if unknown:
        raise click.BadParameter(f"{', '.join(sorted(unknown))}; there are {', '.join(mix.name for mix in MIXES)}")
    mixes = [mix for mix in MIXES if not wanted or mix.name in wanted]
    try:
        profiles = {name: profile_named(name) for name in names}
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--profile") from error
    found = []
    for (name, profile), mix, count, seed in product(profiles.items(), mixes, clients, seeds):
        one = row(name, profile, mix, count, seed=seed)
        found.append(one)
        click.echo(
            f"{name:25} {mix.name:15} {count:4} seed {seed}  meter {one.meter!s:17} flat {one.flat!s:17}"
            f" 1:4 {one.fixed!s:17} wall time {one.wall!s:17}{'' if one.holds else ' beyond the goal'}"
        )
    if out is not None:
        near = [nearness(name, profile, mix, seed=seeds[0]) for name, profile in profiles.items() for mix in mixes]
        today, data = datetime.now(UTC).date().isoformat(), shipped().about["data"]
        text = page(found, near, date=today, version=version("jeton"), data=data)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
        click.echo(f"written to {out}")
