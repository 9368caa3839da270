"""/v1/messages and /v1/messages/count_tokens: Anthropic's API, translated to a chat and back."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel

from load.emulator.bodies import ChatBody, check_messages, check_sampling, parse_json, validate
from load.emulator.chat import prompt_of, reply_options, text_of, tool_call_id
from load.emulator.generation import Choice, Generation, Rendering, Usage, WholeAnswer, add_choices, new_generation
from load.emulator.hosted_tools import is_servers, message_searches, search_blocks
from load.emulator.http import Answer, HttpRequest
from load.emulator.reply import Channel, Reply
from load.emulator.spec import Dialect
from load.emulator.wire import named_event

if TYPE_CHECKING:
    from load.emulator.replica import Replica

_STOP_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "abort": "end_turn"}


class CountBody(BaseModel):
    model: str | None = None
    messages: list[Any]
    system: str | list[Any] | None = None
    tools: list[dict[str, Any]] | None = None


class MessagesBody(CountBody):
    max_tokens: int
    stream: bool | None = False
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: list[str] | None = None
    tool_choice: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None  # not Anthropic's; its front puts a schema there
    cache_salt: Any = None


def messages(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    body = validate(MessagesBody, parse_json(request.body, request.headers.get("content-type", "")))
    replica.check_model(body.model)
    chat = as_chat(body, max_tokens=body.max_tokens, stop=body.stop_sequences, cache_salt=body.cache_salt)
    chat.temperature, chat.top_p = body.temperature, body.top_p
    chat.tool_choice = _tool_choice(body.tool_choice)
    chat.response_format = body.response_format
    if body.tool_choice and body.tool_choice.get("disable_parallel_tool_use"):
        chat.parallel_tool_calls = False
    check_sampling(chat, replica.spec.context_tokens)
    generation = new_generation(replica, answer, request, "chatcmpl", None)
    prompt = prompt_of(replica, chat, chat.messages)
    options = reply_options(replica, chat, chat.messages, len(prompt))
    add_choices(generation, prompt, options, count=1, seed=0, salt=chat.cache_salt or "")
    is_anthropic = replica.spec.dialect is Dialect.ANTHROPIC
    searches = message_searches(body.tools) if is_anthropic else None
    rendering: Rendering = (MessagesStream if body.stream else MessagesAnswer)(generation, searches)
    generation.start(rendering, is_stream=bool(body.stream))


def count_tokens(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    body = validate(CountBody, parse_json(request.body, request.headers.get("content-type", "")))
    replica.check_model(body.model)
    chat = as_chat(body)
    tokens = len(prompt_of(replica, chat, chat.messages))
    value = {"input_tokens": tokens, "context_management": {"original_input_tokens": tokens}}
    answer.respond(200, orjson.dumps(value))


def as_chat(body: CountBody, **members: Any) -> ChatBody:
    """The same conversation as a chat body. Tool results become messages of role "tool"."""
    turns: list[dict[str, Any]] = []
    if body.system:
        turns.append({"role": "system", "content": text_of(body.system, is_multimodal=True, model="")})
    for message in check_messages(body.messages):
        content = message.get("content")
        results = [
            part
            for part in (content if isinstance(content, list) else [])
            if isinstance(part, Mapping) and part.get("type") == "tool_result"
        ]
        turns += [{"role": "tool", "content": _result_text(part)} for part in results]
        rest = [part for part in content if part not in results] if isinstance(content, list) else content
        if rest or not results:
            turns.append({"role": message["role"], "content": rest})
    tools = [
        {"type": "function", "function": {**tool, "parameters": tool.get("input_schema")}}
        for tool in body.tools or ()
        if not is_servers(tool)
    ]
    return ChatBody(messages=turns, tools=tools or None, **members)


def _result_text(part: Mapping[str, Any]) -> str:
    return text_of(part.get("content"), is_multimodal=True, model="")


def _tool_choice(choice: Mapping[str, Any] | None) -> Any:
    if choice is None:
        return None
    if choice.get("type") == "tool":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return {"any": "required", "none": "none"}.get(str(choice.get("type")), "auto")


def _usage(generation: Generation) -> dict[str, int]:
    """Anthropic's convention: what was read from or written to the cache stands beside `input_tokens`, not inside."""
    usage: Usage = generation.usage()
    if not generation.replica.spec.has_prompt_tokens_details:
        return {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens - usage.created_cache_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_creation_input_tokens": usage.created_cache_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
    }


def _whole_usage(generation: Generation, searches: int | None = None) -> dict[str, Any]:
    """Of a message: Anthropic tells its service tier as well, which nobody here has a better one of, and its searches, None where
    it was asked for none."""
    is_anthropic = generation.replica.spec.dialect is Dialect.ANTHROPIC
    tier = {"service_tier": "standard"} if is_anthropic else {}
    return {**_usage(generation), **_server_tool_use(searches), **tier}


