"""What the deployments say about jeton is true: their configurations load, their names meet, their flags are the recipes'."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from router.config_file import LoadedConfig, load
from router.fleet.discovery import Found
from router.fleet.discovery.file import FileSource

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
COMPOSE = DEPLOY / "compose"
SECRETS = {"JETON_API_KEY_PEPPER": "pepper", "REDIS_PASSWORD": "word", "POSTGRES_PASSWORD": "word"}
WANTED = ("--enable-prompt-tokens-details", "--enable-request-id-headers", "--enable-per-request-metrics")


def services(name: str = "compose.yaml") -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8"))["services"]
    return read


def rows(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["prices"]
    return read


def manifests() -> dict[str, dict[str, Any]]:
    text = (DEPLOY / "kubernetes/manifests/jeton.yaml").read_text(encoding="utf-8")
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(text) if one}


def written(directory: Path, data: dict[str, str]) -> LoadedConfig:
    for name, text in data.items():
        (directory / name).write_text(text, encoding="utf-8")
    return load(directory / "router.yaml", environ=SECRETS)


# -- compose


def test_the_configuration_for_compose_loads_without_a_warning_but_for_the_key_that_is_to_be_made() -> None:
    loaded = load(COMPOSE / "config/router.yaml", environ=SECRETS)
    assert all("key" in str(warning) for warning in loaded.warnings), loaded.warnings


def test_every_replica_and_store_is_a_service_by_its_name() -> None:
    loaded = load(COMPOSE / "config/router.yaml", environ=SECRETS)
    urls = [replica.url for backend in loaded.backends for replica in backend.replicas]
    assert loaded.config.redis is not None
    assert loaded.config.ledger.url is not None
    hosts = {urlsplit(url).hostname for url in (*urls, loaded.config.redis.url, loaded.config.ledger.url)}
    assert hosts <= services().keys()


@pytest.mark.parametrize("file", ["compose.yaml", "compose.vllm.yaml"])
def test_servers_serve_what_the_configuration_says(file: str) -> None:
    for backend in load(COMPOSE / "config/router.yaml", environ=SECRETS).backends:
        command = " ".join(services(file)[backend.name]["command"]).replace("=", " ")
        assert backend.served_model in command
        assert f"--max-model-len {backend.context_tokens}" in command
        assert "--enable-prompt-tokens-details" in command
        if file == "compose.vllm.yaml":
            assert all(flag in command for flag in WANTED)


def test_prices_are_rows_of_the_projects_price_list() -> None:
    ours, project = rows(COMPOSE / "config/prices.yaml"), rows(DEPLOY / "config/prices.yaml")
    assert ours == {name: project[name] for name in ours}


def test_what_is_mounted_is_there_and_what_must_be_set_is_in_the_example() -> None:
    example = (COMPOSE / "env.example").read_text(encoding="utf-8")
    text = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))
    for service in services().values():
        for volume in service.get("volumes", ()):
            if volume.startswith("."):
                assert (COMPOSE / volume.split(":")[0]).exists(), volume


def test_jeton_is_given_longer_to_end_than_its_streams_may_go_on() -> None:
    loaded = load(COMPOSE / "config/router.yaml", environ=SECRETS)
    assert int(services()["jeton"]["stop_grace_period"].rstrip("s")) > loaded.config.server.drain_seconds


def test_prometheus_runs_the_rules_that_are_mounted() -> None:
    config, ours = (
        yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in (DEPLOY / "prometheus/prometheus.yml", COMPOSE / "prometheus.yml")
    )
    assert config["rule_files"] == ours["rule_files"]
    mounted = [volume.split(":")[1] for volume in services()["prometheus"]["volumes"]]
    assert {f"/etc/prometheus/{name}" for name in ours["rule_files"]} <= set(mounted)
    [job], [our_job] = config["scrape_configs"], ours["scrape_configs"]
    assert job["job_name"] == our_job["job_name"] == "jeton"


# -- Docker


def test_the_image_has_what_the_package_is_made_of_and_no_more() -> None:
    dockerfile = (DEPLOY / "docker/Dockerfile").read_text(encoding="utf-8")
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    }
    ignored = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied == {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert all((PROJECT / source).exists() for source in copied)
    stages = dockerfile.split("\nFROM ")
    assert len(stages) == 3
    assert re.search(r"^USER (?!0)\d+:\d+$", stages[-1], re.MULTILINE)
    assert "HEALTHCHECK" in stages[-1]


# -- Kubernetes


def test_the_configuration_in_the_manifests_loads(tmp_path: Path) -> None:
    loaded = written(tmp_path, manifests()["ConfigMap/jeton"]["data"])
    found = {backend: terms.config.kubernetes for backend, terms in loaded.discoveries.items()}
    assert found
    for backend, service in found.items():
        assert service is not None
        assert manifests()[f"Service/{service.service}"]["spec"]["clusterIP"] == "None", backend


def test_servers_in_the_manifests_have_the_flags_that_jeton_wants() -> None:
    servers = [one["spec"]["template"]["spec"] for name, one in manifests().items() if name.startswith("Deployment/")]
    assert servers
    for pod in servers:
        [server] = pod["containers"]
        assert set(WANTED) <= set(server["args"])
        assert pod["terminationGracePeriodSeconds"] > 30


def test_jeton_may_look_at_endpoints_and_do_nothing_else() -> None:
    [rule] = manifests()["Role/jeton"]["rules"]
    assert rule == {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    pod = manifests()["StatefulSet/jeton"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")} == {
        "startupProbe": "/health",
        "livenessProbe": "/health",
        "readinessProbe": "/ready",
    }


# -- vLLM


def recipes() -> list[str]:
    listed = subprocess.run([DEPLOY / "vllm/serve.sh", "--list"], capture_output=True, text=True, check=True).stdout
    return [line.split("\t")[0] for line in listed.splitlines()]


def printed(recipe: str) -> str:
    command = [DEPLOY / "vllm/serve.sh", "--print", recipe]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def readme_profiles() -> dict[str, Any]:
    text = (DEPLOY / "vllm/README.md").read_text(encoding="utf-8")
    found = re.search(r"^```yaml profiles\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    read: dict[str, Any] = yaml.safe_load(found[1])["profiles"]
    return read


def test_every_recipe_has_the_flags_that_jeton_wants_and_a_profile() -> None:
    assert recipes()
    assert readme_profiles().keys() == set(recipes()) - {"llama-1b-cpu"}
    for recipe in recipes():
        command = printed(recipe)
        assert command.startswith("vllm serve ")
        assert all(flag in command for flag in (*WANTED, "--shutdown-timeout", "--max-model-len"))


@pytest.mark.parametrize("recipe", readme_profiles())
def test_a_recipes_profile_loads_and_says_what_its_flags_say(tmp_path: Path, recipe: str) -> None:
    profile, command = readme_profiles()[recipe], printed(recipe)
    gpus = re.search(r"--tensor-parallel-size (\d+)", command)
    assert profile.get("gpus", 1) == (int(gpus[1]) if gpus else 1)
    sequences = re.search(r"--max-num-seqs (\d+)", command)
    assert profile.get("sequences_max") == (int(sequences[1]) if sequences else None)
    assert ("speculation" in profile) == ("--speculative-config" in command)
    backend = {
        "name": "one", "model": "one", "context_tokens": 8192, "price": "gpu", "profile": recipe,
        "replicas": [{"url": "http://gpu:8000"}],
    }  # fmt: skip
    pools = [{"name": "edge", "kind": "edge", "billing": "leased", "backends": [backend]}]
    config = {"baseline": "one", "profiles": {recipe: profile}, "pools": pools}
    lease = {"kind": "lease", "from": "2026-01-01", "usd_per_hour": 3.6, "source": "a round figure for tests"}
    texts = {"router.yaml": yaml.safe_dump(config), "prices.yaml": yaml.safe_dump({"prices": {"gpu": [lease]}})}
    assert recipe in written(tmp_path, texts).profiles


def test_a_recipe_starts_vllm_with_the_flags_that_follow_it(tmp_path: Path) -> None:
    fake = tmp_path / "vllm"
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [DEPLOY / "vllm/serve.sh", "llama-8b-awq-l4", "--port", "8001"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert said.startswith("serve hugging-quants/")
    assert said.rstrip().endswith("--port 8001")


def test_an_unknown_recipe_is_refused_with_a_remedy() -> None:
    assert shutil.which("bash")
    refused = subprocess.run([DEPLOY / "vllm/serve.sh", "llama-9b"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--list shows those there are" in refused.stderr


# -- SkyPilot


def test_the_spot_server_has_the_flags_of_its_recipe() -> None:
    task = yaml.safe_load((DEPLOY / "skypilot/edge-small.yaml").read_text(encoding="utf-8"))
    run = task["run"].replace("\\\n", " ").split()
    recipe = printed("llama-8b-awq-l4").split()[2:]
    assert set(recipe) <= set(run)
    assert task["resources"]["use_spot"]


async def test_endpoints_of_clusters_become_a_file_that_jeton_finds_replicas_in(tmp_path: Path) -> None:
    """With a `sky` that says what SkyPilot's would: an endpoint, or an error."""
    fake, out = tmp_path / "sky", tmp_path / "replicas.yaml"

    def look(script: str) -> int:
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        command = [sys.executable, DEPLOY / "skypilot/replicas.py", "--out", out, "edge-1", "edge-2"]
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.run(command, capture_output=True, env=environment, timeout=60).returncode

    assert look('[ "$2 $3" = "--endpoint 8000" ] && [ "$4" = edge-1 ] && echo 203.0.113.7:8000') == 0
    found = await anext(FileSource(out).states())
    assert found == (Found("http://203.0.113.7:8000", "edge-1"),)
    assert look("exit 1") == 1
    assert await anext(FileSource(out).states()) == found  # nobody answered: that says nothing
