"""What cannot be true, or is out of line, is seen in the tables as they are."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from price_tables import GENAI_PRICES, LITELLM, OPENROUTER, SKYPILOT, TABLES, offer, offers

from router.pricing.book import LeaseRow, PriceBook, TokensRow
from router.pricing.suspicion import Limits, Witnesses, suspicions
from router.pricing.tables.offer import Offer, OfferedTier
from router.pricing.tables.reading import read_table

# As `api_price_disagreements` of the data set lists them: provider, model.
DISAGREEING = {
    ("deepseek", "deepseek-chat"),
    ("deepseek", "deepseek-reasoner"),
    ("deepseek", "deepseek-v3.2"),
    ("fireworks", "gemma-3-27b-it"),
    ("fireworks", "llama-v3p1-8b-instruct"),
    ("groq", "gemma-7b-it"),
    ("mistral", "mistral-small-latest"),
    ("novita", "llama-3.1-8b-instruct"),
    ("novita", "llama-3.3-70b-instruct"),
    ("novita", "mistral-nemo"),
    ("openai", "gpt-5.6-luna"),
    ("openai", "gpt-5.6-terra"),
    ("together", "mixtral-8x7b-instruct-v0.1"),
}
TEXT = Offer(
    "s/m",
    "tokens",
    {"prompt_usd_per_million": Decimal(1), "completion_usd_per_million": Decimal(4)},
    seller="s",
    product="m",
)
LEASE = Offer("c/i/r", "lease", {"usd_per_hour": Decimal(4)}, "c", "H100", gpu="H100", makes_text=False)


def with_figures(**usd: str) -> Offer:
    figures = {f"{name}_usd_per_million": Decimal(value) for name, value in usd.items()}
    return replace(TEXT, figures={**TEXT.figures, **figures})


def why(one: Offer, *others: Offer, in_force: TokensRow | LeaseRow | None = None) -> list[str]:
    return suspicions(one, Witnesses([one, *others], {}), in_force, Limits())


def test_an_ordinary_price_is_believed() -> None:
    assert why(TEXT) == []
    assert why(LEASE) == []


def test_a_tier_that_is_free_where_the_rest_is_not_is_seen() -> None:
    tier = {"above_prompt_tokens": Decimal(200_000), **TEXT.figures}
    assert why(replace(TEXT, tiers=(tier,))) == []
    for name in ("prompt", "completion"):
        free = replace(TEXT, tiers=(tier | {f"{name}_usd_per_million": Decimal(0)},))
        assert why(free) == [f"{name}_usd_per_million is 0 above 200000 prompt tokens where it is not below"]


def test_the_13_rows_that_are_ten_thousand_times_too_high_are_all_seen() -> None:
    table = offers(LITELLM)
    witnesses = Witnesses(table, {})
    wandb = [one for one in table if one.seller == "wandb"]
    assert len(wandb) == 13
    for one in wandb:
        assert any("outside what is known" in reason for reason in suspicions(one, witnesses, None, Limits()))


def test_a_unit_that_is_wrong_by_less_shows_beside_what_others_take() -> None:
    """A hundred times too high is within what some model costs, but not this one."""
    table = offers(LITELLM)
    one = next(o for o in table if o.name.startswith("wandb/") and o.product == "gpt-oss-120b")
    hundred = replace(one, figures={name: usd / 1000 for name, usd in one.figures.items()})
    others = [offer for offer in table if offer is not one]
    said = suspicions(hundred, Witnesses([*others, hundred], {}), None, Limits())
    assert [reason.partition(" (")[0] for reason in said] == ["prompt_usd_per_million", "completion_usd_per_million"]
    assert all("is far from what" in reason for reason in said)


def test_the_13_models_on_which_two_tables_disagree_are_all_seen_and_no_other() -> None:
    table = offers(LITELLM)
    witnesses = Witnesses(table, {"genai-prices": offers(GENAI_PRICES)})
    found = {
        one.key
        for one in table
        if any("genai-prices says" in reason for reason in suspicions(one, witnesses, None, Limits()))
    }
    assert found == DISAGREEING
    both = {one.key for one in table} & {one.key for one in offers(GENAI_PRICES)}
    assert both - found, "some agree"


def test_a_difference_of_rounding_is_no_disagreement() -> None:
    other = with_figures(prompt="1.04")
    assert suspicions(TEXT, Witnesses([TEXT], {"other": [other]}), None, Limits()) == []
    (said,) = suspicions(TEXT, Witnesses([TEXT], {"other": [with_figures(prompt="1.06")]}), None, Limits())
    assert said == "other says 1.06 for prompt_usd_per_million, not 1"


def test_a_table_that_contradicts_itself_is_no_witness() -> None:
    others = [with_figures(prompt="2"), with_figures(prompt="3")]
    assert suspicions(TEXT, Witnesses([TEXT], {"other": others}), None, Limits()) == []


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (with_figures(prompt="NaN"), "prompt_usd_per_million is NaN, no number"),
        (with_figures(completion="Infinity"), "completion_usd_per_million is Infinity, no number"),
        (with_figures(prompt="-1000000"), "negative"),
        (with_figures(prompt="0", completion="0"), "is free"),
        (with_figures(prompt="0"), "prompt_usd_per_million is 0 where completion_usd_per_million is not"),
        (with_figures(completion="0"), "completion_usd_per_million is 0 where prompt_usd_per_million is not"),
        (with_figures(completion="0.09"), "cheaper than a tenth of a prompt token"),
        (with_figures(cached="1.1"), "a cached token (1.1) is dearer than an uncached one (1)"),
        (with_figures(prompt="15000", completion="60000"), "more than 10 times outside what is known"),
        (replace(LEASE, figures={"usd_per_hour": Decimal(400)}), "400 USD for a GPU-hour"),
        (replace(TEXT, faults=("is odd",)), "is odd"),
    ],
)
def test_each_rule_says_what_is_wrong(one: Offer, says: str) -> None:
    assert any(says in reason for reason in why(one)), why(one)


def test_a_tier_is_judged_as_the_base_is() -> None:
    tier = {
        "above_prompt_tokens": Decimal(200_000),
        "prompt_usd_per_million": Decimal(2),
        "cached_usd_per_million": Decimal(3),
        "completion_usd_per_million": Decimal(8),
    }
    (said,) = why(replace(TEXT, tiers=(tier,)))
    assert said == "a cached token (3) is dearer than an uncached one (2)"


@pytest.mark.parametrize(
    ("member", "usd", "says"),
    [
        ("prompt_usd_per_million", "NaN", "no number"),
        ("prompt_usd_per_million", "30000", "times outside what is known"),
        ("completion_usd_per_million", "0", "is 0 under the service tier flex where it is not else"),
        ("completion_usd_per_million", "0.05", "cheaper than a tenth"),
        ("cached_usd_per_million", "2", "dearer than an uncached one"),
    ],
)
def test_a_service_tier_is_judged_as_the_base_is(member: str, usd: str, says: str) -> None:
    figures = {"prompt_usd_per_million": Decimal(1), "completion_usd_per_million": Decimal(4)}
    assert why(replace(TEXT, service_tiers={"flex": OfferedTier(figures)})) == []
    wrong = OfferedTier(figures | {member: Decimal(usd)})
    assert any(says in reason for reason in why(replace(TEXT, service_tiers={"flex": wrong})))


def test_a_lease_is_judged_by_the_gpu() -> None:
    assert why(replace(LEASE, gpus=8, figures={"usd_per_hour": Decimal("98.32")})) == []
    others = [replace(LEASE, name=f"{n}/i/r", seller=str(n), figures={"usd_per_hour": Decimal(3)}) for n in range(3)]
    assert why(replace(LEASE, gpus=8, figures={"usd_per_hour": Decimal(24)}), *others) == []
    (said,) = why(replace(LEASE, figures={"usd_per_hour": Decimal(70)}), *others)
    assert "far from what 3 others take" in said


def test_a_zero_is_seen_where_neighbours_are_paid() -> None:
    paid = replace(with_figures(cached="0.1"), seller="other", name="other/m")
    free = with_figures(cached="0")
    assert why(free) == []
    assert why(free, paid) == ["cached_usd_per_million is 0 where others take something"]


def test_a_name_that_stands_twice_is_doubted_unless_both_say_the_same() -> None:
    twin = replace(TEXT)
    assert why(TEXT, twin) == []
    assert why(TEXT, with_figures(prompt="1.1")) == ["stands in the table twice, with different prices"]
    later = replace(with_figures(prompt="1.1"), first_day=date(2027, 1, 1))
    assert why(TEXT, later) == []


def test_a_change_beyond_the_ratio_is_doubted_either_way() -> None:
    def row(prompt: str) -> TokensRow:
        rows = [
            {
                "kind": "tokens",
                "from": "2026-01-01",
                "prompt_usd_per_million": prompt,
                "completion_usd_per_million": 4,
                "source": "a test",
            }
        ]
        (one,) = PriceBook.model_validate({"prices": {"p": rows}}).prices["p"]
        assert isinstance(one, TokensRow)
        return one

    assert why(TEXT, in_force=row("3")) == []
    assert why(TEXT, in_force=row("0.34")) == []
    assert why(TEXT, in_force=row("3.1")) == ["prompt_usd_per_million changes from 3.1 to 1"]
    assert why(TEXT, in_force=row("0.3")) == ["prompt_usd_per_million changes from 0.3 to 1"]
    assert why(TEXT, in_force=row("0")) == ["prompt_usd_per_million changes from 0 to 1"]
    assert why(LEASE, in_force=row("1")) == ["is a price by `lease` where one by `tokens` is in force"]


def test_the_lists_own_oddities_are_seen() -> None:
    openrouter = offers(OPENROUTER)
    doubted = {one.name for one in openrouter if suspicions(one, Witnesses(openrouter, {}), None, Limits())}
    assert doubted == {
        "openrouter/dots-studio/dots-3-note-preview:free",
        "openrouter/openrouter/auto",
        "openrouter/google/gemini-3.7-flash",  # a cache written to for 2 cents a million
    }
    assert "more than 10 times outside" in why(offer(OPENROUTER, "openrouter/google/gemini-3.7-flash"))[0]
    skypilot = offers(SKYPILOT)
    assert [one for one in skypilot if suspicions(one, Witnesses(skypilot, {}), None, Limits())] == []


def test_a_spot_price_no_lower_than_on_demand_and_a_part_of_a_gpu_are_doubted() -> None:
    table = (
        "InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region\na,H100,1,3.0,3.0,r\nb,A10,0.333,1.0,,r\n"
    )
    _, spot, part = read_table(table, cloud="c")[1]
    assert why(spot) == ["is no cheaper than on demand (3.0 USD an hour)"]
    assert why(part) == ["has 0.333 GPUs; prices.yaml needs whole ones"]


def test_the_extracts_say_where_they_are_from() -> None:
    said = Path(TABLES, "README.md").read_text()
    for path in (LITELLM, GENAI_PRICES, OPENROUTER, SKYPILOT):
        assert f"| {path.relative_to(TABLES)} |" in said
