"""What `load` makes of a backend with a provider, and what it refuses, with the place and the remedy."""

import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config_file import LoadedConfig, load
from router.config_source import ConfigRefused
from router.dispatch.provider import Provider
from router.dispatch.provider_loader import provider_class, provider_names
from router.domain.fleet import EngineKind
from router.domain.request import ASSUMED, Capability

PRICES = {
    "tokens": [
        {
            "kind": "tokens",
            "from": "2026-01-01",
            "prompt_usd_per_million": 2,
            "completion_usd_per_million": 8,
            "source": "round figures for tests",
        }
    ]
}
ENVIRON = {"KEY": "sk-from-the-environment"}


def loaded(folder: Path, backend: Mapping[str, Any] = {}, pool: Mapping[str, Any] = {}) -> LoadedConfig:
    row = {
        "name": "cloud",
        "model": "gpt-x",
        "context_tokens": 8192,
        "price": "tokens",
        "provider": "groq",
        "replicas": [{"url": "https://api.example", "api_key_env": "KEY"}],
    } | dict(backend)
    config = {
        "baseline": "cloud",
        "tiers": ["large"],
        "policy": {"name": "round_robin"},
        "pools": [{"name": "cloud", "kind": "cloud", "billing": "metered", "backends": [row]} | dict(pool)],
    }
    (folder / "router.yaml").write_text(yaml.safe_dump(config))
    (folder / "prices.yaml").write_text(yaml.safe_dump({"prices": PRICES}))
    return load(folder / "router.yaml", environ=ENVIRON, day=date(2026, 11, 26))


def refusal(folder: Path, backend: Mapping[str, Any] = {}, pool: Mapping[str, Any] = {}) -> str:
    with pytest.raises(ConfigRefused) as raised:
        loaded(folder, backend, pool)
    return str(raised.value)


