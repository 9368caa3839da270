"""BurstGPT (HPMLL/BurstGPT): `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type`; some releases add
`Session ID` and `Elapsed time`. A response of no tokens is a request that failed, and is left out."""

from collections.abc import Mapping, Sequence

from load.traces.formats.table import arrivals
from load.traces.trace import Arrival, Trace

KINDS = {"conversation log": "chat", "api log": "api"}


def is_header(line: str) -> bool:
    return {"Timestamp", "Request tokens", "Response tokens"} <= set(line.strip().split(","))


def read(lines: Sequence[str]) -> Trace:
    found = list(arrivals(lines, _arrival))
    began = min((one.seconds for one in found), default=0.0)
    turns: dict[str, int] = {}
    numbered = []
    for one in found:
        turn = turns.get(one.session, 0)
        if one.session:
            turns[one.session] = turn + 1
        numbered.append(one._replace(seconds=one.seconds - began, turn=turn if one.session else 0))
    return Trace(numbered)


def _arrival(row: Mapping[str, str]) -> Arrival | None:
    prompt_tokens, completion_tokens = int(row["Request tokens"]), int(row["Response tokens"])
    if not prompt_tokens or not completion_tokens:
        return None
    kind = row.get("Log Type") or ""
    return Arrival(
        float(row["Timestamp"]),
        prompt_tokens,
        completion_tokens,
        session=row.get("Session ID") or "",
        kind=KINDS.get(kind.strip().lower(), kind),
    )
