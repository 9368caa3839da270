"""The committed boards as Grafana reads them: their panels, queries and variables."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

BOARDS = Path(__file__).parents[2] / "deploy/grafana/dashboards"
VARIABLE = re.compile(r"label_values\((?P<selector>.*), (?P<label>\w+)\)")


class PanelQuery(NamedTuple):
    """One query of one panel; board: the file's stem. is_instant: evaluated once, at the end of the time shown."""

    board: str
    panel: str
    letter: str
    expression: str
    is_instant: bool

    def filled(self, **values: str) -> str:
        """With Grafana's variables replaced: names not given are `.*`."""
        return fill(self.expression, **values)

    def __str__(self) -> str:
        return f"{self.board}: {self.panel}: {self.letter}"


def fill(text: str, **values: str) -> str:
    return re.sub(r"\$(\w+)", lambda name: values.get(name[1], ".*"), text)


def read_boards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(BOARDS.glob("*.json"))}


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Without the rows' headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries() -> Iterator[PanelQuery]:
    for name, board in read_boards().items():
        for panel in panels(board):
            for target in panel["targets"]:
                instant = bool(target.get("instant"))
                yield PanelQuery(name, panel["title"], target["refId"], target["expr"], instant)


def variables(board: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Of those that are filled by a query: (selector, label), by name."""
    found = {}
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            parts = VARIABLE.fullmatch(variable["query"]["query"])
            assert parts, variable
            found[variable["name"]] = (parts["selector"], parts["label"])
    return found
