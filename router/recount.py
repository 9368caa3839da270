"""Attempts that ended without usage at a vLLM, which can count tokens itself: it is asked, and they are closed with what it says.

The client has its answer, or has left, by then. Where the question fails, takes too long, or too many are asked, they are closed
with the estimate, flagged as one; and a replica that did not answer is not asked again for a while.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from router.attempt import Attempt
from router.dispatch.failure import AttemptFailed
from router.dispatch.relay import Parcel, Relay, read_whole
from router.domain.request import Endpoint
from router.domain.usage import Usage, UsageSource
from router.errands import Errands
from router.parcels import ANSWER_ASKED
from router.wire.counting import Said, count_in, prompt_questions, text_question
from router.wire.outgoing import PATHS
from router.work import Work

log = structlog.get_logger("jeton.recount")

ASK_SECONDS_MAX = 2.0
AT_ONCE_MAX = 32
REST_SECONDS = 30.0
COUNT_BYTES_MAX = 64 * 2**20  # all token ids come back


class Recount(Errands):
    """What was not counted when the router ends is closed as an estimate."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay
        self._resting: dict[str, float] = {}

    def later(self, work: Work, attempt: Attempt, said: Said, close: Callable[[], None]) -> None:
        """close: closes the attempt; `attempt.counted` is set by then, where it could be."""
        attempt.end()
        rests = time.monotonic() < self._resting.get(attempt.facts.replica, 0.0)
        if rests or len(self._under_way) >= AT_ONCE_MAX:
            close()
            return
        self._start(self._count(work, attempt, said, close))

    async def _count(self, work: Work, attempt: Attempt, said: Said, close: Callable[[], None]) -> None:
        replica = attempt.facts.replica
        try:
            async with asyncio.timeout(ASK_SECONDS_MAX):
                attempt.counted = await self._usage(work, attempt, said)
            self._resting.pop(replica, None)
        except (AttemptFailed, TimeoutError, ValueError) as error:
            log.warning("tokens could not be counted", replica=replica, error=str(error) or type(error).__name__)
            now_seconds = time.monotonic()
            self._resting = {one: until for one, until in self._resting.items() if until > now_seconds}
            self._resting[replica] = now_seconds + REST_SECONDS
        finally:
            close()

    async def _usage(self, work: Work, attempt: Attempt, said: Said) -> Usage:
        served_model = attempt.candidate.backend.served_model
        prompt_tokens, questions = prompt_questions(work.request.endpoint, work.body.parsed.members, served_model)
        for question in questions:
            prompt_tokens += await self._answer(work, attempt, question)
        completion_tokens = said.ended_turns
        for text in said.texts:
            if text:
                completion_tokens += await self._answer(work, attempt, text_question(text, served_model))
        return Usage(prompt_tokens, completion_tokens, source=UsageSource.TOKENIZED)

    async def _answer(self, work: Work, attempt: Attempt, question: bytes) -> int:
        headers = [(b"x-request-id", attempt.facts.attempt_id.encode()), *ANSWER_ASKED]
        parcel = Parcel(Endpoint.TOKENIZE, PATHS[Endpoint.TOKENIZE], headers, question, False)
        exchange = await self._relay.send(attempt.candidate.replica, parcel, work.deployment.patience)
        try:
            return count_in(await read_whole(exchange, ASK_SECONDS_MAX, COUNT_BYTES_MAX))
        finally:
            exchange.release()
