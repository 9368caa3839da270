"""Several serving processes as one: started, watched, told to reload and to drain, and gathered for a scrape.

The supervisor serves nobody. Each worker has a listening socket of its own on the group's port (SO_REUSEPORT: the kernel
spreads connections over them, and over those that are left when one dies). A worker that dies is started again, after a moment
that grows with every time; one that cannot even start, before any could, ends the group. uvicorn's own supervisor restarts at
once and for ever, restarts all on SIGHUP, where we reload, and does not say whether a worker ever served.

An administrator's orders go the same way: whichever worker is asked tells the supervisor, and that has all of them obey. A worker
that begins later is told what replicas are leaving, as another one has it.

Supervisor and worker talk over a pair of sockets in lines of JSON. Whichever worker is scraped asks the supervisor, and that
asks all of them: it alone remembers what those had counted that are gone (`telemetry/gathered.py`). A worker whose supervisor
is gone drains and ends.
"""

import asyncio
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import orjson
import structlog

from router.orders import REPLICAS, Obeyed, Order, notices
from router.telemetry.gathered import Gathered, Tally

log = structlog.get_logger("jeton.group")

# Before a worker that died is started again; doubled each time, until one has lived for so long.
BACKOFF_SECONDS = 0.2
BACKOFF_SECONDS_MAX = 15.0
LIVED_SECONDS = 30.0
# Beyond the time in which streams may finish: the journal is flushed then.
END_SPARE_SECONDS = 15.0
# A worker that says nothing for so long is left out of a scrape, but for what it had counted.
TELL_SECONDS = 2.0
GATHER_SECONDS = 5.0
# A worker that has not obeyed an order by then is named to whoever gave it.
OBEY_SECONDS = 3.0
LINE_BYTES_MAX = 64 * 2**20
CANNOT_START = 3
# Of those that ended, how many names a new worker is told.
DEAD_REMEMBERED = 64


class CannotListen(Exception):
    """The port is taken, or not ours to take; the message says so."""


