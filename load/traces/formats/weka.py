"""Agent sessions as WEKA recorded them (callanjfox/kv-cache-tester): a JSON file per session, `requests` with `t` in seconds
since the session began, `in`, `out`, `hash_ids` of `block_size` tokens, `think_time`, `type` (`s` streamed, `n` not), and
sub-agents as entries with `requests` of their own.

A session's start in the world is not recorded: all begin at 0; spread them with `shaping.spread`. Ids of blocks count within
their session unless `hash_id_scope` is `global`, so they are moved apart here.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from load.traces.trace import Arrival, Trace, runs


def read(sessions: Sequence[tuple[str, Any]]) -> Trace:
    """From (name, JSON) of each session. Raises ValueError with the name."""
    found: list[Arrival] = []
    sizes: set[int] = set()
    first_free = 0
    for name, session in sessions:
        try:
            sizes.add(int(session["block_size"]))
            is_global = session.get("hash_id_scope") == "global"
            offset = 0 if is_global else first_free
            arrivals = list(_chain(session["requests"], name, 0.0, offset))
        except KeyError as error:
            raise ValueError(f"{name}: no {error}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from error
        found += arrivals
        first_free = max([first_free, *(run.stop for arrival in arrivals for run in arrival.blocks)])
    if len(sizes) > 1:
        raise ValueError(f"sessions with blocks of several sizes: {', '.join(map(str, sorted(sizes)))}")
    found.sort(key=lambda one: one.seconds)
    return Trace(found, sizes.pop() if sizes else 0)


def _chain(requests: Any, session: str, began_seconds: float, offset: int) -> Iterator[Arrival]:
    turn = agents = 0
    for entry in requests:
        at_seconds = began_seconds + float(entry.get("t", 0.0))
        if "requests" in entry:  # a sub-agent: a chain of its own
            agents += 1
            yield from _chain(entry["requests"], f"{session}/{agents}", at_seconds, offset)
            continue
        think = entry.get("think_time")
        yield Arrival(
            at_seconds,
            int(entry["in"]),
            max(1, int(entry["out"])),
            session=session,
            turn=turn,
            think_seconds=None if think is None else float(think),
            kind="agent-sub" if "/" in session else "agent",
            streams=entry.get("type") == "s" if "type" in entry else None,
            blocks=tuple(range(run.start + offset, run.stop + offset) for run in runs(entry.get("hash_ids") or ())),
        )
        turn += 1
