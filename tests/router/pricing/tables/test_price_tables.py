"""Public price tables are read as they are published, exactly, whatever they say."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from price_tables import GENAI_PRICES, LITELLM, OPENROUTER, SKYPILOT, offer, offers

from router.pricing.tables.offer import TableRefused
from router.pricing.tables.reading import Table, read_table

TODAY = date(2026, 11, 26)


def figures(path: Path, name: str) -> dict[str, str]:
    return {member: f"{usd:f}" for member, usd in offer(path, name).figures.items()}


@pytest.mark.parametrize(
    ("path", "table"),
    [
        (LITELLM, Table.LITELLM),
        (GENAI_PRICES, Table.GENAI_PRICES),
        (OPENROUTER, Table.OPENROUTER),
        (SKYPILOT, Table.SKYPILOT),
    ],
)
def test_a_table_is_told_by_its_content(path: Path, table: Table) -> None:
    found, read, _ = read_table(path.read_text(), cloud="nebius")
    assert found is table
    assert read


def test_prices_by_the_token_become_prices_by_the_million_without_the_noise_of_binary_fractions() -> None:
    assert figures(LITELLM, "openai/gpt-4.1") == {
        "prompt_usd_per_million": "2",
        "completion_usd_per_million": "8",
        "cached_usd_per_million": "0.5",
    }
    document = {"m": {"litellm_provider": "p", "mode": "chat", "input_cost_per_token": 1.4999999999999999e-07}}
    (one,) = read_table(json.dumps(document))[1]
    assert one.figures["prompt_usd_per_million"] == Decimal("0.15")


def test_tiers_by_the_length_of_the_prompt_are_whole_sets_of_rates() -> None:
    row = offer(LITELLM, "gemini/gemini-2.5-pro").row(TODAY, "a test")
    assert row["tiers"] == [
        {
            "above_prompt_tokens": 200_000,
            "prompt_usd_per_million": "2.5",
            "cached_usd_per_million": "0.25",
            "completion_usd_per_million": "15",
        }
    ]
    assert offer(OPENROUTER, "openrouter/bytedance-seed/seed-2.0-code").tiers[0]["above_prompt_tokens"] == 128_000
    (tier,) = offer(GENAI_PRICES, "anthropic/claude-sonnet-4-5").tiers
    assert (tier["above_prompt_tokens"], tier["completion_usd_per_million"]) == (200_000, Decimal("22.5"))


def test_service_tiers_are_read_where_all_of_them_is_told() -> None:
    row = offer(LITELLM, "gemini/gemini-2.5-pro").row(TODAY, "a test")
    assert row["service_tiers"]["flex"] == {
        "prompt_usd_per_million": "0.625",
        "completion_usd_per_million": "5",
        "cached_usd_per_million": "0.125",
        "tiers": [
            {
                "above_prompt_tokens": 200_000,
                "prompt_usd_per_million": "1.25",
                "cached_usd_per_million": "0.25",
                "completion_usd_per_million": "7.5",
            }
        ],
    }
    assert row["service_tiers"]["priority"]["prompt_usd_per_million"] == "2.25"
    document = json.loads(LITELLM.read_text())["gemini/gemini-2.5-pro"]
    del document["output_cost_per_token_above_200k_tokens_flex"]
    (one,) = read_table(json.dumps({"gemini/gemini-2.5-pro": document}))[1]
    assert list(one.service_tiers) == ["priority"]
    assert "service_tiers" not in offer(LITELLM, "openai/gpt-4.1").row(TODAY, "a test")


def test_what_is_not_priced_by_tokens_has_its_own_unit() -> None:
    assert figures(LITELLM, "openai/whisper-1")["audio_usd_per_hour"] == "0.36"
    assert figures(LITELLM, "cohere/rerank-english-v3.0")["request_usd"] == "0.002"
    pricing = {"prompt": "0.000003", "completion": "0.000015", "request": "0.005"}
    (one,) = read_table(json.dumps({"data": [{"id": "s/searching", "pricing": pricing}]}))[1]
    assert one.figures["request_usd"] == Decimal("0.005")


def test_entries_of_what_jeton_does_not_route_are_counted_and_left_out() -> None:
    _, read, others = read_table(LITELLM.read_text())
    assert others == 2, "an image model, and a chat model without a price"
    assert not [one for one in read if "image" in one.name]
    _, read, others = read_table(SKYPILOT.read_text(), cloud="nebius")
    assert others == 4, "two instances without GPUs, two without a spot price"


def test_an_instance_is_a_lease_of_all_its_gpus_on_demand_and_on_spot() -> None:
    name = "nebius/gpu-h100-sxm_8gpu-128vcpu-1600gb/eu-north1"
    assert offer(SKYPILOT, name).row(TODAY, "a test") == {
        "kind": "lease",
        "from": "2026-11-26",
        "gpu": "H100",
        "gpus": 8,
        "usd_per_hour": "23.6",
        "source": "a test",
    }
    spot = offer(SKYPILOT, f"{name}/spot").row(TODAY, "a test")
    assert (spot["purchase"], spot["usd_per_hour"]) == ("spot", "10")


def test_spot_prices_of_zones_are_prices_of_their_own() -> None:
    table = (
        "InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region,AvailabilityZone\n"
        "p5.48xlarge,H100,8.0,98.32,25.7,us-east-1,us-east-1a\n"
        "p5.48xlarge,H100,8.0,98.32,31.2,us-east-1,us-east-1b\n"
    )
    read = read_table(table, cloud="aws")[1]
    assert [one.name for one in read] == [
        "aws/p5.48xlarge/us-east-1",
        "aws/p5.48xlarge/us-east-1a/spot",
        "aws/p5.48xlarge/us-east-1",
        "aws/p5.48xlarge/us-east-1b/spot",
    ]


def test_a_price_that_changes_on_a_day_is_two_dated_rows() -> None:
    before, after = [one for one in offers(GENAI_PRICES) if one.name == "anthropic/claude-opus-4-6"]
    assert (before.first_day, after.first_day) == (None, date(2026, 3, 13))
    assert before.tiers
    assert not after.tiers


def test_a_price_by_the_time_of_day_is_said_to_be_one() -> None:
    (why,) = offer(GENAI_PRICES, "deepseek/deepseek-chat").faults
    assert why.startswith("depends on the time of day")


def test_what_makes_no_text_needs_no_price_for_its_completion() -> None:
    assert not offer(GENAI_PRICES, "aws/amazon.titan-embed-text-v1").makes_text
    assert not offer(LITELLM, "openai/text-embedding-3-small").makes_text
    assert offer(LITELLM, "openai/gpt-4.1").makes_text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "neither JSON"),
        ("{", "neither JSON"),
        ("[" * 100_000, "neither JSON"),
        ("[]", "none of the known tables"),
        ("{}", "none of the known tables"),
        ('{"data": []}', "none of the known tables"),
        ("a,b\n1,2\n", "neither JSON"),
        ('[{"id": "p", "models": [{"id": "m", "prices": {"input_mtok": {"base": 1, "tiers": [1]}}}]}]', "not as genai"),
    ],
)
def test_what_is_no_table_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(TableRefused, match=says):
        read_table(text)


def test_a_table_taken_for_another_is_refused() -> None:
    for table in Table:
        path = LITELLM if table is not Table.LITELLM else OPENROUTER
        with pytest.raises(TableRefused):
            read_table(path.read_text(), table, cloud="somewhere")


def test_a_catalogue_of_no_named_cloud_is_refused() -> None:
    with pytest.raises(TableRefused, match="--cloud"):
        read_table(SKYPILOT.read_text())


@pytest.mark.parametrize("value", [float("nan"), "NaN", "free", None, True, [1], "1e999", -1, float("inf")])
def test_a_figure_that_is_no_amount_does_not_stop_the_others(value: Any) -> None:
    document = {
        "bad": {"litellm_provider": "p", "mode": "chat", "input_cost_per_token": value, "output_cost_per_token": 1e-6},
        "good": {"litellm_provider": "p", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6},
    }
    bad, good = read_table(json.dumps(document))[1]
    assert good.figures["prompt_usd_per_million"] == 1
    assert bad.row(TODAY, "a test")["kind"] == "tokens"


ENTRY = '"litellm_provider": "p", "mode": "chat", "output_cost_per_token": 2e-06'


@pytest.mark.parametrize("figure", ["1e999999", "1e99999999999999999999", '"sNaN"', '"1e999999"', "NaN", "-Infinity"])
def test_a_figure_that_no_number_holds_spoils_its_own_row_and_no_other(figure: str) -> None:
    text = (
        f'{{"bad": {{{ENTRY}, "input_cost_per_token": {figure}}}, "good": {{{ENTRY}, "input_cost_per_token": 1e-06}}}}'
    )
    bad, good = read_table(text)[1]
    assert not bad.figures["prompt_usd_per_million"].is_finite()
    assert good.figures["prompt_usd_per_million"] == 1


def test_a_name_that_an_object_has_twice_is_read_twice() -> None:
    text = f'{{"m": {{{ENTRY}, "input_cost_per_token": 1e-06}}, "m": {{{ENTRY}, "input_cost_per_token": 2e-06}}}}'
    read = read_table(text)[1]
    assert [(one.name, one.figures["prompt_usd_per_million"]) for one in read] == [("p/m", 1), ("p/m", 2)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            '[{"id": "p", "models": [{"id": "m", "prices": [{"constraint": {"start_date": "soon"}, "prices": {}}]}]}]',
            "has an entry that is not as genai-prices has them .*soon",
        ),
        (
            '[{"id": "p", "models": [{"id": "m", "prices": {"input_mtok": {"base": 1, "tiers": [{"start": "many"}]}}}]}]',
            "has an entry that is not as genai-prices has them .*many",
        ),
        (
            f"InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region\na,{'x' * 200_000},1,3,1,us\n",
            "has a line that is not as skypilot has them",
        ),
    ],
)
def test_an_entry_that_cannot_be_read_is_refused_in_a_line(text: str, what: str) -> None:
    with pytest.raises(TableRefused, match=what):
        read_table(text, cloud="c")
