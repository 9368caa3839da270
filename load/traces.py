"""Traces: when requests arrived and how long they were, in the order of their arrival. No text, no decisions.

The one format is that of `data/README.md`: gzipped CSV with `arrival_seconds, prompt_tokens, completion_tokens`.
"""

import csv
import gzip
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).with_name("data")
AZURE_CONVERSATION = DATA / "azure_conv_2023_10min.csv.gz"


class Arrival(NamedTuple):
    """One request of a trace. seconds: since the trace began. Tokens are counted in the tokenizer of the source."""

    seconds: float
    prompt_tokens: int
    completion_tokens: int


def read_trace(path: Path = AZURE_CONVERSATION) -> list[Arrival]:
    """The whole trace. Raises OSError, and ValueError for one that is empty, out of order or not in the format."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        rows = csv.DictReader(text)
        try:
            arrivals = [
                Arrival(float(row["arrival_seconds"]), int(row["prompt_tokens"]), int(row["completion_tokens"]))
                for row in rows
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {rows.line_num}: {error!r}") from error
    if not arrivals or any(later.seconds < earlier.seconds for earlier, later in pairwise(arrivals)):
        raise ValueError(f"{path}: no requests, or not in the order of their arrival")
    return arrivals
