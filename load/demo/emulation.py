"""The process of the emulated fleet: `python -m load.demo.emulation`.

It prints the replicas' URLs, one line of JSON, when they listen, and ends on SIGTERM.
"""

import asyncio
import json
import os
import signal

import uvloop

from load.demo.fleet import CLOUD_API_KEY, read_fleet, replica_specs
from load.emulator.fleet import EmulatedFleet


async def serve() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with EmulatedFleet.start(replica_specs(read_fleet(), os.environ[CLOUD_API_KEY])) as emulated:
        print(json.dumps([replica.url for replica in emulated.replicas]), flush=True)
        await ended.wait()


if __name__ == "__main__":
    uvloop.run(serve())
