"""What Grafana's own code makes of the boards, as far as that is to be had without a Grafana.

Their JSON against Grafana's types, by the TypeScript compiler; and of what a real Prometheus answers the columns, units and
figures that Grafana's transformations and formats make. No panel is drawn.
"""

import json
import math
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_boards import fill, panels, read_boards
from prometheus_server import PrometheusServer, Sample

pytestmark = [pytest.mark.boards, pytest.mark.timeout(300)]

GRAFANA = Path(__file__).parents[1] / "grafana"
TYPES = {
    "stat": ("stat/panelcfg/x/StatPanelCfg", False),
    "timeseries": ("timeseries/panelcfg/x/TimeSeriesPanelCfg", True),
    "table": ("table/panelcfg/x/TablePanelCfg", True),
    "bargauge": ("bargauge/panelcfg/x/BarGaugePanelCfg", False),
    "heatmap": ("heatmap/panelcfg/x/HeatmapPanelCfg", True),
    "state-timeline": ("statetimeline/panelcfg/x/StateTimelinePanelCfg", True),
}
# JSON has the values of enumerations, not their names.
HEAD = """\
import type { Dashboard, Panel, RowPanel, VariableModel, AnnotationQuery } from '@grafana/schema';
type Numeral<T extends number> = `${T}` extends `${infer N extends number}` ? N : never;
type Plain<T> = T extends string ? `${T}`
  : T extends number ? (number extends T ? number : Numeral<T>)
  : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> }
  : T;
"""
VALUES = {"__rate_interval": "20s", "__interval": "5s", "__range": "40s"}
SHOWN_SECONDS, STEP_SECONDS = 40.0, 5.0
PROMETHEUS_MARKS = {"expr", "step", "titleFormat", "tagKeys", "useValueForTime"}  # of its data source, not of Grafana


def as_typescript(board: dict[str, Any]) -> str:
    """The board in pieces small enough for the compiler to look for members that there are not."""
    lines = [HEAD]
    for kind, (module, has_fields) in TYPES.items():
        name = kind.replace("-", "_")
        source = f"@grafana/schema/dist/esm/raw/composable/{module}_types.gen"
        lines.append(f"import type {{ Options as {name}_options }} from '{source}';")
        if has_fields:
            lines.append(f"import type {{ FieldConfig as {name}_fields }} from '{source}';")

    def check(kind: str, value: Any) -> None:
        lines.append(f"export const checked_{len(lines)}: Plain<{kind}> = {json.dumps(value)};")

    check("Dashboard", board | {"panels": [], "templating": {"list": []}, "annotations": {"list": []}})
    for variable in board["templating"]["list"]:
        check("VariableModel", variable)
    for marks in board["annotations"]["list"]:
        check("AnnotationQuery", {key: value for key, value in marks.items() if key not in PROMETHEUS_MARKS})
    for panel in board["panels"]:
        if panel["type"] == "row":
            check("RowPanel", panel)
            continue
        name = panel["type"].replace("-", "_")
        check("Panel", panel)
        check(f"Partial<{name}_options>", panel.get("options", {}))
        custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom", {})
        if TYPES[panel["type"]][1]:
            check(f"Partial<{name}_fields>", custom)
        else:
            assert not custom
    return "\n".join(lines) + "\n"


def compiled(directory: Path, text: str) -> str:
    """What the TypeScript compiler finds wrong."""
    (directory / "node_modules").symlink_to(GRAFANA / "node_modules")
    (directory / "board.ts").write_text(text, encoding="utf-8")
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler"]
    command = ["node", str(GRAFANA / "node_modules/typescript/bin/tsc"), *flags, "board.ts"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=200).stdout


@pytest.mark.parametrize("name", [*read_boards()])
def test_a_board_is_of_grafanas_types(tmp_path: Path, name: str) -> None:
    assert compiled(tmp_path, as_typescript(read_boards()[name])) == ""


def test_a_member_that_grafana_does_not_know_and_a_value_that_it_does_not_are_found(tmp_path: Path) -> None:
    board = read_boards()["cost"]
    first, second, *_ = (panel for panel in panels(board) if panel["type"] == "stat")
    first["options"]["colourMode"] = "value"
    second["options"]["graphMode"] = "curve"
    said = compiled(tmp_path, as_typescript(board))
    assert "colourMode" in said
    assert "curve" in said


@pytest.mark.parametrize("name", [*read_boards()])
def test_grafana_knows_every_unit_and_makes_of_each_answer_what_the_panel_promises(watched, name: str) -> None:
    shown = panels(read_boards()[name])
    questions = [{"panel": panel, "frames": [*frames(watched.prometheus, panel)]} for panel in shown]
    done = subprocess.run(
        ["node", "show.cjs"], cwd=GRAFANA, input=json.dumps(questions), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for panel, answer in zip(shown, map(json.loads, done.stdout.splitlines()), strict=True):
        title = panel["title"]
        assert answer["unknown"] == [], title
        fields = {field["name"]: field for field in answer["fields"] if field["name"] != "Time"}
        assert fields, title
        if panel["type"] == "table":
            assert list(fields) == columns(panel), title
        for field in fields.values():
            if field["unit"] == "currencyUSD":
                figures = [value for value in field["values"] if value and value != "none yet"]
                assert all(re.fullmatch(r"-?\$[\d.,]+[KMB]?", value) for value in figures), (title, figures)


def columns(panel: dict[str, Any]) -> list[str]:
    """In the order in which the table is to show them."""
    [organize] = [one["options"] for one in panel["transformations"] if one["id"] == "organize"]
    ordered = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    return [organize["renameByName"].get(name, name) for name in ordered]


def frames(prometheus: PrometheusServer, panel: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """As Grafana's data source for Prometheus hands its answers to a panel."""
    now = time.time()
    for target in panel["targets"]:
        expression = fill(target["expr"], **VALUES)
        if target.get("instant"):
            series = prometheus.query(expression, now)
        else:
            series = prometheus.query_range(expression, now - SHOWN_SECONDS, now, STEP_SECONDS)
        if target.get("format") == "table":
            yield as_table(target["refId"], series, many=len(panel["targets"]) > 1)
        else:
            yield from (as_series(target, one) for one in series)


def as_table(letter: str, series: list[Sample], *, many: bool) -> dict[str, Any]:
    labels = sorted({label for one in series for label in one.labels})
    fields = [{"name": "Time", "type": "time", "values": [one.points[-1][0] * 1000 for one in series]}]
    fields += [
        {"name": label, "type": "string", "values": [one.labels.get(label, "") for one in series]} for label in labels
    ]
    value = f"Value #{letter}" if many else "Value"
    return {
        "refId": letter,
        "fields": [*fields, {"name": value, "type": "number", "values": [known(one.value) for one in series]}],
    }


def as_series(target: dict[str, Any], one: Sample) -> dict[str, Any]:
    legend = re.sub(r"\{\{(\w+)\}\}", lambda found: one.labels.get(found[1], ""), target["legendFormat"])
    named = {} if legend == "__auto" else {"config": {"displayNameFromDS": legend}}
    times, values = zip(*one.points, strict=True)
    return {
        "refId": target["refId"],
        "fields": [
            {"name": "Time", "type": "time", "values": [at * 1000 for at in times]},
            {"name": "Value", "type": "number", "labels": dict(one.labels), "values": [*map(known, values)]} | named,
        ],
    }


def known(value: float) -> float | None:
    """JSON has no number that is none."""
    return value if math.isfinite(value) else None
