"""The demo's processes, each with its log, in sessions of their own so that Ctrl-C reaches them through the demo alone."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

TAIL_LINES = 15
TAIL_BYTES_MAX = 16_384


class Crashed(Exception):
    """A component has ended, or did not start, when nobody had asked it to end. The message shows the end of its log."""


class Component:
    """A child process. `log` holds what it said; its standard output comes to us instead if it is to be read."""

    def __init__(self, name: str, log: Path, process: Process) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._is_asked_to_end = False

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, name: str, directory: Path, *command: str, environment: Mapping[str, str], is_read: bool = False
    ) -> AsyncIterator["Component"]:
        """Start it in `directory`, and leave nothing of it behind. environment: added to ours."""
        log = directory / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=directory,
                env=os.environ | environment,
                stdin=DEVNULL,
                stdout=PIPE if is_read else output,
                stderr=output if is_read else STDOUT,
                start_new_session=True,
            )
        try:
            yield cls(name, log, process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def read_line(self, seconds_max: float) -> bytes:
        """The next line of its output. Raises Crashed when there is none in time."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds_max):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise self.crashed(f"has said nothing for {seconds_max:g} s") from None
        if not line:
            await self.watch()
        return line

    async def watch(self) -> None:
        """Wait until it ends. Raises Crashed unless it was asked to."""
        code = await self._process.wait()
        if not self._is_asked_to_end:
            how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
            raise self.crashed(f"has ended {how}")

    def ask_to_end(self) -> None:
        """SIGTERM; what it says before it is gone can be read."""
        self._is_asked_to_end = True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    async def end(self, seconds_max: float) -> None:
        """Ask it to end and wait. Raises Crashed when it takes longer, or ends in any way but well."""
        self.ask_to_end()
        try:
            async with asyncio.timeout(seconds_max):
                code = await self._process.wait()
        except TimeoutError:
            raise self.crashed(f"has not ended {seconds_max:g} s after SIGTERM") from None
        if code != 0:
            raise self.crashed(f"was asked to end and has ended with {code}")

    def crashed(self, how: str) -> Crashed:
        return Crashed(f"the {self.name} {how}; the end of its log:\n{self._tail()}")

    def _tail(self) -> str:
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES_MAX))
            lines = file.read().decode("utf-8", "replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (it is empty)"
