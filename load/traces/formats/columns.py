"""jeton's own format, a CSV: `arrival_seconds, prompt_tokens, completion_tokens` and, where they are known, `session_id, turn,
kind, tenant, think_seconds, hash_runs, block_tokens`.

`hash_runs` is `start:length;start:length`, a run of block ids each. The older names `arrival_s`, `output_tokens` and `think_s`
are read too; there the size of a block is not told: it follows from a request's length and its number of blocks.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from math import ceil

from load.traces.formats.table import arrivals
from load.traces.trace import Arrival, Trace

OLDER = {"arrival_s": "arrival_seconds", "output_tokens": "completion_tokens", "think_s": "think_seconds"}
BLOCK_TOKENS = (16, 32, 64, 128, 256, 512, 1024)


def is_header(line: str) -> bool:
    names = {OLDER.get(name, name) for name in line.strip().split(",")}
    return {"arrival_seconds", "prompt_tokens"} <= names


def read(lines: Sequence[str]) -> Trace:
    header = ",".join(OLDER.get(name, name) for name in lines[0].strip().split(","))
    stated: set[int] = set()

    def arrival(row: Mapping[str, str]) -> Arrival:
        if row.get("block_tokens"):
            stated.add(int(row["block_tokens"]))
        return _arrival(row)

    found = list(arrivals([header, *lines[1:]], arrival))
    if len(stated) > 1:
        raise ValueError(f"its blocks have several sizes: {', '.join(map(str, sorted(stated)))}")
    return Trace(found, stated.pop() if stated else _block_tokens(found))


WRITTEN = (
    "arrival_seconds,prompt_tokens,completion_tokens,session_id,turn,think_seconds,kind,tenant,hash_runs,block_tokens"
)


def lines(trace: Trace) -> Iterator[str]:
    """The trace in this format, line by line; read again it is the same but for whether requests were streamed."""
    yield WRITTEN
    for one in trace.arrivals:
        runs = ";".join(f"{run.start}:{len(run)}" for run in one.blocks)
        row = (
            f"{one.seconds:.6f}", one.prompt_tokens, one.completion_tokens, one.session, one.turn if one.session else "",
            "" if one.think_seconds is None else one.think_seconds, one.kind, one.tenant, runs,
            trace.block_tokens if runs else "",
        )  # fmt: skip
        text = StringIO()
        csv.writer(text, lineterminator="").writerow(row)
        yield text.getvalue()


def _arrival(row: Mapping[str, str]) -> Arrival:
    think, blocks = row.get("think_seconds"), row.get("hash_runs")
    return Arrival(
        seconds=float(row["arrival_seconds"]),
        prompt_tokens=int(row["prompt_tokens"]),
        completion_tokens=max(
            1, int(row["completion_tokens"])
        ),  # some agents' turns have none: one is the least there is
        session=row.get("session_id") or "",
        turn=int(row.get("turn") or 0),
        think_seconds=float(think) if think else None,
        kind=row.get("kind") or "",
        tenant=row.get("tenant") or "",
        blocks=tuple(_run(run) for run in blocks.split(";")) if blocks else (),
    )


def _run(text: str) -> range:
    start, length = map(int, text.split(":"))
    return range(start, start + length)


def _block_tokens(found: Sequence[Arrival]) -> int:
    """The size at which most requests have as many blocks as their length asks for; 0 without blocks."""
    fits: Counter[int] = Counter()
    for arrival in found:
        blocks = sum(map(len, arrival.blocks))
        if blocks:
            fits.update(size for size in BLOCK_TOKENS if ceil(arrival.prompt_tokens / size) == blocks)
    return fits.most_common(1)[0][0] if fits else 0
