"""Rates of a provider's service tiers: how a row states them, what is refused, and what is paid under them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from router.commands.prices_show import figures
from router.config_shape import check_shape
from router.config_source import ConfigRefused, read_source
from router.domain.attempt import AttemptStatus
from router.domain.usage import PLAIN_SERVICE_TIERS, Usage, service_tier_named
from router.pricing.amounts import metered_amount
from router.pricing.book import PriceBook
from router.pricing.cost import list_cost, metered_cost, tariff_cost
from router.pricing.price import ContextTier, MeteredPrice, ServiceTier, TokenRates
from router.pricing.quote import metered_quote
from router.pricing.snapshot import price_from_snapshot, snapshot_text
from router.pricing.worst_case import metered_worst_case

TODAY = date(2026, 11, 27)
ROW = {
    "kind": "tokens",
    "from": "2026-08-01",
    "source": "a test",
    "prompt_usd_per_million": 2,
    "cached_usd_per_million": "0.5",
    "completion_usd_per_million": 8,
}
FLEX = {"prompt_usd_per_million": 1, "cached_usd_per_million": "0.25", "completion_usd_per_million": 4}
PRIORITY = {"prompt_usd_per_million": 4, "cached_usd_per_million": 1, "completion_usd_per_million": 16}
LONG = {"above_prompt_tokens": 200_000, "prompt_usd_per_million": 3, "completion_usd_per_million": 12}


def book(row: Mapping[str, Any]) -> PriceBook:
    return PriceBook.model_validate({"prices": {"p": [row]}})


def metered(row: Mapping[str, Any]) -> MeteredPrice:
    price = book(row).in_force("p", TODAY)
    assert isinstance(price, MeteredPrice)
    return price


def tiered(**tiers: Mapping[str, Any]) -> dict[str, Any]:
    return {**ROW, "service_tiers": tiers}


def test_a_tier_has_rates_of_its_own_and_one_that_is_not_there_has_none() -> None:
    price = metered(tiered(priority=PRIORITY, flex=FLEX))
    used = Usage(1000, 100, cached_tokens=400)
    assert list_cost(price, used) == 600 * 2000 + 400 * 500 + 100 * 8000
    assert list_cost(price, replace(used, service_tier="flex")) == 600 * 1000 + 400 * 250 + 100 * 4000
    assert list_cost(price, replace(used, service_tier="priority")) == 600 * 4000 + 400 * 1000 + 100 * 16000
    assert list_cost(price, replace(used, service_tier="scale")) is None


def test_a_tier_has_its_own_lengths_of_context_fee_and_audio() -> None:
    row = {**ROW, "tiers": [LONG], "request_usd": "0.01", "audio_usd_per_hour": "0.36"}
    flex = {
        **FLEX,
        "tiers": [{**LONG, "above_prompt_tokens": 100_000}],
        "request_usd": 0,
        "audio_usd_per_minute": "0.003",
    }
    price = metered({**row, "service_tiers": {"flex": flex}})
    assert list_cost(price, Usage(150_000, 0)) == 150_000 * 2000 + 10_000_000
    assert list_cost(price, Usage(150_000, 0, service_tier="flex")) == 150_000 * 3000
    assert list_cost(price, Usage(0, 0, audio_seconds=3600, service_tier="flex")) == 180_000_000


@pytest.mark.parametrize(
    ("row", "place", "says"),
    [
        (tiered(default=FLEX), ["default"], "is what the row itself is the price of; take it out"),
        (tiered(auto=FLEX), ["auto"], "take it out"),
        (
            tiered(flex={name: usd for name, usd in FLEX.items() if name != "cached_usd_per_million"}),
            ["flex"],
            "says nothing of `cached_usd_per_million`, which the row itself does; write it there, too",
        ),
        (
            {
                **tiered(flex={"prompt_usd_per_million": 1, "completion_usd_per_million": 4}),
                "cached_usd_per_million": 0,
            },
            ["flex"],
            "says nothing of `cached_usd_per_million`",
        ),
        ({**tiered(flex=FLEX), "tiers": [LONG]}, ["flex"], "says nothing of `tiers`"),
        ({**tiered(flex=FLEX), "request_usd": "0.01"}, ["flex"], "says nothing of `request_usd`"),
        ({**tiered(flex=FLEX), "audio_usd_per_hour": "0.3"}, ["flex"], "says nothing of `audio_usd_per_hour`"),
        (
            tiered(flex={**FLEX, "prompt_usd_per_million": "1000000"}),
            ["flex", "prompt_usd_per_million"],
            "check the unit",
        ),
        (tiered(flex={**FLEX, "cached_usd_per_million": 2}), ["flex", "cached_usd_per_million"], "dearer than"),
        (tiered(flex={**FLEX, "tiers": [LONG, LONG]}), ["flex", "tiers"], "do not ascend"),
        (tiered(flex=dict.fromkeys(FLEX, 0)), ["flex"], "every rate is 0"),
        (tiered(flex={**FLEX, "audio_usd_per_hour": "0.3", "audio_usd_per_minute": "0.005"}), ["flex"], "priced twice"),
        (tiered(flex={**FLEX, "usd_per_hour": 3}), ["flex", "usd_per_hour"], "not permitted"),
        (tiered(flex={"prompt_usd_per_million": 1, "cached_usd_per_million": 1}), ["flex"], "Field required"),
        ({**ROW, "service_tiers": {"of mine": FLEX}}, ["of mine"], "match"),
    ],
)
def test_a_tier_that_cannot_be_meant_is_refused_where_it_stands(
    row: dict[str, Any], place: list[str], says: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        book(row)
    (mistake,) = caught.value.errors()
    assert list(mistake["loc"])[4 : 5 + len(place)] == ["service_tiers", *place]
    assert says in mistake["msg"]


def test_a_tier_that_is_out_of_line_stands_once_the_row_is_confirmed() -> None:
    row = tiered(flex=dict.fromkeys(FLEX, 0)) | {"unusual_price_confirmed": True}
    assert list_cost(metered(row), Usage(1000, 1000, service_tier="flex")) == 0


def test_a_mistake_is_told_with_its_line_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    text = yaml.safe_dump({"prices": {"p": [tiered(flex={**FLEX, "cached_usd_per_million": 3})]}}, sort_keys=False)
    path.write_text(text)
    with pytest.raises(ConfigRefused) as refused:
        check_shape(read_source(path), PriceBook)
    (mistake,) = refused.value.mistakes
    lines = text.splitlines()
    assert lines[mistake.line - 1].strip() == "cached_usd_per_million: 3"
    assert "service_tiers" in mistake.what
    assert "unusual_price_confirmed" in mistake.remedy


def test_a_row_is_shown_with_them() -> None:
    (row,) = book(tiered(flex=FLEX)).prices["p"]
    assert figures(row) == "2 prompt, 0.5 cached, 8 completion, under flex 1 prompt + 0.25 cached + 4 completion"


# Snapshots


def test_the_price_id_of_a_row_without_tiers_is_what_it_was() -> None:
    long = {**ROW, "tiers": [LONG], "request_usd": "0.01"}
    assert metered(ROW).price_id == "p@2026-08-01#6a5ae430"
    assert metered(long).price_id == "p@2026-08-01#3ab8b4b4"
    assert metered({**ROW, "service_tiers": {}}).price_id == metered(ROW).price_id


def test_the_price_id_tells_tiers_by_their_content_however_they_are_laid_out() -> None:
    one = metered(tiered(flex=FLEX, priority=PRIORITY))
    other = metered(tiered(priority=dict(reversed(PRIORITY.items())), flex={**FLEX, "prompt_usd_per_million": "1.00"}))
    assert one == other
    dearer = metered(tiered(flex={**FLEX, "completion_usd_per_million": 5}, priority=PRIORITY))
    assert len({one.price_id, dearer.price_id, metered(ROW).price_id}) == 3


def test_a_snapshot_has_them_and_one_of_an_older_jeton_has_none() -> None:
    price = metered({**tiered(flex={**FLEX, "tiers": [LONG]}, priority=PRIORITY)})
    assert price_from_snapshot(snapshot_text(price)) == price
    older = (
        '{"kind":"metered","price":{"price_id":"q","rates":{"prompt":2,"cached":1,"cache_write":2,"completion":8,'
        '"cache_write_hour":null},"tiers":[],"request_nanousd":0,"audio_nanousd_per_hour":0}}'
    )
    assert price_from_snapshot(older) == MeteredPrice("q", TokenRates(2, 1, 2, 8))


# What is paid

rates = st.builds(TokenRates, *[st.integers(0, 10**11)] * 4)
context_tiers = st.lists(st.builds(ContextTier, st.integers(1, 300_000), rates), max_size=2).map(
    lambda tiers: tuple(sorted(tiers, key=lambda tier: tier.above_prompt_tokens))
)
fees = st.integers(0, 10**9), st.integers(0, 10**10)
names = st.sampled_from(["flex", "priority", "scale"])
tariffs = st.dictionaries(names, st.tuples(rates, context_tiers, *fees), max_size=3)
prices = st.builds(
    lambda plain, tiers: MeteredPrice("p", *plain, tuple(ServiceTier(name, *one) for name, one in tiers.items())),
    st.tuples(rates, context_tiers, *fees),
    tariffs,
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, written, uncached = (draw(st.integers(0, 200_000)) for _ in range(3))
    return Usage(
        cached + written + uncached,
        draw(st.integers(0, 100_000)),
        cached,
        written,
        audio_seconds=float(draw(st.integers(0, 5000))),
        cache_write_hour_tokens=draw(st.integers(0, written)),
        service_tier=draw(st.one_of(st.just(""), names)),
    )


@given(prices, usages())
def test_under_a_tier_all_is_paid_as_if_its_rates_were_the_prices_own(price: MeteredPrice, used: Usage) -> None:
    found = [one for one in price.service_tiers if one.name == used.service_tier]
    cost = list_cost(price, used)
    if not used.service_tier:
        assert cost == list_cost(replace(price, service_tiers=()), used)
    elif found:
        (tier,) = found
        own = MeteredPrice("q", tier.rates, tier.tiers, tier.request_nanousd, tier.audio_nanousd_per_hour)
        assert cost == list_cost(own, replace(used, service_tier="")) == tariff_cost(tier, used)
    else:
        assert cost is None


@given(prices, usages(), st.integers(1, 10**12))
def test_what_the_provider_says_it_charged_is_the_cost_under_any_tier(
    price: MeteredPrice, used: Usage, reported: int
) -> None:
    assert metered_cost(price, replace(used, provider_cost_nanousd=reported)) == reported
    assert metered_cost(price, replace(used, provider_cost_nanousd=0)) == list_cost(price, used)


@given(prices, usages())
def test_neither_a_cost_nor_a_quote_of_a_tier_is_above_what_is_held_for_it(price: MeteredPrice, used: Usage) -> None:
    tariff = price.tariff(used.service_tier)
    if tariff is None:
        return
    held = metered_worst_case(tariff, used.prompt_tokens, used.completion_tokens, used.audio_seconds)
    cost = list_cost(price, used)
    assert cost is not None
    assert cost <= held
    uncached = replace(used, cached_tokens=0, cache_write_tokens=0, cache_write_hour_tokens=0)
    quote = metered_quote(tariff, used.prompt_tokens, used.completion_tokens, 0, used.audio_seconds)
    exact = list_cost(price, uncached)
    assert exact is not None
    assert quote.marginal_nanousd == pytest.approx(exact, rel=1e-9, abs=1)


def test_a_failure_that_made_nothing_is_free_whatever_tier_it_was_asked_under() -> None:
    assert metered_amount(metered(ROW), Usage(0, 0, service_tier="flex"), AttemptStatus.FAILED) == 0
    assert metered_amount(metered(ROW), Usage(9, 0, service_tier="flex"), AttemptStatus.FAILED) is None


@pytest.mark.parametrize("name", sorted(PLAIN_SERVICE_TIERS))
def test_what_providers_call_their_plain_tier_has_no_name(name: str) -> None:
    assert service_tier_named(name) == ""
    assert service_tier_named("flex") == "flex"


@pytest.mark.parametrize("told", ["\n", "\x00\x1b[2J", "x" * 1000, " "])
def test_whatever_else_an_answer_says_is_a_name_that_can_be_shown(told: str) -> None:
    named = service_tier_named(told)
    assert named
    assert named.isprintable()
    assert len(named) <= 64
