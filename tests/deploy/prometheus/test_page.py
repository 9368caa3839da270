"""The pages for newcomers are true: their commands run, on a real Prometheus, and the table of alerts is the rules'."""

import re
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from ports import free_port

PROJECT = Path(__file__).parents[3]
MONITORING, QUICK_START = (
    (PROJECT / "docs" / name).read_text(encoding="utf-8") for name in ("monitoring.md", "quick-start.md")
)
PROMETHEUS = "http://127.0.0.1:9090"
START_SECONDS_MAX = 60.0


def commands(word: str) -> list[str]:
    return re.findall(rf"^```sh {word}\n(.*?)^```$", QUICK_START, re.MULTILINE | re.DOTALL)


def test_the_table_of_alerts_is_that_of_the_rules() -> None:
    rules = yaml.safe_load((PROJECT / "deploy/prometheus/alerts.rules.yaml").read_text(encoding="utf-8"))
    alerts = {rule["alert"]: rule["labels"]["severity"] for group in rules["groups"] for rule in group["rules"]}
    assert dict(re.findall(r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", MONITORING, re.MULTILINE)) == alerts


def test_the_demo_is_what_make_starts() -> None:
    [command] = commands("demo")
    assert command == "make demo\n"
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert "demo: .venv/.ready" in makefile
    assert "@$(BIN)/jeton demo\n" in makefile  # as the fixture `watched` starts it


@pytest.mark.prometheus
def test_prometheus_starts_as_the_quick_start_says(tmp_path: Path) -> None:
    [command] = commands("prometheus")
    assert "var/prometheus" in command
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = command.strip().replace("var/prometheus", str(tmp_path / "tsdb"))
    command += f" --web.listen-address=127.0.0.1:{port}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                break
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_SECONDS_MAX) == 0


@pytest.mark.prometheus
@pytest.mark.timeout(300)
def test_the_quick_starts_questions_are_answered_as_it_promises(watched) -> None:
    watched.prometheus.wait_for('count_over_time(jeton_ledger_accepting{job="jeton"}[1m]) >= 50')
    said = [
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace(PROMETHEUS, watched.prometheus.url)],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for command in commands("run")
    ]
    checked, bill, tenants, tokens, idle = said
    assert "is valid prometheus config" in checked
    assert figure(bill) > 5  # dollars an hour: the demo's leases alone cost $12.94
    assert {"research", "support"} <= set(re.findall(r'tenant="(\w+)"', tenants))
    shown = set(re.findall(r'basis="(\w+)".*pool="(\w+)"', tokens))
    assert {("allocated", "central"), ("standard", "central"), ("standard", "cloud")} <= shown
    assert all(0 <= figure(line) <= 1 for line in idle.splitlines())
    assert idle.count("backend=") >= 3


def figure(line: str) -> float:
    return float(line.split("=>")[1].split("@")[0])
