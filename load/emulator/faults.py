"""Faults on demand: what a replica does wrong, for how many requests, and how a wrong answer is made out of a right one.

A fault is one member of `Fault`. Most apply to inference requests alone, so that `/health` stays green while generation
breaks, as it does in life; a few befall the replica as a whole, and are carried out by `lifecycle.py` and the fleet.
`FaultyAnswer` wraps the answer that a handler writes to; handlers know nothing of faults. What must not live here: which path
is inference, and listening (that is the replica's).
"""

from collections.abc import Callable
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field, model_validator

from load.emulator.errors import DONE, ENGINE_DEAD_EVENT, ApiError, engine_dead
from load.emulator.http import EVENT_STREAM, JSON, Exchange, Headers
from load.emulator.retelling import Retelling

# The event, counted from 0, at which a stream goes wrong when the fault does not say: after the role and one token.
SPOILED_EVENT = 2
LONG_LINE_BYTES = 2 * 2**20
ABSURD_TOKENS = 10**12

BadSse = Literal[
    "bad_json", "long_line", "split_utf8", "bad_utf8", "crlf", "no_space", "no_blank_line", "comments", "multi_line"
]


class Fault(BaseModel, frozen=True, extra="forbid"):
    """What goes wrong. Exactly one kind; `times` bounds it to the next so many requests.

    Of the whole replica, whatever it is asked; `seconds` brings it back, and so does clearing the fault:
    refuse: stop listening and drop idle connections.
    terminate: SIGTERM, with `shutdown_timeout` seconds. 0: streams end with vLLM's error event and [DONE], answers are 500, then
        the port closes. More: what runs may end; new work gets a 500, or a 200 that was aborted, while /health says 200 (the
        zombie); what has not ended in time is never heard of again.
    api_death: SIGKILL of the API server. Streams end in the middle, without a final chunk; the port is shut.
    freeze: SIGSTOP of the engine. Silence, and 200 on /health.
    asleep: 1 or 2, the level of `/sleep`. What runs ends with finish_reason "abort", what comes waits.

    Of single requests:
    hang: not one byte, not even a status line.
    reset_before_first_byte: RST instead of an answer.
    reset_after_chunks, eof_after_chunks, stall_after_chunks: so many SSE events, then RST; FIN without the final chunk;
        silence. On an answer that is no stream, 0 bytes of it arrive.
    stall_before_first_token: a stream's status line, then silence; else silence.
    status: an error of that status, with `retry_after` seconds as its header.
    content_filter: a provider's filter stops the prompt.
    html, empty, non_json: a 200 that is not what was asked for.
    bad_sse: crlf, no_space, comments, split_utf8 and multi_line are legal SSE; bad_json, bad_utf8, long_line and
        no_blank_line are not, or are more than a reader should bear.
    short_body: fewer bytes than Content-Length promised, then FIN.
    usage: token counts left out, negative, or beyond any context.
    engine_dead: a stream under way gets vLLM's error event and [DONE]; every later request gets its 500.
    abort_finish: finish_reason "abort", as when the engine is paused under a request.
    """

    refuse: bool = False
    terminate: bool = False
    shutdown_timeout: float | None = Field(default=None, ge=0)
    api_death: bool = False
    freeze: bool = False
    asleep: Literal[1, 2] | None = None
    hang: bool = False
    seconds: float | None = Field(default=None, gt=0)
    reset_before_first_byte: bool = False
    reset_after_chunks: int | None = Field(default=None, ge=0)
    eof_after_chunks: int | None = Field(default=None, ge=0)
    stall_before_first_token: bool = False
    stall_after_chunks: int | None = Field(default=None, ge=0)
    status: int | None = Field(default=None, ge=400, le=599)
    retry_after: float | str | None = None
    content_filter: bool = False
    html: bool = False
    empty: bool = False
    non_json: bool = False
    bad_sse: BadSse | None = None
    short_body: bool = False
    usage: Literal["missing", "negative", "absurd"] | None = None
    engine_dead: bool = False
    abort_finish: bool = False
    times: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_kind(self) -> "Fault":
        modifiers = {"seconds", "retry_after", "times", "shutdown_timeout"}
        kinds = [name for name, value in self if name not in modifiers and value is not None and value is not False]
        if len(kinds) != 1:
            raise ValueError(f"name exactly one fault, not {kinds or 'none'}")
        return self

    @property
    def is_of_replica(self) -> bool:
        """Whether it befalls the replica as a whole (`lifecycle.py`), not single requests."""
        return bool(self.refuse or self.terminate or self.api_death or self.freeze or self.asleep)


