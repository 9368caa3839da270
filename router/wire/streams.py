"""What a stream's events mean: has it begun, has it really finished, what did it use; and each event as the client gets it.

A status 200, a clean end and `[DONE]` do not mean success: a real finish reason for every choice does. Events pass through
untouched, but for the model's name and the usage that we forced and the client did not ask for. Each is looked at with byte
tests and decoded only if it may carry what we bill or decide on; inside JSON strings quotes are escaped, so an unescaped
`"usage":` is always a member. `"usage"` alone is not: a token may be that word, as a text or as a name among log-probabilities.
"""

import re
from collections.abc import Callable
from typing import Any

import orjson

from router.domain.request import Endpoint
from router.domain.usage import ToolCalls, Usage, UsageSource
from router.wire.counting import Said, said_in_events
from router.wire.error_body import told_fault, told_wait_seconds
from router.wire.hosted_tools import COUNTED_MEMBERS, calls_in_message, calls_in_output, told_calls
from router.wire.sse import event_data
from router.wire.usage import begun_usage, read_usage, told_service_tier

FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"')
MODEL_MEMBER = re.compile(rb'"model"\s*:\s*"(?:[^"\\\\]|\\\\.)*"')
USAGE_MEMBER = re.compile(rb'"usage"\s*:\s*(?:null|\{)')
EMPTY_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
# Said by an engine that gave up; not a finish.
UNREAL_FINISHES = frozenset({"abort", "error"})
# Of a stream without usage: some thousands of tokens more than most contexts hold, at 250 bytes an event.
KEPT_BYTES_MAX = 8 * 2**20
# Items or blocks of one stream, to count those that are calls of hosted tools where its end does not tell.
CALLS_NOTED_MAX = 10_000
DONE = b"data: [DONE]\n\n"

CostMember = Callable[[Usage | None], bytes]
# What a provider has told of the usage while its stream is under way, in OpenAI's shape; None where that is nothing.
UsageTold = Callable[[], Any]


