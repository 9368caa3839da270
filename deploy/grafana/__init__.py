"""Grafana's boards of jeton, written in Python: `python -m deploy.grafana` makes the JSON in `dashboards/`, which is committed.

Each board is a file (`cost.py`, `routing.py`, `serving.py`, `capacity.py`) in the words of `panels.py` and `queries.py`. A panel
shows what jeton exports today; what has no metric has no panel. The router imports nothing of this.
"""
