"""Streams that a cascade has discarded, at backends that bill them to their end: read on beside whatever is asked next.

The client waits for none of it. How much is read, and for how long, is bounded as it is for a client that has left. Those under
way when the router ends are ended.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from router.dispatch.failure import AttemptFailed
from router.dispatch.relay import StreamRelay
from router.errands import Errands
from router.work import Work

log = structlog.get_logger("jeton.leftovers")


class Leftovers(Errands):
    """For one event loop."""

    def read(
        self, work: Work, rest: StreamRelay, close: Callable[[AttemptFailed | None], None]
    ) -> "asyncio.Task[AttemptFailed | None]":
        """To its end, or to the bounds of `read_on` and the request's deadline. close: closes the attempt, once, however the task
        ends; told the failure where the backend's stream failed."""
        until_seconds = min(work.deadline.deadline_seconds, time.monotonic() + work.deployment.read_on.seconds_max)
        task = self._start(_read(rest, until_seconds, work.deployment.read_on.bytes_max))

        def ended(task: "asyncio.Task[AttemptFailed | None]") -> None:  # one that is cancelled may never have begun
            rest.release()
            error = None if task.cancelled() else task.exception()
            if error is not None:
                log.error("unexpected", request_id=work.request.request_id, exc_info=error)
            close(None if task.cancelled() or error is not None else task.result())

        task.add_done_callback(ended)
        return task


async def _read(rest: StreamRelay, until_seconds: float, bytes_max: int) -> AttemptFailed | None:
    size = 0
    try:
        async with asyncio.timeout(until_seconds - time.monotonic()):
            while size <= bytes_max and (piece := await rest.next()) is not None:
                size += len(piece)
    except AttemptFailed as failure:
        return failure
    except TimeoutError:
        pass
    return None
