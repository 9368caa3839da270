"""What all boards have in common: the variables above, the links among them, and the marks of reloads."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from deploy.grafana.panels import SOURCE, PanelBuilder
from deploy.grafana.queries import JOB, where

TAG = "jeton"
# What the SDK writes into every variable, and is of one kind alone. Grafana has done without footers of tables since 12.2.
OF_INTERVALS = ("auto", "auto_count", "auto_min")
EVERYTHING = VariableOption(selected=True, text=["All"], value=["$__all"])


class Choice(NamedTuple):
    """A variable: the values of `label` in `selector`."""

    name: str
    title: str
    selector: str
    label: str


DEPLOYMENT = Choice("job", "Deployment", "jeton_build_info", "job")
POOL = Choice("pool", "Pool", where("jeton_bill_usd_total", JOB), "pool")
BACKEND = Choice("backend", "Backend", where("jeton_replica_up", JOB), "backend")
MODEL = Choice("model", "Model", where("jeton_cost_usd_total", JOB), "model")
TIER = Choice("tier", "Tier", where("jeton_cost_usd_total", JOB), "tier")
TENANT = Choice("tenant", "Tenant", where("jeton_cost_usd_total", JOB), "tenant")


class Row(NamedTuple):
    title: str
    panels: Sequence[PanelBuilder]


def board(title: str, description: str, choices: Sequence[Choice], rows: Sequence[Row]) -> dashboard.Dashboard:
    """title: of one word; the board's address is made of it."""
    built = (
        dashboard.Dashboard(f"jeton: {title}")
        .uid(f"jeton-{title.lower()}")
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink("jeton")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .include_vars(True)
        )
        .annotation(_Reloads())
    )
    for choice in choices:
        built = built.with_variable(_variable(choice))
    for row in rows:
        built = built.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            built = built.with_panel(panel)
    return built


def as_json(built: dashboard.Dashboard) -> str:
    """As Grafana imports it; panels are numbered in their order."""
    whole = built.build()
    for number, panel in enumerate(whole.panels or [], start=1):
        panel.id_val = number
    plain = json.loads(json.dumps(whole, cls=JSONEncoder))
    for variable in plain["templating"]["list"]:
        for member in OF_INTERVALS:
            del variable[member]
    for panel in plain["panels"]:
        panel.get("options", {}).pop("footer", None)
    return json.dumps(plain, indent=2, sort_keys=True) + "\n"


def _variable(choice: Choice) -> dashboard.QueryVariable:
    # `.*` for everything: series without the label, such as requests that no pool has answered, are of it, too.
    return (
        dashboard.QueryVariable(choice.name)
        .label(choice.title)
        .datasource(SOURCE)
        .query({"query": f"label_values({choice.selector}, {choice.label})", "refId": choice.name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(EVERYTHING)
    )


class _Reloads(dashboard.AnnotationQuery):
    """Marks where configurations were read again. How such marks are worded is Prometheus' data source's own, not the SDK's."""

    def __init__(self) -> None:
        super().__init__()
        self.name("Reloads").datasource(SOURCE).enable(True).icon_color("blue").expr(RELOADS)

    def build(self) -> AnnotationQuery:
        return _Worded(**vars(super().build()))


class _Worded(AnnotationQuery):
    def to_json(self) -> dict[str, object]:
        return super().to_json() | {
            "step": "15s",
            "titleFormat": "configuration {{result}}",
            "tagKeys": "result",
            "useValueForTime": "false",
        }


RELOADS = f"sum by (result) (changes({where('jeton_reloads_total', JOB)}[$__interval])) > 0"
