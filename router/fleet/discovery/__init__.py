"""Where the replicas of a backend are just now, by whoever knows: a file, DNS, Kubernetes. One file for each.

A source tells whole states, never changes: `states()` yields what there is whenever it knows anew. What becomes of a replica that
is no longer among them is not decided here (`router/discovery.py`).
"""

from collections.abc import AsyncGenerator
from typing import NamedTuple, Protocol


class Found(NamedTuple):
    """One replica. name: of its own, where the source has one (a pod's); else its address will do. url: without `/v1`."""

    url: str
    name: str = ""


class SourceFailed(Exception):
    """Nothing can be said just now; what was said last stays true. The message says why, for the log."""


class ReplicaSource(Protocol):
    def states(self) -> AsyncGenerator[tuple[Found, ...], None]:
        """All replicas that there are, again and again, without end. Raises SourceFailed when it cannot tell; asked again, it
        begins anew."""
        ...


__all__ = ["Found", "ReplicaSource", "SourceFailed"]
