import asyncio

from router.cohort import Cohort


async def test_requests_that_are_ready_take_each_step_together() -> None:
    cohort, log = Cohort(), []

    async def request(name: str) -> None:
        with cohort:
            for step in (1, 2):
                await cohort.assemble()
                log.append(f"{name}{step}")

    with cohort:  # one more is on its way
        await asyncio.gather(request("a"), request("b"), request("c"))
    assert log == ["a1", "b1", "c1", "a2", "b2", "c2"]


async def test_a_request_alone_does_not_wait() -> None:
    cohort, log = Cohort(), []

    async def request() -> None:
        with cohort:
            await cohort.assemble()
            log.append("served")

    task = asyncio.create_task(request())
    await asyncio.sleep(0)  # it has run once
    assert log == ["served"]
    await task


async def test_one_that_is_cut_short_leaves() -> None:
    cohort = Cohort()

    async def request() -> None:
        with cohort:
            await cohort.assemble()
            await asyncio.sleep(3600)

    tasks = [asyncio.create_task(request()) for _ in range(2)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert cohort._members == 0
