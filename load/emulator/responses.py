"""/v1/responses: OpenAI's newer API, translated to a chat and back. Nothing is stored."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel

from load.emulator import wire
from load.emulator.bodies import ChatBody, check_messages, check_sampling, parse_json, validate
from load.emulator.chat import prompt_of, reply_options
from load.emulator.errors import bad_request
from load.emulator.generation import Choice, Generation, Rendering, WholeAnswer, add_choices, new_generation
from load.emulator.hosted_tools import response_items
from load.emulator.http import Answer, HttpRequest
from load.emulator.language import digest
from load.emulator.reply import Channel
from load.emulator.spec import Dialect
from load.emulator.wire import named_event

if TYPE_CHECKING:
    from load.emulator.replica import Replica


class ResponsesBody(BaseModel):
    input: str | list[Any]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    stream: bool | None = False
    temperature: float | None = None
    top_p: float | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = True
    text: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    max_tool_calls: int | None = None
    previous_response_id: str | None = None
    user: str | None = None
    request_id: str | None = None
    cache_salt: Any = None
    seed: int | None = None


def responses(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    body = validate(ResponsesBody, parse_json(request.body, request.headers.get("content-type", "")))
    replica.check_model(body.model)
    if body.previous_response_id is not None:
        error = bad_request(f"Response with id '{body.previous_response_id}' not found.")
        error.status, error.type, error.param = 404, "NotFoundError", "response_id"
        raise error
    chat = as_chat(body)
    check_messages(chat.messages)
    check_sampling(chat, replica.spec.context_tokens)
    generation = new_generation(replica, answer, request, "resp", body.request_id)
    generation.id = generation.id.replace("-", "_", 1)
    prompt = prompt_of(replica, chat, chat.messages)
    options = reply_options(replica, chat, chat.messages, len(prompt))
    add_choices(generation, prompt, options, count=1, seed=body.seed or 0, salt=body.cache_salt or "")
    rendering: Rendering = ResponsesStream(generation, body) if body.stream else ResponsesAnswer(generation, body)
    generation.start(rendering, is_stream=bool(body.stream))


def as_chat(body: ResponsesBody) -> ChatBody:
    turns: list[dict[str, Any]] = []
    if body.instructions:
        turns.append({"role": "system", "content": body.instructions})
    if isinstance(body.input, str):
        turns.append({"role": "user", "content": body.input})
    for item in body.input if isinstance(body.input, list) else []:
        if not isinstance(item, Mapping):
            continue
        if item.get("type") == "function_call_output":
            turns.append({"role": "tool", "content": str(item.get("output"))})
        elif item.get("type") == "function_call":
            turns.append({"role": "assistant", "content": None, "tool_calls": [dict(item)]})
        elif "role" in item:
            turns.append({"role": item["role"], "content": item.get("content")})
    shape = (body.text or {}).get("format") or {}
    response_format = (
        {"type": "json_schema", "json_schema": shape} if shape.get("type") == "json_schema" else shape or None
    )
    tools = [{"type": "function", "function": tool} for tool in body.tools or () if tool.get("type") == "function"]
    choice = body.tool_choice
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    return ChatBody(
        messages=turns,
        max_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        tools=tools or None,
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=response_format,
        cache_salt=body.cache_salt,
    )


def _envelope(generation: Generation, body: ResponsesBody, output: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The response object: in progress while `output` is None, else whole."""
    reply = generation.choices[0].reply
    is_over = output is not None
    is_cut = is_over and reply.finish_reason == "length"
    tokens_max = body.max_output_tokens
    value: dict[str, Any] = {
        "id": generation.id,
        "created_at": generation.created,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "instructions": body.instructions,
        "metadata": body.metadata,
        "model": generation.replica.spec.model,
        "object": "response",
        "output": output or [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "tool_choice": body.tool_choice or ("auto" if body.tools else "none"),
        "tools": body.tools or [],
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "background": False,
        "max_output_tokens": generation.params_max_tokens if tokens_max is None else tokens_max,
        "max_tool_calls": body.max_tool_calls,
        "previous_response_id": None,
        "prompt": None,
        "reasoning": None,
        "service_tier": "auto",
        "status": ("incomplete" if is_cut else "completed") if is_over else "in_progress",
        "text": body.text,
        "top_logprobs": None,
        "truncation": "disabled",
        "usage": _usage(generation) if is_over else None,
        "user": body.user,
    }
    if is_over and generation.replica.spec.has_request_metrics:
        value["metrics"] = wire.metrics_of_answer(generation)
    return {
        **value,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "input_messages": None,
        "output_messages": None,
    }


def _usage(generation: Generation) -> dict[str, Any]:
    usage = generation.usage()
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens if generation.replica.spec.has_prompt_tokens_details else 0,
            "cache_write_tokens": 0,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _id(generation: Generation, prefix: str, position: int) -> str:
    return f"{prefix}_{digest(generation.id, prefix, position):016x}"


def _text_part(text: str, logprobs: list[Any] | None) -> dict[str, Any]:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}


def _message(item_id: str, content: list[dict[str, Any]], status: str) -> dict[str, Any]:
    return {"id": item_id, "content": content, "role": "assistant", "status": status, "type": "message", "phase": None}


def _reasoning(item_id: str, text: str | None) -> dict[str, Any]:
    content = None if text is None else [{"text": text, "type": "reasoning_text"}]
    return {
        "id": item_id,
        "summary": [],
        "type": "reasoning",
        "content": content,
        "encrypted_content": None,
        "status": None,
    }


def _call(generation: Generation, position: int, name: str, arguments: str, status: str) -> dict[str, Any]:
    return {
        "arguments": arguments,
        "call_id": _id(generation, "call", position),
        "name": name,
        "type": "function_call",
        "id": _id(generation, "fc", position),
        "status": status,
    }


