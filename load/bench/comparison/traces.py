"""The traces that nobody recorded: `python -m load.bench.comparison.traces` writes them beside the scenarios, from a seed.

Both are in Mooncake's format. Agents: a session's prompt is the same instructions for all, then all that was said before, then
what a tool said; sizes are of the order of the agent sessions that `load.traces` reads (callanjfox/kv-cache-tester). Documents: a
question behind retrieved passages, and a short answer.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

HERE = Path(__file__).parent / "scenarios"
BLOCK_TOKENS = 512
SEED = 20260501

SESSIONS = 150
SESSIONS_PER_SECOND = 0.6
INSTRUCTION_TOKENS = 4096
TURNS = (6, 18)
TURN_TOKENS = (300, 2500)
AGENT_COMPLETION_TOKENS = (60, 500)
TOOL_SECONDS = (1.0, 8.0)

DOCUMENTS_PER_SECOND = 2.5
DOCUMENTS_SECONDS = 300.0
PROMPT_TOKENS_MEDIAN, PROMPT_TOKENS_SIGMA, PROMPT_TOKENS_BOUNDS = 6000, 0.5, (1500, 14_000)
DOCUMENT_COMPLETION_TOKENS = (40, 300)


def agents(random: Random) -> Iterator[dict[str, object]]:
    """Turns of each session in their order, the sessions in that of their beginning."""
    begins, ids = 0.0, INSTRUCTION_TOKENS // BLOCK_TOKENS
    for session in range(SESSIONS):
        begins += random.expovariate(SESSIONS_PER_SECOND)
        blocks, tokens = list(range(INSTRUCTION_TOKENS // BLOCK_TOKENS)), INSTRUCTION_TOKENS
        for turn in range(random.randint(*TURNS)):
            tokens += random.randint(*TURN_TOKENS)
            more = tokens // BLOCK_TOKENS - len(blocks)
            blocks += range(ids, ids + more)
            ids += more
            answer = random.randint(*AGENT_COMPLETION_TOKENS)
            row: dict[str, object] = {"input_length": tokens, "output_length": answer, "session_id": f"s{session}"}
            wait_ms = round(1000 * random.uniform(*TOOL_SECONDS))
            row |= {"delay": wait_ms} if turn else {"timestamp": round(1000 * begins)}
            yield row | {"hash_ids": list(blocks)}
            tokens += answer


def documents(random: Random) -> Iterator[dict[str, object]]:
    at = 0.0
    least, most = PROMPT_TOKENS_BOUNDS
    while (at := at + random.expovariate(DOCUMENTS_PER_SECOND)) < DOCUMENTS_SECONDS:
        tokens = round(random.lognormvariate(0, PROMPT_TOKENS_SIGMA) * PROMPT_TOKENS_MEDIAN)
        yield {
            "timestamp": round(1000 * at),
            "input_length": min(max(tokens, least), most),
            "output_length": random.randint(*DOCUMENT_COMPLETION_TOKENS),
        }


def main() -> None:
    for name, rows in (("agents", agents(Random(SEED))), ("documents", documents(Random(SEED)))):
        text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
        # Without a time of its own, so that the same seed makes the same file.
        (HERE / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
