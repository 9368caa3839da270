"""A LiteLLM configuration becomes jeton's, and what does not is told."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from router.__main__ import main
from router.config_file import load
from router.config_source import ConfigRefused
from router.migration import Migration, from_litellm

SECRET = "sk-proj-0123456789abcdefghij0123"
LITELLM = f"""
model_list:
  - model_name: gpt-4.1
    litellm_params: {{model: openai/gpt-4.1, api_key: os.environ/OPENAI_API_KEY, rpm: 600}}
    model_info:
      max_input_tokens: 1047576
      max_output_tokens: 32768
      input_cost_per_token: 0.000002
      cache_read_input_token_cost: 5.0e-7
      output_cost_per_token: 0.000008
  - model_name: claude
    litellm_params: {{model: anthropic/claude-sonnet-4-5, api_key: {SECRET}}}
    model_info: {{max_input_tokens: 200000, input_cost_per_token: 0.000003, output_cost_per_token: 0.000015}}
  - model_name: llama
    litellm_params: {{model: hosted_vllm/meta-llama/Llama-3.1-8B-Instruct, api_base: http://gpu-1:8000/v1}}
    model_info: {{max_input_tokens: 16384}}
  - model_name: llama
    litellm_params: {{model: hosted_vllm/meta-llama/Llama-3.1-8B-Instruct, api_base: http://gpu-2:8000/v1, weight: 2}}
    model_info: {{max_input_tokens: 16384}}
litellm_settings: {{num_retries: 2, request_timeout: 600, drop_params: true, cache: true}}
router_settings: {{routing_strategy: least-busy, model_group_alias: {{fast: llama}}, fallbacks: [{{llama: [gpt-4.1]}}]}}
general_settings: {{master_key: {SECRET}}}
environment_variables: {{A: b}}
"""


def migrated() -> dict[str, object]:
    return from_litellm(yaml.safe_load(LITELLM), "2026-11-26").router


def test_models_become_backends_and_their_names_aliases() -> None:
    router = migrated()
    assert router["aliases"] == {
        "auto": {},
        "claude": {"backends": ["claude-sonnet-4-5"]},
        "llama": {"backends": ["Llama-3.1-8B-Instruct"]},
        "fast": {"backends": ["Llama-3.1-8B-Instruct"]},
    }
    own, cloud = router["pools"]
    [llama] = own["backends"]
    assert own["billing"] == "leased"
    assert [replica["url"] for replica in llama["replicas"]] == ["http://gpu-1:8000", "http://gpu-2:8000"]
    gpt, claude = cloud["backends"]
    assert (gpt["engine"], gpt["completion_tokens_max"]) == ("openai", 32768)
    assert gpt["replicas"] == [{"url": "https://api.openai.com", "api_key_env": "OPENAI_API_KEY"}]
    assert claude["provider"] == "anthropic"
    assert (router["retries"], router["timeouts"]) == ({"attempts_max": 3}, {"total_seconds": 600.0})


def test_prices_per_token_become_rows_per_million_and_a_gpu_gets_none() -> None:
    rows = from_litellm(yaml.safe_load(LITELLM), "2026-11-26").prices["prices"]
    assert rows.keys() == {"gpt-4.1", "claude-sonnet-4-5"}
    [row] = rows["gpt-4.1"]
    assert (row["prompt_usd_per_million"], row["cached_usd_per_million"], row["completion_usd_per_million"]) == (
        2,
        0.5,
        8,
    )


def test_whatever_was_given_and_has_no_counterpart_is_told_with_its_place() -> None:
    notes = dict(from_litellm(yaml.safe_load(LITELLM), "2026-11-26").notes)
    assert notes.keys() >= {
        "model_list[0].litellm_params.rpm",
        "model_list[1].litellm_params.api_key",
        "model_list[1]",
        "model_list[2]",
        "model_list[3].litellm_params.weight",
        "litellm_settings.cache",
        "litellm_settings.drop_params",
        "router_settings.fallbacks",
        "router_settings.routing_strategy",
        "general_settings.master_key",
        "environment_variables",
        "baseline",
    }
    assert "jeton key" in notes["general_settings.master_key"]


@pytest.mark.parametrize("text", ["{}", "model_list: []", "model_list: [{model_name: a}]", "model_list: [7]"])
def test_what_is_no_configuration_of_litellms_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    result = CliRunner().invoke(
        main, ["import", "litellm", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "new")]
    )
    assert result.exit_code == 1
    assert "model_list" in result.output
    assert not (tmp_path / "new").exists()


def test_what_is_written_holds_no_key_and_loads_once_what_is_missing_is_filled_in(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(LITELLM)
    arguments = ["import", "litellm", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "new")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    router, prices = tmp_path / "new/router.yaml", tmp_path / "new/prices.yaml"
    assert SECRET not in router.read_text() + prices.read_text() + result.output
    environ = {"OPENAI_API_KEY": "key", "ANTHROPIC_API_KEY": "key"}
    with pytest.raises(ConfigRefused) as refused:
        load(router, environ=environ)
    assert any("url" in str(mistake) for mistake in refused.value.mistakes)

    config, book = yaml.safe_load(router.read_text()), yaml.safe_load(prices.read_text())
    config["profiles"] = {"a10": {"model": "llama-3.1-8b", "gpu": "a10g", "quantization": "awq-int4"}}
    own, cloud = config["pools"]
    own["backends"][0] |= {"profile": "a10", "quantization": "awq-int4"}
    cloud["backends"][1]["completion_tokens_max"] = 64000
    cloud["backends"][1]["replicas"] = [{"url": "https://api.anthropic.com", "api_key_env": "ANTHROPIC_API_KEY"}]
    book["prices"]["Llama-3.1-8B-Instruct"] = [
        {"kind": "lease", "from": "2026-01-01", "usd_per_hour": 1, "source": "our contract"}
    ]
    router.write_text(yaml.safe_dump(config))
    prices.write_text(yaml.safe_dump(book))
    loaded = load(router, environ=environ)
    assert len(loaded.backends) == 3

    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "would be overwritten" in again.output


def entry(group: str, model: str, **more: object) -> dict[str, object]:
    return {"model_name": group, "litellm_params": {"model": model}, **more}


def of(*models: dict[str, object]) -> Migration:
    return from_litellm({"model_list": list(models)}, "2026-11-26")


def test_a_group_is_asked_as_a_whole_also_by_the_name_of_one_of_its_models() -> None:
    """LiteLLM spreads requests for `gpt-4o` over both; so must whoever asks for that name here."""
    router = of(
        entry("gpt-4o", "azure/my-deployment"), entry("gpt-4o", "openai/gpt-4o"), entry("o3", "openai/o3")
    ).router
    [cloud] = router["pools"]
    first, second, other = cloud["backends"]
    assert (first["name"], first["model"], first["served_model"]) == ("my-deployment", "gpt-4o", "my-deployment")
    assert (second["name"], second["model"], second["served_model"]) == ("gpt-4o-openai", "gpt-4o", "gpt-4o")
    assert (other["name"], other["model"]) == ("o3", "o3")
    assert router["aliases"] == {"auto": {}}
    assert router["baseline"] == "my-deployment"


def test_a_model_at_two_providers_is_two_backends() -> None:
    dear, cheap = ({"input_cost_per_token": usd, "output_cost_per_token": usd} for usd in (0.00002, 0.00001))
    migration = of(
        entry("gpt-4o", "azure/gpt-4o", model_info=dear),
        entry("gpt-4o", "openai/gpt-4o", model_info=cheap),
        entry("both", "openai/gpt-4o", model_info=cheap),
    )
    router, rows = migration.router, migration.prices["prices"]
    first, second = router["pools"][0]["backends"]
    assert (first["provider"], second["engine"]) == ("azure", "openai")
    assert first["model"] == second["model"] == "gpt-4o"
    assert {first["name"], second["name"]} == {"gpt-4o-azure", "gpt-4o-openai"}
    assert [len(one["replicas"]) for one in (first, second)] == [1, 2]
    assert router["aliases"]["both"] == {"backends": [second["name"]]}
    assert [rows[one["price"]][0]["prompt_usd_per_million"] for one in (first, second)] == [20, 10]


@pytest.mark.parametrize(
    ("model", "info", "capabilities"),
    [
        ("openai/text-embedding-3-small", {"mode": "embedding"}, ["embeddings"]),
        ("openai/text-embedding-3-small", {}, ["embeddings"]),
        ("cohere/reranker", {"mode": "rerank"}, ["rerank"]),
        ("openai/whisper-1", {"mode": "audio_transcription"}, ["transcriptions"]),
        ("openai/gpt-4o", {"mode": "chat"}, None),
    ],
)
def test_what_is_no_chat_model_is_not_asked_to_chat(
    model: str, info: dict[str, object], capabilities: list[str] | None
) -> None:
    [backend] = of(entry("m", model, model_info=info)).router["pools"][0]["backends"]
    assert backend.get("capabilities") == capabilities


def test_wildcards_and_what_is_not_served_here_become_no_backend_and_are_told() -> None:
    migration = of(
        entry("*", "openai/*"),
        entry("dall-e", "openai/dall-e-3", model_info={"mode": "image_generation"}),
        entry("a", "openai/a"),
    )
    assert [backend["name"] for backend in migration.router["pools"][0]["backends"]] == ["a"]
    assert migration.router["aliases"] == {"auto": {}}
    notes = dict(migration.notes)
    assert "name every model" in notes["model_list[0]"]
    assert "image_generation" in notes["model_list[1]"]
    with pytest.raises(ValueError, match="no model that could be taken over"):
        of(entry("*", "openai/*"))


def test_azures_version_of_the_api_is_taken_over() -> None:
    azure = {"model": "azure/mine", "api_base": "https://a.openai.azure.com", "api_version": "2024-10-21"}
    migration = of({"model_name": "mine", "litellm_params": azure})
    [backend] = migration.router["pools"][0]["backends"]
    assert backend["provider"] == {"name": "azure", "parameters": {"api_version": "2024-10-21"}}
    assert not [place for place, _ in migration.notes if "api_version" in place]
