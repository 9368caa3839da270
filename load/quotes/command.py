"""`jeton quotes`: how near quotes come to what is then seen and charged."""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from load.attribution.command import PROFILES
from load.attribution.mixes import CONCURRENCIES, MIXES
from load.profiles import profile_named
from load.quotes.table import SEEDS, Row, page, table
from router.profiles import shipped


@click.command()
@click.option("--profile", "names", multiple=True, default=PROFILES, show_default=True, help="Repeatable.")
@click.option("--clients", multiple=True, type=click.IntRange(1), default=CONCURRENCIES, show_default=True)
@click.option("--seed", "seeds", multiple=True, type=int, default=SEEDS, show_default=True, help="Repeatable.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the page here, too.")
def quotes(names: tuple[str, ...], clients: tuple[int, ...], seeds: tuple[int, ...], out: Path | None) -> None:
    """Simulate mixes of requests, and hold each quote against what came of it: median errors of TTFT, TPOT, standard and
    allocated cost."""
    try:
        profiles = {name: profile_named(name) for name in names}
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--profile") from error

    def show(one: Row) -> None:
        click.echo(
            f"{one.profile:25} {one.mix:15} {one.clients:4}  ttft {one.ttft:6.1%}  tpot {one.tpot:6.1%}"
            f"  standard {one.standard:6.1%}  allocated {one.allocated:6.1%}{'' if one.holds else '  beyond the goal'}"
        )

    found = {}
    for seed in seeds:
        click.echo(f"seed {seed}")
        found[seed] = table(profiles, MIXES, clients, seed=seed, on_row=show)
        show(found[seed].pooled)
        show(found[seed].expected)
    if out is not None:
        today, data = datetime.now(UTC).date().isoformat(), shipped().about["data"]
        text = page(found, date=today, version=version("jeton"), data=data)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
        click.echo(f"written to {out}")
