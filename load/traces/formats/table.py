"""Rows of a CSV, with the line in the error."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence

from load.traces.trace import Arrival


def arrivals(lines: Sequence[str], read: Callable[[Mapping[str, str]], Arrival | None]) -> Iterator[Arrival]:
    """What `read` makes of each row; None leaves it out. Raises ValueError with the line."""
    rows = csv.DictReader(lines)
    for row in rows:
        try:
            arrival = read(row)
        except KeyError as error:
            raise ValueError(f"line {rows.line_num}: no column {error}") from error
        except (TypeError, ValueError) as error:  # TypeError: a short row has None there
            raise ValueError(f"line {rows.line_num}: {error}") from error
        if arrival is not None:
            yield arrival
