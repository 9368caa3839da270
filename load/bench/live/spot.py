"""Replicas that are taken away while requests come, as a spot market takes them, at the moments that a scenario has.

The router hears of it as it would in life: a notice on its admin port, then the replica is gone from the list of those that are
found and its process is dead; later the list has one again, which has nothing in its caches. A lease ends and begins with the
list.
"""

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from load.simulate.happenings import Absence

WHY = "spot"
LISTS = "replicas"


def found_by_lists(fleet: Mapping[str, Any], absences: Sequence[Absence]) -> dict[str, Any]:
    """A router's configuration in which backends that lose replicas find them in files of the folder LISTS."""
    taken = {one.replica for one in absences}

    def found(backend: dict[str, Any]) -> dict[str, Any]:
        if taken.isdisjoint(replica["name"] for replica in backend["replicas"]):
            return backend
        rest = {name: value for name, value in backend.items() if name != "replicas"}
        return rest | {"discovery": {"file": f"{LISTS}/{backend['name']}.yaml", "grace_seconds": 0}}

    pools = [pool | {"backends": [found(backend) for backend in pool["backends"]]} for pool in fleet["pools"]]
    return {**fleet, "pools": pools}


class SpotMarket:
    """fleet: with the replicas' URLs. directory: the router's. admin_url, admin_key: of its admin port."""

    def __init__(
        self, fleet: Mapping[str, Any], absences: Sequence[Absence], directory: Path, admin_url: str, admin_key: str
    ) -> None:
        self._absences = absences
        self._directory = directory
        self._admin_url = admin_url
        self._headers = {"Authorization": f"Bearer {admin_key}"}
        taken = {one.replica for one in absences}
        self._url: dict[str, str] = {}
        self._place: dict[str, int] = {}
        self._backend: dict[str, str] = {}
        for pool in fleet["pools"]:
            for backend in pool["backends"]:
                for replica in backend["replicas"]:
                    self._place[replica["name"]] = len(self._place)
                    self._url[replica["name"]] = replica["url"]
                    self._backend[replica["name"]] = backend["name"]
        self._lists = sorted({self._backend[name] for name in taken})
        self._gone: set[str] = set()
        # A replica that is dead is reached by one that never is.
        self._steady_url = next((url for name, url in self._url.items() if name not in taken), "")

    def write_lists(self) -> None:
        """Those that are there now."""
        folder = self._directory / LISTS
        folder.mkdir(exist_ok=True)
        for backend in self._lists:
            there = [
                {"url": url, "name": name}
                for name, url in self._url.items()
                if self._backend[name] == backend and name not in self._gone
            ]
            beside = self._directory / f"{backend}.list"
            beside.write_text(json.dumps(there), encoding="utf-8")
            os.replace(beside, folder / f"{backend}.yaml")

    async def befall(self, began_seconds: float) -> None:
        """All of it at its time. began_seconds: of the run, by `time.monotonic`. Raises aiohttp's errors where the router or the
        emulation does not do as it is told."""
        steps = sorted(
            [(one.notice_seconds, 0, one) for one in self._absences]
            + [(one.gone_seconds, 1, one) for one in self._absences]
            + [(one.back_seconds, 2, one) for one in self._absences]
        )
        async with aiohttp.ClientSession(raise_for_status=True) as http:
            for at_seconds, step, absence in steps:
                if at_seconds == float("inf"):
                    return
                await asyncio.sleep(max(0.0, began_seconds + at_seconds - time.monotonic()))
                await (self._notice, self._take, self._bring_back)[step](http, absence)

    async def _notice(self, http: aiohttp.ClientSession, absence: Absence) -> None:
        replica = f"{self._backend[absence.replica]}/{absence.replica}"
        body = {"seconds": absence.gone_seconds - absence.notice_seconds, "why": WHY}
        async with http.post(f"{self._admin_url}/replicas/{replica}/leave", json=body, headers=self._headers):
            pass

    async def _take(self, http: aiohttp.ClientSession, absence: Absence) -> None:
        self._gone.add(absence.replica)
        self.write_lists()
        async with http.post(self._fault_url(absence), json={"api_death": True}):
            pass

    async def _bring_back(self, http: aiohttp.ClientSession, absence: Absence) -> None:
        async with http.delete(self._fault_url(absence)):
            pass
        url = self._url[absence.replica]
        for _ in range(100):  # its port opens a moment later
            try:
                async with http.post(f"{url}/reset_prefix_cache"):
                    break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
        self._gone.discard(absence.replica)
        self.write_lists()

    def _fault_url(self, absence: Absence) -> str:
        return f"{self._steady_url}/emulator/faults?replica={self._place[absence.replica]}"