class Supervisor:
    """command: what runs a worker, given the numbers of its listening socket, of its socket to us, and of the one that listens on
    the admin port, where there is one. end_seconds: how long a worker may take to end. admin: host and port."""

    def __init__(
        self,
        command: Callable[[int, int, int | None], Sequence[str]],
        workers: int,
        host: str,
        port: int,
        drain_seconds: float,
        admin: tuple[str, int] | None = None,
    ) -> None:
        self._command = command
        self._workers = workers
        self._end_seconds = drain_seconds + END_SPARE_SECONDS
        self._place = _reserve(host, port)
        self._admin_place = None if admin is None else _reserve(*admin)
        self._gathered = Gathered()
        self._running: dict[int, _Worker] = {}
        self._numbers = 0
        self._dead: deque[str] = deque(maxlen=DEAD_REMEMBERED)
        self._has_started = False
        self._ending = asyncio.Event()
        self._exit_code = 0

    @property
    def port(self) -> int:
        return int(self._place.getsockname()[1])

    @property
    def admin_port(self) -> int | None:
        return None if self._admin_place is None else int(self._admin_place.getsockname()[1])

    async def run(self) -> int:
        """Until a signal ends it. Returns the exit code: 0 when all could drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        loop.add_signal_handler(signal.SIGHUP, self._signal, signal.SIGHUP)
        slots = [asyncio.create_task(self._keep_one_running(slot)) for slot in range(self._workers)]
        try:
            await self._ending.wait()
            self._signal(signal.SIGTERM)
            await asyncio.gather(*slots)
        finally:
            self._place.close()
            if self._admin_place is not None:
                self._admin_place.close()
        return self._exit_code

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._running.values():
            with suppress(ProcessLookupError):
                worker.process.send_signal(number)

    async def _keep_one_running(self, slot: int) -> None:
        pause_seconds = BACKOFF_SECONDS
        while not self._ending.is_set():
            started_at = time.monotonic()
            code = await self._run_one(slot)
            if self._ending.is_set():
                self._exit_code = self._exit_code or code
                return
            if not self._has_started:
                log.error("a worker cannot start; giving up", slot=slot, exit_code=code)
                self._exit_code = CANNOT_START if code <= 0 else code
                self._ending.set()
                return
            if time.monotonic() - started_at > LIVED_SECONDS:
                pause_seconds = BACKOFF_SECONDS
            log.error("a worker died; starting another", slot=slot, exit_code=code, pause_seconds=pause_seconds)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._ending.wait()
            pause_seconds = min(2 * pause_seconds, BACKOFF_SECONDS_MAX)

    async def _run_one(self, slot: int) -> int:
        """One worker's life. Returns its exit code, negative where a signal killed it."""
        self._numbers += 1
        number = self._numbers
        ours, theirs = socket.socketpair()
        with ExitStack() as stack:
            stack.enter_context(theirs)
            listening = stack.enter_context(_listening_at(self._place))
            admin = (
                None if self._admin_place is None else stack.enter_context(_listening_at(self._admin_place)).fileno()
            )
            command = self._command(listening.fileno(), theirs.fileno(), admin)
            passed = [listening.fileno(), theirs.fileno(), *([] if admin is None else [admin])]
            process = await asyncio.create_subprocess_exec(*command, pass_fds=passed)
        reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES_MAX)
        worker = self._running[number] = _Worker(process, writer)
        hearing = asyncio.create_task(self._hear(number, worker, reader))
        if self._ending.is_set():
            self._signal(signal.SIGTERM)
        try:
            code = await self._ended(process, slot)
            self._tell_of_death(worker)
            if self._ending.is_set() and code == -signal.SIGTERM and not worker.name:
                return 0  # it was still starting, so there was nothing to drain
            return code
        finally:
            hearing.cancel()
            with suppress(
                asyncio.CancelledError, ConnectionError
            ):  # reset: it was killed before it had read what we said
                await hearing
            writer.close()
            del self._running[number]
            self._gathered.gone(number)
            worker.stop_telling()
            worker.stop_obeying()

    def _tell_of_death(self, worker: "_Worker") -> None:
        """To those that live, and to those that are to come: they may be what keeps the books by then."""
        if not worker.name:
            return
        self._dead.append(worker.name)
        for other in self._running.values():
            if other is not worker:
                other.say({"say": "dead", "worker": worker.name})

    async def _ended(self, process: Process, slot: int) -> int:
        ending, waiting = asyncio.create_task(self._ending.wait()), asyncio.create_task(process.wait())
        try:
            await asyncio.wait({ending, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await asyncio.wait({waiting}, timeout=self._end_seconds)
            if not waiting.done():
                log.error("a worker does not end; killing it", slot=slot)
                process.kill()
            return await waiting
        finally:
            ending.cancel()

    async def _hear(self, number: int, worker: "_Worker", reader: asyncio.StreamReader) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def start(what: Coroutine[Any, Any, None]) -> None:
            task = asyncio.create_task(what)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        while line := await reader.readline():
            said = orjson.loads(line)
            if said["say"] == "ready":
                self._has_started = True
                worker.name = said["worker"]
                for dead in self._dead:
                    worker.say({"say": "dead", "worker": dead})
                start(self._tell_notices(worker))
            elif said["say"] == "tally":
                self._gathered.told(number, said["tally"])
                worker.stop_telling(has_told=True)
            elif said["say"] == "gather":
                start(self._gather(worker, said["number"]))
            elif said["say"] == "give":
                start(self._give(worker, said["number"], said["order"]))
            elif said["say"] == "obeyed":
                worker.has_obeyed(said["number"], said["result"])
            elif said["say"] == "failed":
                worker.has_failed(said["number"])

    async def _gather(self, for_whom: "_Worker", asked: int) -> None:
        """Ask all of them, and tell the one that asked."""
        asking = {number: worker.tell() for number, worker in self._running.items()}
        await asyncio.wait(asking.values(), timeout=TELL_SECONDS)
        present = [number for number, told in asking.items() if told.done() and told.result()]
        text = self._gathered.render(present).decode()
        for_whom.say({"say": "gathered", "number": asked, "text": text})

    async def _give(self, for_whom: "_Worker", asked: int, order: Order) -> None:
        """Have all that serve obey, and tell the one that asked. Who only begins will hear of it by `_tell_notices`."""
        serving = [one for one in self._running.values() if one.name]
        obeying = {one: one.obey(order) for one in serving}
        await asyncio.wait(obeying.values(), timeout=OBEY_SECONDS)
        results = {one.name: told.result() for one, told in obeying.items() if told.done() and not told.cancelled()}
        missing = [one.name for one in serving if one.name not in results]
        for_whom.say({"say": "given", "number": asked, "results": results, "missing": missing})

    async def _tell_notices(self, worker: "_Worker") -> None:
        """What replicas are leaving, as another that serves has it: who is too busy to say is asked again, who cannot is not."""
        unable: list[_Worker] = []
        while worker in self._running.values():
            others = (one for one in self._running.values() if one.name and one is not worker and one not in unable)
            other = next(others, None)
            if other is None:
                return
            try:
                async with asyncio.timeout(OBEY_SECONDS):
                    replicas = await other.obey(REPLICAS)
            except TimeoutError:
                continue
            except asyncio.CancelledError:  # it failed, or ended before it could say
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                unable.append(other)
                continue
            for notice in notices(replicas):
                worker.obey(notice)
            return


def _listening_at(place: socket.socket) -> socket.socket:
    one = socket.socket(place.family)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(place.getsockname())
    return one


class _Worker:
    """A process, and who waits for its tally, or for it to obey. name: as its ledger has it, once it serves."""

    def __init__(self, process: Process, writer: asyncio.StreamWriter) -> None:
        self.process = process
        self.name = ""
        self._writer = writer
        self._telling: asyncio.Future[bool] | None = None
        self._orders = 0
        self._obeying: dict[int, asyncio.Future[Any]] = {}

    def say(self, what: dict[str, Any]) -> None:
        self._writer.write(orjson.dumps(what) + b"\n")

    def tell(self) -> "asyncio.Future[bool]":
        """Becomes true when it has told its tally, false when it ended before. Those who ask at once get one answer."""
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_future()
            self.say({"say": "tell"})
        return self._telling

    def stop_telling(self, *, has_told: bool = False) -> None:
        telling, self._telling = self._telling, None
        if telling is not None and not telling.done():
            telling.set_result(has_told)

    def obey(self, order: Order) -> "asyncio.Future[Any]":
        """Becomes what came of it; cancelled when it failed, or ended before."""
        self._orders += 1
        obeying = self._obeying[self._orders] = asyncio.get_running_loop().create_future()
        self.say({"say": "obey", "number": self._orders, "order": order})
        return obeying

    def has_obeyed(self, number: int, result: Any) -> None:
        obeying = self._obeying.pop(number, None)
        if obeying is not None and not obeying.done():
            obeying.set_result(result)

    def has_failed(self, number: int) -> None:
        obeying = self._obeying.pop(number, None)
        if obeying is not None:
            obeying.cancel()

    def stop_obeying(self) -> None:
        for obeying in self._obeying.values():
            obeying.cancel()


def _reserve(host: str, port: int) -> socket.socket:
    """A socket that has the port and serves nobody. Raises CannotListen.

    First without SO_REUSEPORT: with it, two groups of one user would share a port and not notice.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        place = socket.socket(family)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        place.bind((host, port))
    except OSError as error:
        raise CannotListen(f"{host}:{port} cannot be listened on ({error.strerror})") from None
    return place


class Member:
    """A worker's side. tally: of its own registry, made ready for a scrape. name: by which its ledger knows it. on_death: told
    the name of another that has ended. obey: an administrator's orders (`orders.py`)."""

    def __init__(
        self,
        channel: int,
        tally: Callable[[], Awaitable[Tally]],
        name: Callable[[], str],
        on_death: Callable[[str], None],
        obey: Callable[[Order], Any],
    ) -> None:
        self._channel = socket.socket(fileno=channel)
        self._tally = tally
        self._name = name
        self._on_death = on_death
        self._obey_order = obey
        self._writer: asyncio.StreamWriter | None = None
        self._asked = 0
        self._asking: dict[int, asyncio.Future[Any]] = {}
        self._telling: set[asyncio.Task[None]] = set()

    async def hear(self) -> None:
        """Say that we serve, and do what the supervisor asks until it is gone; then end."""
        reader, self._writer = await asyncio.open_connection(sock=self._channel, limit=LINE_BYTES_MAX)
        self._say({"say": "ready", "worker": self._name()})
        with suppress(ConnectionError):  # as it ends that was killed before it had read what we said
            await self._obey(reader)
        log.warning("the supervisor is gone; ending")
        signal.raise_signal(signal.SIGTERM)

    async def _obey(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            said = orjson.loads(line)
            if said["say"] == "tell":
                task = asyncio.create_task(self._tell())
                self._telling.add(task)
                task.add_done_callback(self._telling.discard)
            elif said["say"] == "dead":
                self._on_death(said["worker"])
            elif said["say"] == "obey":
                try:
                    told = {"say": "obeyed", "result": self._obey_order(said["order"])}
                except Exception:
                    log.exception("an order could not be obeyed", order=said["order"])
                    told = {"say": "failed"}
                self._say({**told, "number": said["number"]})
            elif said["say"] in ("gathered", "given"):
                asking = self._asking.pop(said["number"], None)
                if asking is not None and not asking.done():
                    asking.set_result(said)

    async def gather(self) -> bytes:
        """The metrics of the whole group. Raises TimeoutError."""
        text: str = (await self._ask({"say": "gather"}))["text"]
        return text.encode()

    async def give(self, order: Order) -> Obeyed:
        """An order to the whole group, us among it. Raises TimeoutError."""
        given = await self._ask({"say": "give", "order": order})
        return Obeyed(given["results"], given["missing"])

    async def _ask(self, what: dict[str, Any]) -> Any:
        self._asked += 1
        number = self._asked
        asking = self._asking[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(GATHER_SECONDS):
                self._say({**what, "number": number})
                return await asking
        finally:
            self._asking.pop(number, None)

    async def _tell(self) -> None:
        self._say({"say": "tally", "tally": await self._tally()})

    def _say(self, what: dict[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(orjson.dumps(what) + b"\n")


def worker_command(*arguments: str) -> Callable[[int, int, int | None], Sequence[str]]:
    """`jeton` with these arguments, in this interpreter."""
    return lambda listening, channel, admin: (
        *(sys.executable, *(("-O",) if not __debug__ else ()), "-m", "router", *arguments),
        *("--listen-fd", str(listening), "--channel-fd", str(channel)),
        *(() if admin is None else ("--admin-fd", str(admin))),
    )