def _server_tool_use(searches: int | None) -> dict[str, Any]:
    if searches is None:
        return {}
    return {"server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 0}}


def _first_usage(generation: Generation, searches: int | None) -> dict[str, Any]:
    """vLLM counts the whole prompt before it knows what was cached; Anthropic knows."""
    if generation.replica.spec.dialect is Dialect.ANTHROPIC:
        return _whole_usage(generation, None if searches is None else 0)
    return {"input_tokens": len(generation.choices[0].prompt), "output_tokens": 0}


def _stop_reason(reply: Reply) -> str:
    if reply.stop_reason is not None:
        return "stop_sequence"
    return _STOP_REASONS.get(reply.finish_reason, "end_turn")


class MessagesStream:
    """Content blocks, one after another, each opened, filled and closed by events of its own."""

    def __init__(self, generation: Generation, searches: int | None) -> None:
        self._generation = generation
        self._searches = searches
        self._block = -1
        self._kind: tuple[Channel, int] | None = None

    def begin(self) -> None:
        generation = self._generation
        message: dict[str, Any] = {
            "id": generation.id,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": generation.replica.spec.model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _first_usage(generation, self._searches),
        }
        self._send({"type": "message_start", "message": message})
        for block in search_blocks(self._searches or 0, generation.id):
            self._block += 1
            self._send({"type": "content_block_start", "content_block": block, "index": self._block})
            self._send({"type": "content_block_stop", "index": self._block})

    def tokens(self, choice: Choice, start: int, end: int) -> None:
        for delta in choice.reply.deltas[start:end]:
            if delta.channel is Channel.HIDDEN or (not delta.text and delta.channel is not Channel.TOOL_NAME):
                continue
            channel = Channel.TOOL_ARGUMENTS if delta.channel is Channel.TOOL_NAME else delta.channel
            if self._kind != (channel, delta.tool):
                self._close()
                self._kind = (channel, delta.tool)
                self._open(choice, delta.channel, delta.text, delta.tool)
            if delta.channel is not Channel.TOOL_NAME:
                self._send({"type": "content_block_delta", "delta": _filled(channel, delta.text), "index": self._block})

    def end(self) -> None:
        self._close()
        reply = self._generation.choices[0].reply
        stop = {"stop_reason": _stop_reason(reply), "stop_sequence": reply.stop_reason}
        usage = {**_usage(self._generation), **_server_tool_use(self._searches)}
        self._send({"type": "message_delta", "delta": stop, "usage": usage})
        self._send({"type": "message_stop"})
        self._generation.answer.finish()

    def _open(self, choice: Choice, channel: Channel, text: str, tool: int) -> None:
        self._block += 1
        block: dict[str, Any] = {"type": "text", "text": ""}
        if channel is Channel.REASONING:
            block = {"type": "thinking", "thinking": "", "signature": ""}
        elif channel is not Channel.CONTENT:
            call_id = tool_call_id(self._generation, choice, tool)
            block = {"type": "tool_use", "id": call_id, "name": text, "input": {}}
        self._send({"type": "content_block_start", "content_block": block, "index": self._block})

    def _close(self) -> None:
        if self._kind is not None:
            self._kind = None
            self._send({"type": "content_block_stop", "index": self._block})

    def _send(self, event: Mapping[str, Any]) -> None:
        self._generation.answer.send(named_event(event["type"], event))


def _filled(channel: Channel, text: str) -> dict[str, str]:
    if channel is Channel.REASONING:
        return {"type": "thinking_delta", "thinking": text}
    if channel is Channel.TOOL_ARGUMENTS:
        return {"type": "input_json_delta", "partial_json": text}
    return {"type": "text_delta", "text": text}


class MessagesAnswer(WholeAnswer):
    def __init__(self, generation: Generation, searches: int | None) -> None:
        self._generation = generation
        self._searches = searches

    def end(self) -> None:
        generation = self._generation
        choice = generation.choices[0]
        reply = choice.reply
        content = search_blocks(self._searches or 0, generation.id)
        if thought := reply.text(Channel.REASONING):
            content.append({"type": "thinking", "thinking": thought, "signature": ""})
        calls = reply.tool_calls
        if (text := reply.text(Channel.CONTENT)) or not calls:
            content.append({"type": "text", "text": text})
        content += [
            {
                "type": "tool_use",
                "id": tool_call_id(generation, choice, position),
                "name": name,
                "input": _parsed(arguments),
            }
            for position, (name, arguments) in enumerate(calls)
        ]
        value: dict[str, Any] = {
            "id": generation.id,
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": generation.replica.spec.model,
            "stop_reason": _stop_reason(reply),
        }
        if reply.stop_reason is not None:
            value["stop_sequence"] = reply.stop_reason
        value["usage"] = _whole_usage(generation, self._searches)
        generation.answer.respond(200, orjson.dumps(value))


def _parsed(arguments: str) -> dict[str, Any]:
    """The input of a call; {} for one that was cut off."""
    try:
        value = json.loads(arguments)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
