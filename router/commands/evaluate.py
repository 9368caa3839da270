"""`jeton eval`: how good the classifier is on prompts that it has not seen, beside routers that know nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from router.classify.classifier import Classifier
from router.classify.evaluation import (
    Cell,
    Doubles,
    Interval,
    apgr_table,
    calibration,
    cells,
    is_non_commercial,
    length_error,
    length_scores,
    predict_unseen,
    random_scores,
    rule_scores,
    suffices,
)
from router.classify.outcomes import Outcome, Pair, datasets_left_out, folds, kinds, trainable
from router.commands.outcome_files import OutcomesRefused, pairs_of, read_outcomes
from router.domain.decision import Prediction

# In a file or pipe, where rich would assume 80.
COLUMNS_PIPE = 200


@click.command(name="eval")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="An outcome file, or a directory of them: *.jsonl or *.jsonl.gz. `jeton train --help` says what is in a row.",
)
@click.option("--folds", "number", type=click.IntRange(2, 20), default=5, show_default=True, help="Folds by question.")
@click.option(
    "--pair",
    "named_pairs",
    type=(str, str),
    multiple=True,
    metavar="SMALL LARGE",
    help="Two models to compare, as `scores` names them; may be repeated. Default: sound pairs of public benchmarks.",
)
def evaluate(data: Path, number: int, named_pairs: tuple[tuple[str, str], ...]) -> None:
    """Measure the classifier on outcomes.

    APGR is the share of the large model's lead that is kept, averaged over all ways to divide the prompts between the two
    models; 0.5 is chance. Every figure is of a classifier trained without the rows it is measured on: "by rows" without
    their questions, "datasets out" without their whole dataset. Intervals are 95 % by bootstrap. The macro average is the
    plain mean of the lines; non-commercial rows are read, never trained on, and averaged with and without.
    """
    try:
        from router.classify.training import fit
    except ImportError as error:
        raise click.ClickException(f"training needs scipy: pip install 'jeton[train]' ({error})") from error
    pairs = pairs_of(named_pairs)

    def train(outcomes: Sequence[Outcome], some_pairs: Sequence[Pair]) -> Classifier:
        return Classifier(fit(outcomes, some_pairs))

    console = Console()
    if not console.is_terminal:
        console = Console(width=COLUMNS_PIPE)
    try:
        outcomes = read_outcomes(data)
        table = cells(outcomes, pairs)
        if not table:
            raise click.ClickException("no row has scores of both models of a pair: name yours with --pair")
        unseen = {"by rows": predict_unseen(outcomes, folds(outcomes, number), pairs, train)}
        if len(set(kinds(trainable(outcomes, pairs)))) > 2:
            unseen["datasets out"] = predict_unseen(outcomes, datasets_left_out(outcomes), pairs, train)
        else:
            console.print("Without one of them, fewer than two datasets would be left to train on: none is left out.")
    except (OutcomesRefused, ValueError) as error:
        raise click.ClickException(str(error)) from error
    scores = {
        "random": random_scores(outcomes),
        "length": length_scores(outcomes),
        "rules": rule_scores(outcomes),
        **{name: advantage_scores(predictions) for name, predictions in unseen.items()},
    }
    console.print(apgr_lines(table, scores))
    console.print(calibration_lines(outcomes, pairs, unseen))
    console.print(
        f"{microseconds_per_prompt(outcomes):.0f} µs a prompt, features to prediction (the shipped classifier)"
    )


def advantage_scores(predictions: Sequence[Prediction]) -> Doubles:
    """What the router sorts by: the probability that the small tier does not suffice."""
    return np.array([1 - prediction.small_suffices for prediction in predictions])


def apgr_lines(table: Sequence[Cell], scores: dict[str, Doubles]) -> Table:
    """A line per pair and dataset, then the macro averages; a column per router."""
    lines = Table("small", "large", "dataset", "prompts", title="APGR", box=SIMPLE_HEAD)
    for column in lines.columns[3:]:
        column.justify = "right"
    by_router = {name: apgr_table(score, table) for name, score in scores.items()}
    for name in scores:
        lines.add_column(name, justify="right", no_wrap=True)
    for number, cell in enumerate(table):
        lines.add_row(
            cell.pair.small,
            cell.pair.large,
            cell.dataset + ("*" if is_non_commercial(cell) else ""),
            f"{len(cell.rows):,}",
            *(interval_text(each[number]) for each, _ in by_router.values()),
        )
    lines.add_section()
    lines.add_row(
        "macro", "", "all lines", "", *(interval_text(macro) for _, macro in by_router.values()), style="bold"
    )
    commercial = [cell for cell in table if not is_non_commercial(cell)]
    if commercial and len(commercial) < len(table):
        macros = [apgr_table(score, commercial)[1] for score in scores.values()]
        lines.add_row("macro", "", "without *", "", *map(interval_text, macros), style="bold")
        lines.caption = "* non-commercial licence: never trained on"
    return lines


def calibration_lines(outcomes: Sequence[Outcome], pairs: Sequence[Pair], unseen: dict[str, list[Prediction]]) -> Table:
    """How far the probabilities and the lengths can be believed, over the rows that may teach."""
    lines = Table("", *unseen, title="Calibration", box=SIMPLE_HEAD)
    for column in lines.columns[1:]:
        column.justify = "right"
    measured = {name: calibration(predictions, suffices(outcomes, pairs)) for name, predictions in unseen.items()}
    lengths = {name: length_error(outcomes, pairs, predictions) for name, predictions in unseen.items()}

    def line(name: str, text: Callable[[str], str]) -> None:
        lines.add_row(name, *map(text, unseen))

    line("P(small suffices): Brier score", lambda name: f"{measured[name].brier:.4f}")
    line("  of the base rate", lambda name: f"{measured[name].brier_of_base_rate:.4f}")
    line("  expected calibration error", lambda name: f"{measured[name].error:.3f}")
    line("uncertainty, median", lambda name: f"{np.median([each.uncertainty for each in unseen[name]]):.2f}")
    line("completion tokens: predicted ÷ actual mean", lambda name: f"{lengths[name].ratio_of_means:.2f}")
    line("  median of the larger ÷ the smaller", lambda name: f"{lengths[name].factor_median:.2f}")
    return lines


def interval_text(interval: Interval) -> str:
    if np.isnan(interval.value):
        return "–"
    if interval.low == interval.high:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def microseconds_per_prompt(outcomes: Sequence[Outcome]) -> float:
    """Wall time of one prediction, the mean over at most 2,000 prompts, the best of three."""
    classifier = Classifier.load()
    prompts = [outcome.prompt for outcome in outcomes[:: max(1, len(outcomes) // 2000)]]
    seconds = []
    for _ in range(3):
        start = perf_counter()
        for prompt in prompts:
            classifier.predict(prompt)
        seconds.append(perf_counter() - start)
    return min(seconds) / len(prompts) * 1e6
