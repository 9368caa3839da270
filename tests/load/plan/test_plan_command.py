"""`jeton plan` answers in dollars, and says what it cannot use."""

import json
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from load.plan.command import plan
from load.plan.market import PRICES, builds, gpu_named, qualities_of, read_offers, read_qualities
from load.plan.purchase import Way
from router.profiles import shipped

DAY = "2026-11-01"
PRICE_BOOK = """
prices:
  ours: [{kind: lease, from: 2026-01-01, gpu: H100-SXM, gpus: 2, usd_per_hour: 6.0, source: a test}]
  bought: [{kind: owned, from: 2026-01-01, gpu: h100, capital_usd: 26298, life_years: 3, power_kw: 1, energy_usd_per_kwh: 0.1,
            pue: 1, source: a test}]
  serverless/h100: [{kind: lease, from: 2026-01-01, gpu: h100, usd_per_hour: 5.0, source: a test}]
  cloud/llama-3.1-8b: [{kind: tokens, from: 2026-01-01, prompt_usd_per_million: 0.2,
                        completion_usd_per_million: 0.2, source: a test}]
  elsewhere: [{kind: lease, from: 2026-01-01, gpu: Cerebras, usd_per_hour: 5.0, source: a test}]
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(plan, [*arguments, "--day", DAY], catch_exceptions=False)


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICE_BOOK)
    return path


def test_a_plan_is_told_as_a_table_and_as_json(prices: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    arguments = ("--prices", str(prices), "--model", "llama-3.1-8b", "--quantization", "fp8", "--json", str(out))
    result = run("--tokens-per-day", "1e9", "--prompt-tokens", "900", "--completion-tokens", "100", *arguments)
    assert result.exit_code == 0, result.output
    assert "llama-3.1-8b fp8 on h100" in result.output
    assert "elsewhere" in result.output
    told = json.loads(out.read_text())
    assert told["demand"]["requests_per_second"] == pytest.approx(1e9 / 86_400 / 1000)
    cloud = next(one for one in told["plans"] if one["way"] == "metered")
    assert cloud["usd_per_day"] == pytest.approx(200)
    assert cloud["usd_per_year"] == pytest.approx(73_000)
    ways = {one["way"] for one in told["plans"]}
    assert ways == {"metered", "on_demand", "owned", "serverless"}
    months = next(one for one in told["break_even_points"] if one["unit"] == "months")
    # $26,298, then ten cents an hour, against three dollars
    assert months["value"] == pytest.approx(26_298 / 2.9 / 730.5)


def test_without_a_volume_it_asks_for_one() -> None:
    result = run()
    assert result.exit_code == 2
    assert "--tokens-per-day" in result.output


def test_an_unknown_gpu_and_an_unreachable_floor_are_told(prices: Path) -> None:
    assert (
        "nobody told what an hour of l4"
        in run("--tokens-per-day", "1e6", "--gpu", "l4", "--prices", str(prices)).output
    )
    floor = (
        "--quality",
        "llama-3.1-8b=0.5",
        "--model",
        "llama-3.1-8b",
        "--quality-floor",
        "0.9",
        "--prices",
        str(prices),
    )
    result = run("--tokens-per-day", "1e6", *floor)
    assert result.exit_code == 1
    assert "nothing meets this" in result.output


def test_the_shipped_prices_are_a_price_book_all_of_which_can_be_used() -> None:
    gpu_offers, token_offers, unused = read_offers(PRICES, date(2026, 11, 1))
    assert unused == []
    assert {offer.way for offer in gpu_offers} == set(Way) - {Way.METERED}
    assert {offer.model for offer in token_offers} <= set(shipped().models)


def test_a_discount_and_several_gpus_are_reckoned_to_one_gpu(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "prices: {a: [{kind: lease, from: 2026-01-01, purchase: reserved, gpu: h100, gpus: 8, usd_per_hour: 24,"
        " discount_ratio: 0.5, source: a test}]}\n"
    )
    [offer], _, _ = read_offers(path, date(2026, 11, 1))
    assert (offer.way, offer.usd_per_gpu_hour) == (Way.RESERVED, 1.5)


def test_names_of_gpus_in_price_books_are_found_among_the_profiles() -> None:
    catalogue = shipped()
    assert gpu_named("H100-SXM", catalogue) == "h100"
    assert gpu_named("A100-SXM-80GB", catalogue) == "a100"
    assert gpu_named("Abacus", catalogue) is None


def test_builds_leave_out_what_does_not_fit_and_what_a_gpu_cannot_compute() -> None:
    table = read_qualities()
    qualities = qualities_of(["llama-3.1-70b"], {}, table)
    found = builds(["llama-3.1-70b"], ["bf16", "fp8", "awq-int4"], ["h100", "a100"], qualities, table)
    sizes = {(one.gpu, one.quantization, one.gpus) for one in found}
    assert ("h100", "bf16", 1) not in sizes
    assert ("h100", "awq-int4", 1) in sizes
    assert not any(gpu == "a100" and quantization == "fp8" for gpu, quantization, _ in sizes)
    quality = {one.quantization: one.quality for one in found}
    assert quality == {"bf16": 1.0, "fp8": 1.0, "awq-int4": pytest.approx(0.998)}
