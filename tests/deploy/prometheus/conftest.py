"""A demo that a real Prometheus watches, with all in it that panels show: faults, reloads, budgets, repeated prompts, a cache,
a price feed, replicas that are looked for. Beside it, under a job of their own, jetons whose books are kept elsewhere.
"""

import json
import math
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from audited import assert_audit_is_clean
from kept_elsewhere import kept_elsewhere
from ports import free_port
from postgres_server import PostgresServer
from prometheus_server import PrometheusServer
from running_demo import RunningDemo, running_on

SPEED = "2"
LONG = [{"role": "user", "content": "Say it again. " * 200}]
FAULTS: Sequence[tuple[str, dict[str, Any]]] = (
    ("edge-1", {"usage": "missing", "times": 4}),
    ("central-1", {"status": 500, "times": 2}),
    ("central-2", {"reset_after_chunks": 6, "times": 4}),
)
# 20 × the 32,768 tokens that a completion of the cloud may have, at $8 a million, are over half of the playground's $10; 40 × are
# more than all.
DEAR_CHOICES, TOO_DEAR_CHOICES = 20, 40


@dataclass(frozen=True)
class WatchedDemo:
    """directory: of its configuration and ledger. quiet_seconds: since 1970, a scrape before which nothing had befallen it."""

    prometheus: PrometheusServer
    directory: Path
    url: str
    api_key: str
    quiet_seconds: float

    @property
    def ledger(self) -> Path:
        return self.directory / "jeton.sqlite"

    def ask(self, **members: Any) -> int:
        """The status of an answer that was read to its end."""
        body = {"model": "auto", "messages": [{"role": "user", "content": "What is a jeton?"}]} | members
        return _post(f"{self.url}/v1/chat/completions", body, Authorization=f"Bearer {self.api_key}")

    def order_fault(self, replica: str, fault: dict[str, Any]) -> None:
        config = json.loads((self.directory / "router.yaml").read_text(encoding="utf-8"))
        replicas = [one for pool in config["pools"] for backend in pool["backends"] for one in backend["replicas"]]
        [url] = [one["url"] for one in replicas if one["name"] == replica]
        assert _post(f"{url}/emulator/faults", fault) == 200


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[WatchedDemo]:
    directory, port = tmp_path_factory.mktemp("watched"), free_port()
    for name in ("demo", "others"):
        (directory / name).mkdir()
    with ExitStack() as stack:
        others = stack.enter_context(kept_elsewhere(directory / "others", postgres_server))
        prometheus = PrometheusServer.start(directory, port, *others.ports)
        stack.callback(prometheus.stop)
        others.correct()
        with running_on(port, directory / "demo", "--keep", "--speed", SPEED) as demo:
            [kept] = (directory / "demo").iterdir()
            printed = "".join(demo.output)
            api_key = printed[printed.index("sk-jeton-") :].split("'")[0]
            threading.Thread(target=_drain, args=(demo,), daemon=True).start()
            [quiet] = prometheus.wait_for('timestamp(jeton_ledger_position{job="jeton",part="event"})')
            one = WatchedDemo(prometheus, kept, f"http://127.0.0.1:{port}", api_key, quiet.value)
            _befall(one)
            yield one
        assert_audit_is_clean(one.ledger)


def _befall(demo: WatchedDemo) -> None:
    """All that may happen to a fleet in a bad week; then Prometheus has seen it."""
    prometheus = demo.prometheus
    for replica, fault in FAULTS:
        demo.order_fault(replica, fault)
    _equip(demo)
    _reload(demo)
    assert demo.ask(model="no-such-model") == 404
    assert demo.ask(model="gpt-4.1", n=TOO_DEAR_CHOICES) == 429
    _until(lambda: _presses_on_the_budget(demo))
    for _ in range(3):  # what a prefix cache remembers
        assert demo.ask(model="llama-3.1-70b-instruct", messages=LONG, max_tokens=20) == 200
    for _ in range(2):  # what the response cache does
        assert demo.ask(messages=LONG, max_tokens=20, temperature=0) == 200
    for expression in (
        "jeton_budget_degraded_total",
        "jeton_budget_refusals_total",
        "jeton_lost_usd_total > 0",
        'jeton_attempts_total{status="failed"}',
        'jeton_usage_total{source!="provider"}',
        'jeton_reloads_total{result="applied"} > 0',
        'jeton_reloads_total{result="refused"} > 0',
        'jeton_requests_total{status=~"5.."}',
        'jeton_tokens_total{class="cached"} > 0',
        "jeton_backend_tokens_per_step",
        'jeton_cache_requests_total{result="hit"}',
        'jeton_discovered_replicas_total{move="gone"} > 0',
        'jeton_price_feed_polls_total{result="unchanged"}',
        "jeton_corrections_usd",
        "jeton_ledger_spool_bytes_max > 0",
        "job:jeton_ttft_late:ratio_rate3d",
        "backend:jeton_replicas_filled:rate5m",
    ):
        prometheus.wait_for(expression, lambda found: any(not math.isnan(one.value) for one in found))
    # A slope has two points at least, and every graph of the boards some.
    prometheus.wait_for("count_over_time(jeton_lost_usd_total[1m]) >= 8")


