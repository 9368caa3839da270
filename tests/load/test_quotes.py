"""Quotes against outcomes: the bounds hold on a small fixed part of `docs/quote-errors.md`."""

import pytest

from load.attribution.mixes import MIXES
from load.profiles import profile_named
from load.quotes.outcome import Quoted, quoted
from load.quotes.table import ALLOCATED_MAX, SEEDS, STANDARD_MAX, TTFT_MAX, Table, page, row

MIX = {mix.name: mix for mix in MIXES}


def of(profile: str, mix: str, clients: int, *, is_length_known: bool = True) -> list[Quoted]:
    return quoted(profile_named(profile), MIX[mix], clients, 200, seed=SEEDS[1], is_length_known=is_length_known)


@pytest.mark.parametrize(
    ("profile", "mix", "clients"),
    [
        ("h100-llama-3.1-8b-fp8", "chat", 1),
        ("h100-llama-3.1-8b-fp8", "chat", 16),
        ("h100-llama-3.1-8b-fp8", "writing", 32),
        ("l4-llama-3.1-8b-int4", "prefix hits", 64),
        ("l4-llama-3.1-8b-int4", "long", 16),
        ("h100-qwen3-30b-a3b-fp8", "short", 32),
    ],
)
def test_quotes_are_near_what_is_seen_and_charged(profile: str, mix: str, clients: int) -> None:
    found = row(profile, clients, mix, of(profile, mix, clients))
    assert found.ttft <= TTFT_MAX
    assert found.standard <= STANDARD_MAX
    assert found.allocated <= ALLOCATED_MAX
    assert found.tpot <= 0.15, "the prompts that come meanwhile are reckoned with"


def test_the_standard_quote_errs_by_the_length_alone() -> None:
    known = of("h100-llama-3.1-8b-fp8", "prefix hits", 4)
    assert all(one.standard_quote == pytest.approx(one.standard, abs=1e-9) for one in known)
    expected = row("", 4, "", of("h100-llama-3.1-8b-fp8", "prefix hits", 4, is_length_known=False))
    assert expected.standard > STANDARD_MAX


def test_alone_on_a_replica_a_request_is_forecast_to_one_per_cent() -> None:
    alone = of("h100-llama-3.1-8b-fp8", "short", 1)
    assert alone
    for one in alone:
        assert one.ttft_forecast_seconds == pytest.approx(one.ttft_seconds, rel=0.01)
        assert one.tpot_forecast_seconds == pytest.approx(one.tpot_seconds, rel=0.01)


def test_the_page_marks_what_does_not_hold() -> None:
    good, bad = (row("p", 1, name, of("h100-llama-3.1-8b-fp8", "short", 1)[:5]) for name in ("good", "bad"))
    bad = type(bad)(bad.profile, bad.mix, bad.clients, TTFT_MAX * 1.01, bad.tpot, bad.standard, bad.allocated)
    text = page({11: Table([good, bad], good, bad)}, date="2026-11-26", version="0", data="some runs")
    assert "hold in 1 of 2 runs of seed 11" in text
    assert "| **bad** |" in text
    assert "| good |" in text
