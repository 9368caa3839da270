"""The replicas that are found while jeton runs: one follower for each backend with a `discovery`, and what is in force of it.

A source tells whole states (`fleet/discovery/`). A new replica is taken at once; one that is no longer told stays for its grace,
because resolvers and writers blink, and because its lease ends with it: money must not stop and start again for nothing. When a
source fails, what it said last stays true. Leases follow from the fleet as with a reload: they begin when a replica is first
found, and end after its grace, or with its last attempt.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum

import structlog

from router.config.fleet import DiscoveryConfig
from router.config_file import LoadedConfig
from router.domain.fleet import Replica
from router.fleet.discovery import Found, ReplicaSource, SourceFailed
from router.fleet.discovery.dns import DnsSource
from router.fleet.discovery.file import FileSource
from router.fleet.discovery.kubernetes import KubernetesSource, ServiceName
from router.fleet_config import DiscoveryTerms

log = structlog.get_logger("jeton.discovery")

# How long a start waits for the first word of all sources: without it leases that go on would end and begin again.
FIRST_SECONDS_MAX = 5.0
# After a failure: a source that is down is asked again soon, and never in a loop.
RETRY_SECONDS = 2.0
# How often it is looked whose grace is over.
LOOK_SECONDS = 0.5


class DiscoveryResult(StrEnum):
    """The label of `jeton_discoveries_total`. failed: the source could not tell."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"


class Move(StrEnum):
    """The label of `jeton_discovered_replicas_total`. gone: its grace is over."""

    FOUND = "found"
    GONE = "gone"


@dataclass(slots=True)
class _Followed:
    """What one backend's source has told. gone_seconds: when replicas that are kept were first missed. trouble: why it could not
    tell the last time, or "". failing_seconds: since when it cannot, or None."""

    terms: DiscoveryTerms
    replicas: dict[Found, Replica] = field(default_factory=dict)
    gone_seconds: dict[Found, float] = field(default_factory=dict)
    trouble: str = ""
    failing_seconds: float | None = None
    task: "asyncio.Task[None] | None" = None


