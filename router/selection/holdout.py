"""The hold-out: chance sends a share of the requests for `auto` to the baseline, so that what routing saves can be measured.

Chance is a hash of the request's id, which the router makes up: the same request is in the same arm on every worker and in
every replay, and nothing random lives here. A held-out request keeps all its candidates, the baseline's first and the others
behind them in the policy's order, so it is answered even where the baseline cannot; it counts as held out all the same
(intention to treat), which is why every choice of it has the one reason.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from router.domain.decision import Choice
from router.domain.periods import HOLDOUT_MODEL, HOLDOUT_REASON
from router.domain.request import InferenceRequest


class Holdout:
    """baseline: a backend's name. ratio: 0 to 1."""

    def __init__(self, baseline: str, ratio: float) -> None:
        self._baseline = baseline
        self._below = round(ratio * 2**64)

    def apply(self, request: InferenceRequest, choices: Sequence[Choice]) -> Sequence[Choice]:
        """The choices as they are, or those of a held-out request."""
        if not self._below or request.model != HOLDOUT_MODEL or not self.includes(request.request_id):
            return choices
        held_out = [replace(choice, reason=HOLDOUT_REASON) for choice in choices]
        return sorted(held_out, key=lambda choice: choice.candidate.backend.name != self._baseline)

    def includes(self, request_id: str) -> bool:
        digest = blake2b(request_id.encode(), digest_size=8, person=b"jeton holdout").digest()
        return int.from_bytes(digest) < self._below
