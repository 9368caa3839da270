"""The process of the emulated fleet: `python -m load.demo.emulation [tokens per streamed event [fleet]]`.

It prints the replicas' URLs, one line of JSON, when they listen, and ends on SIGTERM.
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


async def serve() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    interval = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    fleet = read_fleet(*map(Path, sys.argv[2:3]))
    specs = [replace(spec, stream_interval=interval) for spec in replica_specs(fleet, os.environ[CLOUD_API_KEY])]
    async with EmulatedFleet.start(specs) as emulated:
        print(json.dumps([replica.url for replica in emulated.replicas]), flush=True)
        await ended.wait()


if __name__ == "__main__":
    uvloop.run(serve())
