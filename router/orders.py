"""What an administrator orders of a running router: replicas that will be taken away, or stay after all, and a reload.

An order is JSON, for it may come from another worker of the group (`group.py`): each obeys it, and those that did not are named.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from router.departures import Departures
from router.domain.fleet import HealthState
from router.fleet.health import LEAVING

Order = Mapping[str, Any]


class Obeyed(NamedTuple):
    """results: of every worker that has obeyed, by its name ("" where there is but one). missing: those that have not said so in
    time: they may do so yet."""

    results: Mapping[str, Any]
    missing: Sequence[str] = ()


Give = Callable[[Order], Awaitable[Obeyed]]


def leave(replica: str, seconds: float, why: str) -> Order:
    return {"order": "leave", "replica": replica, "seconds": seconds, "why": why}


def stay(replica: str) -> Order:
    return {"order": "stay", "replica": replica}


REPLICAS: Order = {"order": "replicas"}
RELOAD: Order = {"order": "reload"}


class Orders:
    """In one process. ask_reload: asks for a reload."""

    def __init__(self, departures: Departures, ask_reload: Callable[[], None]) -> None:
        self._departures = departures
        self._ask_reload = ask_reload

    def obey(self, order: Order) -> Any:
        """What came of it: of notices, whether there is such a replica; the replicas. Raises ValueError for no such order."""
        match order["order"]:
            case "leave":
                return self._departures.leave(order["replica"], order["seconds"], order["why"])
            case "stay":
                return self._departures.stay(order["replica"])
            case "replicas":
                return self._departures.replicas()
            case "reload":
                self._ask_reload()
                return True
        raise ValueError(f"no such order: {order['order']}")

    async def give(self, order: Order) -> Obeyed:
        """Where there is no other worker."""
        return Obeyed({"": self.obey(order)})


def notices(replicas: Sequence[Mapping[str, Any]]) -> list[Order]:
    """What a worker that has just begun must be told of replicas that are leaving, as another worker has them. Time that is over
    stays over."""
    return [
        leave(one["id"], one["given_up_in_seconds"] or 0.0, one["why"].removeprefix(LEAVING))
        for one in replicas
        if one["state"] == HealthState.LEAVING
    ]


def merged(results: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The replicas as all workers have them: in flight at all of them together, the rest as the first one says."""
    found: dict[str, dict[str, Any]] = {}
    for replicas in results:
        for one in replicas:
            known = found.get(one["id"])
            if known is None:
                found[one["id"]] = dict(one)
            else:
                known["in_flight"] += one["in_flight"]
    return list(found.values())
