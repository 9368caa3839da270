"""`jeton import`: the configuration of another proxy, as far as it has a counterpart here."""

from datetime import UTC, datetime
from pathlib import Path

import click
import yaml

from router.migration import from_litellm


@click.group("import")
def import_() -> None:
    """Take over the configuration of another proxy."""


@import_.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("."),
    show_default=True,
    help="The folder for router.yaml and prices.yaml; files that are there are not overwritten.",
)
def litellm(config: Path, out: Path) -> None:
    """Make router.yaml and prices.yaml of a LiteLLM proxy's CONFIG.

    What has no counterpart, and what LiteLLM does not say, is told; `jeton check` then names what is to be filled in. Keys in
    clear text are not copied.
    """
    try:
        value = yaml.safe_load(config.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it is no mapping; give the config.yaml of a LiteLLM proxy")
        migration = from_litellm(value, datetime.now(UTC).date().isoformat())
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise click.ClickException(f"{config}: {error}") from None
    files = {out / "router.yaml": migration.router, out / "prices.yaml": {"prices": {}} | migration.prices}
    taken = [str(path) for path in files if path.exists()]
    if taken:
        raise click.ClickException(f"{' and '.join(taken)} would be overwritten; name another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
        path.write_text(f"# Made of {config.name} by `jeton import litellm`.\n{text}", encoding="utf-8")
        click.echo(f"wrote {path}")
    for place, what in migration.notes:
        click.echo(f"{place}: {what}")
    click.echo(f"{len(migration.notes)} to look at; then: jeton check --config {out / 'router.yaml'}")
