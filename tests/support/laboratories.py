"""A small fleet of each kind, and scenarios on it, for the simulation's tests."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from load.simulate.attempt import Attempt
from load.simulate.scenario import Laboratory, read_scenario
from load.simulate.world import World
from router.domain.usage import Usage

DAY = date(2026, 6, 1)
PRICES = """
prices:
  small: [{kind: lease, from: 2026-01-01, gpu: L4, usd_per_hour: 0.80, source: a test}]
  large: [{kind: lease, from: 2026-01-01, gpu: H100-SXM, gpus: 2, usd_per_hour: 7.56, source: a test}]
  cloud: [{kind: tokens, from: 2026-01-01, prompt_usd_per_million: 2.0, cached_usd_per_million: 0.5,
           completion_usd_per_million: 8.0, source: a test}]
"""
ROUTER = """
prices: prices.yaml
baseline: large
tenants: [{name: a, api_keys: [{name: k, hash: "hmac-sha256:0000000000000000000000000000000000000000000000000000000000000000"}]}]
aliases: {auto: {}}
profiles:
  l4: {model: llama-3.1-8b, gpu: l4, quantization: int4}
  h100: {model: llama-3.1-70b, gpu: h100, quantization: fp8, gpus: 2}
pools:
  - name: edge
    kind: edge
    billing: leased
    rtt_seconds: 0.004
    backends:
      - {name: small, model: s, tier: small, context_tokens: 16384, price: small, profile: l4,
         replicas: [{url: "http://e1"}, {url: "http://e2"}]}
  - name: central
    kind: central
    billing: leased
    rtt_seconds: 0.02
    backends:
      - {name: large, model: l, tier: large, context_tokens: 32768, price: large, profile: h100, replicas: [{url: "http://c1"}]}
  - name: cloud
    kind: cloud
    billing: metered
    rtt_seconds: 0.1
    backends:
      - {name: cloud, model: c, tier: large, engine: openai, context_tokens: 128000, price: cloud,
         replicas: [{url: "https://cloud.example", api_key_env: CLOUD_KEY}]}
"""
SCENARIO: dict[str, Any] = {
    "config": "router.yaml", "seconds": 60, "warmup_seconds": 5, "seeds": [1, 2], "rate": 3.0,
    "metered_profiles": {"cloud": "h100x4-llama-3.1-70b-bf16"},
    "policies": [{"name": "always_small"}, {"name": "always_large"}, {"name": "round_robin"}],
}  # fmt: skip
MakeLaboratory = Callable[..., Laboratory]


def write_fleet(directory: Path) -> None:
    (directory / "router.yaml").write_text(ROUTER)
    (directory / "prices.yaml").write_text(PRICES)


def write_scenario(directory: Path, **changes: Any) -> Path:
    path = directory / "scenario.yaml"
    path.write_text(yaml.safe_dump({**SCENARIO, **changes}))
    return path


def make_laboratory(directory: Path, **changes: Any) -> Laboratory:
    path = write_scenario(directory, **changes)
    return Laboratory(read_scenario(path), directory, {"CLOUD_KEY": "sk-x"}, DAY)


class Ends:
    """When the last attempt at each replica was over, by its id."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watch(self, world: World) -> None:
        world.observers.append(self)

    def closed(
        self, attempt: Attempt, usage: Usage, cost_nanousd: int, now_seconds: float, *, is_answered: bool
    ) -> None:
        self.seconds[attempt.replica.name] = now_seconds
