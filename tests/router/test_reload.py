"""Reloading, with real files in every way that files change, and a real signal."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from router.config.server import ServerConfig
from router.config_file import LoadedConfig, load
from router.pricing.price import LeasedPrice
from router.reload import OF_THE_SOCKET, Reloader, ReloadResult, restart_needed

PATIENCE_SECONDS = 30  # a bound for a hung test, never a measure

ROUTER = """\
baseline: small
policy:
  name: always_large
profiles:
  engine:
    parameters_billion: 8
    layers: 32
    kv_bytes_per_token: 131072
    weight_bytes_per_parameter: 1
    memory_gb: 80
    bandwidth_gb_per_second: 3350
    tflops: 1978
tenants:
  - name: red
    api_keys: [{name: laptop, hash: "hmac-sha256:0000000000000000000000000000000000000000000000000000000000000000"}]
pools:
  - name: central
    kind: central
    billing: leased
    backends:
      - {name: small, model: m, context_tokens: 1000, price: gpu, profile: engine, replicas: [{url: "http://10.0.0.1"}]}
"""

PRICES = """\
prices:
  gpu: [{kind: lease, from: 2026-01-01, usd_per_hour: 1, source: a test}]
"""


@dataclass
class Scene:
    """A reloader at work on files of its own, and what it did."""

    reloader: Reloader
    applied: list[LoadedConfig] = field(default_factory=list)
    results: asyncio.Queue[ReloadResult] = field(default_factory=asyncio.Queue)

    async def result(self) -> ReloadResult:
        return await asyncio.wait_for(self.results.get(), PATIENCE_SECONDS)


def write(folder: Path, router: str = ROUTER, prices: str = PRICES) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "prices.yaml").write_text(prices)
    (folder / "router.yaml").write_text(router)
    return folder / "router.yaml"


def hourly_nanousd(config: LoadedConfig, backend: str) -> int:
    price = config.prices[backend]
    assert isinstance(price, LeasedPrice)
    return price.nanousd_per_hour


@asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Scene]:
    applied: list[LoadedConfig] = []
    results: asyncio.Queue[ReloadResult] = asyncio.Queue()
    reloader = Reloader(load(path), applied.append, results.put_nowait)
    async with reloader.running():
        await asyncio.sleep(0.3)  # the watch is set up in a thread; what changes before is seen some seconds later
        yield Scene(reloader, applied, results)


async def test_a_changed_file_is_applied(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with watching(path) as scene:
        path.write_text(ROUTER.replace("context_tokens: 1000", "context_tokens: 2000"))
        assert await scene.result() is ReloadResult.APPLIED
        assert [config.backends[0].context_tokens for config in scene.applied] == [2000]
        assert scene.reloader.current is scene.applied[0]


async def test_a_changed_price_is_applied(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with watching(path) as scene:
        (tmp_path / "prices.yaml").write_text(PRICES.replace("usd_per_hour: 1", "usd_per_hour: 2"))
        assert await scene.result() is ReloadResult.APPLIED
        assert hourly_nanousd(scene.applied[0], "small") == 2_000_000_000


async def test_f39_a_bad_file_is_refused_loudly_and_the_old_one_stays(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with watching(path) as scene:
        old = scene.reloader.current
        with structlog.testing.capture_logs() as logs:
            path.write_text(ROUTER.replace("price: gpu", "price: gpus"))
            assert await scene.result() is ReloadResult.REFUSED
        assert scene.applied == []
        assert scene.reloader.current is old
        (log,) = [log for log in logs if log["log_level"] == "error"]
        assert log["event"] == "configuration refused, the old one stays"
        assert [mistake for mistake in log["mistakes"] if mistake.startswith(f"{path}:21:") and "`gpus`" in mistake]
        path.write_text(ROUTER.replace("context_tokens: 1000", "context_tokens: 3000"))
        assert await scene.result() is ReloadResult.APPLIED
        assert scene.reloader.current.backends[0].context_tokens == 3000


async def test_f39_a_file_that_vanishes_leaves_the_old_one_and_is_taken_when_it_is_back(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with watching(path) as scene:
        path.unlink()
        assert await scene.result() is ReloadResult.REFUSED
        write(tmp_path, ROUTER.replace("context_tokens: 1000", "context_tokens: 4000"))
        assert await scene.result() is ReloadResult.APPLIED
        assert scene.reloader.current.backends[0].context_tokens == 4000


async def test_an_editor_that_replaces_the_file_is_followed_again_and_again(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with watching(path) as scene:
        for tokens in (2000, 3000, 4000):
            other = tmp_path / f".router.yaml.{tokens}"
            other.write_text(ROUTER.replace("context_tokens: 1000", f"context_tokens: {tokens}"))
            os.replace(other, path)
            assert await scene.result() is ReloadResult.APPLIED
            assert scene.reloader.current.backends[0].context_tokens == tokens


async def test_a_kubernetes_volume_is_followed_through_its_swaps(tmp_path: Path) -> None:
    def version(number: int) -> Path:
        folder = tmp_path / f"..2026_{number}"
        write(folder, ROUTER.replace("context_tokens: 1000", f"context_tokens: {number}000"))
        return folder

    (tmp_path / "..data").symlink_to(version(1).name)
    for name in ("router.yaml", "prices.yaml"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    async with watching(tmp_path / "router.yaml") as scene:
        for number in (2, 3):
            old = (tmp_path / "..data").resolve()
            (tmp_path / "..data_tmp").symlink_to(version(number).name)
            os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
            assert await scene.result() is ReloadResult.APPLIED
            assert scene.reloader.current.backends[0].context_tokens == number * 1000


async def test_sighup_reloads_though_nothing_has_changed(tmp_path: Path) -> None:
    async with watching(write(tmp_path)) as scene:
        os.kill(os.getpid(), signal.SIGHUP)
        assert await scene.result() is ReloadResult.APPLIED
        assert len(scene.applied) == 1


async def test_the_same_bytes_again_are_no_change(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with watching(path) as scene:
        write(tmp_path)
        path.write_text(ROUTER + "# changed\n")
        assert await scene.result() is ReloadResult.APPLIED
        assert len(scene.applied) == 1


async def test_another_file_of_prices_is_watched_from_then_on(tmp_path: Path) -> None:
    path = write(tmp_path / "config")
    async with watching(path) as scene:
        rates = tmp_path / "rates.yaml"
        path.write_text("prices: ../rates.yaml\n" + ROUTER)
        assert await scene.result() is ReloadResult.REFUSED
        rates.write_text(PRICES.replace("usd_per_hour: 1", "usd_per_hour: 5"))
        assert await scene.result() is ReloadResult.APPLIED
        assert hourly_nanousd(scene.reloader.current, "small") == 5_000_000_000


async def test_a_fault_while_applying_leaves_the_old_one_and_the_watch_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path)
    results: asyncio.Queue[ReloadResult] = asyncio.Queue()
    faults = [RuntimeError("no room")]

    def apply(config: LoadedConfig) -> None:
        if faults:
            raise faults.pop()

    reloader = Reloader(load(path), apply, results.put_nowait)
    old = reloader.current
    async with reloader.running():
        reloader.ask()
        assert await asyncio.wait_for(results.get(), PATIENCE_SECONDS) is ReloadResult.FAILED
        assert reloader.current is old
        reloader.ask()
        assert await asyncio.wait_for(results.get(), PATIENCE_SECONDS) is ReloadResult.APPLIED


async def test_never_two_at_once_and_many_asks_are_few_reloads(tmp_path: Path) -> None:
    path = write(tmp_path)
    at_once, most = 0, 0

    def read(path: Path) -> LoadedConfig:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            return load(path)
        finally:
            at_once -= 1

    results: asyncio.Queue[ReloadResult] = asyncio.Queue()
    reloader = Reloader(load(path), lambda config: None, results.put_nowait, read)
    async with reloader.running():
        for _ in range(50):
            reloader.ask()
            await asyncio.sleep(0.001)
        await asyncio.wait_for(results.get(), PATIENCE_SECONDS)
    assert most == 1
    assert results.qsize() < 49


async def test_it_ends_with_the_block_and_gives_the_signal_back(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with watching(write(tmp_path)):
        assert len(asyncio.all_tasks()) > len(before)
    assert asyncio.all_tasks() == before
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("change", "members"),
    [
        ("server: {port: 9}\n", ["server.port"]),
        ("server: {host: localhost}\n", ["server.host"]),
        ("server: {header_seconds: 9, drain_seconds: 1}\n", ["server.header_seconds", "server.drain_seconds"]),
        ("server: {body_seconds: 9}\n", []),
        ("ledger: {path: other.sqlite}\n", ["ledger"]),
        ("log: {level: debug}\n", ["log"]),
        ("timeouts: {connect_seconds: 9}\n", []),
    ],
)
def test_what_only_a_start_can_change_is_said(tmp_path: Path, change: str, members: list[str]) -> None:
    old, new = load(write(tmp_path / "old")), load(write(tmp_path / "new", change + ROUTER))
    assert restart_needed(old, new) == members


def test_of_each_member_of_the_server_it_is_known_whether_a_reload_changes_it() -> None:
    """The others are asked of `deployment.server` when a request comes. A new member belongs here, or to the socket's."""
    of_a_request = {
        "body_bytes_max", "body_seconds", "write_seconds", "completion_tokens_max", "choices_max", "json_keys_max",
        "schema_bytes_max", "schema_depth_max", "pattern_bytes_max", "pattern_nesting_max", "pattern_states_max",
    }  # fmt: skip
    assert ServerConfig.model_fields.keys() == of_a_request | set(OF_THE_SOCKET)


async def test_what_waits_for_a_start_is_said_at_every_reload_until_it_is_taken_back(tmp_path: Path) -> None:
    path = write(tmp_path)
    said = []
    async with watching(path) as scene:
        for change in ("server: {port: 9}\n", "server: {port: 9}\ntimeouts: {connect_seconds: 9}\n", ""):
            with structlog.testing.capture_logs() as logs:
                path.write_text(change + ROUTER)
                assert await scene.result() is ReloadResult.APPLIED
            said.append([entry["member"] for entry in logs if "next start" in entry["event"]])
    assert said == [["server.port"], ["server.port"], []]