class Discovery:
    """on_change: called in the event loop when replicas in force are others. now_seconds: monotonic.

    results: each answer of a source, by backend. moves: replicas that came and went, by backend, from 0 on.
    """

    def __init__(self, on_change: Callable[[], None], now_seconds: Callable[[], float]) -> None:
        self.results: Counter[tuple[str, str]] = Counter()
        self.moves: Counter[tuple[str, str]] = Counter()
        self._on_change = on_change
        self._now_seconds = now_seconds
        self._followed: dict[str, _Followed] = {}
        self._is_running = False

    def follow(self, loaded: LoadedConfig) -> None:
        """These backends are discovered from now on. What is known stays, as far as the same source tells it."""
        for backend, one in list(self._followed.items()):
            if loaded.discoveries.get(backend) != one.terms:
                if one.task is not None:
                    one.task.cancel()
                del self._followed[backend]
        for backend, terms in loaded.discoveries.items():
            if backend not in self._followed:
                self._followed[backend] = _Followed(terms)
                self.moves.update({(backend, move.value): 0 for move in Move})
        if self._is_running:
            self._start()

    def filled(self, loaded: LoadedConfig) -> LoadedConfig:
        """The configuration with the replicas that are in force. An address that two backends find is the first one's: a replica
        is paid once."""
        taken = {
            replica.url
            for backend in loaded.backends
            for replica in backend.replicas
            if backend.name not in self._followed
        }
        backends = []
        for backend in loaded.backends:
            one = self._followed.get(backend.name)
            if one is not None:
                found = tuple(replica for replica in one.replicas.values() if replica.url not in taken)
                taken |= {replica.url for replica in found}
                backend = replace(backend, replicas=found)
            backends.append(backend)
        return replace(loaded, backends=tuple(backends))

    def stale_seconds(self) -> dict[str, float]:
        """By backend, since when its source cannot tell; 0 while it can."""
        now_seconds = self._now_seconds()
        since = {backend: one.failing_seconds for backend, one in list(self._followed.items())}
        return {backend: 0.0 if at is None else max(now_seconds - at, 0.0) for backend, at in since.items()}

    def look_first(self) -> None:
        """Block until every source has told once, or cannot. For a start, before anything runs."""
        if self._followed:
            with ThreadPoolExecutor(1) as thread:  # a test's event loop may be running in this one
                thread.submit(asyncio.run, self._look_first()).result()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follows all sources while the block runs."""
        self._is_running = True
        self._start()
        watching = asyncio.create_task(self._watch_for_ever())
        try:
            yield
        finally:
            self._is_running = False
            tasks = [watching, *(one.task for one in self._followed.values() if one.task is not None)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_first(self) -> None:
        async def first(backend: str, one: _Followed) -> None:
            try:
                async with asyncio.timeout(FIRST_SECONDS_MAX), aclosing(_source(one.terms).states()) as states:
                    self._take(backend, one, await anext(states))
            except (SourceFailed, TimeoutError) as error:
                self._failed(backend, one)
                _tell_failure(backend, one, error)

        await asyncio.gather(*(first(backend, one) for backend, one in self._followed.items()))

    def _start(self) -> None:
        for backend, one in self._followed.items():
            if one.task is None:
                one.task = asyncio.create_task(self._follow_for_ever(backend, one))

    async def _follow_for_ever(self, backend: str, one: _Followed) -> None:
        while True:
            try:
                async with aclosing(_source(one.terms).states()) as states:
                    async for state in states:
                        is_other = self._take(backend, one, state)
                        self._count(backend, DiscoveryResult.CHANGED if is_other else DiscoveryResult.UNCHANGED)
                        if is_other:
                            self._on_change()
            except SourceFailed as error:
                self._failed(backend, one)
                _tell_failure(backend, one, error)
            except Exception:
                self._failed(backend, one)
                log.exception("replicas cannot be found", backend=backend)
            await asyncio.sleep(RETRY_SECONDS)

    def _take(self, backend: str, one: _Followed, state: tuple[Found, ...]) -> bool:
        """Whether other replicas are in force now."""
        now_seconds, before = self._now_seconds(), set(one.replicas)
        one.trouble, one.failing_seconds = "", None
        for found in state:
            one.gone_seconds.pop(found, None)
            if found not in one.replicas:
                one.replicas[found] = _replica(backend, found, one.terms.api_key)
                self.moves[backend, Move.FOUND.value] += 1
                log.info("replica found", backend=backend, replica=one.replicas[found].id, url=found.url)
        for found in one.replicas.keys() - set(state):
            one.gone_seconds.setdefault(found, now_seconds)
        self._expire(backend, one)
        return set(one.replicas) != before

    def _expire(self, backend: str, one: _Followed) -> bool:
        grace_seconds = one.terms.config.grace_seconds
        now_seconds = self._now_seconds()
        over = [found for found, since in one.gone_seconds.items() if now_seconds - since >= grace_seconds]
        for found in over:
            del one.gone_seconds[found]
            self.moves[backend, Move.GONE.value] += 1
            log.info("replica gone", backend=backend, replica=one.replicas.pop(found).id, url=found.url)
        return bool(over)

    def _failed(self, backend: str, one: _Followed) -> None:
        self._count(backend, DiscoveryResult.FAILED)
        if one.failing_seconds is None:
            one.failing_seconds = self._now_seconds()

    def _count(self, backend: str, result: DiscoveryResult) -> None:
        self.results[backend, result.value] += 1

    async def _watch_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                expired = [backend for backend, one in self._followed.items() if self._expire(backend, one)]
                if expired:
                    self._on_change()
            except Exception:
                log.exception("replicas that are gone could not be taken out")


def _tell_failure(backend: str, one: _Followed, error: Exception) -> None:
    """Once for as long as it is the same: a source that is down is asked every other second."""
    why = str(error) or type(error).__name__
    if why != one.trouble:
        log.warning("replicas cannot be found, those known stay", backend=backend, why=why)
    one.trouble = why


def _source(terms: DiscoveryTerms) -> ReplicaSource:
    config: DiscoveryConfig = terms.config
    if config.file is not None:
        return FileSource(terms.folder / config.file)
    if config.dns is not None:
        nameservers = [
            (host.strip("[]"), int(port)) for host, _, port in (one.rpartition(":") for one in config.nameservers)
        ]
        return DnsSource(config.dns, config.port, config.scheme, config.interval_seconds, nameservers)
    assert config.kubernetes is not None
    members: Mapping[str, object] = config.kubernetes.model_dump()
    return KubernetesSource(ServiceName(scheme=config.scheme, **members))  # type: ignore[arg-type]


def _replica(backend: str, found: Found, api_key: str | None) -> Replica:
    """Named by the backend and its own name or address: unique, for no two backends have the same name."""
    own = found.name or found.url.partition("://")[2]
    return Replica(f"{backend}/{own}", backend, found.url.rstrip("/"), api_key)
