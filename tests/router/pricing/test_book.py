"""The price book: dated rows, read exactly, refused when they cannot be meant."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from router.domain.usage import Usage
from router.pricing.book import LeasedPrice, MeteredPrice, PriceBook, PriceMissing, Purchase
from router.pricing.cost import metered_cost
from router.pricing.price import TokenRates

PRICES = Path(__file__).parents[3] / "deploy" / "config" / "prices.yaml"
TODAY = date(2026, 11, 23)
SINCE = {"from": "2026-01-01", "source": "a test"}
LEASE = {"kind": "lease", **SINCE}
TOKENS = {"kind": "tokens", "prompt_usd_per_million": 2, "completion_usd_per_million": 8, **SINCE}
OWNED = {
    "kind": "owned",
    "capital_usd": 30_000,
    "life_years": 4,
    "power_kw": 1.2,
    "energy_usd_per_kwh": 0.15,
    "pue": 1.3,
    "hosting_usd_per_hour": 0.1,
    **SINCE,
}


def book(*rows: dict[str, Any], name: str = "p") -> PriceBook:
    return PriceBook.model_validate({"prices": {name: list(rows)}})


def refusal(*rows: dict[str, Any]) -> tuple[tuple[str | int, ...], str]:
    """Where the one mistake is, and what it says."""
    with pytest.raises(ValidationError) as caught:
        book(*rows)
    (mistake,) = caught.value.errors()
    return mistake["loc"], mistake["msg"]


def leased(row: dict[str, Any]) -> LeasedPrice:
    price = book(row).in_force("p", TODAY)
    assert isinstance(price, LeasedPrice)
    return price


def metered(row: dict[str, Any]) -> MeteredPrice:
    price = book(row).in_force("p", TODAY)
    assert isinstance(price, MeteredPrice)
    return price


# What a row becomes


@pytest.mark.parametrize("written", [3.6, "3.60", "3.6", Decimal("3.600")])
def test_a_lease_is_read_exactly_however_its_figure_is_written(written: Any) -> None:
    price = leased({**LEASE, "usd_per_hour": written})
    assert price.nanousd_per_hour == 3_600_000_000
    assert price == leased({**LEASE, "usd_per_hour": "3.60"})


@given(st.integers(25_000_000, 154_000_000_000))
def test_every_nano_dollar_of_a_lease_survives_the_yaml_file(nanousd_per_hour: int) -> None:
    text = yaml.safe_dump({"prices": {"p": [{**LEASE, "usd_per_hour": str(Decimal(nanousd_per_hour).scaleb(-9))}]}})
    price = PriceBook.model_validate(yaml.safe_load(text)).in_force("p", TODAY)
    assert isinstance(price, LeasedPrice)
    assert price.nanousd_per_hour == nanousd_per_hour


def test_a_commitment_is_a_discounted_lease() -> None:
    price = leased({**LEASE, "purchase": "reserved", "usd_per_hour": 4, "discount_ratio": 0.375})
    assert price.nanousd_per_hour == 2_500_000_000
    assert price.purchase is Purchase.RESERVED


def test_a_discount_without_a_commitment_is_refused() -> None:
    place, says = refusal({**LEASE, "usd_per_hour": 4, "discount_ratio": 0.4})
    assert place[-1] == "discount_ratio"
    assert "without a commitment" in says


def test_owned_hardware_costs_its_capital_its_power_and_its_hosting_by_the_hour() -> None:
    # 30,000 ÷ (4 × 8,766) + 1.2 × 1.3 × 0.15 + 0.1 = 0.855578… + 0.234 + 0.1
    price = leased(OWNED)
    assert price.nanousd_per_hour == 1_189_578_371
    assert price.purchase is Purchase.OWNED


def test_a_class_without_a_rate_of_its_own_costs_as_the_prompt_and_a_rate_of_zero_stays_zero() -> None:
    assert metered(TOKENS).rates == TokenRates(2 * 10**9, 2 * 10**9, 2 * 10**9, 8 * 10**9)
    free_reads = metered({**TOKENS, "cached_usd_per_million": 0, "cache_write_usd_per_million": 2.5})
    assert free_reads.rates == TokenRates(2 * 10**9, 0, 2_500_000_000, 8 * 10**9)


@pytest.mark.parametrize(
    ("member", "usd"), [("audio_usd_per_second", 0.0001), ("audio_usd_per_minute", 0.006), ("audio_usd_per_hour", 0.36)]
)
def test_audio_may_be_priced_by_the_second_the_minute_or_the_hour(member: str, usd: float) -> None:
    assert metered({**TOKENS, member: usd}).audio_nanousd_per_hour == 360_000_000


def test_audio_priced_twice_is_refused() -> None:
    place, says = refusal({**TOKENS, "audio_usd_per_second": 0.0001, "audio_usd_per_hour": 0.36})
    assert place[-1] == "audio_usd_per_hour"
    assert "twice" in says


# Which row is in force


def test_the_row_that_began_last_is_in_force() -> None:
    prices = book(
        {**LEASE, "usd_per_hour": 4},
        {**LEASE, "from": "2026-06-01", "until": "2026-07-01", "usd_per_hour": 2},
        {**LEASE, "from": "2026-12-01", "usd_per_hour": 3},
    )
    in_force = {
        day: prices.in_force("p", date.fromisoformat(day))
        for day in ("2026-01-01", "2026-05-31", "2026-06-01", "2026-06-30", "2026-07-01", "2026-11-30", "2026-12-01")
    }
    assert [price.nanousd_per_hour // 10**9 for price in in_force.values() if isinstance(price, LeasedPrice)] == [
        4, 4, 2, 2, 4, 4, 3,
    ]  # fmt: skip


def test_a_day_before_the_first_row_has_no_price_and_the_refusal_says_which_days_have() -> None:
    with pytest.raises(PriceMissing, match=r"2025-12-31; add one \(it has 2026-01-01 to 2026-02-01\)"):
        book({**LEASE, "until": "2026-02-01", "usd_per_hour": 4}).in_force("p", date(2025, 12, 31))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(PriceMissing, match="no price named `central-h10O`; there is `central-h100`"):
        book({**LEASE, "usd_per_hour": 4}, name="central-h100").in_force("central-h10O", TODAY)


def test_two_rows_of_one_name_that_begin_on_one_day_are_refused() -> None:
    place, says = refusal({**LEASE, "usd_per_hour": 4}, {**LEASE, "usd_per_hour": 5})
    assert place == ("prices", "p")
    assert "two rows begin on 2026-01-01" in says


def test_a_row_that_ends_before_it_began_is_refused() -> None:
    place, says = refusal({**LEASE, "until": "2026-01-01", "usd_per_hour": 4})
    assert place[-1] == "until"
    assert "2026-01-01" in says


# What is refused


@pytest.mark.parametrize(
    ("row", "member"),
    [
        ({**LEASE, "usd_per_hour": 200}, "usd_per_hour"),
        ({**LEASE, "usd_per_hour": 0.02}, "usd_per_hour"),
        ({**LEASE, "usd_per_hour": 0}, "usd_per_hour"),
        ({**LEASE, "gpus": 8, "usd_per_hour": 0.16}, "usd_per_hour"),
        ({**OWNED, "capital_usd": 30_000_000}, "owned"),
        # A row of the price tables that were looked at: dollars per token times ten thousand too many.
        ({**TOKENS, "prompt_usd_per_million": 71_000}, "prompt_usd_per_million"),
        # Dollars per token, written where dollars per million belong.
        ({**TOKENS, "completion_usd_per_million": 0.0000006}, "completion_usd_per_million"),
        ({**TOKENS, "cached_usd_per_million": 500}, "cached_usd_per_million"),
        ({**TOKENS, "cache_write_usd_per_million": 200}, "cache_write_usd_per_million"),
        ({**TOKENS, "request_usd": 1}, "request_usd"),
        ({**TOKENS, "audio_usd_per_second": 0.006}, "audio_usd_per_second"),
        (
            {
                **TOKENS,
                "tiers": [
                    {
                        "above_prompt_tokens": 200_000,
                        "prompt_usd_per_million": 4_000,
                        "completion_usd_per_million": 12,
                    }
                ],
            },
            "tiers",
        ),
        ({**TOKENS, "prompt_usd_per_million": 0, "completion_usd_per_million": 0}, "tokens"),
        ({**TOKENS, "prompt_usd_per_million": 3, "cached_usd_per_million": "3.01"}, "cached_usd_per_million"),
        (
            {
                **TOKENS,
                "tiers": [
                    {
                        "above_prompt_tokens": 200_000,
                        "prompt_usd_per_million": 4,
                        "cached_usd_per_million": 5,
                        "completion_usd_per_million": 12,
                    }
                ],
            },
            "tiers",
        ),
    ],
)
def test_a_price_that_can_hardly_be_is_refused_until_it_is_confirmed(row: dict[str, Any], member: str) -> None:
    place, says = refusal(row)
    assert place[-1] == member
    assert "unusual_price_confirmed: true" in says
    confirmed = book({**row, "unusual_price_confirmed": True}).in_force("p", TODAY)
    assert confirmed.price_id.startswith("p@2026-01-01#")


def test_eight_gpus_may_cost_what_one_may_not() -> None:
    assert leased({**LEASE, "gpus": 16, "usd_per_hour": 200}).nanousd_per_hour == 200 * 10**9


@pytest.mark.parametrize("figure", [True, -1, "free", "1e400", float("nan"), float("inf"), 0.12345678901, [3], None])
def test_what_is_no_exact_amount_is_refused(figure: Any) -> None:
    place, _ = refusal({**LEASE, "usd_per_hour": figure})
    assert place[-1] == "usd_per_hour"


@pytest.mark.parametrize("day", [0, 20260101, "yesterday", datetime(2026, 1, 1), None])
def test_what_is_no_day_is_refused(day: Any) -> None:
    place, _ = refusal({**LEASE, "usd_per_hour": 4, "from": day})
    assert place[-1] == "from"


def test_nothing_unknown_and_nothing_without_a_source_is_accepted() -> None:
    assert refusal({**LEASE, "usd_per_hour": 4, "currency": "EUR"})[0][-1] == "currency"
    assert refusal({**LEASE, "usd_per_hour": 4, "source": ""})[0][-1] == "source"
    assert refusal({"kind": "lease", "from": "2026-01-01", "usd_per_hour": 4})[0][-1] == "source"
    assert refusal({**LEASE, "kind": "rent"})[0] == ("prices", "p", 0)
    assert refusal()[0] == ("prices", "p")


def test_tiers_must_ascend() -> None:
    tier = {"above_prompt_tokens": 200_000, "prompt_usd_per_million": 4, "completion_usd_per_million": 12}
    assert "ascend" in refusal({**TOKENS, "tiers": [tier, tier]})[1]


# Snapshots


def test_the_price_id_names_the_row_by_its_content() -> None:
    price = leased({**LEASE, "usd_per_hour": 4})
    assert price.price_id == leased({**LEASE, "usd_per_hour": "4.00", "gpus": 1}).price_id
    assert price.price_id != leased({**LEASE, "usd_per_hour": 5}).price_id
    assert price.price_id != leased({**LEASE, "usd_per_hour": 4, "source": "another"}).price_id


def test_a09_a_zero_price_survives_a_reload_and_a_new_price_leaves_the_old_snapshot_as_it_was() -> None:
    free = {**TOKENS, "prompt_usd_per_million": 0, "completion_usd_per_million": 0, "unusual_price_confirmed": True}
    held = metered(free)
    reloaded = PriceBook.model_validate(yaml.safe_load(yaml.safe_dump({"prices": {"p": [free]}})))
    assert reloaded.in_force("p", TODAY) == held

    usage = Usage(prompt_tokens=1000, completion_tokens=1000)
    dearer = book(free, {**TOKENS, "from": "2026-02-01"}).in_force("p", TODAY)
    assert isinstance(dearer, MeteredPrice)
    assert metered_cost(dearer, usage) == 10_000_000
    assert metered_cost(held, usage) == 0
    assert held.price_id != dearer.price_id
    with pytest.raises(AttributeError):
        held.request_nanousd = 1  # type: ignore[misc]


def test_the_shipped_prices_are_in_force_and_say_where_they_are_from() -> None:
    prices = PriceBook.model_validate(yaml.safe_load(PRICES.read_text()))
    in_force = {name: prices.in_force(name, TODAY) for name in prices.prices}
    bench, small = in_force["bench-gpu"], in_force["cloud-small"]
    assert isinstance(bench, LeasedPrice)
    assert bench.nanousd_per_hour == 3_600_000_000
    assert isinstance(small, MeteredPrice)
    assert {"edge-l4", "central-h100", "cloud-large"} <= in_force.keys()
    for name, rows in prices.prices.items():
        assert prices.in_force(name, rows[-1].first_day + timedelta(days=1)) == in_force[name]


def test_a_tier_that_is_free_by_accident_is_refused() -> None:
    tier = {"above_prompt_tokens": 200_000, "prompt_usd_per_million": 0, "completion_usd_per_million": 0}
    assert "every rate above 200,000 prompt tokens is 0" in refusal(TOKENS | {"tiers": [tier]})[1]
    book(TOKENS | {"tiers": [tier], "unusual_price_confirmed": True})
    book(TOKENS | {"tiers": [tier | {"completion_usd_per_million": 8}]})
