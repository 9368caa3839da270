"""Outcome files from disk, for `jeton train` and `jeton eval`: what a row means is `router/classify/outcomes.py`'s."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from router.classify.outcomes import PUBLIC_PAIRS, Outcome, Pair, outcome_from_row

SUFFIXES = (".jsonl", ".jsonl.gz")


class OutcomesRefused(Exception):
    """No outcomes could be read; the message names file, line and reason."""


def read_outcomes(path: Path) -> list[Outcome]:
    """The rows of one outcome file, or of all those in a directory, in the order of their names."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES))
        if not files:
            raise OutcomesRefused(f"{path} holds no outcome files ({' or '.join('*' + suffix for suffix in SUFFIXES)})")
    return [outcome for file in files for outcome in _read_file(file)]


def pairs_of(named: Sequence[tuple[str, str]]) -> tuple[Pair, ...]:
    """The pairs that were asked for; those of the public benchmarks when none was."""
    return tuple(Pair(small, large) for small, large in named) or PUBLIC_PAIRS


def _read_file(path: Path) -> Iterator[Outcome]:
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):  # noqa: B007 (the handler below names the line)
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("not a JSON object")
                    yield outcome_from_row(row)
    except (OSError, EOFError, ValueError) as error:
        raise OutcomesRefused(f"{path}:{number}: {error}") from error
