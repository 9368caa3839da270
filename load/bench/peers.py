"""jeton beside LiteLLM and a Rust router, on one emulated fleet and one trace: `python -m load.bench.peers` (`make peers`).

Each router in a process of its own, before a fleet of its own that has just started: two small models at the edge, a large one
in a central cluster, and a cloud. All are sent the same requests at the same times, for one model name. Money is reckoned alike
for all: the hours of the leases, and what the cloud has served at its list price, from the emulated replicas' own counters. A
router that buys no tokens gets the leased replicas alone.

LiteLLM and sglang-router come from an environment of their own (`requirements/peers.txt`), started as their documentation says.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import aiohttp
import click
import uvloop
import yaml

from load.bench.answers import read_outcomes
from load.bench.live.case import FLEET, FLEET_PRICES, OBJECTIVES
from load.bench.live.page import quantile
from load.bench.live.run import free_port
from load.demo.components import Component
from load.demo.fleet import CLOUD_API_KEY, read_fleet, router_config
from load.draws import Mix
from load.drive.outcome import Outcome
from load.drive.process import Target
from load.drive.run import drive
from load.drive.schedule import sessions
from load.traces import read_trace, shaping
from load.workload import Workload, read_prompts
from router.access.keys import new_api_key
from router.config_file import PEPPER
from router.config_shape import check_shape
from router.config_source import read_source
from router.domain.usage import Usage
from router.pricing.book import PriceBook
from router.pricing.cost import tariff_cost
from router.pricing.price import LeasedPrice, MeteredPrice

HOST = "127.0.0.1"
MODEL = "auto"
SEED = 2023_11_16
START_SECONDS_MAX = 120.0
WARMUP_SECONDS = 5.0
PEERS = Path(".venv-peers/bin")
# The client itself must keep up for its times to mean anything.
LAG_SECONDS_MAX = 0.1


@dataclass(frozen=True, slots=True)
class Contender:
    """See peers.yaml."""

    name: str
    kind: str
    buys: bool
    settings: Mapping[str, Any]


CONTENDERS = tuple(
    Contender(**row) for row in yaml.safe_load(Path(__file__).with_name("peers.yaml").read_text(encoding="utf-8"))
)


@dataclass(frozen=True, slots=True)
class Row:
    """One contender. Money in US dollars, times in seconds. goodput_ratio, small_ratio and quality: shares of the requests.
    load_average: of the machine, over the last minute of the run."""

    name: str
    version: str
    measured_on: str
    seconds: float
    requests: int
    failed: int
    usd_leased: float
    usd_bought: float
    ttft_p50: float
    ttft_p99: float
    tpot_p50: float
    goodput_ratio: float
    small_ratio: float
    quality: float
    lag_p99: float
    load_average: float


@click.command()
@click.option("--router", "wanted", multiple=True, help="Only those whose name begins so. Repeatable.")
@click.option(
    "--seconds", type=click.FloatRange(10, 600), default=60.0, show_default=True, help="Of sending, for each."
)
@click.option("--speed", type=click.FloatRange(0.1, 20), default=1.0, show_default=True, help="1 is as recorded.")
@click.option("--peers", "peers_bin", type=click.Path(path_type=Path), default=PEERS, show_default=True)
@click.option(
    "--results", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Rows as JSON: kept, and added to."
)
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), default=None, help="The rows as Markdown.")
@click.option("--page-only", "is_page_only", is_flag=True, help="Of the rows in --results; measure nothing.")
def peers(
    wanted: tuple[str, ...],
    seconds: float,
    speed: float,
    peers_bin: Path,
    results: Path | None,
    page: Path | None,
    is_page_only: bool,
) -> None:
    """Send one trace through jeton, LiteLLM and sglang-router, and print what each cost and delivered."""
    known = json.loads(results.read_text(encoding="utf-8")) if results is not None and results.exists() else []
    rows = {row["name"]: Row(**row) for row in known}
    chosen = [one for one in CONTENDERS if not wanted or one.name.lower().startswith(tuple(map(str.lower, wanted)))]
    if not chosen:
        raise click.UsageError(f"there are {', '.join(one.name for one in CONTENDERS)}")
    for contender in chosen if not is_page_only else ():
        row = uvloop.run(measure(contender, seconds, speed, peers_bin.absolute()))
        rows[row.name] = row
        click.echo(" | ".join(cells(row)))
        if results is not None:
            results.write_text(json.dumps([asdict(one) for one in rows.values()], indent=1) + "\n", encoding="utf-8")
    ordered = [rows[one.name] for one in CONTENDERS if one.name in rows]
    if page is not None:
        page.write_text(markdown(ordered, speed), encoding="utf-8")


async def measure(contender: Contender, seconds: float, speed: float, peers_bin: Path) -> Row:
    """One router before a fresh fleet, from its start to the last answer."""
    directory = Path(tempfile.mkdtemp(prefix="jeton-peers-"))
    environment = {CLOUD_API_KEY: secrets.token_urlsafe(16), PEPPER: secrets.token_hex(16)}
    description = read_fleet(FLEET)
    places = [
        (pool, backend) for pool in description["pools"] for backend in pool["backends"] for _ in backend["replicas"]
    ]
    trace = shaping.clip(shaping.scale(shaping.from_zero(read_trace()), speed), 0, seconds)
    workload = Workload(trace, read_prompts(), Mix({MODEL: 1.0}, {"": 1.0}, 1.0), seed=SEED)
    try:
        emulation = (sys.executable, "-m", "load.bench.peers_fleet", str(FLEET), MODEL)
        async with Component.running("fleet", directory, *emulation, environment=environment, is_read=True) as fleet:
            urls = json.loads(await fleet.read_line(START_SECONDS_MAX))
            offered = [
                (url, pool, backend)
                for url, (pool, backend) in zip(urls, places, strict=True)
                if contender.buys or pool["billing"] == "leased"
            ]
            async with started(contender, directory, description, urls, offered, environment, peers_bin) as (url, key):
                outcomes = await asyncio.to_thread(
                    drive, Target(f"{url}/v1", {"": key}), workload, sessions(trace),
                    processes=1, until_seconds=seconds, grace_seconds=60.0, timeout_seconds=120.0,
                )  # fmt: skip
            fleet.ask_to_end()
            served = json.loads(await fleet.read_line(START_SECONDS_MAX))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return row_of(contender, workload, outcomes, served, places, seconds, version_of(contender, peers_bin))


@asynccontextmanager
async def started(
    contender: Contender,
    directory: Path,
    description: Mapping[str, Any],
    urls: Sequence[str],
    offered: Sequence[tuple[str, Any, Any]],
    environment: Mapping[str, str],
    peers_bin: Path,
) -> AsyncIterator[tuple[str, str]]:
    """Its URL and an API key, when it answers."""
    port, key = free_port(), new_api_key()
    if contender.kind == "jeton":
        told = dict(description) | {"policy": dict(contender.settings), "tenants": [{"name": "bench"}]}
        config = router_config(told, urls, {"bench": key}, environment[PEPPER], directory / "jeton.sqlite")
        (directory / "router.yaml").write_text(json.dumps(config), encoding="utf-8")
        shutil.copy(FLEET_PRICES, directory)
        command = [sys.executable, "-m", "router", "serve", "--host", HOST, "--port", str(port)]
        ready = "/ready"
    elif contender.kind == "litellm":
        (directory / "litellm.yaml").write_text(yaml.safe_dump(litellm_config(contender, offered)), encoding="utf-8")
        command = [
            str(peers_bin / "litellm"), "--config", "litellm.yaml", "--host", HOST, "--port", str(port),
            "--num_workers", "1", "--telemetry", "False",
        ]  # fmt: skip
        ready = "/health/readiness"
    else:
        command = [
            str(peers_bin / "python"), "-m", "sglang_router.launch_router",
            "--worker-urls", *(url for url, _, _ in offered), "--host", HOST, "--port", str(port),
            "--policy", contender.settings["policy"], "--prometheus-port", str(free_port()), "--log-level", "warn",
        ]  # fmt: skip
        ready = "/health"
    own = dict(environment) | {"LITELLM_MASTER_KEY": key, "HF_HUB_OFFLINE": "1"}
    async with Component.running(contender.kind, directory, *command, environment=own) as router:
        await until_ready(f"http://{HOST}:{port}", ready, key, router)
        yield f"http://{HOST}:{port}", key


def litellm_config(contender: Contender, offered: Sequence[tuple[str, Any, Any]]) -> dict[str, Any]:
    """All replicas as deployments of one model group. It is told to leave tokenizers where they are: it would ask the Hugging
    Face Hub for one at every stream, with its event loop waiting, and the emulated models have none there."""
    deployments = []
    for url, pool, backend in offered:
        is_bought = pool["billing"] == "metered"
        served = backend.get("served_model", backend["model"])
        deployments.append(
            {
                "model_name": MODEL,
                "litellm_params": {
                    "model": f"{'openai' if is_bought else 'hosted_vllm'}/{served}",
                    "api_base": f"{url}/v1",
                    "api_key": f"os.environ/{CLOUD_API_KEY}" if is_bought else "none",
                },
            }
        )
    return {
        "model_list": deployments,
        "router_settings": dict(contender.settings),
        "litellm_settings": {"disable_hf_tokenizer_download": True},
    }


async def until_ready(url: str, path: str, key: str, router: Component) -> None:
    """It says so, and answers a request. Raises Crashed with its log when it does not in time."""
    deadline = time.monotonic() + START_SECONDS_MAX
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}, timeout=timeout) as session:
        while time.monotonic() < deadline:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{url}{path}") as answer:
                    is_ready = answer.status == 200
                if is_ready:
                    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                        if answer.status == 200:
                            return
            await asyncio.sleep(0.3)
    raise router.crashed(f"does not answer after {START_SECONDS_MAX:g} s")


def row_of(
    contender: Contender,
    workload: Workload,
    outcomes: Sequence[Outcome],
    served: Sequence[Mapping[str, int]],
    places: Sequence[tuple[Any, Any]],
    seconds: float,
    version: str,
) -> Row:
    """Of all requests but those of the warm-up; money of all."""
    book = check_shape(read_source(FLEET_PRICES), PriceBook)
    leased = bought = 0.0
    small = whole = 0
    for (_, backend), one in zip(places, served, strict=True):
        price = book.in_force(backend["price"], date.today())
        if isinstance(price, LeasedPrice):
            leased += price.nanousd_per_hour / 1e9 * seconds / 3600
        elif isinstance(price, MeteredPrice):
            bought += tariff_cost(price, Usage(one["prompt_tokens"], one["completion_tokens"])) / 1e9
        whole += one["finished"]
        small += one["finished"] * (backend["tier"] == "small")
    counted = [one for one in outcomes if one.scheduled_seconds >= WARMUP_SECONDS]
    good = [one for one in counted if one.is_ok]
    ttfts = sorted(one.ttft_seconds for one in good if one.ttft_seconds is not None)
    tpots = sorted(one.tpot_seconds for one in good if one.tpot_seconds is not None)
    return Row(
        name=contender.name,
        version=version,
        measured_on=datetime.now(UTC).date().isoformat(),
        seconds=seconds,
        requests=len(outcomes),
        failed=sum(not one.is_ok for one in outcomes),
        usd_leased=leased,
        usd_bought=bought,
        ttft_p50=quantile(ttfts, 0.50),
        ttft_p99=quantile(ttfts, 0.99),
        tpot_p50=quantile(tpots, 0.50),
        goodput_ratio=sum(map(OBJECTIVES.are_met_by, counted)) / max(1, len(counted)),
        small_ratio=small / max(1, whole),
        quality=quality_of(workload, outcomes, small / max(1, whole)),
        lag_p99=quantile(sorted(one.sent_seconds - one.scheduled_seconds for one in counted), 0.99),
        load_average=os.getloadavg()[0],
    )


def quality_of(workload: Workload, outcomes: Sequence[Outcome], small_ratio: float) -> float:
    """Right answers, of those that the large tier would have given, by what real models made of the questions.

    Where the router says which tier answered a question, by question; the others do not look at it, so each of their questions is
    as often in a small model's hands as any other.
    """
    right = read_outcomes()
    got = best = 0.0
    for one in outcomes:
        if not one.is_ok:
            continue
        arrival = workload.trace.arrivals[one.number]
        small, large = right[workload.request(one.number, arrival)[1]["messages"][-1]["content"]]
        share = small_ratio if not one.tier else float(one.tier == "small")
        got += share * small + (1 - share) * large
        best += large
    return got / best if best else 0.0


def version_of(contender: Contender, peers_bin: Path) -> str:
    if contender.kind == "jeton":
        return version("jeton")
    name = {"litellm": "litellm", "sglang": "sglang-router"}[contender.kind]
    [site] = (peers_bin.parent / "lib").glob("python3*/site-packages")
    found = next(iter(distributions(name=name, path=[str(site)])), None)
    return found.version if found is not None else "unknown"


HEADS = (
    "router", "$/1,000", "of it bought", "TTFT p50", "TTFT p99", "TPOT p50", "goodput", "quality", "small", "failed",
)  # fmt: skip


def cells(row: Row) -> list[str]:
    per_thousand = 1000 / max(1, row.requests - row.failed)
    return [
        f"{row.name} ({row.version})" + ("" if row.lag_p99 <= LAG_SECONDS_MAX else " ¹"),
        f"{(row.usd_leased + row.usd_bought) * per_thousand:.3f}",
        f"{row.usd_bought * per_thousand:.3f}",
        f"{row.ttft_p50:.2f} s",
        f"{row.ttft_p99:.2f} s",
        f"{1000 * row.tpot_p50:.0f} ms",
        f"{row.goodput_ratio:.1%}",
        f"{row.quality:.1%}",
        f"{row.small_ratio:.0%}",
        f"{row.failed} of {row.requests}",
    ]


def markdown(rows: Sequence[Row], speed: float) -> str:
    seconds = max((row.seconds for row in rows), default=0.0)
    lines = [
        "# jeton beside other routers",
        "",
        f"Written by `make peers` (`python -m load.bench.peers --seconds {seconds:g} --speed {speed:g}`), the rows measured on"
        f" {', '.join(sorted({row.measured_on for row in rows}))}.",
        "",
        "One emulated fleet (`load/bench/policies_fleet.yaml`: two L4 with an 8B at the edge, two A100 with a 70B in a central",
        "cluster, a cloud), fresh for each router, and the same requests at the same times: Azure's conversation trace of",
        "2023-11-16, all for one model name, all streamed. What this compares is *where* each sends a request, not what a proxy",
        "costs in CPU.",
        "",
        "- *$/1,000*: the bill of 1,000 answered requests: the leases' hours, used or not, and what was *bought* from the cloud",
        "  at its list price, by the emulated replicas' own counters.",
        f"- *goodput*: answered, the first token within {OBJECTIVES.ttft_seconds_max:g} s of the scheduled moment, then"
        f" {1000 * (OBJECTIVES.tpot_seconds_max or 0):g} ms a token.",
        "- *quality*: right answers, of those that the large model would have given, by what real models made of these questions",
        "  (`load/data/README.md`); jeton's classifier was trained on them. *small*: what the small model answered.",
        "- LiteLLM has all replicas in one model group, the cloud too. sglang-router balances servers of its own and buys",
        "  nothing. Neither is meant to choose between models by the question; that is the difference shown here.",
        "",
        f"| {' | '.join(HEADS)} |",
        "|---|" + "---:|" * (len(HEADS) - 1),
        *(f"| {' | '.join(cells(row))} |" for row in rows),
    ]
    if rows:
        loads = sorted(row.load_average for row in rows)
        lines += [
            "",
            f"The machine's load average at the end of the runs: {loads[0]:.1f} to {loads[-1]:.1f}, {os.cpu_count()} cores. What"
            " goes beyond the cores is not theirs, and takes from their latencies.",
        ]
    if any(row.lag_p99 > LAG_SECONDS_MAX for row in rows):
        lines += ["", "¹ The client fell behind its schedule: these times mean little."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    peers()
