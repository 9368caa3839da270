"""What the emulated model answers: every token of it, decided from the prompt before the first one is due.

Pure and deterministic: prompt, parameters and seed fix text, length, tool calls and finish reason. The engine decides only
*when* each token comes. What must not live here: how any API spells an answer.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from random import Random
from typing import Any, NamedTuple

from load.emulator import language
from load.emulator.json_value import Hints, value_for


class Channel(IntEnum):
    """Where a token's text goes. HIDDEN: nowhere (markup that a parser of vLLM eats)."""

    CONTENT = 0
    REASONING = 1
    TOOL_NAME = 2
    TOOL_ARGUMENTS = 3
    HIDDEN = 4


class Delta(NamedTuple):
    """What one token adds to the answer. tool: position of the call that it belongs to."""

    channel: Channel
    text: str
    tool: int = 0


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    parameters: Mapping[str, Any]
    description: str = ""


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """What the request asks of an answer. tokens_max: bound on the completion, reasoning included.

    variation: tells the choices of one request (and seeds) apart. tool_choice: "none", "auto", "required" or a tool's name.
    user_text: the last message, where tools and values are looked for. may_call: its author is the user, not a tool.
    """

    tokens_max: int
    tokens_min: int = 0
    ignores_eos: bool = False
    stop: tuple[str, ...] = ()
    has_stop_in_output: bool = False
    variation: int = 0
    schema: object | None = None
    choices: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "none"
    is_parallel: bool = True
    user_text: str = ""
    may_call: bool = True


@dataclass(frozen=True, slots=True)
class Style:
    """How the model writes. Lengths are lognormal: their median, and the sigma of the logarithm; or they are drawn from
    completion_tokens, where it has any.

    reasoning_share: part of the length that is thought before it is said; 0 for a model that does not reason.
    """

    seed: int = 0
    completion_tokens_median: float = 160.0
    completion_tokens_sigma: float = 0.7
    reasoning_share: float = 0.0
    completion_tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. token_ids and deltas run in parallel; finish_reason is vLLM's word."""

    token_ids: Sequence[int]
    deltas: Sequence[Delta]
    finish_reason: str
    stop_reason: str | None = None
    reasoning_tokens: int = 0

    def text(self, channel: Channel, tool: int | None = None) -> str:
        return "".join(d.text for d in self.deltas if d.channel is channel and (tool is None or d.tool == tool))

    @property
    def tool_calls(self) -> list[tuple[str, str]]:
        """(name, arguments) of each call whose name was reached."""
        names = [delta.text for delta in self.deltas if delta.channel is Channel.TOOL_NAME]
        return [(name, self.text(Channel.TOOL_ARGUMENTS, position)) for position, name in enumerate(names)]


@dataclass
class _Draft:
    """An answer as it is being written, before it is cut. is_endless: only the limit ends it."""

    ids: list[int] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)
    reasoning_tokens: int = 0
    ending: str = "stop"
    is_endless: bool = False

    def add(self, ids: Sequence[int], channel: Channel, tool: int = 0) -> None:
        self.ids += ids
        self.deltas += [Delta(channel, text, tool) for text in language.decode_each(ids)]

    def add_hidden(self, ids: Sequence[int]) -> None:
        self.ids += ids
        self.deltas += [Delta(Channel.HIDDEN, "")] * len(ids)


def plan_reply(prompt: Sequence[int], options: ReplyOptions, style: Style) -> Reply:
    """The answer to a prompt. A prompt that ends inside an answer is continued from there."""
    head, partial = language.split_partial(prompt)
    begun = len(partial)
    draft = _compose(head, options, style, limit=options.tokens_max + begun)
    if begun and (len(draft.ids) <= begun or draft.ids[:begun] != list(partial)):
        draft = _compose(prompt, options, style, limit=options.tokens_max)  # not what this model would have said
    elif begun:
        draft.ids, draft.deltas = draft.ids[begun:], draft.deltas[begun:]
        draft.reasoning_tokens = max(0, draft.reasoning_tokens - begun)
    return _cut(draft, options)


