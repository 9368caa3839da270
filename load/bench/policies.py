"""What each policy costs and delivers, live: `python -m load.bench.policies`.

For each policy anew: an emulated fleet (edge, central, cloud), the router before it in a process of its own, and the same
requests at the same times over HTTP: a stretch of a recorded trace, with questions of which it is known whether a small and
a large model answer them well. So quality is what real models made of the questions that a policy sent to each tier, money is the
bill (the leases' hours, and the tokens bought, from the ledger), and times are the client's, from the scheduled moment on.
"""

import asyncio
import contextlib
import csv
import json
import math
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import aiohttp
import click
import uvloop
import yaml

from load.demo.components import Component
from load.demo.fleet import CLOUD_API_KEY, read_fleet, router_config
from load.draws import Mix
from load.drive.client import ask
from load.drive.outcome import CUT_OFF, Outcome
from load.drive.result import Objectives
from load.traces import DATA, read_trace
from load.workload import TimedRequest, Workload, read_prompts, timed_requests
from router.access.keys import new_api_key
from router.config_file import PEPPER, load
from router.ledger.history import Filters, SumBy, read_history
from router.pricing.price import LeasedPrice
from router.selection.loader import policy_names

HOST = "127.0.0.1"
TENANT = "bench"
MIX = Mix(models={"auto": 1.0}, tenants={TENANT: 1.0}, streaming_ratio=1.0)
SEED = 2023_11_16
START_SECONDS_MAX = 60.0
SETTLE_SECONDS_MAX = 60.0
TTFT_SECONDS_MAX = 2.0
TPOT_SECONDS_MAX = 0.1
OBJECTIVES = Objectives(TTFT_SECONDS_MAX, TPOT_SECONDS_MAX)
HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
SETTINGS, FLEET, FLEET_PRICES = HERE / "policies.yaml", HERE / "policies_fleet.yaml", HERE / "policies_prices.yaml"
# Streams come in larger pieces than vLLM's default (`--stream-interval`), so that two cores can emulate so much traffic.
TOKENS_PER_EVENT = 8
# The client itself must keep up for its times to mean anything.
LAG_SECONDS_MAX = 0.1
COLUMNS = (
    "policy", "$/1,000", "of it bought", "charged", "$/M tokens", "TTFT p50", "TTFT p99", "goodput", "quality", "small", "failed",
)  # fmt: skip


@dataclass
class Result:
    """One policy. outcomes: with the question of each. Money in US dollars: leases over the time of sending, tokens bought and
    charges from the ledger."""

    policy: str
    outcomes: Sequence[tuple[str, Outcome]]
    lease_usd: float
    bought_usd: float
    charged_usd: float
    tokens: int
    places: Mapping[str, int]

    def row(self, right: Mapping[str, tuple[int, int]]) -> list[str]:
        answered = [(question, one) for question, one in self.outcomes if one.is_ok]
        ttfts = sorted(one.ttft_seconds for _, one in answered if one.ttft_seconds is not None)
        count = max(len(self.outcomes), 1)
        bill_usd = self.lease_usd + self.bought_usd
        quality = sum(right[question][one.tier == "large"] for question, one in answered)
        best = sum(right[question][1] for question, _ in answered)
        return [
            self.policy,
            f"{bill_usd * 1000 / count:.3f}",
            f"{self.bought_usd * 1000 / count:.3f}",
            f"{self.charged_usd * 1000 / count:.3f}",
            f"{bill_usd / max(self.tokens, 1) * 1e6:.3f}",
            f"{quantile(ttfts, 0.5):.2f} s",
            f"{quantile(ttfts, 0.99):.2f} s",
            f"{sum(OBJECTIVES.are_met_by(one) for _, one in self.outcomes) / count:.1%}",
            f"{quality / max(best, 1):.1%}",
            f"{sum(one.tier == 'small' for _, one in answered) / max(len(answered), 1):.0%}",
            f"{len(self.outcomes) - len(answered)}",
        ]

    @property
    def lag_seconds_p99(self) -> float:
        return quantile(sorted(one.sent_seconds - one.scheduled_seconds for _, one in self.outcomes), 0.99)


@click.command()
@click.option("--policy", "names", multiple=True, help="Repeatable; all that the fleet can serve when left out.")
@click.option(
    "--seconds", type=click.FloatRange(5), default=60.0, show_default=True, help="Of sending, for each policy."
)
@click.option(
    "--warmup",
    "warmup_seconds",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Of it, at first, not counted.",
)
@click.option("--speed", type=click.FloatRange(0.1, 20), default=1.0, show_default=True, help="1 is as recorded.")
@click.option(
    "--fleet",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
    default=FLEET,
    help="A fleet to emulate in the place of `policies_fleet.yaml`, as `load/bench/comparison/scenarios` has them.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Policies, where the machine has room for them.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the page here, too.")
