"""The scraper and an emulated vLLM: what a real one shows while it works, and while it only seems to."""

import asyncio
from collections.abc import Callable

from load.emulator import EmulatedFleet, ReplicaSpec
from router.domain.fleet import UP, Backend, Billing, EngineKind, HealthState, Pool, PoolKind, Replica
from router.domain.request import Capability
from router.fleet.health import HealthRules
from router.fleet.scraper import Scraper
from router.fleet.state import Fleet


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


async def test_f14_a_vllm_whose_generation_fails_while_health_is_200_is_out_until_it_generates() -> None:
    async with EmulatedFleet.start([ReplicaSpec(model="tiny")]) as emulated:
        vllm = emulated.replicas[0]
        pool = Pool("central", PoolKind.CENTRAL, Billing.LEASED)
        can = frozenset({Capability.CHAT, Capability.COMPLETIONS})
        replica = Replica("a/1", "a", vllm.url)
        backend = Backend("a", pool, "tiny", "tiny", "small", "fp8", EngineKind.VLLM, 8192, can, "p", "h", (replica,))
        fleet = Fleet([backend], ("small",), HealthRules(ejection_seconds=0.1))
        scraper = Scraper(fleet, interval_seconds=0.02)
        try:
            scraper.follow([backend])
            await until(lambda: "a/1" in fleet.snapshot.scrapes)
            scrape = fleet.snapshot.scrapes["a/1"]
            assert (scrape.running, scrape.waiting, scrape.kv_usage_ratio) == (0, 0, 0.0)

            vllm.faults(engine_dead=True)
            for _ in range(5):
                fleet.failed("a/1", "http_500")
            seen = len(vllm.requests_seen)
            await until(lambda: len(vllm.requests_seen) >= seen + 2)  # probes, answered 500
            assert fleet.snapshot.health["a/1"].state is HealthState.EJECTED

            vllm.clear_faults()
            await until(lambda: fleet.snapshot.health["a/1"] == UP)
        finally:
            await scraper.close()
