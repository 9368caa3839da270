"""The lowest sum of input and output rate, whatever the request is: a baseline, and how other routers compare prices.

When: to compare with. A leased backend's list price is its standard one. The sum weighs a prompt token like a completion token,
though a chat has five times as many of the former; `marginal_cost` prices the request at hand.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import ClassVar

from pydantic import BaseModel

from policies import idlest_first
from router.domain.decision import Candidate, Choice
from router.domain.request import InferenceRequest

REASON = "lowest list price first"


class LowestListPrice(BaseModel, frozen=True, extra="forbid"):
    """No parameters. A price of 0 is the lowest there is, not an unknown one."""

    needs: ClassVar[frozenset[str]] = frozenset({"price"})
    reasons: ClassVar[tuple[str, ...]] = (REASON,)

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]:
        """Of equal rates the least busy first."""
        return list(map(Choice, sorted(idlest_first(candidates), key=_list_price), repeat(REASON)))


def _list_price(candidate: Candidate) -> int:
    return candidate.list_nanousd_per_million
