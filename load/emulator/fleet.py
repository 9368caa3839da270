"""Many emulated replicas in one process, each on its own port; in tests on free ports of the loopback.

    async with EmulatedFleet.start([ReplicaSpec(model="small"), ReplicaSpec(model="large")]) as fleet:
        fleet.replicas[0].url                       # http://127.0.0.1:<port>
        fleet.replicas[0].faults(status=503, times=2)
        fleet.replicas[0].engine.running            # sequences in the batch

What must not live here: what a replica answers.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial

from load.emulator.faults import Fault
from load.emulator.http import Connection
from load.emulator.replica import Replica
from load.emulator.spec import ReplicaSpec

GOODBYE_SECONDS = 0.5  # how long a client may take to read its last bytes when the fleet stops


REOPEN_ATTEMPTS = 100
REOPEN_SECONDS = 0.02


class _Listener:
    """A replica's port: open, or refusing."""

    def __init__(self, replica: Replica, host: str) -> None:
        self.replica = replica
        self._host = host
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._comeback: asyncio.TimerHandle | None = None
        self._pending: set[asyncio.Task[None]] = set()
        self._is_refusing = False
        self._shut = asyncio.Event()

    async def open(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        make = partial(Connection, self.replica.handle, self._connections)
        self._server = await loop.create_server(make, self._host, port, backlog=4096, reuse_address=True)
        self.replica.port = self._server.sockets[0].getsockname()[1]
        self.replica.apply_fault = self._apply
        self.replica.lifecycle.close_port = self._refuse
        self._shut.clear()

    def _apply(self, fault: Fault | None) -> None:
        """Put a fault in force, and open or shut the port as it says."""
        self.replica.set_fault(fault)
        lifecycle = self.replica.lifecycle
        lifecycle.restore()
        self._is_refusing = fault is not None and (fault.refuse or fault.api_death)
        if self._comeback is not None:
            self._comeback.cancel()
            self._comeback = None
        if fault is not None and fault.seconds is not None and fault.is_of_replica:
            self._comeback = asyncio.get_running_loop().call_later(fault.seconds, self._apply, None)
        if self._is_refusing:
            self._refuse()
        elif self._server is None and not self._pending:
            self._reopen()
        if fault is None:
            return
        if fault.api_death:
            for connection in list(self._connections):
                connection.transport.close()
        elif fault.terminate:
            lifecycle.terminate(fault.shutdown_timeout or 0.0)
        elif fault.freeze:
            lifecycle.freeze()
        elif fault.asleep is not None:
            lifecycle.sleep(fault.asleep)

    async def drained(self) -> None:
        """SIGTERM with the replica's own shutdown time-out: return when the port is shut and its clients are gone."""
        self.replica.lifecycle.terminate(self.replica.spec.shutdown_timeout_seconds)
        await self._shut.wait()
        while self._connections:
            await asyncio.wait([connection.closed for connection in self._connections])

    def _refuse(self) -> None:
        """New connections are refused from here on; idle ones are dropped, those at work end their answer."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._shut.set()
        for connection in list(self._connections):
            connection.retire()

    def _reopen(self) -> None:
        task = asyncio.get_running_loop().create_task(self._open_again())
        self._pending.add(task)
        task.add_done_callback(self._reopened)

    def _reopened(self, task: asyncio.Task[None]) -> None:
        self._pending.discard(task)
        if self._server is None and not self._is_refusing and not task.cancelled() and task.exception() is None:
            self._reopen()  # told to listen once more while the task was ending

    async def _open_again(self) -> None:
        """On the same port, which the server that was closed a moment ago may hold for another moment."""
        for attempts_left in range(REOPEN_ATTEMPTS, 0, -1):
            try:
                await self.open(self.replica.port)
                break
            except OSError:
                if attempts_left == 1:
                    raise
                await asyncio.sleep(REOPEN_SECONDS)
        if self._is_refusing:  # told so again meanwhile
            self._refuse()

    async def settled(self) -> None:
        """Wait until a port that is being reopened is open."""
        await asyncio.gather(*self._pending)

    async def close(self) -> None:
        """As vLLM on SIGTERM with its default time-out of 0: what runs gets the engine's death, then the port closes."""
        if self._comeback is not None:
            self._comeback.cancel()
        await self.settled()
        if self._server is not None:
            self._server.close()
        for generation in self.replica.generations:
            generation.kill()
        self.replica.pump.close()
        if self.replica.activator is not None:
            self.replica.activator.close()
        leaving = list(self._connections)
        for connection in leaving:
            connection.transport.close()
        if leaving:
            await asyncio.wait([connection.closed for connection in leaving], timeout=GOODBYE_SECONDS)
        for connection in list(self._connections):
            connection.transport.abort()


class EmulatedFleet:
    """Replicas that listen. `replicas` is in the order of the specs."""

    def __init__(self, listeners: Sequence[_Listener]) -> None:
        self._listeners = listeners
        self.replicas = [listener.replica for listener in listeners]

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls, specs: Sequence[ReplicaSpec], *, host: str = "127.0.0.1", first_port: int = 0
    ) -> AsyncIterator["EmulatedFleet"]:
        """Listen for every spec: on consecutive ports from first_port, on free ones when it is 0. Raises OSError when a port
        is taken."""
        listeners: list[_Listener] = []
        fleet: EmulatedFleet | None = None
        try:
            for position, spec in enumerate(specs):
                listener = _Listener(Replica(spec), host)
                await listener.open(first_port + position if first_port else 0)
                listeners.append(listener)
                if spec.startup_seconds:
                    listener.replica.faults(refuse=True, seconds=spec.startup_seconds)
            fleet = cls(listeners)
            for replica in fleet.replicas:
                replica.find_sibling = fleet.sibling
            yield fleet
        finally:
            for listener in listeners:
                await listener.close()

    async def drained(self) -> None:
        """SIGTERM to every replica, with its shutdown time-out: return when all have ended their work and shut their ports,
        and every client is gone. A client whose stream hangs keeps it waiting, as it keeps vLLM."""
        await asyncio.gather(*(listener.drained() for listener in self._listeners))

    def sibling(self, position: int) -> Replica | None:
        return self.replicas[position] if 0 <= position < len(self.replicas) else None

    async def settled(self) -> None:
        """Wait until replicas whose `refuse` was cleared listen again."""
        for listener in self._listeners:
            await listener.settled()
