"""An answer on its way to the client that is told in other words: those of a cloud, of a provider, or of what is broken."""

from collections.abc import Callable
from typing import Any

import orjson

from load.emulator.http import EVENT_STREAM, JSON, Answer, Headers


class Retelling:
    """Passes on what it is told, to an answer that it wraps and has the interface of; who inherits says it otherwise."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @property
    def on_disconnect(self) -> Callable[[], None] | None:
        return self._answer.on_disconnect

    @on_disconnect.setter
    def on_disconnect(self, callback: Callable[[], None] | None) -> None:
        self._answer.on_disconnect = callback

    @property
    def is_over(self) -> bool:
        return self._answer.is_over

    def respond(self, status: int, body: bytes = b"", content_type: str | None = JSON, headers: Headers = ()) -> None:
        if status == 200 and content_type == JSON and body:
            body = orjson.dumps(self.retold(orjson.loads(body)))
        self._answer.respond(status, body, content_type, headers)

    def start_stream(self, content_type: str = EVENT_STREAM, headers: Headers = ()) -> None:
        self._answer.start_stream(content_type, headers)

    def send(self, event: bytes) -> None:
        self._answer.send(event)

    def finish(self) -> None:
        self._answer.finish()

    def retold(self, value: Any) -> Any:
        """A whole answer in the other words."""
        return value
