"""The process of the fleet that `peers.py` measures on: `python -m load.bench.peers_fleet FLEET ALIAS`.

One line of JSON when the replicas listen, their URLs; another when it is asked to end, what each has served. All of them answer
to the alias besides their own names, for routers that know of one model only.
"""

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import uvloop

from load.demo.fleet import CLOUD_API_KEY, read_fleet, replica_specs
from load.emulator.fleet import EmulatedFleet

# Streams come in larger pieces than vLLM's default (`--stream-interval`), so that two cores can emulate so much traffic.
TOKENS_PER_EVENT = 8


async def serve() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    fleet, alias = read_fleet(Path(sys.argv[1])), sys.argv[2]
    specs = [
        replace(spec, stream_interval=TOKENS_PER_EVENT, aliases=(*spec.aliases, alias))
        for spec in replica_specs(fleet, os.environ[CLOUD_API_KEY])
    ]
    async with EmulatedFleet.start(specs) as emulated:
        print(json.dumps([replica.url for replica in emulated.replicas]), flush=True)
        await ended.wait()
        counters = [replica.engine.counters for replica in emulated.replicas]
        served = [
            {name: getattr(one, name) for name in ("finished", "aborted", "prompt_tokens", "completion_tokens")}
            for one in counters
        ]
        print(json.dumps(served), flush=True)


if __name__ == "__main__":
    uvloop.run(serve())
