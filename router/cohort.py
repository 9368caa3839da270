"""Requests that take each step of their way together, so that one step's code is still in the caches for the next of them.

Each step of a request drives the code of the others out of the processor's caches, and costs about twice what it costs when it
is taken twice in a row. Under load many requests are ready at once; so each waits before a step until the others have come as
far: one turn of the event loop. Measured at 32 requests at once: 316 to 273 µs of CPU a request. A request alone does not wait.
(Cohort scheduling: Larus and Parkes, USENIX 2002.)
"""

from collections.abc import Generator
from types import coroutine


class Cohort:
    """Those on their way now; a request is one inside the `with` block."""

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members = 0

    def __enter__(self) -> None:
        self._members += 1

    def __exit__(self, *_: object) -> None:
        self._members -= 1

    @coroutine
    def assemble(self) -> Generator[None, None, None]:
        """Let the others that are ready come as far. A cancellation may be delivered here."""
        if self._members > 1:
            yield  # what `asyncio.sleep(0)` comes to, without its two frames