def policies(
    names: tuple[str, ...],
    seconds: float,
    warmup_seconds: float,
    speed: float,
    fleet: Path,
    at_once: int,
    out: Path | None,
) -> None:
    """Run each policy live on an emulated fleet, and print what it costs and delivers."""
    if warmup_seconds >= seconds:
        raise click.BadParameter(f"takes all of the {seconds:g} s", param_hint="--warmup")
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    shipped = tuple(name for name in policy_names() if name not in settings["left_out"])
    chosen = names or (*settings["variants"], *shipped)
    right = read_outcomes()
    results = []
    click.echo(" | ".join(COLUMNS))
    runs = [
        settings["variants"].get(name, {"policy": name, "parameters": settings["parameters"].get(name, {})})
        for name in chosen
    ]
    with ProcessPoolExecutor(at_once) as workers:
        for result in workers.map(
            partial(_run, seconds=seconds, warmup_seconds=warmup_seconds, speed=speed, fleet=fleet), chosen, runs
        ):
            results.append(result)
            note = (
                ""
                if result.lag_seconds_p99 <= LAG_SECONDS_MAX
                else "  (the client fell behind: its times mean nothing)"
            )
            click.echo(" | ".join(result.row(right)) + note)
    if out is not None:
        out.write_text(page(results, right, seconds, speed, fleet, warmup_seconds), encoding="utf-8")
        click.echo(f"written to {out}")


def _run(
    name: str, run: Mapping[str, Any], *, seconds: float, warmup_seconds: float, speed: float, fleet: Path
) -> Result:
    return uvloop.run(measure(name, run["policy"], run["parameters"], seconds, speed, fleet, warmup_seconds))


def read_outcomes() -> dict[str, tuple[int, int]]:
    """By question: whether the small and the large model answered it well."""
    with (DATA / "prompt_outcomes.csv").open(encoding="utf-8", newline="") as text:
        rows = [(int(row["small_right"]), int(row["large_right"])) for row in csv.DictReader(text)]
    return dict(zip(read_prompts(), rows, strict=True))


async def measure(
    name: str,
    policy: str,
    parameters: Mapping[str, Any],
    seconds: float,
    speed: float,
    fleet_file: Path = FLEET,
    warmup_seconds: float = 0.0,
) -> Result:
    """One policy from an idle fleet to the last answer. warmup_seconds: of sending that is not counted; what was bought and
    charged is that of answers which ended later."""
    directory = Path(tempfile.mkdtemp(prefix="jeton-policies-"))
    api_key, pepper = new_api_key(), secrets.token_hex(16)
    description = read_fleet(fleet_file)
    environment = {PEPPER: pepper}
    environment |= dict.fromkeys({CLOUD_API_KEY, *key_names(description)}, secrets.token_urlsafe(16))
    description["policy"] = {"name": policy, "parameters": parameters}
    try:
        ledger = directory / "jeton.sqlite"
        emulation = (sys.executable, "-m", "load.demo.emulation", str(TOKENS_PER_EVENT), str(fleet_file))
        async with Component.running("fleet", directory, *emulation, environment=environment, is_read=True) as fleet:
            urls = json.loads(await fleet.read_line(START_SECONDS_MAX))
            config = router_config(description, urls, {TENANT: api_key}, pepper, ledger)
            (directory / "router.yaml").write_text(json.dumps(config), encoding="utf-8")
            shutil.copy(fleet_file.parent / description["prices"], directory)
            per_hour_usd = _leases_usd_per_hour(directory / "router.yaml", environment)
            port = free_port()
            serving = (sys.executable, "-m", "router", "serve", "--host", HOST, "--port", str(port))
            async with Component.running("router", directory, *serving, environment=environment) as router:
                url = f"http://{HOST}:{port}"
                await ready(url, router)
                counted_ns = time.time_ns() + round(warmup_seconds * 1e9)
                outcomes = await _send(url, api_key, _requests(seconds * speed), speed)
                await router.end(START_SECONDS_MAX)
            await fleet.end(START_SECONDS_MAX)
        with read_history(ledger) as history:
            sums = history.sums(SumBy.BACKEND, Filters(since_ns=counted_ns))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    metered = {
        backend["name"] for pool in description["pools"] for backend in pool["backends"] if "profile" not in backend
    }
    return Result(
        name,
        [one for one in outcomes if one[1].scheduled_seconds >= warmup_seconds],
        lease_usd=per_hour_usd * (seconds - warmup_seconds) / 3600,
        bought_usd=sum(row.total.cost_nanousd for row in sums if row.key in metered) / 1e9,
        charged_usd=sum(row.total.cost_nanousd for row in sums) / 1e9,
        tokens=sum(row.total.prompt_tokens + row.total.completion_tokens for row in sums),
        places={row.key: row.total.attempts for row in sums},
    )


