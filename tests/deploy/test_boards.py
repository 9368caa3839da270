"""Grafana's boards as they are committed: what the Python says, complete, and true to the house's units."""

import re
from typing import Any

import pytest
from grafana_boards import BOARDS, fill, panels, queries, read_boards, variables

from deploy.grafana.__main__ import files

# Grafana's own, and the choice of a data source.
GIVEN = {"__range", "__rate_interval", "__interval", "datasource"}
MONEY = re.compile(r"_usd_total|_usd_per_million|_usd:rate|_remaining_usd|_corrections_usd")
# Dollars ÷ dollars, and dollars ÷ dollars a second.
NO_MONEY = {"percentunit", "none", "s", "short"}

names = pytest.mark.parametrize("name", [*read_boards()])


def test_the_committed_boards_are_what_the_code_writes() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in BOARDS.glob("*.json")}
    assert written == files(), "run: python -m deploy.grafana"


@names
def test_panels_are_numbered_titled_and_lie_beside_one_another(name: str) -> None:
    board = read_boards()[name]
    assert [panel["id"] for panel in board["panels"]] == [*range(1, len(board["panels"]) + 1)]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["title"]
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not taken & cells, panel["title"]
        taken |= cells


@names
def test_a_query_uses_only_variables_that_its_board_has(name: str) -> None:
    board = read_boards()[name]
    known = GIVEN | variables(board).keys()
    used = {word for query in queries() if query.board == name for word in re.findall(r"\$(\w+)", query.expression)}
    assert used <= known
    assert variables(board).keys() <= used | {"job"}, "a variable that nothing follows"
    assert all(query.expression.count("job=~") for query in queries() if query.board == name)


@names
def test_money_is_shown_in_dollars_with_decimals(name: str) -> None:
    for panel in panels(read_boards()[name]):
        for target in panel["targets"]:
            unit, decimals = shown_in(panel, target)
            if MONEY.search(target["expr"]) and unit not in NO_MONEY:
                assert (unit, decimals is not None) == ("currencyUSD", True), panel["title"]
            if unit == "currencyUSD":
                assert MONEY.search(target["expr"]), panel["title"]


@names
def test_boards_lead_to_one_another_and_mark_reloads(name: str) -> None:
    board = read_boards()[name]
    assert board["uid"] == f"jeton-{name}"
    assert board["tags"] == ["jeton"]
    [link] = board["links"]
    assert (link["type"], link["tags"], link["includeVars"], link["keepTime"]) == ("dashboards", ["jeton"], True, True)
    [marks] = board["annotations"]["list"]
    assert "jeton_reloads_total" in marks["expr"]


def test_variables_without_a_value_stand_for_everything() -> None:
    assert fill('x{a=~"$a",b=~"$b"}[$__range]', __range="5m") == 'x{a=~".*",b=~".*"}[5m]'
    for board in read_boards().values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                assert (variable["includeAll"], variable["allValue"], variable["multi"]) == (True, ".*", True)


def shown_in(panel: dict[str, Any], target: dict[str, Any]) -> tuple[str | None, int | None]:
    """The unit and decimals of one query: a table's are its column's."""
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    if panel["type"] != "table":
        return defaults.get("unit"), defaults.get("decimals")
    [organize] = [one["options"] for one in panel["transformations"] if one["id"] == "organize"]
    heading = organize["renameByName"][f"Value #{target['refId']}"]
    [looks] = [
        {one["id"]: one["value"] for one in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == heading
    ]
    return looks.get("unit"), looks.get("decimals")