class FaultSwitch:
    """The fault in force at one replica, if any. hits: requests it was applied to."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.hits = 0

    def set(self, fault: Fault | None) -> None:
        self.fault = fault
        self.hits = 0

    def take(self) -> Fault | None:
        """The fault for one more request."""
        fault = self.fault
        if fault is None or fault.is_of_replica or (fault.times is not None and self.hits >= fault.times):
            return None
        self.hits += 1
        return fault

    def seen(self) -> dict[str, Any]:
        """For `GET /emulator/faults`."""
        shown = None if self.fault is None else self.fault.model_dump(exclude_defaults=True)
        return {"fault": shown, "hits": self.hits}


def answer_instead(
    fault: Fault,
    exchange: Exchange,
    *,
    hits: int,
    error_body: Callable[[ApiError], bytes],
    error_headers: Callable[[ApiError], Headers],
) -> bool:
    """Faults that need no work of the model. Returns whether the request is dealt with. error_body, error_headers: an error in
    the words of whoever is emulated."""
    if fault.hang:
        pass
    elif fault.reset_before_first_byte:
        exchange.reset()
    elif fault.status is not None:
        kind = {401: "Unauthorized", 404: "NotFoundError", 429: "Too Many Requests", 503: "Service Unavailable"}
        default = "InternalServerError" if fault.status >= 500 else "BadRequestError"
        error = ApiError(fault.status, "This replica was told to fail.", kind.get(fault.status, default))
        headers = error_headers(error)
        if fault.retry_after is not None:
            wait = f"{fault.retry_after:g}" if isinstance(fault.retry_after, float) else fault.retry_after
            headers = (("retry-after", wait),)
        exchange.respond(fault.status, error_body(error), JSON, headers)
    elif fault.content_filter:
        error = ApiError(400, "The prompt was stopped by the content management policy.", "content_filter")
        exchange.respond(400, error_body(error), JSON, error_headers(error))
    elif fault.html:
        exchange.respond(200, b"<!doctype html><title>Welcome</title><h1>It works!</h1>\n", "text/html; charset=utf-8")
    elif fault.empty:
        exchange.respond(200, b"")
    elif fault.non_json:
        exchange.respond(200, b"ok, but this is no JSON {")
    elif fault.engine_dead and hits > 1:
        error = engine_dead()
        exchange.respond(error.status, error_body(error))
    else:
        return False
    return True


class FaultyAnswer(Retelling):
    """An answer that goes wrong on its way out."""

    def __init__(
        self,
        exchange: Exchange,
        fault: Fault,
        error_body: Callable[[ApiError], bytes],
        error_event: bytes = ENGINE_DEAD_EVENT,
        done: bytes = DONE,
    ) -> None:
        super().__init__(exchange)
        self._error_event = error_event
        self._done = done
        self._exchange = exchange
        self._fault = fault
        self._error_body = error_body
        self._events = 0
        self._is_silent = False

    def respond(self, status: int, body: bytes = b"", content_type: str | None = JSON, headers: Headers = ()) -> None:
        fault = self._fault
        if fault.stall_before_first_token or fault.stall_after_chunks is not None:
            return
        if fault.reset_after_chunks is not None:
            self._exchange.reset()
        elif fault.eof_after_chunks is not None:
            self._exchange.hang_up()
        elif fault.engine_dead:
            error = engine_dead()
            self._exchange.respond(error.status, self._error_body(error))
        elif fault.short_body:
            head = b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (
                status,
                len(body),
            )
            self._exchange.write_raw(head + body[: len(body) // 2])
            self._exchange.hang_up()
        elif status == 200 and (fault.usage is not None or fault.abort_finish):
            self._exchange.respond(status, orjson.dumps(self._changed(orjson.loads(body))), content_type, headers)
        else:
            self._exchange.respond(status, body, content_type, headers)

    def start_stream(self, content_type: str = EVENT_STREAM, headers: Headers = ()) -> None:
        self._exchange.start_stream(content_type, headers)
        self._is_silent = self._fault.stall_before_first_token

    def send(self, event: bytes) -> None:
        if self._is_silent:
            return
        if self._is_due():
            self._spoil(event)
        else:
            self._pass(event)
        self._events += 1

    def finish(self) -> None:
        if not self._is_silent:
            self._exchange.finish()

    # ------------------------------------------------------------------ streams

    def _is_due(self) -> bool:
        fault = self._fault
        for bound in (fault.reset_after_chunks, fault.eof_after_chunks, fault.stall_after_chunks):
            if bound is not None:
                return self._events >= bound
        is_spoiler = fault.bad_sse is not None or fault.engine_dead or fault.abort_finish or fault.short_body
        return is_spoiler and self._events == SPOILED_EVENT

    def _spoil(self, event: bytes) -> None:
        """The event at which it happens."""
        fault = self._fault
        if fault.bad_sse is not None:
            self._pass(_spoiled(event, fault.bad_sse))
            return
        self._is_silent = True
        if fault.reset_after_chunks is not None:
            self._exchange.reset()
        elif fault.eof_after_chunks is not None or fault.short_body:
            self._exchange.hang_up()
        elif fault.engine_dead:
            self._end_with(self._error_event)
        elif fault.abort_finish:
            self._end_with(self._rewritten(event))

    def _end_with(self, event: bytes) -> None:
        """Close the stream properly, and take back from the engine what it was still to make."""
        abandon, self._exchange.on_disconnect = self._exchange.on_disconnect, None
        self._exchange.send(event)
        if self._done:
            self._exchange.send(self._done)
        self._exchange.finish()
        if abandon is not None:
            abandon()

    def _pass(self, event: bytes) -> None:
        kind = self._fault.bad_sse
        if kind == "crlf":
            event = event.replace(b"\n", b"\r\n")
        elif kind == "no_space":
            event = event.replace(b"data: ", b"data:", 1)
        elif kind == "comments":
            event = b": ping\n\n" + event
        elif self._fault.usage is not None and b'"usage"' in event:
            event = self._rewritten(event)
        if kind == "split_utf8" and self._events == SPOILED_EVENT:
            cut = event.index("é".encode()) + 1
            self._exchange.send(event[:cut])
            event = event[cut:]
        if event:
            self._exchange.send(event)

    def _rewritten(self, event: bytes) -> bytes:
        """The event with its JSON changed; b"" when nothing is left of it."""
        head, mark, text = event.partition(b"data: ")
        if not mark:  # a frame of another protocol
            return event
        changed = self._changed(orjson.loads(text))
        if self._fault.usage == "missing" and changed.get("choices") == []:
            return b""
        return b"%b%b%b\n\n" % (head, mark, orjson.dumps(changed))

    def _changed(self, value: dict[str, Any]) -> dict[str, Any]:
        if self._fault.abort_finish:
            for choice in value.get("choices", []):
                choice["finish_reason"] = "abort"
        if self._fault.usage is None:
            return value
        for holder in (value, value.get("response"), value.get("message")):
            if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
                if self._fault.usage == "missing":
                    del holder["usage"]
                else:
                    holder["usage"] = {
                        name: (ABSURD_TOKENS if self._fault.usage == "absurd" else -count)
                        if isinstance(count, int)
                        else count
                        for name, count in holder["usage"].items()
                    }
        return value


def _spoiled(event: bytes, kind: BadSse) -> bytes:
    """One event made unreadable, or only unusual."""
    if kind == "bad_json":
        return event[: len(event) // 2] + b"\n\n"
    if kind == "long_line":
        return event.replace(b'"content":"', b'"content":"' + b"x" * LONG_LINE_BYTES, 1)
    if kind == "bad_utf8":
        return event.replace(b'"content":"', b'"content":"\xff\xfe', 1)
    if kind == "split_utf8":
        return event.replace(b'"content":"', '"content":"é'.encode(), 1)
    if kind == "no_blank_line":
        return event[:-1]
    if kind == "multi_line":
        return event.replace(b',"choices"', b'\ndata: ,"choices"', 1)
    return event
