"""Charges of jeton's own ledger as a trace: when its requests came, whose they were, how long. What they said it never knew."""

from collections.abc import Iterable, Mapping
from typing import Any

from load.traces.trace import Arrival, Trace

NS = 1e9
# Endpoints whose answers are generated token by token.
GENERATING = frozenset({"chat", "completions", "responses", "messages"})


def read(charges: Iterable[Mapping[str, Any]]) -> Trace:
    """Of rows by column, in any order. A request comes once, when its first attempt was dispatched, as long as its last attempt
    found it; what a provider or the cache left uncounted is taken from the estimate. Raises ValueError where there is none."""
    attempts: dict[str, list[Mapping[str, Any]]] = {}
    for row in charges:
        if row["endpoint"] in GENERATING:
            attempts.setdefault(row["request_id"], []).append(row)
    found = []
    for several in attempts.values():
        first, last = min(several, key=_number), max(several, key=_number)
        found.append(
            Arrival(
                first["opened_ns"] / NS,
                max(1, last["prompt_tokens"] or last["prompt_tokens_estimate"]),
                max(1, last["completion_tokens"] or last["completion_tokens_estimate"]),
                kind=last["category"],
                tenant=last["tenant"],
                streams=last["first_token_ns"] is not None,
            )
        )
    found.sort(key=lambda one: one.seconds)
    began = found[0].seconds if found else 0.0
    return Trace([one._replace(seconds=one.seconds - began) for one in found])


def _number(row: Mapping[str, Any]) -> int:
    return int(row["number"])
