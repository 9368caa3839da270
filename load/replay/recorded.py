"""What the ledger knows of each request: when, whose, how long, where it went, how it ended, what it cost. Never what it said.
Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from load.traces.formats.charges import GENERATING, NS, Row, by_request, completion_tokens, prompt_tokens


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


def recorded(charges: Iterable[Row]) -> tuple[list[Recorded], Counter[str]]:
    """The requests in the order of their arrival, and how many were left out, by reason: those that were not generated, of which
    the simulation knows nothing. charges: rows of the ledger, by column."""
    left_out: Counter[str] = Counter()
    kept = []
    for several in by_request(charges):
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


def _recorded(several: Sequence[Row], began_ns: int) -> Recorded:
    first, last = several[0], several[-1]
    costs = [row["cost_nanousd"] for row in several]
    tokens = prompt_tokens(last)
    first_token_ns = last["first_token_ns"]
    return Recorded(
        seconds=(first["opened_ns"] - began_ns) / NS,
        tenant=last["tenant"],
        model=last["asked_model"],
        backend=last["backend"],
        category=last["category"],
        is_streaming=first_token_ns is not None,
        is_ok=last["status"] == "ok",
        prompt_tokens=tokens,
        prompt_tokens_estimate=last["prompt_tokens_estimate"],
        cached_tokens=min(last["cached_tokens"], tokens - 1),
        completion_tokens=completion_tokens(last),
        completion_tokens_estimate=last["completion_tokens_estimate"],
        cost_nanousd=None if None in costs else sum(costs),
        ttft_seconds=None if first_token_ns is None else (first_token_ns - first["opened_ns"]) / NS,
    )
