"""`jeton demo` in a process of its own, as people run it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ports import free_port

STEP_SECONDS_MAX = 60.0


@dataclass
class RunningDemo:
    """port: of the router. output: the lines read so far. children: the processes it has started, by what they run."""

    process: subprocess.Popen[str] = field(repr=False)
    port: int
    output: list[str] = field(default_factory=list)
    children: dict[str, int] = field(default_factory=dict)

    def read_until(self, pattern: str) -> str:
        """The lines up to the one that matches; all of them when none does."""
        assert self.process.stdout is not None
        read: list[str] = []
        for line in self.process.stdout:
            read.append(line)
            if re.search(pattern, line):
                break
        self.output += read
        return "".join(read)

    def find_children(self) -> None:
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True, timeout=STEP_SECONDS_MAX
        )
        for line in listed.stdout.splitlines():
            pid, parent, arguments = line.split(maxsplit=2)
            if int(parent) == self.process.pid and arguments.startswith(sys.executable):
                self.children[arguments.removeprefix(f"{sys.executable} -m ").split()[0]] = int(pid)

    def finish(self) -> tuple[int, str]:
        """Exit code, and all that it has said, once it has ended and its children with it."""
        self.read_until(r"\Z.")
        code = self.process.wait(STEP_SECONDS_MAX)
        for pid in self.children.values():
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        return code, "".join(self.output)


@contextmanager
def running(directory: Path, *flags: str) -> Iterator[RunningDemo]:
    """`jeton demo` on a free port, up to where it has printed its snippets. Its temporary files go to `directory`."""
    with running_on(free_port(), directory, *flags) as demo:
        yield demo


@contextmanager
def running_on(port: int, directory: Path, *flags: str) -> Iterator[RunningDemo]:
    """The same on a port of the caller's choice."""
    process = subprocess.Popen(
        [sys.executable, "-m", "router", "demo", "--port", str(port), "--plain", *flags],
        env=os.environ | {"TMPDIR": str(directory), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    demo = RunningDemo(process, port)
    try:
        demo.read_until(r"Ctrl-C")
        demo.find_children()
        yield demo
    finally:
        for pid in (process.pid, *demo.children.values()):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        process.communicate(timeout=STEP_SECONDS_MAX)