def _compose(prompt: Sequence[int], options: ReplyOptions, style: Style, *, limit: int) -> _Draft:
    """Everything the model would say, at least as far as `limit` tokens."""
    random = Random(language.digest(style.seed, hash(tuple(prompt)), options.variation))
    if style.completion_tokens:
        drawn = max(1, random.choice(style.completion_tokens) - 1)  # the token that ends it is counted, too
    else:
        median, sigma = style.completion_tokens_median, style.completion_tokens_sigma
        drawn = math.ceil(random.lognormvariate(math.log(median), sigma))
    draft = _Draft()
    called = _tools_to_call(options)
    if style.reasoning_share:
        draft.reasoning_tokens = max(1, min(limit, math.ceil(drawn * style.reasoning_share)))
        draft.add(language.prose(random, draft.reasoning_tokens), Channel.REASONING)
        draft.add_hidden([language.THINK_END])
    if called:
        _write_calls(draft, called, options, random)
        draft.ending = "tool_calls"
    elif options.choices:
        draft.add(language.encode(random.choice(options.choices)), Channel.CONTENT)
    elif options.schema is not None:
        value = value_for(options.schema, random, Hints.of(options.user_text))
        draft.add(language.encode(json.dumps(value, ensure_ascii=False)), Channel.CONTENT)
    else:
        draft.is_endless = options.ignores_eos
        length = limit if options.ignores_eos else min(limit, max(drawn, options.tokens_min))
        draft.add(language.prose(random, max(1, length - len(draft.ids))), Channel.CONTENT)
    if not draft.is_endless:
        draft.ids.append(language.IM_END)
        draft.deltas.append(Delta(Channel.HIDDEN if called else Channel.CONTENT, ""))
    return draft


def _cut(draft: _Draft, options: ReplyOptions) -> Reply:
    """The answer as far as the limit and the stop strings let it go. While a stop string may be beginning, the visible text
    lags behind the tokens, by vLLM's rule: the longest one's length less one."""
    limit = options.tokens_max
    is_cut = draft.is_endless or len(draft.ids) > limit
    ids, drafted = draft.ids[:limit], draft.deltas[:limit]
    ending = "length" if is_cut else draft.ending
    reasoning = min(draft.reasoning_tokens, limit)
    if not options.stop:
        return Reply(ids, drafted, ending, None, reasoning)
    held = 0 if options.has_stop_in_output else max(map(len, options.stop)) - 1
    said, shown = "", 0
    deltas: list[Delta] = []
    for position, delta in enumerate(drafted, start=1):
        if delta.channel is not Channel.CONTENT:
            deltas.append(delta)
            continue
        said += delta.text
        found = [(said.find(stop), stop) for stop in options.stop if stop in said]
        if found and position > options.tokens_min:
            at, stop = min(found)
            end = at + len(stop) if options.has_stop_in_output else at
            deltas.append(Delta(Channel.CONTENT, said[shown:end]))
            return Reply(ids[:position], deltas, "stop", stop, reasoning)
        visible = len(said) if position == len(drafted) else max(shown, len(said) - held)
        deltas.append(Delta(Channel.CONTENT, said[shown:visible]))
        shown = visible
    return Reply(ids, deltas, ending, None, reasoning)


def _tools_to_call(options: ReplyOptions) -> list[Tool]:
    """The tools that the model calls: the named one, or those that the user's text speaks of."""
    named = [tool for tool in options.tools if tool.name == options.tool_choice]
    if named:
        return named
    if not options.tools or options.tool_choice == "none":
        return []
    words = set(re.findall(r"[a-z]{3,}", options.user_text.lower()))
    mentioned = [
        tool
        for tool in options.tools
        if tool.name.lower() in options.user_text.lower()
        or words & set(re.findall(r"[a-z]{4,}", re.sub(r"([a-z])([A-Z])", r"\1 \2", tool.name).lower()))
    ]
    if options.tool_choice == "required":
        mentioned = mentioned or [options.tools[0]]
    elif not options.may_call:
        return []
    return mentioned if options.is_parallel else mentioned[:1]


def _write_calls(draft: _Draft, called: Sequence[Tool], options: ReplyOptions, random: Random) -> None:
    """Hermes markup, of which the caller sees names and arguments only."""
    hints = Hints.of(options.user_text)
    for position, tool in enumerate(called):
        arguments = json.dumps(value_for({"type": "object", **tool.parameters}, random, hints), ensure_ascii=False)
        opening = language.encode(f'<tool_call>\n{{"name": {json.dumps(tool.name)}, "arguments": ')
        draft.add_hidden(opening[:-1])
        draft.ids.append(opening[-1])
        draft.deltas.append(Delta(Channel.TOOL_NAME, tool.name, position))
        draft.add(language.encode(arguments), Channel.TOOL_ARGUMENTS, position)
        draft.add_hidden(language.encode("}\n</tool_call>"))
