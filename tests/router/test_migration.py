"""A LiteLLM configuration becomes jeton's, and what does not is told."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from router.__main__ import main
from router.config_file import load
from router.config_source import ConfigRefused
from router.migration import from_litellm

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
