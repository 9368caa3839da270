"""Two small jetons whose books are kept as a demo's are not: in PostgreSQL, with a spool; and by an accountant apart.

With what their metrics alone show: a spool, books that are behind, and a correction, because the worker was taken for dead.
"""

import json
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from emulated_fleet import EmulatedProcess
from jeton_server import ENVIRONMENT, JETON, JetonServer, fleet_config, new_api_key
from ports import free_port
from postgres_server import PostgresServer

SILENCE_SECONDS = 2.0
WAIT_SECONDS_MAX = 60.0
# At the pace of the emulated H100 this many take longer than the worker is silent, and than a busy machine takes to notice.
TOKENS = 3000


@dataclass(frozen=True)
class KeptElsewhere:
    """ports: whose /metrics are to be scraped."""

    spooling: JetonServer
    worker: JetonServer
    accountant_port: int

    @property
    def ports(self) -> tuple[int, ...]:
        return self.spooling.port, self.worker.port, self.accountant_port

    def correct(self) -> None:
        """The worker freezes while it streams, is taken for dead, and wakes up: what it then says is a correction."""
        streaming = threading.Thread(target=self._stream, daemon=True)
        streaming.start()
        self._until("jeton_cost_usd_total", self.accountant_port)  # its opening was told
        self.worker.process.send_signal(signal.SIGSTOP)
        try:
            self._until("jeton_lost_usd_total", self.accountant_port)
        finally:
            self.worker.process.send_signal(signal.SIGCONT)
        streaming.join(WAIT_SECONDS_MAX)
        # On a lease it is one of tokens: the money had been shared out by then.
        self._until("jeton_corrections_usd{", self.accountant_port, may_be_zero=True)

    def _stream(self) -> None:
        body = {"model": "small", "messages": [{"role": "user", "content": "Go on."}], "stream": True}
        request = urllib.request.Request(
            f"{self.worker.url}/v1/chat/completions",
            json.dumps(body | {"max_tokens": TOKENS, "min_tokens": TOKENS}).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.worker.api_key}"},
        )
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS_MAX) as answer:
            answer.read()

    def _until(self, name: str, port: int, *, may_be_zero: bool = False) -> None:
        """There is a series of the metric, and it is not 0."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
                if any(line.startswith(name) and (may_be_zero or float(line.rpartition(" ")[2])) for line in lines):
                    return
            assert time.monotonic() < deadline, name
            time.sleep(0.1)


@contextmanager
def kept_elsewhere(directory: Path, postgres: PostgresServer) -> Iterator[KeptElsewhere]:
    engines = EmulatedProcess.start(directory, "small", replicas=3)
    started: list[JetonServer] = []
    accountant: subprocess.Popen[bytes] | None = None
    try:
        small, large, embed = ([url] for url in engines.wait_until_ready())
        ledgers = {
            "spooling": {"url": postgres.database().url},
            "shared": {"path": "jeton.sqlite", "accountant": "apart", "silence_seconds": SILENCE_SECONDS},
        }
        for name, ledger in ledgers.items():
            api_key = new_api_key()
            config = fleet_config(small, large, embed, api_key, context_tokens=TOKENS + 1000) | {"ledger": ledger}
            (directory / name).mkdir()
            started.append(JetonServer.start(directory / name, config, api_key))
        accountant_port = free_port()
        accountant = _accountant(directory / "shared", accountant_port)
        yield KeptElsewhere(*started, accountant_port)
    finally:
        for server in started:
            server.stop()
        if accountant is not None:
            accountant.send_signal(signal.SIGTERM)
            accountant.wait(WAIT_SECONDS_MAX)
        engines.stop()


def _accountant(directory: Path, port: int) -> subprocess.Popen[bytes]:
    with (directory / "accountant.log").open("wb") as log:
        return subprocess.Popen(
            [*JETON, "accountant", "--config", "router.yaml", "--port", str(port)],
            cwd=directory,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
