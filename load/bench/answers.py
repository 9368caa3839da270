"""Of every question that ships with jeton: whether a small and a large model answered it well (`load/data/README.md`)."""

import csv

from load.traces import DATA
from load.workload import read_prompts


def read_outcomes() -> dict[str, tuple[int, int]]:
    """By question: whether the small and the large model answered it well."""
    with (DATA / "prompt_outcomes.csv").open(encoding="utf-8", newline="") as text:
        rows = [(int(row["small_right"]), int(row["large_right"])) for row in csv.DictReader(text)]
    return dict(zip(read_prompts(), rows, strict=True))
