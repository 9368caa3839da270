"""What is shown fits into 80 columns, and amounts keep the digits that say something."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from load.demo.figures import Figures, Row
from load.demo.view import duration, render, usd, usd_per_million

LARGE = Row("central-large", False, 12_345, 999, 123_456.0, 1_234.567, 0.99, 1234.5, 99.9)
FIGURES = Figures(
    rows=[LARGE._replace(name="central", is_pool=True), LARGE, LARGE._replace(idle_ratio=None, standard_usd_per_million=None)],
    requests=123_456,
    requests_per_second=1234.5,
    bill_usd=1_234.567,
    bill_usd_per_hour=99.99,
    work_usd=1_200.0,
    idle_usd=34.567,
    saved_usd={"counterfactual": -123.45},
    overhead_seconds_p50=0.00075,
    overhead_seconds_p99=0.0123,
    ttft_seconds_p50=1.234,
    refusals={},
    span_seconds=30.0,
)  # fmt: skip


def shown(figures: Figures, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(figures, baseline="cloud-large", elapsed_seconds=3723.0))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_no_figure_is_cut_at_80_columns() -> None:
    lines = shown(FIGURES)
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert not any("…" in line for line in lines)
    assert lines[0] == "jeton demo, 62:03"
    [row] = [line.split() for line in lines if line.startswith("   central-large") and "99%" in line]
    assert row == ["central-large", "12,345", "999", "123,456", "1,234.57", "99%", "1,234", "99.9"]


def test_the_view_stays_whole_before_anything_has_happened() -> None:
    nothing = Row("edge", True, 0, 0, 0.0, 0.0, None, None, None)
    empty = replace(
        FIGURES,
        rows=[nothing],
        bill_usd=0.0,
        work_usd=0.0,
        idle_usd=0.0,
        saved_usd={},
        overhead_seconds_p50=None,
        overhead_seconds_p99=None,
        ttft_seconds_p50=None,
    )
    text = "\n".join(shown(empty))
    assert "saved     –" in text
    assert "jeton itself – p50" in text


def test_savings_are_told_with_their_method_and_what_idle_time_leaves_of_them() -> None:
    [line] = [line for line in shown(FIGURES, width=120) if line.startswith("saved")]
    assert line.rstrip() == "saved     −$123.45 (method counterfactual) vs always cloud-large, −$158.02 after idle"


def test_refusals_are_shown_when_there_are_any() -> None:
    assert not any("refused" in line for line in shown(FIGURES))
    assert any("refused: 1,000 overloaded" in line for line in shown(replace(FIGURES, refusals={"overloaded": 1000})))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (1234.5, "$1,234.50"),
        (1.2345, "$1.234"),
        (0.01234, "$0.0123"),
        (0.0000123, "$0.000012"),
        (0, "$0.0000"),
        (-0.05, "−$0.0500"),
    ],
)
def test_an_amount_keeps_the_digits_that_say_something(amount: float, text: str) -> None:
    assert usd(amount) == text


def test_prices_have_three_digits_and_times_their_unit() -> None:
    assert [usd_per_million(price) for price in (None, 0.25, 12.34, 123.4)] == ["–", "0.25", "12.3", "123"]
    assert [duration(seconds) for seconds in (None, 0.00075, 0.0123, 1.234)] == ["–", "750 µs", "12.3 ms", "1.23 s"]
