"""Small writes, held until everything that is ready has run, then written one after another.

A write to an idle peer wakes it, which costs the writer several times what the write does (an interrupt to another processor,
and on a virtual machine an exit to its host); a peer that was woken a moment ago is awake. Under load, where many requests are
ready at once, this is a tenth of a request's cost; where one is ready alone, nothing waits: the loop has nothing else to run.
"""

import asyncio
from typing import Protocol


class Sink(Protocol):
    """What a transport offers."""

    def write(self, data: bytes) -> None: ...
    def is_closing(self) -> bool: ...


class Flow(Protocol):
    """What is known of a sink's reader. write_paused: it has not taken what it was sent."""

    write_paused: bool


class Outbox:
    """For one event loop and all sinks of it. Order is kept for each sink, as long as all of its writes go through here.

    Between sinks, beginnings and ends go first: whoever waits for a first token, or for an answer's end, waits for all of it;
    the next piece of a stream that flows comes a moment later or sooner.
    """

    __slots__ = ("_further", "_has_stood_back", "_held")

    def __init__(self) -> None:
        self._held: dict[Sink, bytes] = {}
        self._further: dict[Sink, bytes] = {}
        self._has_stood_back = False

    def write(self, sink: Sink, data: bytes) -> None:
        """The beginning or the end of something, or all of it. To be called from the event loop, as `write_further`."""
        if not self._held:
            asyncio.get_running_loop().call_soon(self._flush_held)
        before = self._held.get(sink) or self._further.pop(sink, None)
        self._held[sink] = data if before is None else before + data

    def write_further(self, sink: Sink, data: bytes) -> None:
        """The next piece of what has begun."""
        before = self._held.get(sink)
        if before is not None:
            self._held[sink] = before + data
            return
        if not self._further:
            asyncio.get_running_loop().call_soon(self._soon)
        before = self._further.get(sink)
        self._further[sink] = data if before is None else before + data

    def flush(self) -> None:
        """Write what is held, at once; before a sink is closed. What is held for one that is closing is dropped."""
        self._flush_held()
        self._has_stood_back = True
        self._flush_further()

    def _flush_held(self) -> None:
        held, self._held = self._held, {}
        _write(held)

    def _soon(self) -> None:
        """What became ready in the same turn runs before, and may hold a beginning."""
        asyncio.get_running_loop().call_soon(self._flush_further)

    def _flush_further(self) -> None:
        """uvloop sends what was written in one turn at the turn's end and in any order, so what is held takes this one."""
        if self._held and not self._has_stood_back:
            self._has_stood_back = True
            asyncio.get_running_loop().call_soon(self._flush_further)
            return
        self._has_stood_back = False
        further, self._further = self._further, {}
        _write(further)


def _write(held: dict[Sink, bytes]) -> None:
    for sink, data in held.items():
        if not sink.is_closing():
            sink.write(data)


class ChunkedBody:
    """The body of an answer whose length is not known, in HTTP/1.1's chunks (RFC 9112, 7.1)."""

    __slots__ = ("_flow", "_outbox", "_sink")

    def __init__(self, outbox: Outbox, sink: Sink, flow: Flow) -> None:
        self._outbox = outbox
        self._sink = sink
        self._flow = flow

    def put(self, data: bytes) -> bool:
        """The next piece, not empty; whether it is being read, so that another may follow at once."""
        self._outbox.write_further(self._sink, b"%x\r\n%b\r\n" % (len(data), data))
        return not self._flow.write_paused and not self._sink.is_closing()


class BareBody(ChunkedBody):
    """The same for a client of HTTP/1.0, which knows no chunks (RFC 9112, 6.1): as it is, and the connection's end ends it."""

    __slots__ = ()

    def put(self, data: bytes) -> bool:
        self._outbox.write_further(self._sink, data)
        return not self._flow.write_paused and not self._sink.is_closing()
