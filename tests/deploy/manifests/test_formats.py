"""What deploys jeton is well-formed by the tools of those who read it: hadolint, the specification of compose, Helm, Kubernetes.

Nothing is started here. What the files say about jeton is `test_deployments.py`'s.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.manifests, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parents[3]
DEPLOY = PROJECT / "deploy"
BIN = PROJECT / ".venv-manifests/bin"
FORMATS = Path(__file__).with_name("formats.py")
EVERYTHING: dict[str, Any] = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "monitoring"}},
    "persistence": {"size": "5Gi", "storageClass": "fast"},
    "networkPolicy": {
        "from": [{"namespaceSelector": {}}],
        "to": [{"podSelector": {"matchLabels": {"app": "postgres"}}}],
        "egressCidrs": ["203.0.113.0/24"],
    },
    "vllm": {
        "servers": [
            {"name": "large", "model": "a/70b", "gpus": 2, "nodeSelector": {"gpu": "h100"}},
            {
                "name": "edge-small",
                "model": "a/8b",
                "gpus": 1,
                "args": ["--max-model-len=16384"],
                "autoscaling": {"enabled": True, "min": 1, "max": 4, "prometheus": "http://prometheus:9090"},
            },
            {"name": "tiny", "model": "a/1b", "gpus": 0},
        ]
    },
}


def run(*command: str | Path) -> str:
    """Its output. Raises AssertionError with all it says when it finds fault."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=200, cwd=PROJECT)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def formats(command: str, *arguments: Path) -> str:
    return run(BIN / "python", FORMATS, command, *arguments)


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(EVERYTHING))
    return file


