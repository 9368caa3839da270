"""`jeton plan`: a workload in, the cheapest fleet out."""

import json
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from load.drive.result import Objectives
from load.plan import market, table
from load.plan.break_even import break_evens
from load.plan.demand import Demand, lengths_like, requests_per_second, shape_of
from load.plan.fleet import cheapest
from load.traces import read_trace
from router.config_source import ConfigRefused
from router.profiles import shipped

# In a file or pipe, where rich would assume 80.
COLUMNS_PIPE = 150
ABOVE_ZERO = click.FloatRange(0, min_open=True)


@click.command()
@click.option("--tokens-per-day", type=ABOVE_ZERO, default=None, help="Prompts and completions together, as in 1e9.")
@click.option("--requests-per-second", "rate", type=ABOVE_ZERO, default=None, help="The mean of a day, instead.")
@click.option(
    "--trace", "trace_path", type=click.Path(exists=True, path_type=Path), default=None,
    help="Rate, lengths and peak of a trace, in any format that `jeton load drive` reads.",
)  # fmt: skip
@click.option("--prompt-tokens", type=click.FloatRange(1), default=None, help="Mean. Default: the trace's.")
@click.option("--completion-tokens", type=click.FloatRange(1), default=None, help="Mean. Default: the trace's.")
@click.option("--cached-ratio", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True,
              help="Of the prompt's tokens, those that the prefix cache holds.")  # fmt: skip
@click.option(
    "--peak-ratio",
    type=click.FloatRange(1),
    default=None,
    help="Busiest time planned for ÷ mean. Default: 1.54 (Azure).",
)
@click.option("--ttft", type=ABOVE_ZERO, default=2.0, show_default=True, help="Seconds to the first token.")
@click.option("--tpot", type=ABOVE_ZERO, default=0.05, show_default=True, help="Seconds a token after it.")
@click.option(
    "--attainment",
    type=click.FloatRange(0.5, 1),
    default=0.99,
    show_default=True,
    help="Share of requests within both.",
)
@click.option(
    "--model", "models", multiple=True, default=("llama-3.1-8b", "llama-3.1-70b"), show_default=True,
    help="One that would do; see `jeton profile list`. Repeatable.",
)  # fmt: skip
@click.option(
    "--quality",
    "told",
    multiple=True,
    metavar="MODEL=RATIO",
    help="What its answers are worth. Default: MMLU-Pro's word.",
)
@click.option("--quality-floor", "quality_min", type=click.FloatRange(0, 1), default=0.0, show_default=True)
@click.option(
    "--quantization", "quantizations", multiple=True, type=click.Choice(market.QUANTIZATIONS),
    default=("bf16", "fp8", "int8", "awq-int4"), show_default=True, help="Repeatable.",
)  # fmt: skip
@click.option("--gpu", "gpus", multiple=True, help="Only these. Repeatable. Default: all that have a price.")
@click.option(
    "--prices", "prices_path", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=market.PRICES,
    help="A prices.yaml. Default: public prices that come with jeton.",
)  # fmt: skip
@click.option("--wanted", type=click.IntRange(1, 100), default=8, show_default=True, help="Plans to show.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), default=None, help="Prices in force on it. Default: today.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), default=None)
def plan(**options: Any) -> None:
    """Find the cheapest fleet for a workload, and where another way of paying begins to be cheaper.

    Every replica that fits is reckoned with: model × GPU × tensor parallelism × quantization, leased, reserved, spot, owned or
    serverless, and tokens that are bought. Engines are the profiles; the best are tried out on the engine in virtual time, with
    the trace's variety of lengths, until the objectives hold at the peak. For example:

    \b
      jeton plan --tokens-per-day 1e9 --prompt-tokens 1155 --completion-tokens 211
      jeton plan --requests-per-second 40 --quality-floor 0.95 --gpu h100 --prices prices.yaml
    """
    day = date.today() if options["day"] is None else options["day"].date()
    catalogue = shipped()
    try:
        trace = read_trace() if options["trace_path"] is None else read_trace(options["trace_path"])
        demand = _demand(options, trace)
        told = dict(_told(text) for text in options["told"])
        gpu_offers, token_offers, unused = market.read_offers(options["prices_path"], day, catalogue)
        priced = sorted({offer.gpu for offer in gpu_offers})
        wanted_gpus = list(options["gpus"]) or priced
        for gpu in wanted_gpus:
            if gpu not in priced:
                raise ValueError(f"nobody told what an hour of {gpu} costs; there are {', '.join(priced) or 'none'}")
        models = list(dict.fromkeys(options["models"]))
        qualities_table = market.read_qualities()
        qualities = market.qualities_of(models, told, qualities_table)
        built = market.builds(models, options["quantizations"], wanted_gpus, qualities, qualities_table, catalogue)
    except (ConfigRefused, OSError) as error:
        raise click.ClickException(str(error)) from error
    except (ValueError, LookupError) as error:
        raise click.UsageError(str(error.args[0])) from error
    objectives = Objectives(options["ttft"], options["tpot"])
    found = cheapest(
        demand, objectives, built, gpu_offers, [one for one in token_offers if one.model in models], qualities,
        lengths_like(trace.arrivals, demand.prompt_tokens, demand.completion_tokens),
        wanted=options["wanted"], attainment_min=options["attainment"], seed=options["seed"],
    )  # fmt: skip
    if not found:
        raise click.ClickException(
            "nothing meets this: no build keeps the objectives at any rate, or none is known to meet the quality floor"
        )
    crossings = break_evens(found, gpu_offers, demand)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = COLUMNS_PIPE
    for part in table.shown(demand, objectives, options["attainment"], found, crossings, unused):
        console.print(part, soft_wrap=True)
    if options["json_path"] is not None:
        told_json = {
            "jeton_version": version("jeton"),
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "prices_of": day.isoformat(),
            **table.told(demand, objectives, options["attainment"], found, crossings),
        }
        options["json_path"].write_text(json.dumps(told_json, indent=2) + "\n", encoding="utf-8")


def _demand(options: dict[str, Any], trace: Any) -> Demand:
    """Raises ValueError."""
    shape = shape_of(trace)
    prompt = options["prompt_tokens"] or shape.prompt_tokens
    completion = options["completion_tokens"] or shape.completion_tokens
    given = [options["tokens_per_day"], options["rate"], options["trace_path"]]
    if sum(one is not None for one in given[:2]) > 1:
        raise ValueError("--tokens-per-day and --requests-per-second say the same; give one of them")
    if all(one is None for one in given):
        raise ValueError("how much is there to serve? Give --tokens-per-day, --requests-per-second or --trace")
    if options["tokens_per_day"] is not None:
        rate = requests_per_second(options["tokens_per_day"], prompt, completion)
    else:
        rate = options["rate"] or shape.requests_per_second
    peak = options["peak_ratio"]
    if peak is None:
        peak = table.PEAK_RATIO if options["trace_path"] is None else shape.peak_ratio
    return Demand(rate, prompt, completion, peak, options["cached_ratio"], options["quality_min"])


def _told(text: str) -> tuple[str, float]:
    """Raises ValueError."""
    model, _, ratio = text.partition("=")
    try:
        return model, float(ratio)
    except ValueError:
        raise ValueError(f"`{text}`: write a model and a ratio, as in llama-3.1-8b=0.9") from None
