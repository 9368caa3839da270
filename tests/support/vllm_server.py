"""One real vLLM server as a test fixture: started, watched until it answers, and ended with all that it left behind.

Three processes serve (API server, engine, worker) in a process group of their own. A killed API server leaves the other two
for good, and a killed engine leaves files in /dev/shm; so what ends here is the group, and what it had mapped is removed.
"""

import os
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ports import free_port

PROJECT = Path(__file__).parents[2]
VENV = PROJECT / ".venv-vllm"

# float32 and eager: the same text on every machine, and no compiler. One thread each: several servers share few cores.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
FLAGS = ("--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager", "--max-num-seqs", "16")

START_SECONDS_MAX = 300.0
STOP_SECONDS_MAX = 20.0


@dataclass
class VllmServer:
    """`model`: a directory that make_models.py has made, and the name it is served under."""

    model: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, model: str, directory: Path, *flags: str) -> "VllmServer":
        """Launch without waiting; the log goes to `directory`."""
        port = free_port()
        log = directory / f"vllm-{model}-{port}.log"
        command = [
            VENV / "bin/vllm",
            "serve",
            VENV / "models" / model,
            "--port",
            str(port),
            "--served-model-name",
            model,
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, *FLAGS, *flags],
                env=os.environ | ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(model, port, process, log)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self) -> None:
        """Raises RuntimeError with the end of its log when it dies or does not answer in START_SECONDS_MAX."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=1):
                return
            time.sleep(0.2)
        raise RuntimeError(f"vLLM for {self.model} did not come up:\n{self.log.read_text()[-4000:]}")

    def counter(self, name: str) -> float:
        """The sum of a metric over its labels, `name` without the `vllm:` prefix."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        samples = [line.rsplit(" ", 1)[1] for line in lines if line.startswith((f"vllm:{name}{{", f"vllm:{name} "))]
        if not samples:
            raise LookupError(f"vLLM exports no {name}")
        return sum(map(float, samples))

    def stop(self) -> None:
        """End the whole process group, politely first, and remove the shared memory that it had open."""
        shared_memory = self._shared_memory()
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while self._signal(0) and time.monotonic() < deadline:  # the last to go is Python's sweeper of semaphores
            self.process.poll()
            time.sleep(0.05)
        self._signal(signal.SIGKILL)
        self.process.wait()
        for path in shared_memory:
            path.unlink(missing_ok=True)

    def _signal(self, number: int) -> bool:
        """Send a signal to the group; 0 only asks. False when nobody is left in it."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return False
        return True

    def _shared_memory(self) -> set[Path]:
        """Files under /dev/shm that a process of the group has mapped."""
        found: set[Path] = set()
        for maps in Path("/proc").glob("[0-9]*/maps"):
            with suppress(OSError):
                if os.getpgid(int(maps.parent.name)) != self.process.pid:
                    continue
                fields = (line.split(maxsplit=5) for line in maps.read_text().splitlines())
                found.update(Path(f[5]) for f in fields if len(f) == 6 and f[5].startswith("/dev/shm/"))
        return found


@dataclass(frozen=True)
class VllmFleet:
    """One replica of `small`, two of `large`, one of `embed`. Nobody but jeton sends them work."""

    small: VllmServer
    large: tuple[VllmServer, VllmServer]
    embed: VllmServer

    @property
    def servers(self) -> tuple[VllmServer, ...]:
        return (self.small, *self.large, self.embed)

    def replicas(self, backend: str) -> tuple[VllmServer, ...]:
        return tuple(server for server in self.servers if server.model == backend)
