"""How fast a large fleet is simulated: `python -m load.bench.simulation_speed`.

1,000 GPUs (600 replicas of an 8B model on one H100 each, 200 of a 70B on two), Poisson arrivals with the lengths of Azure's
conversation trace, all decided by the router's own finder and policy; one process, one core. It prints CPU seconds and the memory
at its largest; `--profile` where the time goes.
"""

import cProfile
import json
import pstats
import resource
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import click

from load.simulate.scenario import Laboratory, PolicyChoice, Scenario
from router.config.routing import PolicyConfig

DAY = date(2026, 10, 1)
SEED = 1
POOLS = (("small", "edge", 600), ("large", "central", 200))
PROFILES = {
    "small": {"model": "llama-3.1-8b", "gpu": "h100", "quantization": "fp8"},
    "large": {"model": "llama-3.1-70b", "gpu": "h100", "quantization": "fp8", "gpus": 2},
}
H100_USD_PER_HOUR = 3.78
SOURCE = "the demo's, load/demo/prices.yaml"


def write_fleet(directory: Path, considered: int) -> None:
    """router.yaml and prices.yaml."""
    pools: list[dict[str, Any]] = []
    for tier, kind, count in POOLS:
        backend = {
            "name": tier, "model": tier, "tier": tier, "context_tokens": 32768, "price": tier, "profile": tier,
            "replicas": [{"url": f"http://{tier}-{number}:8000"} for number in range(count)],
        }  # fmt: skip
        pools.append({"name": kind, "kind": kind, "billing": "leased", "rtt_seconds": 0.01, "backends": [backend]})
    key = "hmac-sha256:" + 64 * "0"
    config = {
        "prices": "prices.yaml", "baseline": "large", "aliases": {"auto": {}}, "profiles": PROFILES, "pools": pools,
        "replicas_considered": considered,
        "tenants": [{"name": "bench", "api_keys": [{"name": "bench", "hash": key}]}],
    }  # fmt: skip
    prices = {
        tier: [{"kind": "lease", "from": "2026-01-01", "usd_per_hour": usd, "source": SOURCE}]
        for tier, usd in (("small", H100_USD_PER_HOUR), ("large", 2 * H100_USD_PER_HOUR))
    }
    (directory / "router.yaml").write_text(json.dumps(config), encoding="utf-8")
    (directory / "prices.yaml").write_text(json.dumps({"prices": prices}), encoding="utf-8")


@click.command()
@click.option("--requests", default=1_000_000, show_default=True)
@click.option("--rate", default=2_000.0, show_default=True, help="Requests a second, of the whole fleet.")
@click.option("--policy", default=PolicyConfig().name, show_default=True)
@click.option("--parameters", default='{"quality_min": 0.55}', show_default=True, help="The policy's, a JSON object.")
@click.option("--considered", default=16, show_default=True, help="`replicas_considered` of router.yaml.")
@click.option("--profile", "is_profiling", is_flag=True, help="Where the time goes.")
def main(requests: int, rate: float, policy: str, parameters: str, considered: int, is_profiling: bool) -> None:
    """Print what a run takes."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        write_fleet(directory, considered)
        scenario = Scenario(
            config=Path("router.yaml"), rate=rate, seconds=requests / rate, warmup_seconds=0, seeds=(SEED,)
        )
        laboratory = Laboratory(scenario, directory, {}, DAY)
    choice = PolicyChoice(name=policy, parameters=json.loads(parameters))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    profiler = cProfile.Profile()
    began = time.process_time()
    done = profiler.runcall(laboratory.simulate, choice, SEED) if is_profiling else laboratory.simulate(choice, SEED)
    seconds = time.process_time() - began
    tally = done.tally
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    click.echo(
        f"{policy}, {considered} of each backend considered: {tally.due:,} requests over {done.seconds:,.0f} s of"
        f" simulated time: {seconds:.1f} s of CPU, {seconds / tally.due * 1e6:.0f} µs each;"
        f" memory at most {after / 1024:.0f} MB, {before / 1024:.0f} MB before"
    )
    click.echo(
        f"{tally.refused.total():,} refused; TTFT p50 {tally.ttft.percentile(50):.3f} s, p99 {tally.ttft.percentile(99):.3f} s;"
        f" by backend {dict(tally.backends)}"
    )
    if is_profiling:
        pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    main()
