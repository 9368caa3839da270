"""Emulated vLLM replicas in a process of their own, as `jeton emulate` starts them."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ports import free_ports

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0


@dataclass
class EmulatedProcess:
    """urls: one for each replica, on consecutive ports."""

    urls: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @classmethod
    def start(cls, directory: Path, model: str, *flags: str, replicas: int = 1) -> "EmulatedProcess":
        """Launch without waiting; the log goes to `directory`."""
        ports = free_ports(replicas)
        log = directory / f"emulated-{model}-{ports[0]}.log"
        command = [sys.executable, "-m", "router", "emulate", "--model", model]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--port", str(ports[0]), "--replicas", str(replicas), *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls([f"http://127.0.0.1:{port}" for port in ports], log, process)

    def wait_until_ready(self) -> Sequence[str]:
        """The URLs, once all of them answer. Raises RuntimeError with the log when one does not."""
        deadline = time.monotonic() + START_SECONDS_MAX
        waiting = list(self.urls)
        while waiting and time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{waiting[0]}/health", timeout=1):
                del waiting[0]
                continue
            time.sleep(0.05)
        if waiting:
            raise RuntimeError(f"{waiting[0]} does not answer:\n{self.log.read_text()[-4000:]}")
        return self.urls

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS_MAX)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
