"""A replica behind an activator: stopped until it is asked, and stopped again when it is not."""

import asyncio

import httpx

from load.emulator import EmulatedFleet, Replica, ReplicaSpec

CHAT = {"model": "emulated", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
PATIENCE_SECONDS = 10.0


async def ask(replica: Replica) -> httpx.Response:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as client:
        return await client.post(f"{replica.url}/v1/chat/completions", json=CHAT)


async def until_stopped(replica: Replica) -> None:
    assert replica.activator is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while replica.activator.is_running:
            await asyncio.sleep(0.005)


async def test_the_first_request_starts_it_and_all_that_come_meanwhile_are_held() -> None:
    async with EmulatedFleet.start([ReplicaSpec(cold_start_seconds=0.3, idle_seconds=0.2)]) as fleet:
        (replica,) = fleet.replicas
        activator = replica.activator
        assert activator is not None
        loop = asyncio.get_running_loop()
        began = loop.time()
        answers = await asyncio.gather(ask(replica), ask(replica))
        assert [answer.status_code for answer in answers] == [200, 200]
        assert loop.time() - began >= 0.3
        assert activator.starts == 1
        await until_stopped(replica)
        assert (await ask(replica)).status_code == 200
        assert activator.starts == 2


async def test_it_is_not_stopped_while_it_answers() -> None:
    async with EmulatedFleet.start([ReplicaSpec(cold_start_seconds=0.0, idle_seconds=0.05)]) as fleet:
        (replica,) = fleet.replicas
        activator = replica.activator
        assert activator is not None
        body = CHAT | {"max_tokens": 100, "ignore_eos": True, "min_tokens": 100}  # some 300 ms
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as client:
            answer = await client.post(f"{replica.url}/v1/chat/completions", json=body)
        assert answer.json()["usage"]["completion_tokens"] == 100
        assert activator.starts == 1


async def test_nobody_is_answered_who_has_left_before_it_ran() -> None:
    async with EmulatedFleet.start([ReplicaSpec(cold_start_seconds=0.1, idle_seconds=5.0)]) as fleet:
        (replica,) = fleet.replicas
        activator = replica.activator
        assert activator is not None
        asking = asyncio.create_task(ask(replica))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not activator.starts:
                await asyncio.sleep(0.005)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not activator.is_running:
                await asyncio.sleep(0.005)
        assert not replica.generations