def _hosted(generation: Generation, body: ResponsesBody) -> list[dict[str, Any]]:
    """Calls of tools that OpenAI runs; nobody else does here."""
    if generation.replica.spec.dialect is not Dialect.OPENAI or body.tool_choice == "none":
        return []
    return response_items(body.tools, body.max_tool_calls, generation.id)


def _output(generation: Generation, body: ResponsesBody) -> list[dict[str, Any]]:
    """Every item of a finished response."""
    reply = generation.choices[0].reply
    items = _hosted(generation, body)
    if thought := reply.text(Channel.REASONING):
        items.append(_reasoning(_id(generation, "rs", 0), thought))
    calls = reply.tool_calls
    text = reply.text(Channel.CONTENT)
    if text or not calls:
        items.append(_message(_id(generation, "msg", 0), [_text_part(text, None)], "completed"))
    items += [
        _call(generation, position, name, arguments, "completed") for position, (name, arguments) in enumerate(calls)
    ]
    return items


class ResponsesAnswer(WholeAnswer):
    def __init__(self, generation: Generation, body: ResponsesBody) -> None:
        self._generation = generation
        self._body = body

    def end(self) -> None:
        value = _envelope(self._generation, self._body, _output(self._generation, self._body))
        self._generation.answer.respond(200, orjson.dumps(value))


class ResponsesStream:
    """Items, one after another, each opened, filled and closed by numbered events. There is no [DONE]."""

    def __init__(self, generation: Generation, body: ResponsesBody) -> None:
        self._generation = generation
        self._body = body
        self._sequence = 0
        self._item = -1
        self._kind: tuple[Channel, int] | None = None
        self._said = ""
        self._name = ""

    def begin(self) -> None:
        for name in ("response.created", "response.in_progress"):
            self._send(name, {"response": _envelope(self._generation, self._body, None)})
        for item in _hosted(self._generation, self._body):
            self._item += 1
            self._added({**item, "status": "in_progress"})
            self._send("response.output_item.done", {"item": item, "output_index": self._item})

    def tokens(self, choice: Choice, start: int, end: int) -> None:
        for delta in choice.reply.deltas[start:end]:
            if delta.channel is Channel.HIDDEN or (not delta.text and delta.channel is not Channel.TOOL_NAME):
                continue
            channel = Channel.TOOL_ARGUMENTS if delta.channel is Channel.TOOL_NAME else delta.channel
            if self._kind != (channel, delta.tool):
                self._close()
                self._kind = (channel, delta.tool)
                self._open(delta.text)
            if delta.channel is not Channel.TOOL_NAME:
                self._said += delta.text
                self._fill(delta.text)

    def end(self) -> None:
        self._close()
        output = _output(self._generation, self._body)
        self._send("response.completed", {"response": _envelope(self._generation, self._body, output)})
        self._generation.answer.finish()

    def _open(self, text: str) -> None:
        assert self._kind is not None
        channel, tool = self._kind
        self._item += 1
        self._said = ""
        if channel is Channel.CONTENT:
            item_id = _id(self._generation, "msg", 0)
            self._added(_message(item_id, [], "in_progress"))
            part = _text_part("", [])
            place = {"content_index": 0, "item_id": item_id, "output_index": self._item}
            self._send("response.content_part.added", {**place, "part": part})
        elif channel is Channel.REASONING:
            self._added(_reasoning(_id(self._generation, "rs", 0), None))
        else:
            self._name = text
            self._added(_call(self._generation, tool, text, "", "in_progress"))

    def _fill(self, text: str) -> None:
        assert self._kind is not None
        channel, _ = self._kind
        place: dict[str, Any] = {"content_index": 0, "delta": text, "item_id": self._item_id()}
        if channel is Channel.CONTENT:
            self._send("response.output_text.delta", {**place, "logprobs": [], "output_index": self._item})
        elif channel is Channel.REASONING:
            self._send("response.reasoning_text.delta", {**place, "output_index": self._item})
        else:
            event = {"delta": text, "item_id": self._item_id(), "output_index": self._item}
            self._send("response.function_call_arguments.delta", event)

    def _close(self) -> None:
        if self._kind is None:
            return
        channel, tool = self._kind
        item_id = self._item_id()
        place: dict[str, Any] = {"content_index": 0, "item_id": item_id}
        if channel is Channel.CONTENT:
            part = _text_part(self._said, None)
            done = {**place, "logprobs": [], "output_index": self._item}
            self._send("response.output_text.done", done, text=self._said)
            self._send("response.content_part.done", {**place, "output_index": self._item, "part": part})
            item = _message(item_id, [part], "completed")
        elif channel is Channel.REASONING:
            self._send("response.reasoning_text.done", {**place, "output_index": self._item}, text=self._said)
            item = _reasoning(item_id, self._said)
        else:
            event = {"arguments": self._said, "item_id": item_id, "name": self._name, "output_index": self._item}
            self._send("response.function_call_arguments.done", event)
            item = _call(self._generation, tool, self._name, self._said, "completed")
        self._send("response.output_item.done", {"item": item, "output_index": self._item})
        self._kind = None

    def _item_id(self) -> str:
        assert self._kind is not None
        channel, tool = self._kind
        prefix = {Channel.CONTENT: "msg", Channel.REASONING: "rs"}.get(channel, "fc")
        return _id(self._generation, prefix, tool)

    def _added(self, item: Mapping[str, Any]) -> None:
        self._send("response.output_item.added", {"item": item, "output_index": self._item})

    def _send(self, name: str, event: Mapping[str, Any], **last: Any) -> None:
        numbered = {**event, "sequence_number": self._sequence, **last, "type": name}
        self._sequence += 1
        self._generation.answer.send(named_event(name, numbered))