def _presses_on_the_budget(demo: WatchedDemo) -> bool:
    """While a dear request holds most of the budget, others are sent to the small tier; whether that was seen."""
    with ThreadPoolExecutor(1) as pool:
        dear = pool.submit(demo.ask, model="gpt-4.1", n=DEAR_CHOICES)
        while not dear.done():
            demo.ask()
    return bool(demo.prometheus.query("jeton_budget_degraded_total"))


def _equip(demo: WatchedDemo) -> None:
    """Switch on what a demo has not: a response cache, a price feed that says what the price is, a replica that sleeps, one of
    spot that is not there, drafts, and replicas that are looked for. One of these is found, and gone again."""
    router, book = demo.directory / "router.yaml", demo.directory / "prices.yaml"
    config, prices = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in (router, book))
    [central] = [pool for pool in config["pools"] if pool["name"] == "central"]
    [small] = [backend for backend in central["backends"] if backend["name"] == "central-small"]
    [replica] = small.pop("replicas")
    nobodies = [{"url": f"http://127.0.0.1:{port}", "name": f"nobody-{port}"} for port in (7, 8, 9)]
    nobody = nobodies.pop()
    sleeper, spot = (
        {**small, "name": name, "model": name, "replicas": [one]}
        for name, one in zip(("on-call", "spot"), nobodies, strict=True)
    )
    sleeper["scale_to_zero"] = {"cold_start_seconds": 20, "idle_seconds": 60}
    spot |= {"price": "spot-h100", "preemption": {"per_hour": 0.02, "prior_hours": 100, "away_seconds": 300}}
    central["backends"] += [sleeper, spot]
    drafts = {"draft_tokens": 3, "acceptance_ratio": 0.6, "draft_seconds": 0.001}
    config["profiles"]["drafting"] = {**config["profiles"][small["profile"]], "speculation": drafts}
    small["profile"] = "drafting"
    prices["prices"]["spot-h100"] = [{**one, "purchase": "spot"} for one in prices["prices"]["central-h100"]]
    found = demo.directory / "replicas.yaml"
    found.write_text(json.dumps([replica, nobody]), encoding="utf-8")
    small["discovery"] = {"file": found.name, "grace_seconds": 1}
    config["cache"] = {}
    [row] = prices["prices"]["central-h100"]
    told = {"at": datetime.now(UTC).isoformat(), "usd_per_hour": {"central-h100": row["usd_per_hour"]}}
    (demo.directory / "spot.json").write_text(json.dumps(told), encoding="utf-8")
    prices["feeds"] = {"market": {"file": "spot.json", "prices": ["central-h100"], "poll_seconds": 5}}
    book.write_text(yaml.safe_dump(prices), encoding="utf-8")
    router.write_text(json.dumps(config), encoding="utf-8")
    demo.prometheus.wait_for('jeton_discovered_replicas_total{move="found"} >= 2')
    found.write_text(json.dumps([replica]), encoding="utf-8")


def _reload(demo: WatchedDemo) -> None:
    """Once with a mistake in it, once without."""
    file = demo.directory / "router.yaml"
    good = file.read_text(encoding="utf-8")
    prometheus = demo.prometheus
    for result, text in (("refused", "pools: nothing\n"), ("applied", good + "\n")):
        file.write_text(text, encoding="utf-8")
        prometheus.wait_for(f'jeton_reloads_total{{result="{result}"}} > 0')


def _post(url: str, body: dict[str, Any], **headers: str) -> int:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} | headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _drain(demo: RunningDemo) -> None:
    """Whoever prints into a full pipe waits."""
    with suppress(ValueError):
        demo.read_until(r"\Z.")
