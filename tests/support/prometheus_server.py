"""A real Prometheus in a process of its own, on the configuration and the rules that ship with jeton.

`prometheus` and `promtool` are not from PyPI: on Debian they are the package `prometheus`. Tests that need them are marked so.
"""

import json
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ports import free_port

DEPLOY = Path(__file__).parents[2] / "deploy/prometheus"
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0
WAIT_SECONDS_MAX = 90.0


class Sample(NamedTuple):
    """One series of an answer. points: (seconds since 1970, value), one of an instant query."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def value(self) -> float:
        return self.points[-1][1]


def binary(name: str) -> str:
    """Raises RuntimeError, and says where it comes from, when it is not installed."""
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is not installed; on Debian: apt-get install --no-install-recommends prometheus")
    return path


@dataclass
class PrometheusServer:
    url: str
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @classmethod
    def start(
        cls, directory: Path, target_port: int, *others: int, interval_seconds: float = 1.0
    ) -> "PrometheusServer":
        """With deploy/prometheus as it ships, but for what is scraped and how often. others: ports of further jetons, whose job
        is `others`. Raises RuntimeError with its log."""
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
        interval = f"{interval_seconds * 1000:.0f}ms"
        config["global"] = {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval}
        config["rule_files"] = [str(DEPLOY / name) for name in config["rule_files"]]
        [job] = config["scrape_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{target_port}"]}]
        if others:
            targets = [{"targets": [f"127.0.0.1:{port}" for port in others]}]
            config["scrape_configs"].append({"job_name": "others", "static_configs": targets})
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        port, log = free_port(), directory / "prometheus.log"
        command = (
            binary("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        server = cls(f"http://127.0.0.1:{port}", log, process)
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{server.url}/-/ready", timeout=1):
                return server
            time.sleep(0.1)
        server.stop()
        raise RuntimeError(f"Prometheus is not ready:\n{log.read_text()[-4000:]}")

    def query(self, expression: str, at_seconds: float | None = None) -> list[Sample]:
        """Now, or as of a time. Raises ValueError with Prometheus' words for an expression that is wrong."""
        when = {} if at_seconds is None else {"time": repr(at_seconds)}
        result = self._get("query", query=expression, **when)
        if result["resultType"] == "scalar":
            return [Sample({}, [_point(result["result"])])]
        return [Sample(one["metric"], [_point(one["value"])]) for one in result["result"]]

    def query_range(self, expression: str, start: float, end: float, step_seconds: float) -> list[Sample]:
        times = {"start": repr(start), "end": repr(end), "step": repr(step_seconds)}
        found = self._get("query_range", query=expression, **times)["result"]
        return [Sample(one["metric"], [_point(point) for point in one["values"]]) for one in found]

    def scraped(self, selector: str, seconds: float) -> list[Sample]:
        """The samples of the last seconds as they were scraped, with the times of their scrapes."""
        found = self._get("query", query=f"{selector}[{seconds * 1000:.0f}ms]")["result"]
        return [Sample(one["metric"], [_point(point) for point in one["values"]]) for one in found]

    def label_values(self, label: str, selector: str) -> list[str]:
        values: list[str] = self._get(f"label/{label}/values", **{"match[]": selector})
        return values

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that was loaded, with its health and the last error."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def wait_for(self, expression: str, is_enough: Callable[[list[Sample]], bool] = bool) -> list[Sample]:
        """The answer, once it is enough. Raises TimeoutError with what there is instead."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while True:
            found = self.query(expression)
            if is_enough(found):
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression} is still {found}")
            time.sleep(0.25)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _get(self, path: str, **parameters: str) -> Any:
        request = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{parameters}: {json.load(error)['error']}") from None


def _point(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
