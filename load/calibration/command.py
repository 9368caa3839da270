"""`jeton profile`: fits the engine profiles that come with jeton, and shows what one of them says."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from load.calibration.report import Forecast, by_deployment, errors_of, grouped, headline, markdown
from load.calibration.rows import (
    AMBIGUOUS_MODELS,
    OpenRun,
    read_gpu_prices,
    read_gpus,
    read_models,
    read_open_runs,
    read_runs,
    version_of,
)
from load.calibration.show import shown
from router.profiles import SHIPPED, fit_name, read_catalogue, shipped

ERRORS = Path(__file__).with_name("errors.md")
COMMAND = "jeton profile fit"
# In a file or pipe, where rich would assume 80.
COLUMNS_PIPE = 120


@click.group()
def profile() -> None:
    """Fit the engine profiles that come with jeton, or show one."""


@profile.command()
@click.option(
    "--calibration",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="The measured runs: e2e_agg.csv, open_loop_vllm_h100.csv, models.csv.",
)
@click.option(
    "--prices",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="The GPUs' sheets and costs: gpu_specs.csv, gpu_tco.csv. Default: `prices` beside the runs.",
)
@click.option(
    "--profiles",
    "profiles_path",
    type=click.Path(path_type=Path),
    default=SHIPPED,
    help="Where the profiles go; those that come with jeton.",
)
@click.option(
    "--errors", "errors_path", type=click.Path(path_type=Path), default=ERRORS, help="Where the error table goes."
)
def fit(calibration: Path, prices: Path | None, profiles_path: Path, errors_path: Path) -> None:
    """Fit profiles to measured runs, write them, and say how well they do.

    The error table forecasts every (model, GPU) by constants that were fitted without it.
    """
    try:
        from load.calibration.catalogue import catalogue_text
        from load.calibration.fit import (
            deployment_key,
            fit_constants,
            fit_deployments,
            fit_request_live,
            forecast_open,
            predict,
        )
    except ImportError as error:
        raise click.ClickException(f"fitting needs scipy: pip install 'jeton[train]' ({error})") from error
    from router.pricing.roofline import UNCORRECTED

    prices = prices or calibration.parent / "prices"
    paths = [calibration / "e2e_agg.csv", calibration / "open_loop_vllm_h100.csv", calibration / "models.csv"]
    paths += [prices / "gpu_specs.csv", prices / "gpu_tco.csv"]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise click.ClickException(f"there is no {', no '.join(missing)}")
    models, gpus = read_models(paths[2]), read_gpus(paths[3])
    everything = read_runs(paths[0], models, gpus)
    runs = [run for run in everything if run.deployment.model.name not in AMBIGUOUS_MODELS]
    flagged = [run for run in everything if run.deployment.model.name in AMBIGUOUS_MODELS]
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": COMMAND,
        "data": f"measured runs and prices, collected 2026-11-23, sha256 {version_of(*paths)}",
    }

    open_runs = read_open_runs(paths[1], models, gpus)
    exact = [run for run in open_runs if run.spec == "exact"]
    constants = fit_constants(runs)
    constants["request_live"] = fit_request_live(exact, constants)
    fitted = fit_deployments(everything, constants)
    corrections = {deployment_key(one.deployment): one.correction for one in fitted}
    own = [corrections.get(deployment_key(run.deployment), UNCORRECTED) for run in runs]
    in_sample = [Forecast(*row) for row in zip(runs, *predict(runs, constants, own), strict=True)]
    left_out: list[Forecast] = []
    groups = sorted({run.group for run in runs})
    for group in groups:
        click.echo(f"without {group}", err=True)
        others = fit_constants([run for run in runs if run.group != group], constants)
        unseen = [run for run in runs if run.group == group]
        left_out += [Forecast(*row) for row in zip(unseen, *predict(unseen, others), strict=True)]
    ambiguous = []
    if flagged:
        ambiguous = [Forecast(*row) for row in zip(flagged, *predict(flagged, constants), strict=True)]

    text = catalogue_text(about, constants, models, gpus, read_gpu_prices(paths[4]), fitted)
    profiles_path.write_text(text, encoding="utf-8")
    catalogue = read_catalogue(profiles_path)
    waits = {
        name: fit_request_live([run for run in exact if run.deployment.model.name != name], constants)
        for name in {run.deployment.model.name for run in open_runs}
    }
    open_loop = _open_loop(
        [(run, forecast_open(run, constants | {"request_live": waits[run.deployment.model.name]})) for run in open_runs]
    )
    errors_path.write_text(markdown(about, in_sample, left_out, ambiguous, open_loop), encoding="utf-8")
    _console().print(_headline(in_sample, left_out))
    click.echo(open_loop)
    click.echo(f"{profiles_path}: {len(catalogue.fits)} measured deployments, {len(models)} models × {len(gpus)} GPUs")
    click.echo(f"{errors_path}: by deployment")


@profile.command()
@click.argument("runs_path", metavar="RUNS", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check(runs_path: Path) -> None:
    """Say how far the profiles that come with jeton are from runs of your own.

    RUNS is a CSV file with the columns model, gpu, n_gpus, engine, engine_version, precision, attn_dp, isl, osl, concurrency,
    ttft_ms, tpot_ms and random_len_0.8_to_1.0 (1: lengths are uniform between 0.8 and 1.0 of isl and osl): closed-loop runs,
    as `vllm bench serve --max-concurrency` makes them. Nothing is fitted.
    """
    try:
        from load.calibration.fit import predict
    except ImportError as error:
        raise click.ClickException(f"this needs scipy: pip install 'jeton[train]' ({error})") from error
    catalogue = shipped()
    try:
        runs = read_runs(runs_path, catalogue.models, catalogue.gpus)
    except KeyError as error:
        raise click.ClickException(f"{runs_path}: there is no column, model or GPU {error}") from error
    except ValueError as error:
        raise click.ClickException(f"{runs_path}: {error}") from error
    if not runs:
        raise click.ClickException(f"{runs_path} holds no runs")
    corrections = [catalogue.fit_of(run.deployment).correction for run in runs]
    found = predict(runs, dict(catalogue.constants), corrections)
    forecasts = [Forecast(*row) for row in zip(runs, *found, strict=True)]
    table = Table(box=SIMPLE_HEAD, title="median |error| (and with sign)")
    table.add_column("deployment")
    for name in ("runs", "TPOT", "TTFT", "throughput"):
        table.add_column(name, justify="right")
    for name, own in [*grouped(forecasts, by_deployment).items(), ("all", forecasts)]:
        errors = errors_of(own)
        cells = [f"{size:.1%} ({bias:+.1%})" for size, bias in zip(errors.medians, errors.biases, strict=True)]
        table.add_row(name, str(errors.count), *cells)
    _console().print(table, soft_wrap=True)


@profile.command(name="list")
def list_profiles() -> None:
    """Name the measured profiles, and the models and GPUs that can be combined into others."""
    catalogue = shipped()
    for name, fit_of in catalogue.fits.items():
        click.echo(f"{name:44} {fit_of.points:4} runs")
    click.echo(f"models: {', '.join(catalogue.models)}")
    click.echo(f"GPUs: {', '.join(catalogue.gpus)}")


@profile.command()
@click.argument("model")
@click.argument("quantization")
@click.argument("gpu")
@click.option("--tp", "gpus", type=click.IntRange(1, 64), default=1, show_default=True, help="GPUs of a replica.")
@click.option("--engine", type=click.Choice(["vllm", "sglang", "trtllm"]), default="vllm", show_default=True)
@click.option("--prompt-tokens", type=click.IntRange(1), default=1155, show_default=True, help="Of the chat mix.")
@click.option("--completion-tokens", type=click.IntRange(1), default=211, show_default=True, help="Of the chat mix.")
@click.option("--usd-per-hour", type=click.FloatRange(0, min_open=True), default=None, help="Of the whole replica.")
@click.option("--no-plot", is_flag=True, help="The table alone.")
def show(
    model: str,
    quantization: str,
    gpu: str,
    gpus: int,
    engine: str,
    prompt_tokens: int,
    completion_tokens: int,
    usd_per_hour: float | None,
    no_plot: bool,
) -> None:
    """Tell tokens per second, TTFT, TPOT and $ per million tokens against concurrency.

    For example: jeton profile show llama-3.1-70b fp8 h200 --tp 1
    """
    catalogue = shipped()
    try:
        deployment = catalogue.deployment(model.lower(), gpu.lower(), quantization.lower(), gpus, engine)
        catalogue.profile(deployment)
    except (LookupError, ValueError) as error:
        raise click.ClickException(str(error.args[0])) from error
    source = "--usd-per-hour"
    if usd_per_hour is None:
        if gpu not in catalogue.gpu_usd_per_hour:
            raise click.ClickException(f"nobody told what an hour of {gpus} × {gpu} costs: add --usd-per-hour")
        usd_per_hour = catalogue.gpu_usd_per_hour[gpu] * gpus
        source = "owner's cost at a neocloud, SemiAnalysis, first half of 2026"
    fit_of = catalogue.fit_of(deployment)
    click.echo(
        f"{fit_name(deployment)}: "
        + (f"fitted to {fit_of.points} runs" if fit_of.points else "never measured: the roofline's word")
        + f"; data: {catalogue.about['data']}"
    )
    click.echo(f"${usd_per_hour:.2f} an hour ({source}); {prompt_tokens:,} tokens in, {completion_tokens:,} out")
    console = _console()
    for part in shown(
        catalogue, deployment, prompt_tokens, completion_tokens, usd_per_hour, console.width, not no_plot
    ):
        console.print(part, soft_wrap=True) if isinstance(part, Table) else click.echo(part)


def _open_loop(forecasts: Sequence[tuple[OpenRun, tuple[float, float, float]]]) -> str:
    """Errors of open-loop runs, as a Markdown table."""
    lines = [
        "vLLM on H100s at a fixed request rate, forecast by the shared constants and M/D/1 queueing. Of these runs one number",
        "was taken, what a request waits before it is scheduled (`request_live`, a median over the exact ones); for this table",
        "it is taken without the runs of the same model. Medians of |error| and, in parentheses, with sign. `inferred` workloads",
        "were guessed from their category by the source.",
        "",
        "| workload | runs | TTFT | TPOT | E2E |",
        "|---|---:|---:|---:|---:|",
    ]
    for spec in ("exact", "inferred from category"):
        errors: list[tuple[float, float, float]] = [
            (ttft / run.ttft_seconds - 1, tpot / run.tpot_seconds - 1, e2e / run.e2e_seconds - 1)
            for run, (ttft, tpot, e2e) in forecasts
            if run.spec == spec
        ]
        cells = [
            f"{median(abs(e) for e in metric):.1%} ({median(metric):+.1%})" for metric in zip(*errors, strict=True)
        ]
        lines.append(f"| {spec} | {len(errors)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _headline(in_sample: Sequence[Forecast], left_out: Sequence[Forecast]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="median |error|")
    for name in ("engine", "runs", "metric", "in-sample", "left out", "goals"):
        table.add_column(name, justify="left" if name in ("engine", "metric") else "right")
    for engine, count, metric, found_in, found_out, holds in headline(in_sample, left_out):
        table.add_row(engine, str(count), metric, f"{found_in:.1%}", f"{found_out:.1%}", "hold" if holds else "missed")
    return table


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = COLUMNS_PIPE
    return console
