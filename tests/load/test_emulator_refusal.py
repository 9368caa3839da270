"""A replica that refuses and listens in turn ends as it was told last, however quickly it is told."""

import asyncio
import random

import httpx
import pytest

from load.emulator import EmulatedFleet, ReplicaSpec


@pytest.mark.parametrize("seed", range(4))
async def test_refusing_and_listening_in_any_order_ends_with_the_last_word(seed: int) -> None:
    chance = random.Random(seed)
    async with EmulatedFleet.start([ReplicaSpec()]) as fleet, httpx.AsyncClient() as http:
        replica = fleet.replicas[0]
        for _ in range(100):
            if chance.random() < 0.5:
                replica.faults(refuse=True)
            else:
                replica.clear_faults()
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.005)
        replica.clear_faults()
        await fleet.settled()
        assert (await http.get(f"{replica.url}/health")).status_code == 200
        replica.faults(refuse=True)
        with pytest.raises(httpx.TransportError):
            await http.get(f"{replica.url}/health")
