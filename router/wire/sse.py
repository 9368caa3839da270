"""Server-sent events cut out of a byte stream, whole and untouched.

What an event means is `streams.py`'s business. Bounds what it holds: an event that does not end is refused.
"""

EVENT_BYTES_MAX = 2**20


class EventTooLong(Exception):
    """An event grew beyond what may be buffered."""


class EventSplitter:
    """Bytes in, whole events out, each with the blank line that ends it.

    The usual case, one or more events ending in LF LF with nothing left over, costs one `endswith` and one `count`. CRLF and
    lone CR, legal in SSE and sent by some proxies, take the slow path.
    """

    __slots__ = ("_held", "_pending_parts", "event_bytes_max")

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self.event_bytes_max = event_bytes_max
        self._pending_parts: list[bytes] = []
        self._held = 0

    @property
    def is_empty(self) -> bool:
        return not self._pending_parts

    def feed(self, data: bytes) -> list[bytes]:
        """Raises EventTooLong when more than `event_bytes_max` bytes wait for their event's end."""
        if self._pending_parts:
            # The end of an event can straddle two reads by at most three bytes (CR LF CR | LF).
            if b"\n" not in data and b"\r" not in data:
                return self._hold(data)
            data = b"".join([*self._pending_parts, data])
            self._pending_parts.clear()
            self._held = 0
        if b"\r" in data:
            return self._feed_with_carriage_returns(data)
        if data.endswith(b"\n\n"):
            if data.count(b"\n\n") == 1:
                return [data]
            return [piece + b"\n\n" for piece in data.split(b"\n\n") if piece.strip(b"\n")]
        *pieces, rest = data.split(b"\n\n")
        if rest:
            self._hold(rest)
        return [piece + b"\n\n" for piece in pieces if piece.strip(b"\n")]

    def rest(self) -> bytes:
        """What was left without a blank line when the stream ended."""
        left = b"".join(self._pending_parts)
        self._pending_parts.clear()
        self._held = 0
        return left

    def _hold(self, data: bytes) -> list[bytes]:
        self._held += len(data)
        if self._held > self.event_bytes_max:
            raise EventTooLong
        self._pending_parts.append(data)
        return []

    def _feed_with_carriage_returns(self, data: bytes) -> list[bytes]:
        is_cut_after_cr = data.endswith(b"\r")  # its LF may follow
        body = data[:-1] if is_cut_after_cr else data
        *pieces, rest = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n")
        if is_cut_after_cr:
            rest += b"\r"
        if rest:
            self._hold(rest)
        return [piece + b"\n\n" for piece in pieces if piece.strip(b"\n")]


def event_data(event: bytes) -> bytes:
    """The payload: the `data` lines joined by LF, with or without the blank after the colon; b"" for comments."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2:
        return event[6:-2]
    lines = []
    for line in event.split(b"\n"):
        if line.startswith(b"data:"):
            lines.append(line[6:] if line.startswith(b"data: ") else line[5:])
    return b"\n".join(lines)
