"""The whole app with an emulated provider as its cloud: jeton's file for it on one side, the emulator's on the other."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whole_app import CLOUD_KEY, PRICES, WholeApp, running

from load.emulator.spec import Dialect, ReplicaSpec

PATH = "/v1/chat/completions"


@contextlib.asynccontextmanager
async def provided(
    directory: Path,
    dialect: str,
    *,
    provider: Any = None,
    spec: Mapping[str, Any] | None = None,
    change: Callable[[dict[str, Any]], object] = lambda backend: None,
    is_fallback: bool = False,
    media: Sequence[str] = (),
    prices: Mapping[str, Any] = PRICES,
) -> AsyncIterator[WholeApp]:
    """provider: what stands in router.yaml, the dialect's name unless told. spec: of the emulated endpoint. change: edits the
    backend's row. media: hosts from which it may be told to fetch. is_fallback: `anything` asks the cloud first and `large`
    when that fails."""

    def configure(config: dict[str, Any]) -> None:
        [backend] = config["pools"][2]["backends"]
        del backend["engine"], backend["capabilities"]
        backend["provider"] = dialect if provider is None else provider
        config["health"] = {"interval_seconds": 600}
        config["media"] = {"domains": list(media)}
        if is_fallback:
            config["policy"] = {"name": "always_small"}
            backend["tier"] = "small"
            config["aliases"]["anything"] = {"backends": ["cloud", "large"]}
        change(backend)

    members = {"dialect": Dialect(dialect), "api_key": CLOUD_KEY} | dict(spec or {})
    async with running(directory, configure, {"cloud": (ReplicaSpec("gpt-x", **members),)}, prices=prices) as whole:
        yield whole
