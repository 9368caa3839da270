"""One policy live: an emulated fleet, the router before it in a process of its own, the case's requests, the ledger's bill."""

import asyncio
import contextlib
import json
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from load.bench.live.bill import read_bill
from load.bench.live.case import TENANT, Case
from load.bench.live.page import Result
from load.bench.live.spot import SpotMarket, found_by_lists
from load.demo.components import Component
from load.demo.fleet import CLOUD_API_KEY, read_fleet, router_config
from load.drive.outcome import Outcome
from load.drive.process import Driver, Errand, Target
from router.access.keys import api_key_hash, new_api_key
from router.config_file import PEPPER, load

HOST = "127.0.0.1"
LEDGER = "jeton.sqlite"
START_SECONDS_MAX = 60.0
SETTLE_SECONDS_MAX = 60.0
TIMEOUT_SECONDS = 3600.0
# Before the first request is due.
LEAD_SECONDS = 0.5
# Streams come in larger pieces than vLLM's default (`--stream-interval`), so that two cores can emulate so much traffic.
TOKENS_PER_EVENT = 8


async def measure(name: str, policy: str, parameters: Mapping[str, Any], case: Case) -> Result:
    """One policy from an idle fleet to the last answer. Raises ConfigRefused where it cannot serve this fleet."""
    directory = Path(tempfile.mkdtemp(prefix="jeton-policies-"))
    keys, description = _Keys(), read_fleet(case.fleet)
    description["policy"] = {"name": policy, "parameters": dict(parameters)}
    environment = {PEPPER: keys.pepper}
    environment |= dict.fromkeys({CLOUD_API_KEY, *key_names(description)}, secrets.token_urlsafe(16))
    try:
        emulation = [sys.executable, "-m", "load.demo.emulation", str(TOKENS_PER_EVENT), str(case.fleet)]
        if case.terms is not None:
            (directory / "terms.json").write_text(json.dumps(asdict(case.terms)), encoding="utf-8")
            emulation.append("terms.json")
        async with Component.running("fleet", directory, *emulation, environment=environment, is_read=True) as fleet:
            urls = json.loads(await fleet.read_line(START_SECONDS_MAX))
            market = _configure(directory, description, urls, case, keys)
            load(directory / "router.yaml", environ=environment)
            port = free_port()
            serving = (sys.executable, "-m", "router", "serve", "--host", HOST, "--port", str(port))
            async with Component.running("router", directory, *serving, environment=environment) as router:
                url = f"http://{HOST}:{port}"
                await ready(url, router)
                began_seconds, began_ns = time.monotonic() + LEAD_SECONDS, time.time_ns() + round(LEAD_SECONDS * 1e9)
                outcomes = await _send(case, url, keys.tenant, market, began_seconds)
                await router.end(START_SECONDS_MAX)
            await fleet.end(START_SECONDS_MAX)
        since_ns, until_ns = (began_ns + round(at * 1e9) for at in (case.warmup_seconds, case.seconds))
        bill = read_bill(directory / LEDGER, metered_names(description), since_ns, until_ns)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    questions = case.questions()
    counted = [one for one in outcomes if one.scheduled_seconds >= case.warmup_seconds]
    return Result(
        name,
        [(questions[one.number], one) for one in counted],
        lease_usd=bill.lease_usd,
        bought_usd=bill.bought_usd,
        charged_usd=bill.charged_usd,
        tokens=bill.tokens,
        places=bill.attempts,
        objectives=case.objectives,
        cached_ratio=bill.cached_tokens / max(bill.prompt_tokens, 1),
        leases=bill.lease_by_backend,
    )


@dataclass(frozen=True, slots=True)
class _Keys:
    """API keys of one run: the tenant's, and that of the admin port."""

    tenant: str = field(default_factory=new_api_key)
    admin: str = field(default_factory=new_api_key)
    pepper: str = field(default_factory=lambda: secrets.token_hex(16))


def _configure(
    directory: Path, description: Mapping[str, Any], urls: Sequence[str], case: Case, keys: _Keys
) -> SpotMarket:
    """Write what the router reads. Returns the market that takes its replicas away."""
    config = router_config(description, urls, {TENANT: keys.tenant}, keys.pepper, directory / LEDGER)
    admin_port = free_port()
    market = SpotMarket(config, case.absences, directory, f"http://{HOST}:{admin_port}", keys.admin)
    if case.absences:
        config = found_by_lists(config, case.absences)
        key = {"name": "market", "hash": api_key_hash(keys.admin, keys.pepper.encode())}
        config["admin"] = {"port": admin_port, "api_keys": [key]}
        market.write_lists()
    (directory / "router.yaml").write_text(json.dumps(config), encoding="utf-8")
    shutil.copy(case.fleet.parent / description["prices"], directory)
    return market


async def _send(case: Case, url: str, api_key: str, market: SpotMarket, began_seconds: float) -> Sequence[Outcome]:
    """All that is due, while replicas come and go."""
    target = Target(f"{url}/v1", {"": api_key})
    errand = Errand(target, case.workload, case.sessions, case.seconds, SETTLE_SECONDS_MAX, TIMEOUT_SECONDS)
    driver = Driver(errand, began_seconds)
    befalling = asyncio.create_task(market.befall(began_seconds))
    try:
        await driver.send()
        if befalling.done():
            befalling.result()
    finally:
        befalling.cancel()
        await asyncio.gather(befalling, return_exceptions=True)
    return driver.outcomes


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


def metered_names(fleet: Mapping[str, Any]) -> set[str]:
    """The backends that are paid by the token."""
    return {backend["name"] for pool in fleet["pools"] for backend in pool["backends"] if "profile" not in backend}


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