def test_a_providers_word_is_enough(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    [backend] = config.backends
    assert (backend.provider, backend.engine) == ("groq", EngineKind.OPENAI)
    assert type(config.providers["cloud"]) is provider_class("groq")


def test_what_the_provider_cannot_do_is_taken_from_what_backends_usually_can(tmp_path: Path) -> None:
    [backend] = loaded(tmp_path).backends
    assert backend.capabilities == {
        Capability.CHAT,
        Capability.RESPONSES,
        Capability.TOOLS,
        Capability.JSON_SCHEMA,
    } | (ASSUMED - {Capability.N, Capability.LOGIT_BIAS, Capability.PENALTIES})


def test_a05_answers_are_read_on_where_the_provider_bills_to_the_end_unless_the_backend_says_otherwise(
    tmp_path: Path,
) -> None:
    def reads_on(**members: Any) -> bool:
        (backend,) = loaded(tmp_path, members).backends
        return backend.reads_on

    assert reads_on(provider="groq")
    assert not reads_on(provider="groq", when_client_leaves="stop")
    assert not reads_on(provider="openrouter")
    assert reads_on(provider="openrouter", when_client_leaves="read_on")
    assert not reads_on(provider=None, engine="openai")


def test_a05_a_leased_replica_is_never_read_on(tmp_path: Path) -> None:
    backend = {"provider": None, "engine": "vllm", "when_client_leaves": "read_on"}
    assert "`cloud` is leased: its time is paid whoever waits" in refusal(tmp_path, backend, {"billing": "leased"})


def test_a_backend_without_a_provider_has_all_that_is_assumed(tmp_path: Path) -> None:
    [backend] = loaded(tmp_path, {"provider": None, "engine": "openai", "capabilities": ["chat"]}).backends
    assert backend.capabilities == ASSUMED | {Capability.CHAT}


def test_parameters_are_the_providers_own(tmp_path: Path) -> None:
    config = loaded(tmp_path, {"provider": {"name": "azure", "parameters": {"api_version": "2024-10-21"}}})
    assert config.providers["cloud"].model_dump() == {"api_version": "2024-10-21", "auth": "api_key"}


def test_a_key_file_is_read_beside_router_yaml_and_watched(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-from-a-file\n")
    config = loaded(tmp_path, {"replicas": [{"url": "https://api.example", "api_key_file": "key"}]})
    [replica] = config.backends[0].replicas
    assert (replica.api_key, replica.api_key_file) == ("sk-from-a-file", str(tmp_path / "key"))
    assert config.paths[2:] == (tmp_path / "key",)
    assert "sk-from-a-file" not in repr(config)


@pytest.mark.parametrize("provider", provider_names())
def test_every_provider_is_named_by_its_file_and_says_what_it_can_do(provider: str) -> None:
    found = provider_class(provider)
    assert found.__name__ == "".join(word.capitalize() for word in provider.split("_"))
    assert Capability.CHAT in found.capabilities
    assert found.__doc__ or found.__module__
    assert not found.capabilities & {Capability.RERANK, Capability.SCORE, Capability.TOKENIZE}


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ({"provider": "grog"}, "there is no provider `grog`; did you mean `groq`?"),
        ({"provider": "os"}, "there is no provider `os`"),
        (
            {"provider": {"name": "azure", "parameters": {"api_version": "newest"}}},
            "`pools[0].backends[0].provider.parameters.api_version`",
        ),
        (
            {"provider": {"name": "azure", "parameters": {"apiversion": "v1"}}},
            "did you mean `api_version`?",
        ),
        ({"engine": "vllm"}, "`cloud` has a provider, so it is not vllm; remove `engine`"),
        (
            {"capabilities": ["chat", "logprobs"]},
            "the provider `groq` cannot be asked for `logprobs`; remove it; it can do chat, json_schema",
        ),
        ({"replicas": [{"url": "https://api.example"}]}, "the provider `groq` wants an API key"),
        (
            {"replicas": [{"url": "https://api.example", "api_key_file": "nowhere"}]},
            "nowhere cannot be read (No such file or directory); put the key there, in one line",
        ),
        (
            {"replicas": [{"url": "https://api.example", "api_key_file": "key", "api_key_env": "KEY"}]},
            "`cloud` has its API key from a file and from the environment; keep one of them",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_would_be_right(
    tmp_path: Path, backend: dict[str, Any], words: str
) -> None:
    (tmp_path / "key").write_text("sk-1")
    assert words in refusal(tmp_path, backend)


def test_a_key_in_the_place_of_its_file_is_not_repeated(tmp_path: Path) -> None:
    key = "sk-or-v1-0123456789abcdef0123456789abcdef"
    said = refusal(tmp_path, {"replicas": [{"url": "https://api.example", "api_key_file": key}]})
    assert "looks like a key" in said
    assert key not in said


@pytest.mark.parametrize(("provider", "needed"), [("bedrock", "botocore"), ("vertex", "google")])
def test_what_a_provider_needs_beside_jeton_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str, needed: str
) -> None:
    for module in [name for name in sys.modules if name == needed or name.startswith(f"{needed}.")]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, needed, None)
    monkeypatch.delitem(sys.modules, f"router.dispatch.providers.{provider}", raising=False)
    said = refusal(tmp_path, {"provider": provider})
    assert f"the provider `{provider}` needs {needed}" in said
    assert f"install jeton[{provider}]" in said


def test_nobody_else_needs_what_one_provider_does(tmp_path: Path) -> None:
    check = "import sys, router.app, router.dispatch.provider_loader as l; l.provider_class('groq')"
    code = f"{check}; assert not {{'botocore', 'google.auth', 'boto3'}} & sys.modules.keys(), sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_bound_for_completions_is_wanted_where_the_api_wants_one(tmp_path: Path) -> None:
    said = refusal(tmp_path, {"provider": "anthropic"})
    assert "the provider `anthropic` wants a bound for every completion" in said
    assert "add `completion_tokens_max: …`" in said
    assert loaded(tmp_path, {"provider": "anthropic", "completion_tokens_max": 4096})


def test_files_of_credentials_are_watched_and_found_beside_router_yaml(tmp_path: Path) -> None:
    parameters = {"project": "p", "location": "global", "credentials_file": "account.json"}
    row = {"provider": {"name": "vertex", "parameters": parameters}, "replicas": [{"url": "https://api.example"}]}
    config = loaded(tmp_path, row)
    assert config.paths[2:] == (tmp_path / "account.json",)
    assert config.providers["cloud"].credentials_file == tmp_path / "account.json"  # type: ignore[attr-defined]


def test_a_provider_is_not_leased(tmp_path: Path) -> None:
    assert "paid by the token, but the pool `cloud` is leased" in refusal(tmp_path, pool={"billing": "leased"})


def test_the_file_of_a_key_that_is_not_there_yet_is_watched_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefused) as raised:
        loaded(tmp_path, {"replicas": [{"url": "https://api.example", "api_key_file": "later"}]})
    assert tmp_path / "later" in raised.value.paths


def test_a_key_over_plain_http_from_a_file_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1")
    config = loaded(tmp_path, {"replicas": [{"url": "http://api.example.com", "api_key_file": "key"}]})
    assert any("in clear text" in str(warning) for warning in config.warnings)


@pytest.mark.parametrize("missing", ["path", "body"])
def test_a_provider_that_does_not_say_where_to_go_and_with_what_cannot_be_made(missing: str) -> None:
    said = {"path": lambda self, order: "/", "body": lambda self, order: b""}
    assert type("Whole", (Provider,), said)() is not None
    with pytest.raises(TypeError, match=missing):
        type("Half", (Provider,), {name: way for name, way in said.items() if name != missing})()
