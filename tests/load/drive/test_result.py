"""Figures are what their formulas say."""

from typing import Any

import pytest

from load.drive.outcome import Outcome
from load.drive.result import Objectives, figures, rows


def answered(
    number: int, at: float, *, late: float = 0.0, first: float = 1.0, tokens: int = 11, **more: Any
) -> Outcome:
    """Due at `at`, first text `first` later, then 0.1 s a token."""
    return Outcome(
        number, at, at + late, True, first_seconds=at + first, ended_seconds=at + first + 0.1 * (tokens - 1),
        gaps_seconds=[0.1] * (tokens - 1), prompt_tokens=100, completion_tokens=tokens, **more,
    )  # fmt: skip


def test_latencies_count_from_when_a_request_was_due() -> None:
    found = figures([answered(0, 10.0, late=0.5)], Objectives(), warmup_seconds=0)
    assert found["time_to_first_token"]["p50"] == pytest.approx(1000)
    assert found["request_latency"]["avg"] == pytest.approx(2000)
    assert found["inter_token_latency"]["max"] == pytest.approx(100)
    assert found["inter_chunk_latency"]["count"] == 10
    assert found["dispatch_delay"]["p99"] == pytest.approx(500)


def test_throughput_is_over_the_time_from_the_first_due_to_the_last_answer() -> None:
    found = figures([answered(0, 0.0), answered(1, 2.0)], Objectives(), warmup_seconds=0)
    assert found["benchmark_duration"]["avg"] == pytest.approx(4.0)
    assert found["request_throughput"]["avg"] == pytest.approx(0.5)
    assert found["output_token_throughput"]["avg"] == pytest.approx(5.5)


def test_what_was_due_in_the_warm_up_is_not_counted() -> None:
    found = figures([answered(0, 1.0), answered(1, 5.0)], Objectives(), warmup_seconds=5.0)
    assert found["request_count"]["avg"] == 1


def test_goodput_counts_what_met_every_objective_and_failures_lower_the_attainment() -> None:
    failed = Outcome(3, 0.0, 0.0, True, ended_seconds=0.1, error="http_503")
    outcomes = [answered(0, 0.0), answered(1, 0.0, first=3.0), answered(2, 0.0, tokens=41), failed]
    found = figures(outcomes, Objectives(ttft_seconds_max=2.0, latency_seconds_max=4.0), warmup_seconds=0)
    assert found["slo_attainment_ratio"]["avg"] == 0.25
    assert found["goodput"]["avg"] == pytest.approx(1 / 5)
    assert found["errors"] == {"http_503": 1}
    assert ("requests failed", "1 (http_503 1)") in rows(found)
    assert "goodput" not in figures(outcomes, Objectives(), warmup_seconds=0)


def test_a_whole_answer_has_its_first_token_at_its_end() -> None:
    whole = Outcome(0, 0.0, 0.0, False, ended_seconds=3.0, prompt_tokens=1, completion_tokens=50)
    assert Objectives(ttft_seconds_max=3.0).are_met_by(whole)
    assert not Objectives(ttft_seconds_max=2.9).are_met_by(whole)
    assert figures([whole], Objectives(), warmup_seconds=0)["time_to_first_token"] == {"unit": "ms", "count": 0}


def test_an_unknown_cost_is_not_zero() -> None:
    outcomes = [answered(0, 0.0, cost_nanousd=2_000_000), answered(1, 0.0), answered(2, 0.0, cost_nanousd=4_000_000)]
    cost = figures(outcomes, Objectives(), warmup_seconds=0)["cost"]
    assert (cost["requests_with_known_cost"], cost["requests_without"]) == (2, 1)
    assert cost["total"] == pytest.approx(0.006)
    assert cost["per_1000_requests"] == pytest.approx(3.0)
    assert cost["per_million_output_tokens"] == pytest.approx(0.006 / 22 * 1e6)


def test_a_price_book_prices_only_what_the_server_left_open() -> None:
    outcomes = [answered(0, 0.0, cost_nanousd=7), answered(1, 0.0)]
    cost = figures(outcomes, Objectives(), warmup_seconds=0, price=lambda one: one.completion_tokens)["cost"]
    assert cost["total"] == pytest.approx(18e-9)


def test_a_run_in_which_nothing_was_answered_still_has_its_figures() -> None:
    failed = Outcome(0, 0.0, 0.0, True, ended_seconds=0.0, error="connect")
    found = figures([failed], Objectives(ttft_seconds_max=1.0), warmup_seconds=0)
    assert found["request_count"]["avg"] == 0
    assert found["cost"]["per_1000_requests"] is None
    assert dict(rows(found))["TTFT p50 / p99"] == "–"
