"""An example of `deploy/config/capacity/` in the test's own event loop: its router.yaml as it is, its replicas emulated."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from whole_app import CLOUD_KEY, PEPPER, WholeApp, running

from load.emulator.spec import Dialect, Kind, ReplicaSpec
from router.access.keys import api_key_hash

HERE = Path(__file__).parents[2] / "deploy" / "config" / "capacity"
EXAMPLES = sorted(file.stem for file in HERE.glob("*.yaml") if file.stem != "prices")


@contextlib.asynccontextmanager
async def serving(
    example: str,
    directory: Path,
    change: Callable[[dict[str, Any]], object] = lambda config: None,
    specs: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncIterator[WholeApp]:
    """change: edits the configuration, after the urls. specs: what the emulated replicas of a backend are besides."""
    written = yaml.safe_load((HERE / f"{example}.yaml").read_text(encoding="utf-8"))
    prices = yaml.safe_load((HERE / "prices.yaml").read_text(encoding="utf-8"))["prices"]
    backends = {backend["name"]: backend for pool in written["pools"] for backend in pool["backends"]}

    def make(urls: Mapping[str, Sequence[str]], api_key: str) -> dict[str, Any]:
        for name, backend in backends.items():
            for one, url in zip(backend["replicas"], urls[name], strict=True):
                one["url"] = url
        key = {"name": "tests", "hash": api_key_hash(api_key, PEPPER.encode())}
        return written | {
            "tenants": [{"name": "tests", "api_keys": [key]}],
            "health": {"interval_seconds": 0.2},
            "ledger": {"path": "", "commit_seconds": 0.005},
        }

    emulated = {
        name: (replace(_spec(backend), **(specs or {}).get(name, {})),) * len(backend["replicas"])
        for name, backend in backends.items()
    }
    async with running(directory, change, emulated, make=make, prices=prices) as jeton:
        yield jeton


def _spec(backend: Mapping[str, Any]) -> ReplicaSpec:
    spec = ReplicaSpec(
        backend.get("served_model", backend["model"]),
        context_tokens=backend["context_tokens"],
        kind=Kind.TRANSCRIBE if "transcriptions" in backend.get("capabilities", ()) else Kind.GENERATE,
    )
    if backend.get("engine") != "openai":
        return spec
    return replace(spec, dialect=Dialect(backend["provider"]), api_key=CLOUD_KEY)
