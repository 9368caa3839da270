"""`jeton load drive`."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from load.draws import Mix
from load.drive.outcome import Outcome
from load.drive.process import Target
from load.drive.result import Objectives, figures, rows
from load.drive.run import DriverDied, drive
from load.drive.schedule import Session, sessions
from load.drive.verdict import objections
from load.report import pages
from load.traces import AZURE_CONVERSATION, Trace, read_trace, shaping, synthetic
from load.workload import Workload, read_prompts
from router.config_shape import check_shape
from router.config_source import ConfigRefused, read_source
from router.domain.usage import Usage
from router.pricing.book import PriceBook, PriceMissing
from router.pricing.cost import tariff_cost
from router.pricing.price import MeteredPrice

VERDICT_REFUSED = 3
OBJECTIVES = {"ttft": "ttft_seconds_max", "tpot": "tpot_seconds_max", "latency": "latency_seconds_max"}


@click.command("drive")
@click.option(
    "--url", default="http://127.0.0.1:8080/v1", show_default=True, help="Any OpenAI-compatible server, with /v1."
)
@click.option(
    "--trace", "trace_path", type=click.Path(exists=True, path_type=Path), default=None,
    help="A file or a directory of sessions: jeton's columns, Azure, BurstGPT, Mooncake, WEKA. Default: the shipped ten minutes.",
)  # fmt: skip
@click.option("--window", type=float, nargs=2, default=None, metavar="FROM TO", help="Only these seconds of the trace.")
@click.option(
    "--speed", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="2: twice as fast."
)
@click.option(
    "--share", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True, help="Of the requests."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=None,
    help="Requests a second, made up: the trace gives the lengths.",
)
@click.option(
    "--variation",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="With --rate: deviation ÷ mean of the gaps; above 1, bursts.",
)
@click.option(
    "--shape", default="", metavar="SHAPE",
    help="With --rate: diurnal:PEAK_RATIO:DAY_SECONDS, ramp:TO_RATE:SECONDS or spikes:SPIKE_RATE:ON_SECONDS:OFF_SECONDS.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True, help="How long to send."
)
@click.option(
    "--warmup",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="Seconds at the start that are not counted.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds that the last answers are waited for.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds for one answer.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("auto",),
    show_default=True,
    metavar="NAME[=WEIGHT]",
    help="Repeatable.",
)
@click.option("--tenant", "tenants", multiple=True, metavar="NAME[=WEIGHT]", help="Repeatable; see --api-key.")
@click.option(
    "--api-key", "api_keys", multiple=True, envvar="JETON_API_KEY", metavar="[TENANT=]KEY",
    help="Repeatable; better in the environment, as JETON_API_KEY.",
)  # fmt: skip
@click.option(
    "--streaming", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Share of streamed requests."
)
@click.option(
    "--keep-lengths", is_flag=True, help="Completions as long as recorded (max_tokens, and vLLM's ignore_eos)."
)
@click.option(
    "--objective", "limits", multiple=True, metavar="ttft|tpot|latency=SECONDS", help="For goodput. Repeatable."
)
@click.option(
    "--prices",
    type=click.Path(exists=True, path_type=Path),
    default=None,
    help="prices.yaml, for servers that do not tell what they cost …",
)
@click.option("--price", default=None, metavar="NAME", help="… and the name in it.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Write all figures there.",
)
@click.option(
    "--report", "report_path", type=click.Path(dir_okay=False, path_type=Path), default=None,
    help="Write a page with plots there.",
)  # fmt: skip
@click.option("--label", default="", help="A name for the run, in the JSON.")
def drive_command(**options: Any) -> None:
    """Send a trace to a server, open loop, and measure what users would see and what it costs.

    Latencies count from the moment a request was due. Exit code 3: the figures are printed, but may not be believed, and why.
    """
    try:
        trace = _trace(options)
        mix = Mix(_weights(options["models"]), _weights(options["tenants"]) or {"": 1.0}, options["streaming"])
        objectives = Objectives(**_limits(options["limits"]))
        price = _price(options["prices"], options["price"])
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    target = Target(options["url"].rstrip("/"), dict(_key(text) for text in options["api_keys"]))
    workload = Workload(trace, read_prompts(), mix, options["seed"], keeps_lengths=options["keep_lengths"])
    planned = sessions(trace)
    outcomes = _with_progress(target, workload, planned, options)
    warmup = options["warmup"]
    found = figures(outcomes, objectives, warmup_seconds=warmup, price=price)
    first_turns = sum(warmup <= session[0].arrival.seconds < options["seconds"] for session in planned)
    refused = objections(
        outcomes,
        planned=first_turns,
        warmup_seconds=warmup,
        seconds=min(options["seconds"], max(one.scheduled_seconds for one in outcomes)) if outcomes else 0.0,
    )
    _print(found, refused)
    if options["json_path"] is not None:
        shown = {name: value for name, value in options.items() if name not in ("api_keys", "json_path", "report_path")}
        told = {
            "label": options["label"],
            "jeton_version": version("jeton"),
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": json.loads(json.dumps(shown, default=str)),
            "verdict": {"is_believable": not refused, "objections": refused},
            **found,
        }
        options["json_path"].write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if options["report_path"] is not None:
        text = pages.driven(
            options["label"] or "load test",
            f"{target.url} · {options['seconds']:g} s · made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by jeton {version('jeton')}",
            outcomes, found, refused, objectives, warmup,
        )  # fmt: skip
        options["report_path"].write_text(text, encoding="utf-8")
    if refused:
        raise click.exceptions.Exit(VERDICT_REFUSED)


def _trace(options: dict[str, Any]) -> Trace:
    """Raises ValueError."""
    try:
        trace = read_trace(options["trace_path"] or AZURE_CONVERSATION)
    except OSError as error:
        raise ValueError(str(error)) from error
    seed, seconds = options["seed"], options["seconds"]
    if options["shape"] and options["rate"] is None:
        raise ValueError("--shape goes with --rate; a recorded trace has its own")
    if options["window"] is not None:
        trace = shaping.clip(trace, *options["window"])
    if options["share"] < 1:
        trace = shaping.thin(trace, options["share"], seed)
    if options["rate"] is not None:
        random = Random(seed)
        times = synthetic.times(
            options["rate"], seconds, random, variation=options["variation"], shape=options["shape"]
        )
        return synthetic.made_up(times, trace.arrivals, random)
    return shaping.clip(shaping.scale(shaping.from_zero(trace), options["speed"]), 0, seconds)


def _weights(texts: Sequence[str]) -> dict[str, float]:
    """Raises ValueError."""
    found = {}
    for text in texts:
        name, _, weight = text.partition("=")
        try:
            found[name] = float(weight or 1)
        except ValueError:
            raise ValueError(f"`{text}`: write a name, or a name and a weight, as in chat-small=3") from None
        if not 0 < found[name] < float("inf"):
            raise ValueError(f"`{text}`: a weight is above 0")
    return found


def _limits(texts: Sequence[str]) -> dict[str, float]:
    """Raises ValueError."""
    found = {}
    for text in texts:
        name, _, seconds = text.partition("=")
        try:
            found[OBJECTIVES[name]] = float(seconds)
        except (KeyError, ValueError):
            raise ValueError(f"`{text}`: write {', '.join(OBJECTIVES)} and seconds, as in ttft=2.0") from None
    return found


def _key(text: str) -> tuple[str, str]:
    """Keys may hold an `=` themselves, at their end; a tenant's name is short and has none of theirs before it."""
    tenant, separator, api_key = text.partition("=")
    return (tenant, api_key) if separator and api_key.strip("=") else ("", text)


