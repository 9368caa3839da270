"""Replicas that will be taken away, as spot instances are: no new work from the notice on, nothing left when the time comes.

What runs there goes on, for most of it ends in time. What does not is given up shortly before the end, by us: another replica
takes over where nothing of the answer has gone out, and other clients hear that their stream broke, instead of a silence.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from router.domain.fleet import IDLE
from router.fleet.state import Fleet

log = structlog.get_logger("jeton.departures")

SPARE_SECONDS = 2.0


class Departures:
    """give_up: ends what runs at a replica, and says how many attempts that were. For one event loop."""

    def __init__(self, fleet: Fleet, give_up: Callable[[str], int]) -> None:
        self._fleet = fleet
        self._give_up = give_up
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def leave(self, replica_id: str, seconds: float, why: str) -> bool:
        """It will be taken away in so many seconds. A later notice replaces the one before. False where there is no such
        replica."""
        if not self._fleet.leave(replica_id, why):
            return False
        self._forget(replica_id)
        log.warning("replica is leaving", replica=replica_id, seconds=seconds, why=why)
        spare_seconds = min(SPARE_SECONDS, seconds / 2)
        loop = asyncio.get_running_loop()
        self._timers[replica_id] = loop.call_later(seconds - spare_seconds, self._time_is_over, replica_id)
        return True

    def stay(self, replica_id: str) -> bool:
        """It will not be taken away after all. False where there is no such replica."""
        if not self._fleet.stay(replica_id):
            return False
        self._forget(replica_id)
        log.warning("replica stays", replica=replica_id)
        return True

    def replicas(self) -> list[dict[str, Any]]:
        """Every replica, for people. given_up_in_seconds: what runs at one that is leaving."""
        snapshot, loads = self._fleet.snapshot, self._fleet.loads
        return [
            {
                "id": replica.id,
                "backend": backend.name,
                "state": snapshot.health[replica.id].state.value,
                "why": snapshot.health[replica.id].why,
                "in_flight": loads.get(replica.id, IDLE).attempts,
                "given_up_in_seconds": self._seconds_left(replica.id),
            }
            for backend in snapshot.backends.values()
            for replica in backend.replicas
        ]

    def _time_is_over(self, replica_id: str) -> None:
        del self._timers[replica_id]
        if not self._fleet.is_leaving(replica_id):  # it was, and is another process by now
            return
        attempts = self._give_up(replica_id)
        log.warning("gave up what ran at a replica that is leaving", replica=replica_id, attempts=attempts)

    def _forget(self, replica_id: str) -> None:
        timer = self._timers.pop(replica_id, None)
        if timer is not None:
            timer.cancel()

    def _seconds_left(self, replica_id: str) -> float | None:
        timer = self._timers.get(replica_id)
        if timer is None:
            return None
        return round(max(timer.when() - asyncio.get_running_loop().time(), 0.0), 3)
