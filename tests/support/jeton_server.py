"""jeton as its users run it, in a process of its own: a configuration written to a directory, `jeton serve`, and its end.

For tests of the whole from outside. What can be driven in process is, elsewhere.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audited import assert_audit_is_clean, assert_what_is_told_is_the_audits
from ports import free_port

from router.access.keys import api_key_hash, new_api_key
from router.ledger.address import Address, PostgresAddress

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 60.0
PEPPER = "a pepper for tests"

# An 8-billion-parameter model in FP8 on one H100 SXM, as in deploy/config/router.yaml. What serves is tiny or emulated:
# the profile only decides how the lease is shared out.
PROFILE = {
    "parameters_billion": 8.03,
    "layers": 32,
    "kv_bytes_per_token": 131072,
    "weight_bytes_per_parameter": 1,
    "memory_gb": 80,
    "bandwidth_gb_per_second": 3350,
    "tflops": 1978,
}
LEASE = {"kind": "lease", "from": "2026-01-01", "usd_per_hour": 3.60, "source": "a round figure for tests"}

EMBEDDING = ("embeddings", "rerank", "score", "tokenize")


def fleet_config(
    small: Sequence[str], large: Sequence[str], embed: Sequence[str], api_key: str, *, context_tokens: int = 4096
) -> dict[str, Any]:
    """router.yaml for an edge pool that serves `small`, and a central one for `large` and `embed`; arguments are URLs.

    The models have these names at the replicas, too. Aliases: auto, chat-small, chat-large.
    """

    def backend(name: str, urls: Sequence[str], **more: Any) -> dict[str, Any]:
        replicas = [{"url": url} for url in urls]
        return {
            "name": name,
            "model": name,
            "tier": "large",
            "context_tokens": context_tokens,
            "price": "gpu",
            "profile": "gpu",
            "replicas": replicas,
        } | more

    return {
        "baseline": "large",
        "aliases": {"auto": {}, "chat-small": {"tiers": ["small"]}, "chat-large": {"tiers": ["large"]}},
        "tenants": [{"name": "tests", "api_keys": [{"name": "tests", "hash": api_key_hash(api_key, PEPPER.encode())}]}],
        "profiles": {"gpu": PROFILE},
        "pools": [
            {"name": "edge", "kind": "edge", "billing": "leased", "backends": [backend("small", small, tier="small")]},
            {
                "name": "central",
                "kind": "central",
                "billing": "leased",
                "backends": [
                    backend("large", large),
                    backend("embed", embed, capabilities=EMBEDDING, context_tokens=512),
                ],
            },
        ],
    }


@dataclass
class JetonServer:
    """`directory` holds its configuration, its ledger and its log."""

    directory: Path
    port: int
    api_key: str
    process: subprocess.Popen[bytes] = field(repr=False)

    @classmethod
    def start(
        cls,
        directory: Path,
        config: Mapping[str, Any],
        api_key: str,
        *arguments: str,
        lease: Mapping[str, Any] = LEASE,
    ) -> "JetonServer":
        """Launch `jeton serve` and wait until it can serve. Raises RuntimeError with its log when it cannot."""
        port = free_port()
        (directory / "router.yaml").write_text(json.dumps(config))  # JSON is YAML
        (directory / "prices.yaml").write_text(json.dumps({"prices": {"gpu": [lease]}}))
        with (directory / "jeton.log").open("wb") as log:
            process = subprocess.Popen(
                [*JETON, "serve", "--config", "router.yaml", "--port", str(port), *arguments],
                cwd=directory,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = cls(directory, port, api_key, process)
        server._wait_until_ready()
        return server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client_environment(self) -> dict[str, str]:
        """What an OpenAI SDK needs to know of it, in the variables that it reads, and nothing else of OpenAI's."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
        return inherited | {"OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": self.api_key}

    def run(self, *arguments: str) -> str:
        """The output of a `jeton` command, beside the running server. Raises CalledProcessError when it fails."""
        command = [*JETON, *arguments]
        return subprocess.run(
            command, cwd=self.directory, env=ENVIRONMENT, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def charges(self) -> list[sqlite3.Row]:
        """Every row of the ledger, read beside the running server, oldest first."""
        with closing(sqlite3.connect(f"file:{self.directory / 'var/jeton.sqlite'}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute("SELECT * FROM charges ORDER BY ended_ns").fetchall()

    def metrics(self) -> list[str]:
        """The lines of /metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as response:
            return str(response.read().decode()).splitlines()

    def stop(self) -> int:
        """End it as an orchestrator would; its exit code. What it has booked must then pass the audit, metrics included; where
        another keeps the books, what that one has."""
        ledger, is_kept_apart = self._ledger()
        if ledger is not None and self.process.poll() is None and not is_kept_apart:
            assert_audit_is_clean(ledger, "\n".join(self.metrics()) + "\n")
        exit_code = self._end()
        if ledger is not None:
            (assert_audit_is_clean if is_kept_apart else assert_what_is_told_is_the_audits)(ledger)
        return exit_code

    def _ledger(self) -> tuple[Address | None, bool]:
        """None: it never had one. And whether an accountant of its own keeps it."""
        members = json.loads((self.directory / "router.yaml").read_text()).get("ledger", {})
        is_kept_apart = members.get("accountant") == "apart"
        if "url" in members:
            return PostgresAddress(members["url"]), is_kept_apart
        path = self.directory / members.get("path", "var/jeton.sqlite")
        return path if path.exists() else None, is_kept_apart

    def _end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/ready", timeout=1):
                return
            time.sleep(0.1)
        self._end()
        raise RuntimeError(f"jeton is not ready:\n{(self.directory / 'jeton.log').read_text()[-4000:]}")


JETON = (sys.executable, "-m", "router")
ENVIRONMENT = os.environ | {"JETON_API_KEY_PEPPER": PEPPER}

__all__ = ["JetonServer", "fleet_config", "new_api_key"]
