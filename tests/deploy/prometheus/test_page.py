"""The page on monitoring is true: its commands run, and its table of alerts is the rules'."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[3]
PAGE = (PROJECT / "docs/monitoring.md").read_text(encoding="utf-8")
PROMETHEUS = "http://127.0.0.1:9090"


def test_the_table_of_alerts_is_that_of_the_rules() -> None:
    rules = yaml.safe_load((PROJECT / "deploy/prometheus/alerts.rules.yaml").read_text(encoding="utf-8"))
    alerts = {rule["alert"]: rule["labels"]["severity"] for group in rules["groups"] for rule in group["rules"]}
    assert dict(re.findall(r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", PAGE, re.MULTILINE)) == alerts


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert links
    assert [link for link in links if not (PROJECT / "docs" / link).exists()] == []


@pytest.mark.prometheus
@pytest.mark.timeout(300)
def test_its_commands_say_what_it_promises(watched) -> None:
    watched.prometheus.wait_for("count_over_time(jeton_ledger_accepting[1m]) >= 50")
    commands = re.findall(r"^```sh run\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    said = [
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace(PROMETHEUS, watched.prometheus.url)],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for command in commands
    ]
    assert len(said) == 3
    assert "is valid prometheus config" in said[0]
    assert float(said[1].split("=>")[1].split("@")[0]) > 5  # dollars an hour: the demo's leases alone cost $12.94
    assert {"research", "support"} <= set(re.findall(r'tenant="(\w+)"', said[2]))
