"""A load test's page stands by itself, tells every policy, and its colours are the page's in light and dark."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from laboratories import write_fleet, write_scenario

from load.__main__ import main
from load.drive.outcome import Outcome
from load.drive.result import Objectives, figures
from load.report import pages, plots


def check(page: str) -> None:
    """Nothing is fetched, nothing runs, every colour that is used is defined, and no name stands twice."""
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(h|(?:src|href)=\"(?!#)", page)
    used = set(re.findall(r"var\(--([\w-]+)\)", page))
    assert used
    for where in (r":root \{(.*?)\}", r"dark\) \{ :root \{(.*?)\}", r"print \{ :root \{(.*?)\}"):
        defined = set(re.findall(r"--([\w-]+):", " ".join(re.findall(where, page, re.DOTALL))))
        assert used <= defined
    assert not any(shade in page for shade in plots.SHADES.values())
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLOUD_KEY", "sk-x")
    write_fleet(tmp_path)
    return tmp_path


def test_a_comparison_is_one_page_of_all_its_policies(fleet: Path) -> None:
    out = fleet / "page.html"
    policies = [{"name": "always_small"}, {"name": "always_large"}, {"name": "round_robin", "label": "in <turn>"}]
    path = write_scenario(fleet, seconds=20, warmup_seconds=2, seeds=[1, 2], rate=2.0, policies=policies)
    result = CliRunner().invoke(main, ["compare", str(path), "--day", "2026-06-01", "--report", str(out)])
    assert result.exit_code == 0, result.output
    page = out.read_text(encoding="utf-8")
    check(page)
    assert page.count("in &lt;turn&gt;") > 2
    assert "in <turn>" not in page
    for heading in ("Where the money went", "Cost, quality, latency", "Time to the first token", "To paste"):
        assert f"<h2>{heading}</h2>" in page
    # the table, the Markdown, and a bar each
    assert page.count("always_small") >= 3
    assert page.count("| always_large") == 1


def test_a_simulation_is_one_page_with_what_its_json_has(fleet: Path) -> None:
    out, told = fleet / "page.html", fleet / "told.json"
    path = write_scenario(fleet, seconds=20, warmup_seconds=2, rate=2.0)
    arguments = ["simulate", str(path), "--day", "2026-06-01", "--report", str(out), "--json", str(told)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    page = out.read_text(encoding="utf-8")
    check(page)
    found = json.loads(told.read_text())["figures"]
    assert f"${found['usd_total']:,.2f}" in page
    assert f"{found['attainment_ratio']:.1%}" in page


def outcome(number: int, *, error: str = "", cost_nanousd: int | None = 1_000_000) -> Outcome:
    due = number * 0.5
    return Outcome(
        number, due, due + 0.01, True, due + 0.2, due + 1.2, error,
        prompt_tokens=100, completion_tokens=11, cost_nanousd=cost_nanousd, backend="edge & co",
    )  # fmt: skip


def test_a_driven_run_tells_its_errors_and_why_it_may_not_be_believed() -> None:
    outcomes = [*(outcome(number) for number in range(40)), outcome(40, error="http_503")]
    wanted = Objectives(ttft_seconds_max=1.0)
    found = figures(outcomes, wanted, warmup_seconds=0)
    page = pages.driven("a run", "somewhere", outcomes, found, ["the <queue> grew"], wanted, 0)
    check(page)
    assert "Not to be believed: the &lt;queue&gt; grew" in page
    assert "http_503" in page
    assert "edge &amp; co" in page
    assert "<h2>Cost over time</h2>" in page


def test_where_no_cost_was_told_none_is_drawn() -> None:
    outcomes = [outcome(number, cost_nanousd=None) for number in range(8)]
    found = figures(outcomes, Objectives(), warmup_seconds=0)
    page = pages.driven("a run", "somewhere", outcomes, found, [], Objectives(), 0)
    assert "<h2>Cost over time</h2>" not in page
    check(page)


def test_a_run_of_which_nothing_came_is_a_page_all_the_same() -> None:
    outcomes = [outcome(0, error="connect")]
    found = figures(outcomes, Objectives(), warmup_seconds=0)
    check(pages.driven("a run", "somewhere", outcomes, found, [], Objectives(), 0))
