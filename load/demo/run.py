"""Starts the demo, keeps it going and ends it: the fleet, the router, the traffic, in this order, and back."""

import asyncio
import contextlib
import json
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console

from load.demo import snippets
from load.demo.components import Component
from load.demo.fleet import CLOUD_API_KEY, PRICES, places, read_fleet, router_config
from load.demo.screen import Screen
from load.demo.summary import summarize
from load.demo.traffic import Traffic
from load.draws import Mix
from load.traces import read_trace
from load.workload import Workload, read_prompts, timed_requests
from router.access.keys import new_api_key
from router.config_file import PEPPER

HOST = "127.0.0.1"
LEDGER = "jeton.sqlite"
START_SECONDS_MAX = 60.0
POLL_SECONDS = 0.1
# Beyond the router's own `drain_seconds`: what it may take to cut off the rest and to close its books.
END_SECONDS_MAX = 10.0

# Most leave the choice to jeton; some ask for a tier, some must not leave the house, some know what they want.
MIX = Mix(
    models={
        "auto": 0.80,
        "chat-small": 0.08,
        "chat-private": 0.04,
        "llama-3.1-70b-instruct": 0.03,
        "gpt-4.1": 0.05,
    },
    tenants={"research": 0.6, "support": 0.4},
    streaming_ratio=0.8,
)
# Of whoever pastes the snippets, so that the ledger tells these requests apart.
PLAYGROUND = "playground"
SEED = 2023_11_16


@dataclass(frozen=True, slots=True)
class Settings:
    """seconds: how long; None: until a signal. speed: of the traffic; 1 is as recorded. is_kept: leave ledger and logs behind."""

    port: int
    seconds: float | None
    speed: float
    is_plain: bool
    is_kept: bool

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


async def run(settings: Settings, console: Console) -> None:
    """The whole demo. Raises Crashed, with the end of a log, when a component has crashed."""
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    description = read_fleet()
    api_keys = {tenant: new_api_key() for tenant in (*MIX.tenants, PLAYGROUND)}
    environment = {PEPPER: secrets.token_hex(16), CLOUD_API_KEY: secrets.token_urlsafe(16)}
    with _directory(settings.is_kept, console) as directory:
        console.print("starting an emulated fleet and the router …", style="dim")
        ledger = directory / LEDGER
        emulation = (sys.executable, "-m", "load.demo.emulation")
        async with Component.running("fleet", directory, *emulation, environment=environment, is_read=True) as fleet:
            urls = json.loads(await fleet.read_line(START_SECONDS_MAX))
            config = router_config(description, urls, api_keys, environment[PEPPER], ledger)
            (directory / "router.yaml").write_text(json.dumps(config, indent=2), encoding="utf-8")  # JSON is YAML
            shutil.copy(PRICES, directory)
            serving = (sys.executable, "-m", "router", "serve", "--host", HOST, "--port", str(settings.port))
            async with Component.running("router", directory, *serving, environment=environment) as router:
                await _first(_ready(settings.url, router), fleet.watch(), router.watch(), stopped.wait())
                if stopped.is_set():
                    return
                _welcome(console, settings, api_keys[PLAYGROUND], ledger)
                traffic = Traffic(settings.url, api_keys)
                screen = Screen(console, settings.url, places(description), description["baseline"], settings.is_plain)
                async with traffic, screen:
                    await _first(
                        stopped.wait(),
                        asyncio.sleep(settings.seconds) if settings.seconds is not None else stopped.wait(),
                        traffic.send(
                            timed_requests(Workload(read_trace(), read_prompts(), MIX, SEED)), speed=settings.speed
                        ),
                        screen.refresh(),
                        fleet.watch(),
                        router.watch(),
                    )
                    await screen.last()
                    drain_seconds = description["server"]["drain_seconds"]
                    console.print(f"ending: answers under way have {drain_seconds} s to finish …", style="dim")
                    traffic.expect_end()
                    await router.end(drain_seconds + END_SECONDS_MAX)
                    await traffic.settled(END_SECONDS_MAX)
            await fleet.end(END_SECONDS_MAX)
        console.print(summarize(ledger, baseline=description["baseline"], outcomes=traffic.outcomes, tenant=PLAYGROUND))


@contextlib.contextmanager
def _directory(is_kept: bool, console: Console) -> Iterator[Path]:
    """A fresh one for configuration, ledger and logs; removed at the end unless it is to be kept."""
    directory = Path(tempfile.mkdtemp(prefix="jeton-demo-"))
    try:
        yield directory
    finally:
        if is_kept:
            told = f"kept: {directory}; its ledger: {reading_command(directory / LEDGER)}"
            console.print(told, soft_wrap=True, markup=False, highlight=False)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def reading_command(ledger: Path) -> str:
    """The command that shows it."""
    return f"jeton ledger --ledger {shlex.quote(str(ledger))} list"


async def _ready(url: str, router: Component) -> None:
    """Wait until the router can serve. Raises Crashed when it cannot in time."""
    deadline = asyncio.get_running_loop().time() + START_SECONDS_MAX
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
        while asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{url}/ready") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(POLL_SECONDS)
    raise router.crashed(f"is not ready after {START_SECONDS_MAX:g} s")


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Until one of them is done; the others are cancelled. Raises what the done ones have raised."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _welcome(console: Console, settings: Settings, api_key: str, ledger: Path) -> None:
    console.print(f"jeton listens at {settings.url} (metrics: /metrics). Try it:", style="bold", soft_wrap=True)
    for snippet in (snippets.curl(settings.url, api_key), snippets.python(settings.url, api_key)):
        console.print(f"\n{snippet}", soft_wrap=True, markup=False, highlight=False)
    if settings.is_kept:
        told = f"The ledger is kept, and can be read from now on: {reading_command(ledger)}"
        console.print(f"\n{told}", soft_wrap=True, markup=False, highlight=False)
    end = (
        "Ctrl-C ends the demo."
        if settings.seconds is None
        else f"It ends after {settings.seconds:g} s, or with Ctrl-C."
    )
    console.print(f"\n{end}\n", style="dim")
