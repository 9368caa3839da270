"""Requests that are put to a second backend once the client has its answer, whose answers are thrown away.

The client never waits for one, and nothing of it reaches a budget: it is booked to a tenant of its own, `shadow`, as money that
bought no answer. What goes wrong with one is told to the fleet as of any attempt. Those beyond so many at once are left out, and
all that are under way when the router ends are ended.
"""

import asyncio
from collections.abc import Callable

import structlog

from router.attempt import Attempt
from router.delivery import patience_for, stream_reader, whole_answer
from router.dispatch.failure import AttemptFailed
from router.dispatch.relay import Relay, StreamRelay, is_event_stream
from router.domain.attempt import Charge
from router.errands import Errands
from router.errors import Refusal
from router.parcels import parcel_for
from router.work import Work

log = structlog.get_logger("jeton.shadows")


class Shadows(Errands):
    """For one event loop."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay

    def cast(self, work: Work, open_: Callable[[], Attempt], record: Callable[[Attempt, Charge], None]) -> None:
        """open_: the attempt; raises Refusal where it cannot be recorded. record: what came of it."""
        if len(self._under_way) >= work.deployment.shadows_at_once_max:
            return
        self._start(self._run(work, open_, record))

    async def _run(self, work: Work, open_: Callable[[], Attempt], record: Callable[[Attempt, Charge], None]) -> None:
        try:
            attempt = open_()
        except Refusal as refusal:
            log.info("no shadow", why=refusal.detail or refusal.message)
            return
        try:
            async with asyncio.timeout(work.deployment.total_seconds):
                await attempt.durable()
                charge = await self._ask(work, attempt)
        except AttemptFailed as failure:
            charge = attempt.fail(failure)
        except Refusal:
            charge = attempt.cancel("refused_here")
        except TimeoutError:
            charge = attempt.cancel("deadline")
        except asyncio.CancelledError:
            record(attempt, attempt.cancel("shutdown"))
            raise
        except Exception:  # whatever it was, its books are closed
            log.exception("unexpected", request_id=attempt.facts.request_id)
            charge = attempt.cancel("internal")
        record(attempt, charge)

    async def _ask(self, work: Work, attempt: Attempt) -> Charge:
        patience = patience_for(work, attempt)
        parcel = parcel_for(work, attempt, None)
        attempt.is_sent = True
        exchange = await self._relay.send(attempt.candidate.replica, parcel, patience)
        if is_event_stream(exchange):
            attempt.stream = stream = stream_reader(work, attempt, None)
            relayed = StreamRelay(exchange, stream, patience)
            try:
                await relayed.first()
                attempt.first_token()
                while await relayed.next() is not None:
                    pass
                stream.end()
            finally:
                relayed.release()
            return attempt.succeed(stream.usage(), stream.events)
        answer = await whole_answer(work, attempt, exchange, patience)
        return attempt.succeed(answer.usage, answer.completion_tokens_estimate)
