"""When the time of a replica that is to be taken away comes, and when it does not."""

import asyncio

import pytest

from router.departures import Departures
from router.domain.fleet import Backend, Billing, EngineKind, Pool, PoolKind, Replica
from router.fleet.health import CHECKS_TO_DOWN, HealthRules
from router.fleet.state import Fleet

POOL = Pool("edge", PoolKind.EDGE, Billing.LEASED)
REPLICA = Replica("small/1", "small", "http://10.0.0.1:8000")
SMALL = Backend(
    "small", POOL, "m", "m", "small", "bf16", EngineKind.VLLM, 4096, frozenset(), "gpu", "gpu", (REPLICA,)
)  # fmt: skip


class Watched:
    def __init__(self) -> None:
        self.fleet = Fleet([SMALL], ("small",), HealthRules())
        self.given_up: list[str] = []
        self.departures = Departures(self.fleet, self._give_up)

    def _give_up(self, replica_id: str) -> int:
        self.given_up.append(replica_id)
        return 0


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def until_over(watched: Watched) -> None:
    async with asyncio.timeout(60):
        while watched.departures.replicas()[0]["given_up_in_seconds"] is not None:
            await asyncio.sleep(0.005)


async def test_its_work_is_given_up_when_its_time_is_nearly_over(watched: Watched) -> None:
    assert watched.departures.leave("small/1", 0.05, "spot")
    await until_over(watched)
    assert watched.given_up == ["small/1"]
    assert watched.fleet.is_leaving("small/1"), "its time is over, but nobody has said that it is there again"


async def test_a_later_notice_replaces_the_one_before(watched: Watched) -> None:
    watched.departures.leave("small/1", 0.01, "spot")
    watched.departures.leave("small/1", 3600, "later")
    await asyncio.sleep(0.05)
    assert watched.given_up == []
    assert watched.departures.replicas()[0]["given_up_in_seconds"] > 3000


async def test_nothing_is_given_up_at_one_that_stays_or_is_another_by_then(watched: Watched) -> None:
    watched.departures.leave("small/1", 0.01, "spot")
    watched.departures.stay("small/1")
    await asyncio.sleep(0.05)
    watched.departures.leave("small/1", 0.2, "spot")
    for _ in range(CHECKS_TO_DOWN):
        watched.fleet.check_missed("small/1", "connect")
    watched.fleet.check_passed("small/1")
    await until_over(watched)
    assert watched.given_up == []
    assert watched.fleet.snapshot.health["small/1"].is_usable


async def test_there_is_no_notice_for_a_replica_that_there_is_not(watched: Watched) -> None:
    assert not watched.departures.leave("nobody", 1, "spot")
    assert not watched.departures.stay("nobody")
