"""The demo's fleet, described once in `router.yaml` beside this file: as emulated replicas, and as a configuration of jeton.

Pure but for reading that file. Both sides use the same engine profiles, so that the emulated hardware is the hardware that is
priced.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from load.emulator.reply import Style
from load.emulator.spec import Dialect, ReplicaSpec
from load.profiles import BUILT_IN, built, profile_named
from router.access.keys import api_key_hash
from router.pricing.profile import EngineProfile

CLOUD_API_KEY = "JETON_DEMO_CLOUD_API_KEY"

# What a provider runs is its own affair; the emulated one answers at the pace of four H100.
CLOUD_PROFILE = "h100x4-llama-3.1-70b-bf16"
NO_PROFILES: Mapping[str, str] = {}

# Answers as long as those of the trace that arrives (load/data/README.md): p50 181, p90 429 tokens.
STYLE = Style(completion_tokens_median=181.0, completion_tokens_sigma=0.673)

HERE = Path(__file__).parent
PRICES = HERE / "prices.yaml"


class Place(NamedTuple):
    """A backend and the pool it stands in."""

    pool: str
    backend: str


def read_fleet(path: Path = HERE / "router.yaml") -> dict[str, Any]:
    """router.yaml as it ships, or another of its kind: without keys, and with names in the place of URLs. `profiles` has those
    that are not built in."""
    fleet: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return fleet


def places(fleet: Mapping[str, Any]) -> list[Place]:
    return [Place(pool["name"], backend["name"]) for pool in fleet["pools"] for backend in pool["backends"]]


def replica_specs(
    fleet: Mapping[str, Any], cloud_api_key: str, metered_profiles: Mapping[str, str] = NO_PROFILES
) -> list[ReplicaSpec]:
    """What to emulate, in the file's order. metered_profiles: what providers run, by backend, where it is not CLOUD_PROFILE."""
    specs: list[ReplicaSpec] = []
    for backend in _backends(fleet):
        is_cloud = backend.get("engine") == "openai"
        spec = ReplicaSpec(
            model=backend.get("served_model", backend["model"]),
            profile=profile_named(metered_profiles.get(backend["name"], CLOUD_PROFILE))
            if is_cloud
            else profile_in(fleet, backend["profile"]),
            dialect=Dialect.OPENAI if is_cloud else Dialect.VLLM,
            api_key=cloud_api_key if is_cloud else None,
            context_tokens=backend["context_tokens"],
            style=STYLE,
            has_prompt_tokens_details=True,
        )
        specs += [spec] * len(backend["replicas"])
    return specs


def profile_in(fleet: Mapping[str, Any], name: str) -> EngineProfile:
    """The fleet's own of this name, if it has one; a built-in one."""
    own = fleet.get("profiles", {})
    return built(own[name]) if name in own else profile_named(name)


def router_config(
    fleet: Mapping[str, Any], urls: Sequence[str], api_keys: Mapping[str, str], pepper: str, ledger: Path
) -> dict[str, Any]:
    """router.yaml, whole. urls: of the replicas, in the file's order. api_keys: in clear text, by tenant."""
    remaining = iter(urls)
    config = dict(fleet)
    config["pools"] = [
        pool
        | {
            "backends": [
                backend | {"replicas": [replica | {"url": next(remaining)} for replica in backend["replicas"]]}
                for backend in pool["backends"]
            ]
        }
        for pool in fleet["pools"]
    ]
    described = {tenant: {"name": tenant} for tenant in api_keys}
    described |= {tenant["name"]: tenant for tenant in fleet.get("tenants", ())}
    config["tenants"] = [
        described[tenant] | {"api_keys": [{"name": tenant, "hash": api_key_hash(api_key, pepper.encode())}]}
        for tenant, api_key in api_keys.items()
    ]
    profiles = yaml.safe_load(BUILT_IN.read_text(encoding="utf-8")) | fleet.get("profiles", {})
    used = [backend["profile"] for backend in _backends(fleet) if "profile" in backend]
    config["profiles"] = {name: profiles[name] for name in used}
    config["ledger"] = {"path": str(ledger)}
    return config


def _backends(fleet: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [backend for pool in fleet["pools"] for backend in pool["backends"]]
