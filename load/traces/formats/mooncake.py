"""Mooncake (kvcache-ai/Mooncake): a JSON object per line, `timestamp` in milliseconds, `input_length`, `output_length`, and
`hash_ids` of blocks of 512 tokens. AIPerf writes the same with `session_id` and `delay` (milliseconds after an answer)."""

import json
from collections.abc import Sequence

from load.traces.trace import Arrival, Trace, runs

BLOCK_TOKENS = 512


def is_line(line: str) -> bool:
    return line.startswith("{") and '"input_length"' in line


def read(lines: Sequence[str]) -> Trace:
    found: list[Arrival] = []
    turns: dict[str, int] = {}
    at_seconds: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            session = str(row.get("session_id", ""))
            turn = turns.get(session, 0) if session else 0
            delay = row.get("delay")
            # A later turn may say its delay alone: it comes when its predecessor is answered, at the earliest at once.
            seconds = row["timestamp"] / 1000 if "timestamp" in row else at_seconds[session] + (delay or 0) / 1000
            found.append(
                Arrival(
                    seconds,
                    int(row["input_length"]),
                    max(1, int(row["output_length"])),
                    session=session,
                    turn=turn,
                    think_seconds=None if delay is None else delay / 1000,
                    blocks=runs(row.get("hash_ids") or ()),
                )
            )
        except KeyError as error:
            raise ValueError(f"line {number}: no {error}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"line {number}: {error}") from error
        if session:
            turns[session], at_seconds[session] = turn + 1, seconds
    found.sort(key=lambda one: one.seconds)  # turns that were placed by their delays
    return Trace(found, BLOCK_TOKENS if any(one.blocks for one in found) else 0)
