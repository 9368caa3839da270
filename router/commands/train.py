"""`jeton train`: outcome files in, the classifier's array file out."""

from pathlib import Path

import click

from router.classify.outcomes import trainable
from router.commands.outcome_files import OutcomesRefused, pairs_of, read_outcomes


@click.command()
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="An outcome file, or a directory of them: *.jsonl or *.jsonl.gz.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The array file to write.")
@click.option(
    "--pair",
    "named_pairs",
    type=(str, str),
    multiple=True,
    metavar="SMALL LARGE",
    help="Two models to compare, as `scores` names them; may be repeated. Default: sound pairs of public benchmarks.",
)
@click.option(
    "--exclude",
    type=click.Path(exists=True, path_type=Path),
    help="An outcome file, or a directory of them, whose questions must not be learned: they are for a test.",
)
def train(data: Path, out: Path, named_pairs: tuple[tuple[str, str], ...], exclude: Path | None) -> None:
    """Train the classifier on outcomes.

    A row of an outcome file is one JSON object with `id`, `dataset`, `prompt` (what the user wrote) and `scores` ({model:
    0..1}, how good each model's answer was); where known also `out_tokens` ({model: tokens of its answer}) and `tools` (the
    functions offered). Name at least two datasets, two applications say: by telling them apart the classifier learns
    what it does not know.

    Rows of alpaca_eval1 and alpaca_eval2 are left out: their licence is non-commercial.

    What is written routes once router.yaml names it: `classifier: FILE`.
    """
    try:
        from router.classify.training import fit
    except ImportError as error:
        raise click.ClickException(f"training needs scipy: pip install 'jeton[train]' ({error})") from error
    pairs = pairs_of(named_pairs)
    try:
        held_out = frozenset(outcome.question for outcome in read_outcomes(exclude)) if exclude else frozenset()
        outcomes = trainable(read_outcomes(data), pairs, held_out)
        fit(outcomes, pairs).save(out)
    except (OutcomesRefused, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    taught = sum(any(pair.applies(outcome) for outcome in outcomes) for pair in pairs)
    click.echo(f"{out}: {out.stat().st_size:,} bytes from {len(outcomes):,} outcomes of {taught} pairs of models")
