"""Puts a cascade's test to an answer: how sure the model was of its tokens, and whether what should be JSON is.

The log-probabilities that this needs are asked for upstream and taken out again where the client did not ask for them.
"""

from typing import Any

import orjson

from router.domain.decision import Acceptance
from router.domain.request import Endpoint
from router.wire.sse import event_data
from router.wire.streams import CompletionStream


def asking_logprobs(endpoint: Endpoint, members: dict[str, Any]) -> dict[str, Any]:
    """The members with log-probabilities asked for; `members` is not changed."""
    if _wants_logprobs(members):
        return members
    return {**members, "logprobs": True if endpoint is Endpoint.CHAT else 1}


class Probe:
    """The test of one answer, whole or in pieces. tokens: how many log-probabilities have been seen."""

    __slots__ = ("_acceptance", "_is_asked", "_logprobs", "tokens")

    def __init__(self, acceptance: Acceptance, members: dict[str, Any]) -> None:
        """members: the client's."""
        self._acceptance = acceptance
        self._is_asked = _wants_logprobs(members)
        self._logprobs = 0.0
        self.tokens = 0

    @property
    def has_enough(self) -> bool:
        """Whether as much of a stream was seen as should be held back."""
        return self.tokens >= self._acceptance.stream_tokens

    @property
    def is_sure(self) -> bool:
        """An answer without a single log-probability is not known to be good, so it is not."""
        return self.tokens > 0 and self._logprobs / self.tokens >= self._acceptance.logprob_mean_min

    def event(self, event: bytes) -> bytes:
        """One event of a stream, noted; as the client would have got it."""
        if b'"logprobs"' not in event:
            return event
        try:
            payload = orjson.loads(event_data(event))
        except orjson.JSONDecodeError:
            return event  # `CompletionStream` says what is wrong with it
        if type(payload) is not dict or not self._note(payload) or self._is_asked:
            return event
        return b"data: " + orjson.dumps(payload) + b"\n\n"

    def accepts(self, body: bytes) -> tuple[bool, bytes]:
        """Whether a whole answer passes, and the answer as the client gets it. body: JSON that was found usable."""
        payload = orjson.loads(body)
        is_stripped = self._note(payload) and not self._is_asked
        passes = self.is_sure and (not self._acceptance.must_parse or _is_json(payload))
        return passes, orjson.dumps(payload) if is_stripped else body

    def _note(self, payload: dict[str, Any]) -> bool:
        """Count what is there and put null in its place, as an engine does that was not asked. Whether anything was."""
        choices = payload.get("choices")
        is_found = False
        for choice in choices if type(choices) is list else ():
            found = choice.get("logprobs") if type(choice) is dict else None
            if type(found) is not dict:
                continue
            is_found = True
            content = found.get("content")
            if type(content) is list:
                values = [token.get("logprob") for token in content if type(token) is dict]
            else:
                values = found.get("token_logprobs") or []
            for value in values:
                if isinstance(value, int | float):
                    self._logprobs += value
                    self.tokens += 1
            choice["logprobs"] = None
        return is_found


class ProbedStream(CompletionStream):
    """A stream that is tested while it passes. Set `probe` before the first event."""

    __slots__ = ("probe",)

    probe: Probe

    def feed(self, event: bytes) -> bytes:
        return super().feed(self.probe.event(event))


def _wants_logprobs(members: dict[str, Any]) -> bool:
    return members.get("logprobs") not in (None, False)


def _is_json(payload: dict[str, Any]) -> bool:
    """Whether the text of every choice is JSON: one that was cut off at `max_tokens` is not."""
    for choice in payload.get("choices") or ():
        message = choice.get("message")
        text = message.get("content") if type(message) is dict else choice.get("text")
        try:
            orjson.loads(text or "")
        except orjson.JSONDecodeError:
            return False
    return True
