"""One generation request under way: its choices in the engine, its answer on the wire.

Shared by every path that writes text. A path brings a `Rendering`, which turns tokens into its API's events or its one
body; this file submits, counts, aborts and decides when it is over. What must not live here: how any API spells an answer.
"""

import secrets
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from load.emulator.errors import DONE, ENGINE_DEAD_EVENT, bad_request, engine_dead, overloaded
from load.emulator.http import Answer, HttpRequest
from load.emulator.kinds import kind_of
from load.emulator.language import block_hashes
from load.emulator.reply import Reply, ReplyOptions, plan_reply
from load.engine import EngineSequence

if TYPE_CHECKING:
    from load.emulator.replica import Replica


@dataclass(slots=True)
class Choice:
    """One completion: `sent` of its tokens have been handed to the rendering."""

    index: int
    prompt: list[int]
    reply: Reply
    sequence: EngineSequence
    sent: int = 0


@dataclass(slots=True)
class Usage:
    """Tokens of a whole request. Each prompt counts once, however many completions it gets."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    created_cache_tokens: int
    reasoning_tokens: int


class Rendering(Protocol):
    """How one API spells an answer. `begin` comes with the first token of any choice, `end` after the last of all."""

    def begin(self) -> None: ...
    def tokens(self, choice: Choice, start: int, end: int) -> None: ...
    def end(self) -> None: ...


class WholeAnswer:
    """A rendering as one JSON body at the end."""

    def begin(self) -> None:
        pass

    def tokens(self, choice: Choice, start: int, end: int) -> None:
        pass


@dataclass(slots=True, eq=False)
class Generation:
    """The choices of one request, from submission to the last token or the client's leaving."""

    replica: "Replica"
    answer: Answer
    id: str
    created: int
    choices: list[Choice] = field(default_factory=list)
    params_n: int = 1
    params_max_tokens: int = 0
    _rendering: Rendering | None = None
    _open: int = 0
    _has_begun: bool = False
    _is_stream: bool = False

    def usage(self) -> Usage:
        """What has been used so far."""
        firsts = {id(choice.prompt): choice for choice in reversed(self.choices)}.values()
        block = self.replica.engine.block_tokens
        return Usage(
            prompt_tokens=sum(len(choice.prompt) for choice in firsts),
            completion_tokens=sum(choice.sequence.produced_tokens for choice in self.choices),
            cached_tokens=sum(choice.sequence.cached_tokens for choice in firsts),
            created_cache_tokens=sum(
                max(0, len(choice.prompt) // block * block - choice.sequence.cached_tokens) for choice in firsts
            ),
            reasoning_tokens=sum(
                min(choice.reply.reasoning_tokens, choice.sequence.produced_tokens) for choice in self.choices
            ),
        )

    def start(self, rendering: Rendering, *, is_stream: bool) -> None:
        """Hand every choice to the engine; a stream's status line goes out at once. Raises ApiError when the queue is
        full, before any byte."""
        spec, engine, pump = self.replica.spec, self.replica.engine, self.replica.pump
        if spec.queued_max is not None and engine.running + engine.waiting + len(self.choices) > spec.queued_max:
            self.replica.metrics.rejected += 1
            raise overloaded()
        self._rendering = rendering
        self._open = len(self.choices)
        self._is_stream = is_stream
        self.answer.on_disconnect = self.abort
        self.replica.opened(self)
        if is_stream:
            self.answer.start_stream()
        pump.submit([(choice.sequence, partial(self._progressed, choice)) for choice in self.choices])

    def abort(self) -> None:
        """Leave nothing behind in the engine."""
        for choice in self.choices:
            self.replica.pump.abort(choice.sequence)
        self._open = 0
        self.replica.closed(self)

    def cut_short(self) -> None:
        """The engine gives it up: what there is goes out, with finish_reason "abort". Of a stream that has not begun, [DONE]."""
        rendering = self._rendering
        for choice in self.choices:
            if rendering is None or choice.sequence.is_over:
                continue
            self.replica.pump.abort(choice.sequence)
            made = choice.sequence.produced_tokens
            reply = choice.reply
            choice.reply = replace(
                reply,
                token_ids=reply.token_ids[:made],
                deltas=reply.deltas[:made],
                finish_reason="abort",
                stop_reason=None,
            )
            if self._has_begun:
                rendering.tokens(choice, choice.sent, made)
            self.replica.metrics.finished(choice.sequence, "abort", self.params_max_tokens)
        self._open = 0
        self.replica.closed(self)
        if self._is_stream and not self._has_begun:
            self.answer.send(DONE)
            self.answer.finish()
        elif rendering is not None:
            rendering.end()

    def kill(self) -> None:
        """The engine dies under the request: vLLM's error event and [DONE], or its 500."""
        self.abort()
        if self._is_stream:
            self.answer.send(ENGINE_DEAD_EVENT)
            self.answer.send(DONE)
            self.answer.finish()
        else:
            error = engine_dead()
            self.answer.respond(error.status, error.body())

    def _progressed(self, choice: Choice, _: EngineSequence) -> None:
        rendering = self._rendering
        if rendering is None or self._open == 0:
            return
        if not self._has_begun:
            self._has_begun = True
            rendering.begin()
        produced = choice.sequence.produced_tokens
        is_over = choice.sequence.is_over
        interval = self.replica.spec.stream_interval
        while choice.sent < produced:
            # The first token goes out alone, then `stream_interval` at a time, the rest with the last; as vLLM does.
            end = choice.sent + (interval if choice.sent else 1)
            if end > produced:
                if not is_over:
                    break
                end = produced
            rendering.tokens(choice, choice.sent, end)
            choice.sent = end
        if is_over:
            self._open -= 1
            self.replica.metrics.finished(choice.sequence, choice.reply.finish_reason, self.params_max_tokens)
            if self._open == 0:
                self.replica.metrics.request_over(max(c.sequence.produced_tokens for c in self.choices), self.params_n)
                self.replica.closed(self)
                rendering.end()


def new_generation(
    replica: "Replica", answer: Answer, request: HttpRequest, prefix: str, body_request_id: str | None
) -> Generation:
    """A generation with its id: the header's, else the body's, else a random one."""
    name = request.headers.get("x-request-id") or body_request_id or secrets.token_hex(8)
    return Generation(replica, answer, f"{prefix}-{name}", int(time.time()))


def add_choices(
    generation: Generation,
    prompt: list[int],
    options: ReplyOptions,
    *,
    count: int,
    seed: int,
    salt: str,
    priority: int = 0,
) -> None:
    """Plan `count` answers to a prompt and append them to the generation's choices."""
    replica = generation.replica
    kind = kind_of(prompt, options) if replica.spec.acceptance_by_kind else ""
    for variation in range(count):
        reply = plan_reply(prompt, replace(options, variation=seed + variation), replica.spec.style)
        hashes: list[int] = []
        if replica.spec.has_prefix_cache:
            hashes = block_hashes([*prompt, *reply.token_ids], replica.engine.block_tokens, salt)
        sequence = EngineSequence(len(prompt), len(reply.token_ids), hashes, priority, kind)
        generation.choices.append(Choice(len(generation.choices), prompt, reply, sequence))
    generation.params_n = max(generation.params_n, count)
    generation.params_max_tokens = options.tokens_max


def completion_limit(prompt_tokens: int, asked: int | None, context_tokens: int) -> int:
    """The bound on a completion: what was asked, silently cut to what the context has left. Raises vLLM's 400 when the
    prompt alone fills it."""
    if prompt_tokens >= context_tokens:
        raise bad_request(
            f"This model's maximum context length is {context_tokens} tokens. However, your prompt contains at least"
            f" {context_tokens + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce"
            " the length of the input prompt.",
            "input_tokens",
            context_tokens + 1,
        )
    room = context_tokens - prompt_tokens
    return room if asked is None else min(asked, room)
