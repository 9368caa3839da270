"""The rules are sound by promtool's own tests: each alert fires where it should and stays silent where it should not."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_server import DEPLOY, binary

pytestmark = pytest.mark.prometheus

PROJECT = Path(__file__).parents[3]
RULES = yaml.safe_load((DEPLOY / "alerts.rules.yaml").read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
CASES = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text(encoding="utf-8"))
RECORDING = DEPLOY / "recording.rules.yaml"
MINUTE = "1m"


def promtool(*arguments: str) -> str:
    """Its output. Raises AssertionError with it when it finds fault."""
    command = [binary("promtool"), *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_the_configuration_and_its_rules_are_valid() -> None:
    said = promtool("check", "config", str(DEPLOY / "prometheus.yml"))
    assert said.count("SUCCESS") == 4


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    assert {name for name, case in CASES.items() if case["fires"] and case["silent"]} == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_fires_and_stays_silent_as_its_cases_say(tmp_path: Path, name: str) -> None:
    alone = tmp_path / "alert.yaml"  # of its kind: all alerts for days of minutes take their time
    alone.write_text(yaml.safe_dump({"groups": [{"name": "alone", "rules": [ALERTS[name]]}]}))
    rules = [alone, RECORDING] if ":jeton_" in ALERTS[name]["expr"] else [alone]
    for kind, is_firing in (("fires", True), ("silent", False)):
        tests = [as_promtool_test(name, case, is_firing=is_firing) for case in CASES[name][kind]]
        assert_rules_hold(tmp_path, rules, tests)


def as_promtool_test(name: str, case: dict[str, Any], *, is_firing: bool) -> dict[str, Any]:
    """A case in promtool's words: what is said is compared, too."""
    rule = ALERTS[name]
    expected = []
    if is_firing:
        said = {key: case.get(key, text) for key, text in rule["annotations"].items()}
        labels = rule["labels"] | {"job": "jeton"} | case["labels"]
        expected.append({"exp_labels": labels, "exp_annotations": said})
    series = [{"series": with_job(selector), "values": values} for selector, values in case["series"].items()]
    alert = {"eval_time": case["at"], "alertname": name, "exp_alerts": expected}
    return {"interval": MINUTE, "input_series": series, "alert_rule_test": [alert]}


def with_job(selector: str) -> str:
    name, _, labels = selector.rstrip("}").partition("{")
    job = "" if "job=" in labels else ',job="jeton"'
    return f"{name}{{{labels}{job}}}".replace("{,", "{")


def assert_rules_hold(directory: Path, rules: list[Path], tests: list[dict[str, Any]]) -> None:
    file = directory / "test.yaml"
    names = [str(path) for path in rules]
    file.write_text(yaml.safe_dump({"rule_files": names, "evaluation_interval": MINUTE, "tests": tests}))
    promtool("test", "rules", str(file))


MONEY = {
    'jeton_bill_usd_total{pool="edge",backend="small"}': "0+3x120",
    'jeton_idle_usd_total{pool="edge",backend="small"}': "0+1x120",
    'jeton_cost_usd_total{pool="edge",backend="small",model="m",tier="s",tenant="a",basis="allocated"}': "0+1.5x120",
    'jeton_cost_usd_total{pool="edge",backend="small",model="m",tier="s",tenant="b",basis="allocated"}': "0+0.5x120",
    'jeton_cost_usd_total{pool="edge",backend="small",model="m",tier="s",tenant="a",basis="standard"}': "0+0.75x120",
    'jeton_tokens_total{pool="edge",backend="small",model="m",tier="s",tenant="a",class="prompt"}': "0+600000x120",
    'jeton_tokens_total{pool="edge",backend="small",model="m",tier="s",tenant="a",class="cached"}': "0+500000x120",
    'jeton_tokens_total{pool="edge",backend="small",model="m",tier="s",tenant="a",class="completion"}': "0+400000x120",
    'jeton_replica_up{backend="small",replica="s-1"}': "1x120",
    'jeton_replica_up{backend="small",replica="s-2"}': "0x120",
    # Metered: it has no lease, and no replicas to fill.
    'jeton_bill_usd_total{pool="cloud",backend="cloud"}': "0+1x120",
    'jeton_cost_usd_total{pool="cloud",backend="cloud",model="g",tier="l",tenant="a",basis="standard"}': "0+1x120",
    'jeton_replica_up{backend="cloud",replica="c-1"}': "1x120",
}


def test_recorded_money_adds_up_and_says_how_many_replicas_work_would_fill(tmp_path: Path) -> None:
    """$3 a minute for two replicas; work at its standard price is 75 cents of that, so it would fill half of one."""
    expected = {
        'sum(backend:jeton_bill_usd:rate5m{pool="edge"}) * 60': 3,
        "sum(backend:jeton_idle_usd:rate5m) * 60": 1,
        'sum(account:jeton_cost_usd:rate5m{basis="allocated"}) * 60': 2,
        'sum(account:jeton_cost_usd:rate5m{basis="allocated",tenant="b"}) * 60': 0.5,
        "sum(account:jeton_tokens:rate5m) * 60": 1_000_000,
        'sum(backend:jeton_cost_usd:rate1h{basis="standard",pool="edge"}) * 60': 0.75,
        "sum(backend:jeton_replicas:count)": 3,
        "sum(backend:jeton_replicas_filled:rate5m)": 0.5,
        "count(backend:jeton_replicas_filled:rate5m)": 1,
    }
    # promtool compares to the last bit, so figures are whole eighths, rounded to those.
    asked = [
        {"expr": f"round({expression}, 0.125)", "eval_time": "110m", "exp_samples": [{"labels": "{}", "value": value}]}
        for expression, value in expected.items()
    ]
    series = [{"series": with_job(selector), "values": values} for selector, values in MONEY.items()]
    assert_rules_hold(tmp_path, [RECORDING], [{"interval": MINUTE, "input_series": series, "promql_expr_test": asked}])