class CompletionStream:
    """Chat, text completions and transcriptions: `choices` with finish reasons, a trailing usage chunk, `[DONE]`.

    model: what the client is told was served. choices: how many must finish; prompts: how many they share evenly.
    wants_usage, wants_continuous_usage: what the client asked for. is_usage_continuous: we asked for running counts, which
    vLLM gives for each choice apart. cost_member: called once, when the last usage chunk is passed on, for the JSON put into
    it as `jeton_cost`. keeps_text: events are kept, within bounds, as long as none has said a usage. usage_told: asked where the
    stream is cut before an event has said one; set where it is translated.
    wait_seconds: for how long an error asks to be left alone, where it says so.
    """

    __slots__ = (
        "_cost_member",
        "_finished",
        "_held",
        "_is_held_usage",
        "_is_usage_continuous",
        "_kept",
        "_kept_bytes",
        "_model",
        "_names",
        "_running_usage",
        "_tier_event",
        "_usage_event",
        "_wants_continuous_usage",
        "_wants_usage",
        "choices",
        "context_tokens",
        "endpoint",
        "events",
        "fault",
        "is_done",
        "prompts",
        "usage_told",
        "wait_seconds",
    )

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        model: str,
        choices: int,
        context_tokens: int,
        wants_usage: bool,
        wants_continuous_usage: bool,
        is_usage_continuous: bool,
        cost_member: CostMember,
        prompts: int = 1,
        keeps_text: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.choices = choices
        self.prompts = prompts
        self.context_tokens = context_tokens
        self.events = 0
        self.fault = ""
        self.wait_seconds: float | None = None
        self.is_done = False
        self._model = model
        self._names: tuple[bytes, bytes] | None = None
        self._wants_usage = wants_usage
        self._wants_continuous_usage = wants_continuous_usage
        self._is_usage_continuous = is_usage_continuous
        self._cost_member = cost_member
        self._finished: set[int] = set()
        self._usage_event = b""
        # The first, or the last with a finish reason: if any beside the usage's says a service tier, it does.
        self._tier_event = b""
        self._running_usage: dict[int, bytes] = {}  # by choice, where there are several
        self._held = b""
        self._is_held_usage = False
        self._kept: list[bytes] | None = [] if keeps_text else None
        self._kept_bytes = 0
        self.usage_told: UsageTold | None = None

    @property
    def is_finished(self) -> bool:
        return len(self._finished) >= self.choices and not self.fault

    @property
    def tells_cost(self) -> bool:
        """Whether the client asked for what it used, beside which it is told what it cost."""
        return self._wants_usage

    def feed(self, event: bytes) -> bytes:
        """The event as the client gets it: b"" when it gets none, or not yet. Sets `fault` when the stream is unusable."""
        if not event.startswith(b"data: {") or event.find(b"\n") != len(event) - 2:
            data = event_data(event)
            if data == b"[DONE]":
                self.is_done = True
                return b""
            if not data:
                return event
            if not _is_one_object(data):
                self.fault = "bad_event"
                return b""
            event = b"data: " + data.replace(b"\n", b" ") + b"\n\n"
        if not event.endswith(b"}\n\n") or not _is_utf8(event):
            self.fault = "bad_event"
            return b""
        if b'"error"' in event and self._is_error(event):
            return b""
        if self.events == 0:
            self._names = model_rename(event, self._model)
            self._tier_event = event
        self.events += 1
        if self._names is not None:
            event = event.replace(self._names[0], self._names[1], 1)
        has_finish = FINISH_REASON.search(event) is not None
        if has_finish:
            self._tier_event = event
            self._note_finishes(event)
        at = usage_at(event)
        if at >= 0:
            return self._pass_usage(event, at, has_finish)
        if self._kept is not None:
            self._keep(event)
        return self._pass(event, is_held=has_finish and self._drops_usage)

    def end(self) -> bytes:
        """What is still due once the backend has said all: the held event, and `[DONE]` after a real finish."""
        last = self._release()
        return last + DONE if self.is_finished else last

    def usage(self) -> Usage | None:
        """The last usage seen. From a stream cut short it is the running count: `recovered`; or what was told of the prompt."""
        if not self._usage_event and self.usage_told is not None and not self.is_finished:
            told = self.usage_told()
            return begun_usage(self.endpoint, told, context_tokens=self.context_tokens, completion_tokens=self.events)
        found = self._sum_of_choices() if self._running_usage else _loads(self._usage_event).get("usage")
        source = UsageSource.PROVIDER if self.is_finished else UsageSource.RECOVERED
        return read_usage(self.endpoint, found, context_tokens=self.context_tokens, choices=self.choices, source=source)

    def service_tier(self) -> str | None:
        """As `told_service_tier` has it, by the last event that says."""
        for event in (self._usage_event, self._tier_event):
            if b'"service_tier"' in event:
                told = told_service_tier(self.endpoint, _loads(event))
                if told is not None:
                    return told
        return None

    def tool_calls(self) -> ToolCalls | None:
        """As `told_calls` has it, by the last usage."""
        return (
            told_calls(self.endpoint, _loads(self._usage_event)) if b'"server_tool_use"' in self._usage_event else None
        )

    def said(self) -> Said | None:
        """The texts of a stream without usage; None where they were not kept, or were too long for that."""
        return None if self._kept is None else said_in_events(self._kept)

    def _keep(self, event: bytes) -> None:
        assert self._kept is not None
        self._kept.append(event)
        self._kept_bytes += len(event)
        if self._kept_bytes > KEPT_BYTES_MAX:
            self._kept = None

    def _sum_of_choices(self) -> dict[str, int] | None:
        """The running counts of all choices together: completions add up, a prompt is counted once for its choices."""
        prompt_tokens: dict[int, int] = {}
        completion_tokens = 0
        for index, event in self._running_usage.items():
            usage = _loads(event).get("usage")
            if type(usage) is not dict or type(usage.get("completion_tokens")) is not int:
                return None
            completion_tokens += usage["completion_tokens"]
            prompt_tokens[index * self.prompts // self.choices] = usage.get("prompt_tokens", 0)
        return {"prompt_tokens": sum(prompt_tokens.values()), "completion_tokens": completion_tokens}

    @property
    def _drops_usage(self) -> bool:
        """vLLM puts the fingerprint on its last chunk; if that is the usage chunk that we forced, it must move."""
        return self._is_usage_continuous and not self._wants_usage

    def _pass_usage(self, event: bytes, at: int, has_finish: bool) -> bytes:
        if event[at + 7 : at + 13].lstrip(b": ").startswith(b"null"):
            if self._kept is not None:
                self._keep(event)
            return self._pass(event if self._wants_usage else without_member(event, at), is_held=False)
        self._usage_event = event
        self._kept = None
        if EMPTY_CHOICES.search(event):
            self._running_usage.clear()
            if self._wants_usage:
                return self._pass(event, is_held=True, is_usage=True)
            self._move_fingerprint(event)
            return self._release()
        if self.choices > 1 and self._is_usage_continuous:
            self._running_usage[_choice_index(event)] = event
        if not (self._wants_continuous_usage or (self._wants_usage and not self._is_usage_continuous)):
            event = without_member(event, at)
        return self._pass(event, is_held=has_finish and self._drops_usage)

    def _pass(self, event: bytes, *, is_held: bool, is_usage: bool = False) -> bytes:
        if not self._held and not is_held:
            return event
        before, self._is_held_usage = self._held, is_usage
        self._held = event if is_held else b""
        return before if is_held else before + event

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        if held and self._is_held_usage and self.is_finished:
            return held[:-3] + b',"jeton_cost":' + self._cost_member(self.usage()) + b"}\n\n"
        return held

    def _move_fingerprint(self, usage_event: bytes) -> None:
        if not self._held or b'"system_fingerprint"' in self._held:
            return
        fingerprint = _loads(usage_event).get("system_fingerprint")
        if fingerprint is not None:
            self._held = self._held[:-3] + b',"system_fingerprint":' + orjson.dumps(fingerprint) + b"}\n\n"

    def _note_finishes(self, event: bytes) -> None:
        choices = _loads(event).get("choices")
        if type(choices) is not list:
            self.fault = "bad_event"
            return
        for choice in choices:
            reason = choice.get("finish_reason") if type(choice) is dict else None
            if reason in UNREAL_FINISHES:
                self.fault = "aborted"
            elif reason is not None:
                index = choice.get("index", 0)
                self._finished.add(index if type(index) is int else 0)

    def _is_error(self, event: bytes) -> bool:
        error = _loads(event).get("error")
        if error is None:
            return False
        self.fault, self.wait_seconds = told_fault(error, "error_event"), told_wait_seconds(error)
        return True


class EventedStream:
    """The Responses and Messages APIs: named events, usage at the end, no `[DONE]`.

    has_hosted_tools: the request asks for some, so that their calls are looked for before the end says how many there were.
    """

    __slots__ = (
        "_calls",
        "_finished",
        "_has_container",
        "_has_hosted_tools",
        "_model",
        "_names",
        "_output_calls",
        "_service_tier",
        "_usage",
        "choices",
        "context_tokens",
        "endpoint",
        "events",
        "fault",
        "is_done",
        "wait_seconds",
    )

    def __init__(self, *, endpoint: Endpoint, model: str, context_tokens: int, has_hosted_tools: bool = False) -> None:
        self.endpoint = endpoint
        self.choices = 1
        self.context_tokens = context_tokens
        self.events = 0
        self.fault = ""
        self.wait_seconds: float | None = None
        self.is_done = False
        self._model = model
        self._names: tuple[bytes, bytes] | None = None
        self._finished = False
        self._service_tier: str | None = None
        self._usage: dict[str, Any] = {}
        self._has_hosted_tools = has_hosted_tools
        self._has_container = False
        self._output_calls: ToolCalls = ()
        self._calls: dict[int, dict[str, Any]] = {}  # items or blocks, as far as they have come, by their place

    @property
    def is_finished(self) -> bool:
        return self._finished and not self.fault

    @property
    def tells_cost(self) -> bool:
        """Neither API has a place for it."""
        return False

    def feed(self, event: bytes) -> bytes:
        """As `CompletionStream.feed`."""
        data = event_data(event)
        if not data:
            return event
        if data == b"[DONE]":  # some send it here too
            self.is_done = True
            return b""
        if not (data.endswith(b"}") and _is_one_object(data) and _is_utf8(event)):
            self.fault = "bad_event"
            return b""
        if b'"usage"' in data or b'"error"' in data or b"response.failed" in data or b"message_stop" in data:
            payload = _loads(data)
            self._note(payload)
            if self.fault:  # not counted: an error is nothing of an answer
                return b""
            if self._has_hosted_tools:
                self._note_call(payload)
        elif self._has_hosted_tools and (b"_call" in data or b"server_tool_use" in data):
            self._note_call(_loads(data))
        if self.events == 0:
            self._names = model_rename(event, self._model)
        if b"delta" in data[:120]:
            self.events += 1
        else:
            self.events = max(self.events, 1)
        if self._names is not None:
            event = event.replace(self._names[0], self._names[1], 1)
        return event

    def end(self) -> bytes:
        return b""

    def usage(self) -> Usage | None:
        """Final where the API gave it, of a response that failed too; of a Messages stream cut short what its start told of the
        input, with its output by count of events: an estimate. None where nothing was told."""
        if self.endpoint is Endpoint.MESSAGES and not self._finished:
            return begun_usage(
                self.endpoint, self._usage, context_tokens=self.context_tokens, completion_tokens=self.events
            )
        return read_usage(self.endpoint, self._usage, context_tokens=self.context_tokens, choices=1)

    def service_tier(self) -> str | None:
        """As of a `CompletionStream`."""
        return self._service_tier

    def tool_calls(self) -> ToolCalls | None:
        """As of a `CompletionStream`; of one that was cut short, those that it had told by then."""
        if self.events == 0:
            return None
        if self.endpoint is Endpoint.RESPONSES:
            return self._output_calls or calls_in_output(self._calls.values())
        usage = self._usage if self._finished else None
        return calls_in_message(usage, self._calls.values(), has_container=self._has_container)

    def said(self) -> Said | None:
        """Not told: both APIs say their usage at the end, whatever is asked."""
        return None

    def _note(self, payload: dict[str, Any]) -> None:
        kind = payload.get("type")
        self._note_service_tier(payload)
        if kind in ("error", "response.failed") or (kind is None and payload.get("error") is not None):
            error = _error_of(payload)
            self.fault, self.wait_seconds = told_fault(error, "error_event"), told_wait_seconds(error)
            if kind == "response.failed":
                self._usage = _usage_in(payload.get("response"))
        elif kind in ("response.completed", "response.incomplete"):
            response = payload.get("response")
            self._usage = _usage_in(response)
            output = response.get("output") if type(response) is dict else None
            self._output_calls = calls_in_output(output) if type(output) is list else ()
            self._finished = self.is_done = True
        elif kind == "message_start":
            self._usage = _usage_in(payload.get("message"))
        elif kind == "message_delta":
            usage = payload.get("usage")
            if type(usage) is dict:  # running totals; one that is null says nothing
                self._usage = self._usage | {name: value for name, value in usage.items() if value is not None}
            delta = payload.get("delta")
            self._finished = type(delta) is dict and delta.get("stop_reason") is not None
            if type(delta) is dict and type(delta.get("container")) is dict:
                self._has_container = True
        elif kind == "message_stop":
            self.is_done = True

    def _note_call(self, payload: dict[str, Any]) -> None:
        """An item or a block is told when it begins, an item again, whole, when it ends."""
        kind = payload.get("type")
        if kind in ("response.output_item.added", "response.output_item.done"):
            place, told = payload.get("output_index"), payload.get("item")
        elif kind == "content_block_start":
            place, told = payload.get("index"), payload.get("content_block")
        else:
            return
        if type(told) is dict and len(self._calls) < CALLS_NOTED_MAX:  # of which an image may be a part
            where = place if type(place) is int else -1 - len(self._calls)
            self._calls[where] = {name: told.get(name) for name in COUNTED_MEMBERS}

    def _note_service_tier(self, payload: dict[str, Any]) -> None:
        """An event has a response or the beginning of a message in it, or is the rest of a message."""
        for inner in (payload.get("response"), payload.get("message"), payload):
            if type(inner) is dict:
                told = told_service_tier(self.endpoint, inner)
                if told is not None:
                    self._service_tier = told
                return


Stream = CompletionStream | EventedStream


def _usage_in(holder: Any) -> dict[str, Any]:
    usage = holder.get("usage") if type(holder) is dict else None
    return usage if type(usage) is dict else {}


def _error_of(payload: dict[str, Any]) -> Any:
    """Anthropic's is a member; of the Responses API's, that of a failed response is in it, and any other is the event itself."""
    response = payload.get("response")
    error = (response if type(response) is dict else payload).get("error")
    return payload if error is None else error


def model_rename(text: bytes, model: str) -> tuple[bytes, bytes] | None:
    """The bytes of the first `model` member and those that should stand there; None where they already agree.

    What a backend calls itself may be an alias of its own; the client is told the model's name in this fleet.
    """
    found = MODEL_MEMBER.search(text, 0, 65536)
    if found is None:
        return None
    right = b'"model":' + orjson.dumps(model)
    written = found.group()
    return None if written.replace(b" ", b"") == right else (written, right)


def usage_at(event: bytes) -> int:
    """Where the name of the member `usage` begins; -1 where there is none."""
    at = event.find(b'"usage"')
    if at < 0 or event.startswith(b'"usage":{', at):  # as vLLM writes it, in every event
        return at
    found = USAGE_MEMBER.search(event, at)
    return -1 if found is None else found.start()


def without_member(event: bytes, at: int) -> bytes:
    """The event without the member whose name's opening quote is at `at`; its value is null or an object without strings.

    One comma beside it goes too. The value of `usage` holds numbers, nulls and objects of these, so braces can be counted.
    """
    end = event.find(b"}", at)
    null = event.find(b"null", at)
    opening = event.find(b"{", at)
    if 0 <= null < (opening if opening >= 0 else len(event)):
        end = null + 4
    else:
        end += 1
        inner = event.count(b"{", opening + 1, end)
        while inner:
            start, end = end, event.find(b"}", end) + 1
            inner += event.count(b"{", start, end) - 1
    before = event[:at].rstrip(b" ")
    after = event[end:]
    if before.endswith(b","):
        return before[:-1] + after
    return before + after.lstrip(b" ").removeprefix(b",").lstrip(b" ")


def _is_one_object(data: bytes) -> bool:
    """Several `data` lines may be one object on several lines, or two events whose blank line was lost; only then look."""
    return data.startswith(b"{") and (b"\n" not in data or bool(_loads(data)))


def _is_utf8(event: bytes) -> bool:
    """A client could not decode what is not, and would lose the whole stream."""
    if event.isascii():
        return True
    try:
        event.decode()
    except UnicodeDecodeError:
        return False
    return True


def _choice_index(event: bytes) -> int:
    choices = _loads(event).get("choices")
    index = choices[0].get("index") if type(choices) is list and choices and type(choices[0]) is dict else None
    return index if type(index) is int else 0


def _loads(event: bytes) -> dict[str, Any]:
    try:
        payload = orjson.loads(event if event.startswith(b"{") else event_data(event))
    except orjson.JSONDecodeError:
        return {}
    return payload if type(payload) is dict else {}
