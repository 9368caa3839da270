"""One request on its way: what every attempt at it shares."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from router.cache.responses import Tape
from router.conversation import Conversation
from router.deployment import Deployment
from router.dispatch.watchdog import Deadline
from router.domain.decision import Decision
from router.domain.request import InferenceRequest
from router.errors import Refusal
from router.intake import Body
from router.ledger.budget import Account

# An attempt that was cut off at its deadline takes a moment to be closed.
HOLD_SPARE_SECONDS = 60.0


class Work(NamedTuple):
    """tape: where the response cache has to do with it."""

    call: Conversation
    request: InferenceRequest
    body: Body
    decision: Decision
    accounts: Sequence[Account]
    deployment: Deployment
    received_ns: int
    deadline: Deadline
    tape: Tape | None = None

    @property
    def hold_ns(self) -> int:
        """How long an attempt's hold may last: beyond the deadline at which whatever runs is cut off."""
        return int((self.deployment.total_seconds + HOLD_SPARE_SECONDS) * 1e9)

    def why_cut_short(self, error: BaseException) -> str:
        """The fault of an attempt that ended through no fault of the backend's."""
        if self.call.is_deserted:
            return "client_gone"
        if self.deadline.has_passed:
            return "deadline"
        if isinstance(error, asyncio.CancelledError):
            return "shutdown"
        return "refused_here" if isinstance(error, Refusal) else "internal"
