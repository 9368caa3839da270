"""`python -m deploy.grafana`: writes `dashboards/*.json` anew."""

from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import as_json
from deploy.grafana.capacity import capacity
from deploy.grafana.cost import cost
from deploy.grafana.routing import routing
from deploy.grafana.serving import serving

DASHBOARDS = Path(__file__).with_name("dashboards")
BOARDS: tuple[Callable[[], Dashboard], ...] = (cost, routing, serving, capacity)


def files() -> dict[str, str]:
    """The text of each board, by its file's name."""
    return {f"{make.__name__}.json": as_json(make()) for make in BOARDS}


if __name__ == "__main__":
    for name, text in files().items():
        (DASHBOARDS / name).write_text(text, encoding="utf-8")
