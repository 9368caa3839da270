"""Which requests are put to a second backend as well, for nobody but whoever wants to know what it would have said, and where.

Chance is a hash of the request's id, as for the hold-out: the same request on every worker and in every replay.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from router.domain.decision import Choice

SHADOW_REASON = "shadow"


class Shadow:
    """ratio: 0 to 1. backends: where shadows may go; empty: wherever the request might have gone."""

    def __init__(self, ratio: float, backends: Sequence[str]) -> None:
        self._below = round(ratio * 2**64)
        self._backends = frozenset(backends)

    @property
    def is_on(self) -> bool:
        return self._below > 0

    def choice(self, request_id: str, choices: Sequence[Choice], answered_by: str) -> Choice | None:
        """The best choice at another backend than that which has answered; None where the request has no shadow."""
        if not self.includes(request_id):
            return None
        for choice in choices:
            name = choice.candidate.backend.name
            if name != answered_by and (not self._backends or name in self._backends):
                return replace(choice, reason=SHADOW_REASON)
        return None

    def includes(self, request_id: str) -> bool:
        digest = blake2b(request_id.encode(), digest_size=8, person=b"jeton shadow").digest()
        return int.from_bytes(digest) < self._below