def documents(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    read = [document for document in yaml.safe_load_all(text) if document]
    named = {(one["kind"], one["metadata"]["name"]): one for one in read}
    assert len(named) == len(read), "two documents of one name"
    return named


def test_the_dockerfile_has_nothing_to_complain_about() -> None:
    assert run(BIN / "hadolint", DEPLOY / "docker/Dockerfile") == ""


@pytest.mark.parametrize("file", sorted((DEPLOY / "compose").glob("compose*.yaml")), ids=lambda file: str(file.name))
def test_compose_files_are_as_the_specification_has_them(file: Path) -> None:
    formats("compose", file)


def test_helm_finds_no_fault(everything: Path) -> None:
    for arguments in ((), (everything,)):
        report = json.loads(formats("lint", *arguments))
        assert report["errors"] == []
        assert [one["error"] for one in report["messages"] if one["severity"] > 1] == []


def test_the_committed_manifests_are_what_the_chart_renders() -> None:
    committed = (DEPLOY / "kubernetes/manifests/jeton.yaml").read_text(encoding="utf-8")
    assert committed == formats("render"), "run: make manifests"


def test_kubernetes_takes_what_is_rendered(tmp_path: Path, everything: Path) -> None:
    file = tmp_path / "rendered.yaml"
    assert formats("kubernetes", DEPLOY / "kubernetes/manifests/jeton.yaml").split() == []
    file.write_text(formats("render", everything))
    assert sorted(formats("kubernetes", file).split()) == ["ScaledObject", "ServiceMonitor"]


def test_values_lead_where_they_should(everything: Path) -> None:
    made = documents(formats("render", everything))
    assert made["ServiceMonitor", "jeton"]["metadata"]["labels"]["release"] == "monitoring"
    [claim] = made["StatefulSet", "jeton"]["spec"]["volumeClaimTemplates"]
    assert (claim["spec"]["storageClassName"], claim["spec"]["resources"]["requests"]["storage"]) == ("fast", "5Gi")
    policy = made["NetworkPolicy", "jeton"]["spec"]
    assert policy["ingress"][0]["from"] == [{"namespaceSelector": {}}]
    assert {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]} in policy["egress"]
    assert {"to": [{"podSelector": {"matchLabels": {"app": "postgres"}}}]} in policy["egress"]

    large, small, tiny = (
        made["Deployment", name]["spec"]["template"]["spec"]["containers"][0]
        for name in ("large", "edge-small", "tiny")
    )
    assert "--tensor-parallel-size=2" in large["args"]
    assert large["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert "--max-model-len=16384" in small["args"]
    assert not [flag for flag in small["args"] if "tensor" in flag]
    assert "nvidia.com/gpu" not in tiny["resources"]["limits"]
    assert "replicas" not in made["Deployment", "edge-small"]["spec"]  # that is the autoscaler's
    assert made["Deployment", "tiny"]["spec"]["replicas"] == 1
    [trigger] = made["ScaledObject", "edge-small"]["spec"]["triggers"]
    assert trigger["metadata"]["query"] == 'sum(backend:jeton_replicas_filled:rate5m{backend="edge-small"})'


def test_selectors_find_what_they_are_for(everything: Path) -> None:
    made = documents(formats("render", everything))

    def labels(kind: str, name: str) -> dict[str, str]:
        found: dict[str, str] = made[kind, name]["spec"]["template"]["metadata"]["labels"]
        return found

    pods = {name: labels("Deployment", name) for name in ("large", "edge-small", "tiny")}
    pods["jeton"] = labels("StatefulSet", "jeton")

    def selected(selector: dict[str, str]) -> set[str]:
        return {name for name, own in pods.items() if selector.items() <= own.items()}

    for name in pods:
        assert selected(made["Service", name]["spec"]["selector"]) == {name}
        assert selected(made["NetworkPolicy", name]["spec"]["podSelector"]["matchLabels"]) == {name}
    for name in ("large", "edge-small", "tiny"):
        [allowed] = made["NetworkPolicy", name]["spec"]["ingress"][0]["from"]
        assert selected(allowed["podSelector"]["matchLabels"]) == {"jeton"}
    [to_vllm] = [
        rule["to"][0]["podSelector"]["matchLabels"]
        for rule in made["NetworkPolicy", "jeton"]["spec"]["egress"]
        if "app.kubernetes.io/component" in rule.get("to", [{}])[0].get("podSelector", {}).get("matchLabels", {})
    ]
    assert selected(to_vllm) == {"large", "edge-small", "tiny"}


SHARED = {"ledger": {"url": "postgresql://jeton@db/jeton", "accountant": "inside"}}


def test_several_jetons_share_a_ledger_and_are_scaled_by_their_cpu(tmp_path: Path) -> None:
    file, rendered = tmp_path / "values.json", tmp_path / "rendered.yaml"
    scaled = {"enabled": True, "min": 2, "max": 5, "cpuPercent": 60}
    file.write_text(json.dumps({"router": SHARED, "autoscaling": scaled}))
    rendered.write_text(formats("render", file))
    assert formats("kubernetes", rendered).split() == []
    made = documents(rendered.read_text())
    scaler, jeton = made["HorizontalPodAutoscaler", "jeton"]["spec"], made["StatefulSet", "jeton"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)
    assert scaler["scaleTargetRef"]["name"] == made["StatefulSet", "jeton"]["metadata"]["name"]
    assert "replicas" not in jeton  # that is the autoscaler's
    [spread] = jeton["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= jeton["template"]["metadata"]["labels"].items()
    file.write_text(json.dumps({"router": SHARED, "replicas": 3}))
    made = documents(formats("render", file))
    assert made["StatefulSet", "jeton"]["spec"]["replicas"] == 3
    assert ("HorizontalPodAutoscaler", "jeton") not in made


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"image": {"repository": ""}}, "repository"),
        ({"persistence": {"size": "much"}}, "size"),
        ({"replicas": 3}, "share"),  # a file
        ({"replicas": 2, "router": {"ledger": {"url": "postgresql://jeton@db/jeton"}}}, "router.ledger.accountant"),
        ({"autoscaling": {"enabled": True}, "router": {"ledger": {"accountant": "inside"}}}, "router.ledger.url"),
        ({"autoscaling": {"cpuPercent": 100}}, "cpuPercent"),
        ({"vllm": {"servers": [{"name": "Edge Small", "model": "m", "gpus": 1}]}}, "name"),
        ({"networkPolicy": {"egressCidrs": ["everywhere"]}}, "egressCidrs"),
        ({"secretName": ""}, "secretName"),
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_refused(tmp_path: Path, values: dict[str, Any], what: str) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    assert what in formats("refuses", file)