def _requests(span_seconds: float) -> Iterable[TimedRequest]:
    endless = timed_requests(Workload(read_trace(), read_prompts(), MIX, seed=SEED))
    return takewhile(lambda request: request.at_seconds < span_seconds, endless)


async def _send(url: str, api_key: str, requests: Iterable[TimedRequest], speed: float) -> list[tuple[str, Outcome]]:
    """Open loop: each at its time, whatever became of those before."""
    outcomes: list[tuple[str, Outcome]] = []
    tasks = []
    headers = {"Authorization": f"Bearer {api_key}"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        began = time.monotonic()
        for number, request in enumerate(requests):
            due = request.at_seconds / speed
            await asyncio.sleep(max(0.0, began + due - time.monotonic()))
            outcome = Outcome(number, due, time.monotonic() - began, is_streamed=True, error=CUT_OFF)
            outcomes.append((request.body["messages"][-1]["content"], outcome))
            tasks.append(asyncio.create_task(_ask(session, url, headers, request.body, outcome, began)))
        await asyncio.wait(tasks, timeout=SETTLE_SECONDS_MAX)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return outcomes


async def _ask(
    session: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    outcome: Outcome,
    began_seconds: float,
) -> None:
    outcome.error = ""
    try:
        await ask(session, f"{url}/v1/chat/completions", headers, body, outcome, began_seconds)
    except asyncio.CancelledError:
        outcome.error = CUT_OFF
        raise


async def ready(url: str, router: Component) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/ready") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)
    raise router.crashed(f"is not ready after {START_SECONDS_MAX:g} s")


def page(
    results: Sequence[Result],
    right: Mapping[str, tuple[int, int]],
    seconds: float,
    speed: float,
    fleet: Path = FLEET,
    warmup_seconds: float = 0.0,
) -> str:
    """Markdown."""
    place = fleet.relative_to(PROJECT) if fleet.is_relative_to(PROJECT) else fleet.name
    large = sum(large for _, large in right.values()) / len(right)
    small = sum(small for small, _ in right.values()) / len(right)
    command = f"python -m load.bench.policies --seconds {seconds:g} --speed {speed:g}"
    if warmup_seconds:
        command += f" --warmup {warmup_seconds:g}"
    if fleet != FLEET:
        command += f" --fleet {place}"
    lines = [
        "# What each policy costs and delivers",
        "",
        f"`{command}`, {datetime.now(UTC).date()}.",
        "",
        f"An emulated fleet (`{place}`), the router in a process of its own, real HTTP. Requests",
        "come as in Azure's conversation trace of 2023-11-16, with its prompts' lengths; answers' are drawn, with its median.",
        "All are for `auto`, all streamed, and the same for every policy.",
        "",
        "- *$/1,000*: the bill of 1,000 requests: the leases' hours, used or not, and what was *bought* by the token.",
        "- *charged*: what the requests were charged, which leaves idle time out.",
        f"- *goodput*: answered, the first token within {TTFT_SECONDS_MAX:g} s of the scheduled moment, then",
        f"  {TPOT_SECONDS_MAX:g} s a token.",
        "- *quality*: right answers, of those that the large tier would have given, by what real models made of these questions",
        f"  (`load/data/README.md`). Over all questions the small tier has {small / large:.1%}.",
        "  The classifier was trained on them.",
        "- *small*: the share that the small tier answered.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for result in results:
        mark = "" if result.lag_seconds_p99 <= LAG_SECONDS_MAX else " ¹"
        cells = result.row(right)
        lines.append("| " + " | ".join([cells[0] + mark, *cells[1:]]) + " |")
    if any(result.lag_seconds_p99 > LAG_SECONDS_MAX for result in results):
        lines += ["", "¹ The client fell behind its schedule: these times mean nothing."]
    lines += ["", "Attempts by backend:", ""]
    lines += [
        f"- {result.policy}: " + ", ".join(f"{place} {count}" for place, count in sorted(result.places.items()))
        for result in results
    ]
    return "\n".join(lines) + "\n"


def key_names(fleet: Mapping[str, Any]) -> set[str]:
    """The variables that its replicas' keys are in."""
    return {
        replica["api_key_env"]
        for pool in fleet["pools"]
        for backend in pool["backends"]
        for replica in backend["replicas"]
        if "api_key_env" in replica
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(math.ceil(share * len(ordered)), len(ordered)) - 1] if ordered else math.nan


def _leases_usd_per_hour(config: Path, environment: Mapping[str, str]) -> float:
    loaded = load(config, environ=environment)
    return sum(
        price.nanousd_per_hour / 1e9 * len(backend.replicas)
        for backend in loaded.backends
        if isinstance(price := loaded.prices[backend.name], LeasedPrice)
    )


if __name__ == "__main__":
    policies()
