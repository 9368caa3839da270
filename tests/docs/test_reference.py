"""The reference pages are what the code says, and every header of an answer stands on its page and in the README."""

import re
from pathlib import Path

from docs.generate import ASKED, HEADERS, PAGES, headers_in_code, pages
from router.telemetry.money import WHY_LOST

PROJECT = Path(__file__).parents[2]


def test_the_committed_pages_are_what_the_code_says() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    assert written == pages(), "run: make reference"


def test_every_header_that_is_sent_or_heeded_is_told_and_no_other() -> None:
    assert headers_in_code() == HEADERS.keys() | ASKED.keys()
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert {name for name in (*HEADERS, *ASKED) if name not in readme} == set()


def test_every_metric_has_a_text_and_its_unit_last() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([\w, ]*) \| (.+) \|$", (PAGES / "metrics.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) > 40
    assert len({name for name, *_ in rows}) == len(rows)
    for name, kind, _, text in rows:
        assert name.startswith("jeton_")
        assert text.strip()
        assert kind != "counter" or name.endswith("_total")


def test_shapes_that_are_named_have_their_heading() -> None:
    text = (PAGES / "configuration.md").read_text(encoding="utf-8")
    headings = {heading.lower() for heading in re.findall(r"^## (\w+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= headings


# The metrics that the README's page on cost promises.
CONTRACT = frozenset(
    {
        "jeton_bill_usd_total", "jeton_cost_usd_total", "jeton_idle_usd_total", "jeton_lost_usd_total",
        "jeton_saved_usd_total", "jeton_tokens_total", "jeton_usage_total", "jeton_unpriced_attempts_total",
        "jeton_token_cost_usd_per_million", "jeton_meter_drift_ratio", "jeton_budget_remaining_usd",
    }
)  # fmt: skip


def test_the_pages_tables_of_metrics_have_their_labels_and_the_readme_the_whole_contract() -> None:
    reference = re.findall(
        r"^\| `(\w+)` \| \w+ \| ([\w, ]*) \|", (PAGES / "metrics.md").read_text("utf-8"), re.MULTILINE
    )
    labels = {name: _listed(named) for name, named in reference}
    told: dict[str, set[str]] = {}
    for path in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))):
        rows = re.findall(r"^\| (`jeton_[^|]*) \| ([^|]*) \|", path.read_text(encoding="utf-8"), re.MULTILINE)
        for names, named in rows:
            for name in re.findall(r"`(\w+)`", names):
                assert (path.name, name, _listed(named)) == (path.name, name, labels.get(name))
                told.setdefault(path.name, set()).add(name)
    assert told["README.md"] >= CONTRACT


def test_the_readme_tells_every_reason_for_which_money_is_lost() -> None:
    [row] = re.findall(r"^\| `jeton_lost_usd_total` .*$", (PROJECT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert {why for why in WHY_LOST.values() if f"`{why.value}`" not in row} == set()


def _listed(cell: str) -> set[str]:
    return {word.strip().strip("`") for word in cell.split(",") if word.strip()}
