"""The process of the emulated fleet: `python -m load.demo.emulation [tokens per streamed event [fleet [terms]]]`.

It prints the replicas' URLs, one line of JSON, when they listen, and ends on SIGTERM.
"""

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvloop

from load.demo.fleet import CLOUD_API_KEY, STYLE, read_fleet, replica_specs
from load.emulator.fleet import EmulatedFleet
from load.emulator.spec import ReplicaSpec
from load.engine import BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Terms:
    """What the emulated hardware does that is not the fleet's to say, as JSON in a file. metered_profiles: what providers run, by
    backend. completion_tokens: lengths that answers are drawn from; the demo's where there are none. block_tokens: of a block of
    the KV cache. has_dev_mode: so that a replica can be made to forget its prefixes."""

    metered_profiles: dict[str, str] = field(default_factory=dict)
    completion_tokens: tuple[int, ...] = ()
    block_tokens: int = BLOCK_TOKENS
    has_dev_mode: bool = False

    def of(self, fleet: dict[str, Any], cloud_api_key: str, stream_interval: int) -> list[ReplicaSpec]:
        """The replicas to emulate."""
        return [
            replace(
                spec,
                stream_interval=stream_interval,
                style=replace(STYLE, completion_tokens=tuple(self.completion_tokens)),
                block_tokens=self.block_tokens,
                has_dev_mode=self.has_dev_mode,
            )
            for spec in replica_specs(fleet, cloud_api_key, self.metered_profiles)
        ]


def read_terms(path: Path) -> Terms:
    return Terms(**json.loads(path.read_text(encoding="utf-8")))


async def serve() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    interval = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    fleet = read_fleet(*map(Path, sys.argv[2:3]))
    terms = read_terms(Path(sys.argv[3])) if len(sys.argv) > 3 else Terms()
    async with EmulatedFleet.start(terms.of(fleet, os.environ[CLOUD_API_KEY], interval)) as emulated:
        print(json.dumps([replica.url for replica in emulated.replicas]), flush=True)
        await ended.wait()


if __name__ == "__main__":
    uvloop.run(serve())
