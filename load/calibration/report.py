"""How far forecasts are from measurements: errors by engine and by deployment, as rows and as a Markdown page. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from load.calibration.rows import Run, tokens_per_second

GOALS = {  # medians of |error|, in-sample and left out
    "TPOT": (0.08, 0.12),
    "TTFT": (0.20, 0.30),
    "throughput": (0.10, 0.15),
}


@dataclass(frozen=True, slots=True)
class Forecast:
    run: Run
    ttft_seconds: float
    tpot_seconds: float

    @property
    def errors(self) -> tuple[float, float, float]:
        """Of TPOT, TTFT and throughput: forecast ÷ measured − 1."""
        run = self.run
        made = tokens_per_second(run.concurrency, run.completion_tokens, self.ttft_seconds, self.tpot_seconds)
        return (
            self.tpot_seconds / run.tpot_seconds - 1,
            self.ttft_seconds / run.ttft_seconds - 1,
            made / run.tokens_per_second - 1,
        )


@dataclass(frozen=True, slots=True)
class Errors:
    """medians of |error|, means of |error|, and medians of the error itself: TPOT, TTFT, throughput."""

    count: int
    medians: tuple[float, float, float]
    means: tuple[float, float, float]
    biases: tuple[float, float, float]


def errors_of(forecasts: Iterable[Forecast]) -> Errors:
    by_metric = list(zip(*(forecast.errors for forecast in forecasts), strict=True))
    sizes = [[abs(error) for error in errors] for errors in by_metric]
    tpot, ttft, made = sizes
    return Errors(
        len(tpot),
        (median(tpot), median(ttft), median(made)),
        (fmean(tpot), fmean(ttft), fmean(made)),
        (median(by_metric[0]), median(by_metric[1]), median(by_metric[2])),
    )


def grouped(forecasts: Iterable[Forecast], key: Callable[[Run], str]) -> dict[str, list[Forecast]]:
    groups: dict[str, list[Forecast]] = {}
    for forecast in forecasts:
        groups.setdefault(key(forecast.run), []).append(forecast)
    return dict(sorted(groups.items()))


def by_engine(run: Run) -> str:
    return run.deployment.engine


def by_deployment(run: Run) -> str:
    deployment = run.deployment
    return f"{deployment.engine}: {deployment.model.name} {deployment.quantization} on {deployment.gpu.name}"


def headline(
    in_sample: Sequence[Forecast], left_out: Sequence[Forecast]
) -> list[tuple[str, int, str, float, float, bool]]:
    """(engine, runs, metric, in-sample, left out, whether both goals hold)."""
    rows = []
    out = grouped(left_out, by_engine)
    for engine, own in grouped(in_sample, by_engine).items():
        inside, outside = errors_of(own), errors_of(out[engine])
        for place, (metric, (goal_in, goal_out)) in enumerate(GOALS.items()):
            found_in, found_out = inside.medians[place], outside.medians[place]
            rows.append(
                (engine, inside.count, metric, found_in, found_out, found_in <= goal_in and found_out <= goal_out)
            )
    return rows


def markdown(
    about: Mapping[str, str],
    in_sample: Sequence[Forecast],
    left_out: Sequence[Forecast],
    ambiguous: Sequence[Forecast],
    open_loop: str,
) -> str:
    lines = [
        "# How far the engine profiles are from measurements",
        "",
        f"Written by `{about['command']}` on {about['date']}; data: {about['data']}.",
        "",
        "Errors are forecast ÷ measured − 1; a cell is the median of their sizes and, in parentheses, the median with its sign.",
        "*In-sample*: with the profiles that come with jeton, each corrected by its own runs. *Left out*: every (model, GPU) is",
        "forecast by constants fitted without any of its runs, on any engine, and without a correction. Identical runs repeat",
        "within 1–2 %. Models whose runs may have had multi-token prediction on or off, unlabelled (DeepSeek, GLM-5, Qwen3.5),",
        "do not enter the shared constants and stand in a table of their own.",
        "",
        "| engine | runs | metric | in-sample | goal | left out | goal | |",
        "|---|---:|---|---:|---:|---:|---:|---|",
    ]
    for engine, count, metric, found_in, found_out, holds in headline(in_sample, left_out):
        goal_in, goal_out = GOALS[metric]
        lines.append(
            f"| {engine} | {count} | {metric} | {found_in:.1%} | {goal_in:.0%} | {found_out:.1%} | {goal_out:.0%} |"
            f" {'holds' if holds else 'missed'} |"
        )
    lines += ["", "## Left out, by deployment", "", *_table(left_out)]
    lines += ["", "## In-sample, by deployment", "", *_table(in_sample)]
    lines += [
        "",
        "## Multi-token prediction unlabelled: not in the shared constants, not counted above, uncorrected",
        "",
        *_table(ambiguous),
    ]
    lines += ["", "## Open loop", "", open_loop, ""]
    return "\n".join(lines)


def _table(forecasts: Sequence[Forecast]) -> list[str]:
    lines = ["| deployment | runs | TPOT | TTFT | throughput |", "|---|---:|---:|---:|---:|"]
    for name, own in grouped(forecasts, by_deployment).items():
        errors = errors_of(own)
        cells = [f"{size:.1%} ({bias:+.1%})" for size, bias in zip(errors.medians, errors.biases, strict=True)]
        lines.append(f"| {name} | {errors.count} | {' | '.join(cells)} |")
    return lines