def _price(prices: Path | None, name: str | None) -> Callable[[Outcome], int | None] | None:
    """What an answer costs by a price book. Raises ValueError."""
    if (prices is None) != (name is None):
        raise ValueError("--prices and --price go together")
    if prices is None or name is None:
        return None
    try:
        price = check_shape(read_source(prices), PriceBook).in_force(name, date.today())
    except (PriceMissing, ConfigRefused, OSError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(price, MeteredPrice):
        raise ValueError(
            f"{name} is a price by the hour; what a request costs there only the router that meters it can tell"
        )

    def cost(outcome: Outcome) -> int | None:
        prompt_tokens, completion_tokens = outcome.prompt_tokens, outcome.completion_tokens
        if prompt_tokens is None or completion_tokens is None:
            return None
        cached_tokens = min(outcome.cached_tokens, prompt_tokens)
        return tariff_cost(price, Usage(prompt_tokens, completion_tokens, cached_tokens=cached_tokens))

    return cost


def _with_progress(
    target: Target, workload: Workload, planned: Sequence[Session], options: dict[str, Any]
) -> list[Outcome]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        total = len(workload.trace)
        sent_bar, ended_bar = progress.add_task("sent", total=total), progress.add_task("answered", total=total)

        def show(sent: int, ended: int) -> None:
            progress.update(sent_bar, completed=sent)
            progress.update(ended_bar, completed=ended)

        try:
            return drive(
                target,
                workload,
                planned,
                processes=options["processes"],
                until_seconds=options["seconds"],
                grace_seconds=options["grace"],
                timeout_seconds=options["timeout"],
                on_progress=show,
            )
        except DriverDied as error:
            raise click.ClickException(str(error)) from error


def _print(found: dict[str, Any], refused: Sequence[str]) -> None:
    console = Console()
    table = Table(show_header=False, box=None)
    for name, value in rows(found):
        table.add_row(name, value)
    console.print(table)
    for objection in refused:
        console.print(f"[red]not to be believed:[/] {objection}", soft_wrap=True)
