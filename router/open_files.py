"""How many files, sockets among them, this process may open, against what its configuration needs.

A stream takes two, one to its client and one to its replica. Where they run out nothing can be accepted or connected, and the
ledger cannot be opened. So the limit is raised at start as far as it may be; where that is not enough the log says so, or the
start is refused.
"""

import resource
from typing import NamedTuple

from router.config import RouterConfig

FILES_PER_STREAM = 2
# Of each replica: connections for health, metrics and probes, and one in the pool that waits for work.
FILES_PER_REPLICA = 4
# The ledger with its journal, Redis, what is watched, listening sockets, the log, the interpreter's own; with room to spare.
FILES_OF_OUR_OWN = 100


class FilesNeeded(NamedTuple):
    """least: without a single stream. wanted: with as many streams as are expected."""

    least: int
    wanted: int

    def streams(self, limit: int) -> int:
        """How many streams fit."""
        return max(limit - self.least, 0) // FILES_PER_STREAM


def files_needed(config: RouterConfig) -> FilesNeeded:
    replicas = sum(len(backend.replicas) for pool in config.pools for backend in pool.backends)
    least = FILES_OF_OUR_OWN + FILES_PER_REPLICA * replicas
    return FilesNeeded(least, least + FILES_PER_STREAM * config.server.streams_expected)


def raise_file_limit(wanted: int) -> int:
    """To what is wanted, or as far as it goes; the limit as it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    return reachable
