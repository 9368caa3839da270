"""A connection to PostgreSQL that does not wait for a server that is frozen.

A server that is stopped (a suspended machine, a stuck volume, SIGSTOP) keeps its connections: packets are acknowledged by its
kernel, so no TCP time-out ends, and what it was to time out itself it does not. A statement that takes long looks the same from
here. So when nothing has come for a while, the server is asked from the side whether it is there: by the first packet of a new
connection, which any server answers at once with one byte. Only if that does not come, too, is the connection given up.
"""

import socket
import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

Result = TypeVar("Result")

# Without a word of it for so long, the server is asked; and again each time that it was silent for twice as long.
SILENT_SECONDS = 0.5
# How long it has for that one byte. Both together are less than a metered attempt waits for its journal entry.
ANSWER_SECONDS = 1.0
# SSLRequest (PostgreSQL's protocol, "Message Formats"): its length and a code; answered by S or N before anything else.
SSL_REQUEST = (8).to_bytes(4, "big") + (80_877_103).to_bytes(4, "big")


class PatientConnection(psycopg.Connection[Any]):
    """Raises OperationalError, and is closed then, where the server does not answer."""

    def wait(self, gen: Generator[Any, Any, Result], *arguments: Any, **options: Any) -> Result:
        return super().wait(self._while_it_answers(gen), *arguments, **options)

    def _while_it_answers(self, gen: Generator[Any, Any, Result]) -> Generator[Any, Any, Result]:
        """`gen`, whose reader sends it a false value whenever some tenths of a second have brought nothing."""
        heard_at, patience_seconds = time.monotonic(), SILENT_SECONDS
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now_seconds = time.monotonic()
                if ready:
                    heard_at, patience_seconds = now_seconds, SILENT_SECONDS
                elif now_seconds - heard_at >= patience_seconds:
                    if not answers(self.info.host, self.info.port):
                        self.close()
                        raise psycopg.OperationalError("the server keeps the connection and does not answer")
                    heard_at, patience_seconds = time.monotonic(), 2 * patience_seconds
                wanted = gen.send(ready)
        except StopIteration as done:
            result: Result = done.value
            return result


def answers(host: str, port: int) -> bool:
    """Whether a server is there and takes notice of who comes. host: a name, an address, or the folder of its socket."""
    try:
        with _connected(host, port) as asking:
            asking.sendall(SSL_REQUEST)
            return bool(asking.recv(1))
    except OSError:
        return False


def _connected(host: str, port: int) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port), timeout=ANSWER_SECONDS)
    asking = socket.socket(socket.AF_UNIX)
    try:
        asking.settimeout(ANSWER_SECONDS)
        asking.connect(f"{host}/.s.PGSQL.{port}")
    except BaseException:
        asking.close()
        raise
    return asking
