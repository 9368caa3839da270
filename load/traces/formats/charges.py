"""Charges of jeton's own ledger as a trace: when its requests came, whose they were, how long. What they said it never knew."""

from collections.abc import Iterable, Mapping
from typing import Any

from load.traces.trace import Arrival, Trace

Row = Mapping[str, Any]
NS = 1e9
# Endpoints whose answers are generated token by token.
GENERATING = frozenset({"chat", "completions", "responses", "messages"})


def by_request(charges: Iterable[Row]) -> list[list[Row]]:
    """Rows by column, in any order: each request's attempts in theirs. Shadows are nobody's requests."""
    attempts: dict[str, list[Row]] = {}
    for row in charges:
        if row["status"] == "shadow":
            continue
        attempts.setdefault(row["request_id"], []).append(row)
    for several in attempts.values():
        several.sort(key=lambda row: int(row["number"]))
    return list(attempts.values())


def prompt_tokens(row: Row) -> int:
    """What a provider or the cache left uncounted is taken from the estimate. At least one."""
    return max(1, int(row["prompt_tokens"] or row["prompt_tokens_estimate"]))


def completion_tokens(row: Row) -> int:
    """The same of its completion."""
    return max(1, int(row["completion_tokens"] or row["completion_tokens_estimate"]))


def read(charges: Iterable[Row]) -> Trace:
    """A request comes once, when its first attempt was dispatched, as long as its last attempt found it. Raises ValueError where
    there is none."""
    found = []
    for several in by_request(row for row in charges if row["endpoint"] in GENERATING):
        first, last = several[0], several[-1]
        found.append(
            Arrival(
                first["opened_ns"] / NS,
                prompt_tokens(last),
                completion_tokens(last),
                kind=last["category"],
                tenant=last["tenant"],
                streams=last["first_token_ns"] is not None,
            )
        )
    found.sort(key=lambda one: one.seconds)
    began = found[0].seconds if found else 0.0
    return Trace([one._replace(seconds=one.seconds - began) for one in found])
