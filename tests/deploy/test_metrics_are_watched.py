"""Nothing is exported that nobody looks at, and nothing is looked at that is not exported."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_boards import queries, read_boards, variables

PROJECT = Path(__file__).parents[2]
RULES = PROJECT / "deploy/prometheus"
REFERENCE = (PROJECT / "docs/reference/metrics.md").read_text(encoding="utf-8")
KINDS = dict(re.findall(r"^\| `(jeton_\w+)` \| (\w+) \|", REFERENCE, re.MULTILINE))
METRIC = re.compile(r"(?<![\w:])jeton_\w+")
RECORD = re.compile(r"\w+:jeton_\w+:\w+")
LABELS = re.compile(r"\{[^{}]*\}|by \([^()]*\)|on \([^()]*\)")

# Families that no board and no rule asks for, and why.
UNWATCHED: Mapping[str, str] = {}


def rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(RULES.glob("*.rules.yaml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    yield from (query.expression for query in queries())
    yield from (rule["expr"] for rule in rules())
    for board in read_boards().values():
        yield from (selector for selector, _ in variables(board).values())
        yield from (marks["expr"] for marks in board["annotations"]["list"])


def names_in(expression: str) -> set[str]:
    """Of metrics as they are exported: a histogram's series count as the histogram."""
    found = METRIC.findall(LABELS.sub("", expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) if name not in KINDS else name for name in found}


def test_every_family_is_on_a_board_or_in_a_rule_or_it_says_why_not() -> None:
    asked = {name for expression in expressions() for name in names_in(expression)}
    assert len(KINDS) > 50
    assert KINDS.keys() - asked == UNWATCHED.keys()
    assert all(UNWATCHED.values())


def test_what_boards_and_rules_ask_for_is_exported() -> None:
    unknown = {name: expression for expression in expressions() for name in names_in(expression) if name not in KINDS}
    assert unknown == {}


def test_a_recorded_rate_that_is_asked_for_is_recorded_and_none_is_recorded_for_nobody() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {name for expression in expressions() for name in RECORD.findall(expression)}
    assert asked == recorded


@pytest.mark.parametrize("kind", ["bucket", "sum", "count"])
def test_only_histograms_are_asked_for_buckets(kind: str) -> None:
    for expression in expressions():
        for name in METRIC.findall(LABELS.sub("", expression)):
            if name.endswith(f"_{kind}") and name not in KINDS:
                assert KINDS[name.removesuffix(f"_{kind}")] == "histogram", expression
