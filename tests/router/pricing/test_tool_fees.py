"""Fees for calls of tools that a provider runs itself: how a row states them, what is refused, what is paid and held."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from router.commands.prices_show import figures
from router.domain.attempt import AttemptStatus
from router.domain.request import HostedTools
from router.domain.usage import Usage
from router.pricing.amounts import metered_amount
from router.pricing.book import PriceBook
from router.pricing.cost import list_cost, metered_cost, tariff_cost
from router.pricing.price import MeteredPrice, ServiceTier, TokenRates
from router.pricing.snapshot import price_from_snapshot, snapshot_text
from router.pricing.worst_case import tools_worst_case

ROW = {
    "kind": "tokens",
    "from": "2026-08-01",
    "source": "a test",
    "prompt_usd_per_million": 2,
    "cached_usd_per_million": "0.5",
    "completion_usd_per_million": 8,
}
FLEX = {"prompt_usd_per_million": 1, "cached_usd_per_million": "0.25", "completion_usd_per_million": 4}
FEES = {"web_search": "0.01", "file_search": "0.0025"}
SEARCHED = (("file_search", 2), ("web_search", 3))


def book(row: Mapping[str, Any]) -> PriceBook:
    return PriceBook.model_validate({"prices": {"p": [row]}})


def metered(row: Mapping[str, Any]) -> MeteredPrice:
    price = book(row).in_force("p", date(2026, 11, 27))
    assert isinstance(price, MeteredPrice)
    return price


def with_fees(**fees: Any) -> dict[str, Any]:
    return {**ROW, "tool_call_usd": fees}


def test_calls_of_tools_are_paid_beside_the_tokens_and_one_without_a_fee_leaves_the_cost_unknown() -> None:
    price = metered(with_fees(**FEES))
    used = Usage(1000, 100)
    tokens = 1000 * 2000 + 100 * 8000
    assert list_cost(price, used) == tokens
    assert list_cost(price, replace(used, tool_calls=SEARCHED)) == tokens + 3 * 10_000_000 + 2 * 2_500_000
    assert list_cost(price, replace(used, tool_calls=(*SEARCHED, ("x_search", 1)))) is None
    assert list_cost(metered(ROW), replace(used, tool_calls=SEARCHED)) is None


def test_the_fees_are_the_same_under_every_service_tier() -> None:
    price = metered(with_fees(**FEES) | {"service_tiers": {"flex": FLEX}})
    used = Usage(1000, 100, service_tier="flex", tool_calls=(("web_search", 1),))
    assert list_cost(price, used) == 1000 * 1000 + 100 * 4000 + 10_000_000
    assert list_cost(price, replace(used, service_tier="scale")) is None


def test_a_fee_of_zero_is_a_fee() -> None:
    price = metered(with_fees(code_execution=0))
    assert list_cost(price, Usage(1, 0, tool_calls=(("code_execution", 1),))) == 2000


@pytest.mark.parametrize(
    ("fees", "says"),
    [
        ({"web_search": 10}, "10 USD for a call of a tool is more than 10 times outside"),  # $ per thousand
        ({"web_search": "0.00001"}, "check the unit, or add `unusual_price_confirmed: true`"),
        ({"web_search": -1}, "is not an amount"),
        ({"web_search": "0.0000000001"}, "finer than a nano-dollar"),
        ({"web_search": "ten cents"}, "is not a number"),
        ({"web_search": None}, "is not a number"),
        ({"Web Search": "0.01"}, "should match pattern"),
        ({"": "0.01"}, "should match pattern"),
        ({"x" * 65: "0.01"}, "at most 64"),
    ],
)
def test_a_fee_that_cannot_be_meant_is_refused_where_it_stands(fees: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        book(with_fees(**fees))
    (mistake,) = caught.value.errors()
    assert list(mistake["loc"])[4:6] == ["tool_call_usd", *fees]
    assert says in mistake["msg"]


def test_a_fee_that_is_out_of_line_stands_once_the_row_is_confirmed() -> None:
    price = metered(with_fees(web_search=10) | {"unusual_price_confirmed": True})
    assert price.tool_nanousd("web_search") == 10 * 10**9


def test_a_row_is_shown_with_them() -> None:
    (row,) = book(with_fees(**FEES)).prices["p"]
    told = figures(row)
    assert told == "2 prompt, 0.5 cached, 8 completion, 0.0025 a call of file_search, 0.01 a call of web_search"


# Snapshots


def test_neither_the_id_nor_the_snapshot_of_a_price_without_fees_is_another_than_before_there_were_fees() -> None:
    price = metered(ROW)
    assert price.price_id == metered({**ROW, "tool_call_usd": {}}).price_id == "p@2026-08-01#6a5ae430"
    before = (
        '{"kind":"metered","price":{"price_id":"p@2026-08-01#6a5ae430","rates":{"prompt":2000000000,"cached":500000000,'
        '"cache_write":2000000000,"completion":8000000000,"cache_write_hour":null},"tiers":[],"request_nanousd":0,'
        '"audio_nanousd_per_hour":0,"service_tiers":[]}}'
    )
    assert snapshot_text(price) == before
    assert price_from_snapshot(before) == price


def test_a_snapshot_has_them_and_the_id_tells_them_however_they_are_laid_out() -> None:
    one, other = metered(with_fees(**FEES)), metered(with_fees(file_search="0.00250", web_search="0.010"))
    assert one == other
    assert price_from_snapshot(snapshot_text(one)) == one
    assert len({one.price_id, metered(with_fees(web_search="0.01")).price_id, metered(ROW).price_id}) == 3


# What is paid and held

tools = st.sampled_from(["web_search", "file_search", "code_interpreter", "x_search"])
fees = st.dictionaries(tools, st.integers(0, 10**9), max_size=4)
counts = st.dictionaries(tools, st.integers(1, 1000), max_size=4)
tokens = st.integers(0, 200_000)
PLAIN = MeteredPrice(
    "p", TokenRates(2 * 10**9, 10**9, 10**9, 8 * 10**9), service_tiers=(ServiceTier("flex", TokenRates(1, 1, 1, 1)),)
)


@given(fees, counts, tokens, tokens, st.sampled_from(["", "flex"]))
def test_the_cost_is_the_tokens_and_every_call_at_its_fee_or_not_known(
    fees: dict[str, int], calls: dict[str, int], prompt_tokens: int, completion_tokens: int, tier: str
) -> None:
    price = replace(PLAIN, tool_call_nanousd=tuple(sorted(fees.items())))
    used = Usage(prompt_tokens, completion_tokens, service_tier=tier, tool_calls=tuple(sorted(calls.items())))
    cost, tariff = list_cost(price, used), price.tariff(tier)
    assert tariff is not None
    if calls.keys() <= fees.keys():
        assert cost == tariff_cost(tariff, used) + sum(fees[tool] * count for tool, count in calls.items())
    else:
        assert cost is None
    assert metered_cost(price, replace(used, provider_cost_nanousd=7)) == 7


@given(fees, counts, st.integers(1, 3000), st.data())
def test_no_calls_that_a_request_bounds_cost_more_than_what_is_held_for_them(
    fees: dict[str, int], bounds: dict[str, int], together: int, data: st.DataObject
) -> None:
    price = replace(PLAIN, tool_call_nanousd=tuple(sorted(fees.items())))
    asked = HostedTools(tuple(sorted(bounds.items())), min(together, sum(bounds.values())))
    left, made = asked.calls_max, {}
    for tool in data.draw(st.permutations([tool for tool in bounds if tool in fees])):
        made[tool] = data.draw(st.integers(0, min(bounds[tool], left)))
        left -= made[tool]
    cost = price.tools_nanousd(tuple(made.items()))
    assert cost is not None
    held = tools_worst_case(price, asked)
    assert cost <= held
    # And no more is held than the dearest calls together could cost.
    dearest = sorted((fees[tool] for tool in bounds if tool in fees for _ in range(bounds[tool])), reverse=True)
    assert held == sum(dearest[: asked.calls_max])


def test_a_failure_is_free_only_where_nothing_was_called_either() -> None:
    price = metered(with_fees(**FEES))
    assert metered_amount(price, Usage(0, 0), AttemptStatus.FAILED) == 0
    assert metered_amount(price, Usage(0, 0, tool_calls=SEARCHED), AttemptStatus.FAILED) == 35_000_000
    assert metered_amount(metered(ROW), Usage(0, 0, tool_calls=SEARCHED), AttemptStatus.FAILED) is None
