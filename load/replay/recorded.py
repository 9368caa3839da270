"""What the ledger knows of each request: when, whose, how long, where it went, how it ended, what it cost. Never what it said.
Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Endpoints whose answers are generated: of others the simulation knows nothing.
GENERATING = frozenset({"chat", "completions", "responses", "messages"})
NS = 1e9


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request. seconds: since the first of them. cost_nanousd: of all its attempts; None where one is unpriced. is_ok: the
    last one was a real finish. Tokens are the last attempt's, with the estimate where it failed before it used any."""

    seconds: float
    tenant: str
    model: str
    backend: str
    category: str
    is_streaming: bool
    is_ok: bool
    prompt_tokens: int
    prompt_tokens_estimate: int
    cached_tokens: int
    completion_tokens: int
    completion_tokens_estimate: int
    cost_nanousd: int | None
    ttft_seconds: float | None


def recorded(charges: Iterable[Mapping[str, Any]]) -> tuple[list[Recorded], Counter[str]]:
    """The requests in the order of their arrival, and how many were left out, by reason. charges: rows of the ledger, by
    column."""
    attempts: dict[str, list[Mapping[str, Any]]] = {}
    for row in charges:
        attempts.setdefault(row["request_id"], []).append(row)
    for several in attempts.values():
        several.sort(key=lambda row: row["number"])
    left_out: Counter[str] = Counter()
    kept = []
    for several in attempts.values():
        last = several[-1]
        if last["backend"] == "cache":
            left_out["answered from the response cache"] += 1
        elif last["endpoint"] not in GENERATING:
            left_out[f"endpoint {last['endpoint']}"] += 1
        else:
            kept.append(several)
    kept.sort(key=lambda several: (several[0]["opened_ns"], several[0]["request_id"]))
    if not kept:
        return [], left_out
    began_ns = kept[0][0]["opened_ns"]
    return [_recorded(several, began_ns) for several in kept], left_out


def _recorded(several: Sequence[Mapping[str, Any]], began_ns: int) -> Recorded:
    first, last = several[0], several[-1]
    costs = [row["cost_nanousd"] for row in several]
    prompt_tokens = last["prompt_tokens"] or last["prompt_tokens_estimate"]
    first_token_ns = last["first_token_ns"]
    return Recorded(
        seconds=(first["opened_ns"] - began_ns) / NS,
        tenant=last["tenant"],
        model=last["asked_model"],
        backend=last["backend"],
        category=last["category"],
        is_streaming=first_token_ns is not None,
        is_ok=last["status"] == "ok",
        prompt_tokens=max(1, prompt_tokens),
        prompt_tokens_estimate=last["prompt_tokens_estimate"],
        cached_tokens=min(last["cached_tokens"], max(0, prompt_tokens - 1)),
        completion_tokens=max(1, last["completion_tokens"] or last["completion_tokens_estimate"]),
        completion_tokens_estimate=last["completion_tokens_estimate"],
        cost_nanousd=None if None in costs else sum(costs),
        ttft_seconds=None if first_token_ns is None else (first_token_ns - first["opened_ns"]) / NS,
    )
