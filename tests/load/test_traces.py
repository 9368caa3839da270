"""Traces come back as they were written, or not at all."""

import gzip
from pathlib import Path

import pytest

from load.traces import Arrival, read_trace


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_the_shipped_trace_is_what_its_readme_says() -> None:
    trace = read_trace()
    assert len(trace) == 3118
    assert trace[0] == Arrival(0.198, 958, 89)
    assert 599 < trace[-1].seconds < 600
    prompts, completions = (sorted(arrival[column] for arrival in trace) for column in (1, 2))
    assert (prompts[len(trace) // 2], prompts[len(trace) * 9 // 10]) == (1042, 2519)
    assert (completions[len(trace) // 2], completions[len(trace) * 9 // 10]) == (181, 429)


@pytest.mark.parametrize(
    "text",
    [
        "arrival_seconds,prompt_tokens,completion_tokens\n",
        "arrival_seconds,prompt_tokens\n0,1\n",
        "arrival_seconds,prompt_tokens,completion_tokens\n0,many,1\n",
        "arrival_seconds,prompt_tokens,completion_tokens\n2,1,1\n1,1,1\n",
        "arrival_seconds,prompt_tokens,completion_tokens\n0,1\n",
    ],
    ids=["empty", "a column short", "no number", "out of order", "a row short"],
)
def test_a_file_that_is_no_trace_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "trace.csv.gz", text)
    with pytest.raises(ValueError, match=r"trace\.csv\.gz"):
        read_trace(path)
