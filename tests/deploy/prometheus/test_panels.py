"""Every query of every board has something to show, on a real Prometheus that has watched a demo."""

import math
import time

import pytest
from grafana_boards import PanelQuery, fill, queries, read_boards, variables
from prometheus_server import PrometheusServer, Sample

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(300)]

STEP_SECONDS = 2.0
SHOWN_SECONDS = 40.0
VALUES = {"__rate_interval": "20s", "__interval": "5s", "__range": f"{SHOWN_SECONDS:.0f}s"}


def found(prometheus: PrometheusServer, expression: str, *, is_instant: bool) -> list[Sample]:
    now = time.time()
    if is_instant:
        return prometheus.query(expression, now)
    return prometheus.query_range(expression, now - SHOWN_SECONDS, now, STEP_SECONDS)


def has_figures(series: list[Sample]) -> bool:
    return any(math.isfinite(value) for one in series for _, value in one.points)


@pytest.mark.parametrize("query", [*queries()], ids=str)
def test_a_panel_shows_something(watched, query: PanelQuery) -> None:
    expression = query.filled(**VALUES)
    series = found(watched.prometheus, expression, is_instant=query.is_instant)
    assert has_figures(series), f"{expression}\nsays {series}"


@pytest.mark.parametrize("board", read_boards())
def test_variables_offer_values_and_reloads_are_marked(watched, board: str) -> None:
    content, prometheus = read_boards()[board], watched.prometheus
    for name, (selector, label) in variables(content).items():
        assert prometheus.label_values(label, fill(selector)), name
    [marks] = content["annotations"]["list"]
    start = prometheus.query("min_over_time(jeton_build_info[1h])")[0].points[0][0]
    reloads = prometheus.query_range(fill(marks["expr"], **VALUES), start - 600, start, 1.0)
    assert {one.labels["result"] for one in reloads} == {"applied", "refused"}


def test_every_rule_is_evaluated_without_an_error(watched) -> None:
    watched.prometheus.wait_for("count_over_time(backend:jeton_bill_usd:rate5m[5m]) >= 2")
    rules = watched.prometheus.rules()
    assert {rule["health"] for rule in rules} == {"ok"}, [rule for rule in rules if rule["health"] != "ok"]
