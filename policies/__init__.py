"""Routing policies, one per file, and the orders that they share.

A policy ranks the candidates that may serve a request, best first; the order is also the failover order. The file's name is
the policy's name, its class the same in CamelCase, a frozen pydantic class whose fields are its parameters in YAML:

    rank(request, candidates) -> list[Choice]    every candidate exactly once, each with one of `reasons`
    reasons: ClassVar[tuple[str, ...]]           a fixed vocabulary: a reason becomes a label and a header
    needs: ClassVar[frozenset[str]]              of "quality", "price", "ttft": what it decides on; jeton will not start without

No clock, no randomness, no I/O: the same object runs in the router, the simulator and the replay. What must be remembered
between two requests lives on the instance. Nothing is registered; to add a policy, add a file.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from router.domain.decision import Candidate

# Every order ends in the replica's id, so that equal candidates always come out alike. Before it come the quote and the work
# in flight, so that equal replicas share the work. (`attrgetter` because a ranking of fifty sorts fifty keys: it is a third
# cheaper than a function.)
Order = Callable[[Candidate], Any]

# The cheapest first, by what this request adds to the bill; of equals the least busy.
by_quote: Order = attrgetter("marginal_nanousd", "load.attempts", "ttft_seconds", "replica.id")
# The quickest to its first token first; of equals the least busy.
by_ttft: Order = attrgetter("ttft_seconds", "load.attempts", "marginal_nanousd", "replica.id")
# The least busy first: attempts in flight, then prompt tokens that wait for prefill; of equals the cheapest.
by_load: Order = attrgetter("load.attempts", "load.prefill_tokens", "marginal_nanousd", "replica.id")
