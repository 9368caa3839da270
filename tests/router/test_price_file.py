"""Rows are added to a prices.yaml without a change to anything that stands in it."""

import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.price_file import Addition, LayoutRefused, added, write
from router.pricing.book import PriceBook

TODAY = date(2026, 11, 26)
ROW = {"kind": "lease", "from": "2026-11-26", "gpu": "H100", "gpus": 1, "usd_per_hour": "3.60", "source": "a: test"}
DEPLOYED = Path(__file__).parents[2] / "deploy" / "config" / "prices.yaml"

BLOCK = """\
# ours
prices:
  # the small one
  a:   # here
    - kind: lease      # first
      from: 2026-01-01 # when
      usd_per_hour: 1.20
      source: >-
        a contract of
        two lines

  # the large one

  b:
  - {kind: lease, from: 2026-01-01, usd_per_hour: 2.40, source: "x"}   # flow
# the end
stale_days: 30
"""


def rows(text: str, name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load(text)["prices"][name]
    return loaded


def test_a_new_file_gets_a_header() -> None:
    text = added("", [Addition("c", ROW)], TODAY)
    assert text.startswith("# What capacity costs")
    assert rows(text, "c") == [ROW | {"from": TODAY, "usd_per_hour": 3.6}]


def test_every_line_that_was_there_is_there_afterwards_and_in_its_order() -> None:
    additions = [
        Addition("a", ROW),
        Addition("c", ROW),
        Addition("b", ROW),
        Addition("c", ROW | {"from": "2027-01-01"}),
        Addition("a", ROW | {"from": "2027-01-01"}),
    ]
    text = added(BLOCK, additions, TODAY)
    remaining = iter(text.splitlines())
    assert all(line in remaining for line in BLOCK.splitlines()), text
    assert [str(row["from"]) for row in rows(text, "a")] == ["2026-01-01", "2026-11-26", "2027-01-01"]
    assert [str(row["from"]) for row in rows(text, "c")] == ["2026-11-26", "2027-01-01"]
    assert yaml.safe_load(text)["stale_days"] == 30
    PriceBook.model_validate(yaml.safe_load(text))


def test_a_row_that_still_holds_is_confirmed_in_its_place() -> None:
    both = [Addition("a", ROW, confirms=date(2026, 1, 1)), Addition("b", ROW, confirms=date(2026, 1, 1))]
    text = added(BLOCK, both, TODAY)
    assert "      from: 2026-01-01 # when\n      confirmed: 2026-11-26\n" in text
    assert '{kind: lease, from: 2026-01-01, confirmed: 2026-11-26, usd_per_hour: 2.40, source: "x"}   # flow' in text
    again = added(text, both, date(2026, 12, 1))
    assert again == text.replace("confirmed: 2026-11-26", "confirmed: 2026-12-01")


def test_a_row_can_be_confirmed_and_followed_by_a_new_one_though_its_day_is_its_last_line() -> None:
    text = "prices:\n  a:\n    - kind: lease\n      usd_per_hour: 1\n      source: x\n      from: 2026-01-01"
    text = added(text, [Addition("a", ROW), Addition("a", ROW, confirms=date(2026, 1, 1)), Addition("z", ROW)], TODAY)
    first, second = rows(text, "a")
    assert (first["confirmed"], second["from"]) == (TODAY, TODAY)
    assert len(rows(text, "z")) == 1


def test_rows_in_brackets_stay_in_brackets() -> None:
    text = "prices:\n  a: [{kind: lease, from: 2026-01-01, usd_per_hour: 1, source: x}]  # all\n"
    text = added(text, [Addition("a", ROW)], TODAY)
    assert text.count("\n") == 2
    assert len(rows(text, "a")) == 2


def test_names_and_texts_that_yaml_would_take_for_something_else_are_quoted() -> None:
    for name in ("openrouter/qwen3:free", "yes", "1.0", "2026-01-01", "a b", "-", "null", "a#b", "é"):
        text = added(BLOCK, [Addition(name, ROW | {"source": f"{name}: {name} # {name}"})], TODAY)
        assert rows(text, name)[0]["source"] == f"{name}: {name} # {name}"


def test_tiers_are_written_as_the_book_reads_them() -> None:
    tier = {"above_prompt_tokens": 200_000, "prompt_usd_per_million": "2", "completion_usd_per_million": "8"}
    row = {
        "kind": "tokens",
        "from": "2026-11-26",
        "prompt_usd_per_million": "1",
        "completion_usd_per_million": "4",
        "tiers": [tier],
        "source": "x",
    }
    for text in (BLOCK, "prices:\n  a: [{kind: lease, from: 2026-01-01, usd_per_hour: 1, source: x}]\n"):
        for name in ("a", "new"):
            made = yaml.safe_load(added(text, [Addition(name, row)], TODAY))["prices"][name][-1]
            assert made["tiers"] == [tier | {"prompt_usd_per_million": 2, "completion_usd_per_million": 8}]


def test_service_tiers_are_written_as_the_book_reads_them() -> None:
    rates = {"prompt_usd_per_million": "0.5", "completion_usd_per_million": "2"}
    tiers = [{"above_prompt_tokens": 200_000, **rates}]
    row = {
        "kind": "tokens",
        "from": "2026-11-26",
        "source": "x",
        **rates,
        "tiers": tiers,
        "service_tiers": {"flex": {**rates, "tiers": tiers}, "priority": {**rates, "tiers": tiers}},
    }
    for text in (BLOCK, "prices:\n  a: [{kind: lease, from: 2026-01-01, usd_per_hour: 1, source: x}]\n"):
        for name in ("a", "new"):
            made = yaml.safe_load(added(text, [Addition(name, row)], TODAY))["prices"][name][-1]
            assert list(made["service_tiers"]) == ["flex", "priority"]
            assert made["service_tiers"]["flex"]["tiers"] == made["tiers"]
            assert made["service_tiers"]["priority"]["completion_usd_per_million"] == 2


def test_the_deployed_example_can_be_added_to() -> None:
    text = DEPLOYED.read_text()
    grown = added(text, [Addition("new", ROW), Addition("central-h100", ROW)], TODAY)
    remaining = iter(grown.splitlines())
    assert all(line in remaining for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prices: {a: [{kind: lease, from: 2026-01-01, usd_per_hour: 1, source: x}]}\n", "in braces"),
        ("stale_days: 30\n", "no `prices:`"),
        ("- a\n", "no `prices:`"),
        (BLOCK.replace("from: 2026-01-01 # when", 'from: "2026-11-26"'), "two rows begin on 2026-11-26"),
    ],
)
def test_what_cannot_be_added_to_is_refused(text: str, says: str) -> None:
    with pytest.raises(LayoutRefused, match=says):
        added(text, [Addition("a", ROW)], TODAY)


def test_nothing_to_add_changes_nothing() -> None:
    assert added("not even yaml: [", [], TODAY) == "not even yaml: ["


def test_a_file_is_replaced_at_once_and_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    real.write_text("old")
    real.chmod(0o640)
    link = tmp_path / "prices.yaml"
    link.symlink_to(real)
    write(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["prices.yaml", "real.yaml"]
