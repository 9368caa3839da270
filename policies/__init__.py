"""Routing policies, one per file, and the orders that they share.

A policy ranks the candidates that may serve a request, best first; the order is also the failover order. The file's name is
the policy's name, its class the same in CamelCase, a frozen pydantic class whose fields are its parameters in YAML:

    rank(request, candidates) -> list[Choice]    every candidate exactly once, each with one of `reasons`
    reasons: ClassVar[tuple[str, ...]]           a fixed vocabulary: a reason becomes a label and a header
    needs: ClassVar[frozenset[str]]              of "quality", "price", "ttft": what it decides on; jeton will not start without

No clock, no randomness, no I/O: the same object runs in the router, the simulator and the replay. What must be remembered
between two requests lives on the instance. Nothing is registered; to add a policy, add a file.
"""

from router.domain.decision import Candidate

# Every order ends in the replica's id, so that equal candidates always come out alike. Before it come the quote and the work
# in flight, so that equal replicas share the work.


def by_quote(candidate: Candidate) -> tuple[int, int, float, str]:
    """The cheapest first, by what this request adds to the bill; of equals the least busy."""
    return candidate.quote.marginal_nanousd, candidate.load.attempts, candidate.ttft_seconds, candidate.replica.id


def by_ttft(candidate: Candidate) -> tuple[float, int, int, str]:
    """The quickest to its first token first; of equals the least busy."""
    return candidate.ttft_seconds, candidate.load.attempts, candidate.quote.marginal_nanousd, candidate.replica.id


def by_load(candidate: Candidate) -> tuple[int, int, int, str]:
    """The least busy first: attempts in flight, then prompt tokens that wait for prefill; of equals the cheapest."""
    load = candidate.load
    return load.attempts, load.prefill_tokens, candidate.quote.marginal_nanousd, candidate.replica.id
