"""/v1/chat/completions: messages to prompt, tokens to chunks or one answer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from load.emulator import language, wire
from load.emulator.bodies import ChatBody, check_messages, check_sampling, completion_tokens_asked, parse_json, validate
from load.emulator.errors import DONE, bad_request
from load.emulator.generation import (
    Choice,
    Generation,
    Rendering,
    WholeAnswer,
    add_choices,
    completion_limit,
    new_generation,
)
from load.emulator.http import Answer, HttpRequest
from load.emulator.json_value import check_schema
from load.emulator.reply import Channel, ReplyOptions, Tool

if TYPE_CHECKING:
    from load.emulator.replica import Replica

IMAGE_TOKENS = 256  # about what one tile of a vision encoder takes
_PLAIN_END = b'},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def chat_completions(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    body = validate(ChatBody, parse_json(request.body, request.headers.get("content-type", "")))
    replica.check_model(body.model)
    messages = check_messages(body.messages)
    check_sampling(body, replica.spec.context_tokens)
    prompt = prompt_of(replica, body, messages)
    generation = new_generation(replica, answer, request, "chatcmpl", body.request_id)
    options = reply_options(replica, body, messages, len(prompt))
    add_choices(
        generation,
        prompt,
        options,
        count=body.n or 1,
        seed=body.seed or 0,
        salt=body.cache_salt or "",
        priority=body.priority,
    )
    rendering: Rendering
    if body.stream:
        rendering = ChatStream(generation, body)
    else:
        role = messages[-1]["role"] if body.continue_final_message else "assistant"
        rendering = ChatAnswer(generation, body, str(role), messages)
    generation.start(rendering, is_stream=bool(body.stream))


def text_of(content: object, *, is_multimodal: bool, model: str) -> str:
    """The text of a message's content, parts joined by newlines as vLLM joins them."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts: list[str] = []
    for part in content if isinstance(content, list) else []:
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            parts.append(part["text"])
        elif isinstance(part, Mapping) and "image" in str(part.get("type")):
            if not is_multimodal:
                raise bad_request(f"{model} is not a multimodal model")
            parts.append("  " * IMAGE_TOKENS)
    return "\n".join(parts)


def prompt_of(replica: "Replica", body: ChatBody, messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """The chat template applied: token ids of the whole conversation."""
    if body.continue_final_message and body.add_generation_prompt:
        if "add_generation_prompt" in body.model_fields_set:
            raise bad_request("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
        raise bad_request(
            "continue_final_message and add_generation_prompt are not compatible. Use continue_final_message when you want"
            " the model to continue the final message, and add_generation_prompt when you want to add a header that will"
            " prompt it to start a new assistant message instead."
        )
    spec = replica.spec
    turns = [
        (str(message["role"]), text_of(message.get("content"), is_multimodal=spec.is_multimodal, model=spec.model))
        for message in messages
    ]
    for position, message in enumerate(messages):
        if message.get("tool_calls"):
            role, text = turns[position]
            turns[position] = (role, text + orjson.dumps(message["tool_calls"]).decode())
    if body.tools and body.tool_choice != "none":
        turns.insert(0, ("system", orjson.dumps(body.tools).decode()))
    if not body.continue_final_message:
        return language.chat_prompt(turns, has_generation_prompt=body.add_generation_prompt)
    closed = language.chat_prompt(turns[:-1], has_generation_prompt=False)
    role, text = turns[-1]
    return [*closed, language.IM_START, *language.encode(f"{role}\n"), *language.encode(text)]


def reply_options(
    replica: "Replica", body: ChatBody, messages: Sequence[Mapping[str, Any]], prompt_tokens: int
) -> ReplyOptions:
    last = messages[-1]
    user_text = text_of(last.get("content"), is_multimodal=True, model="")
    schema, choices = guidance(body.response_format, body.structured_outputs)
    return ReplyOptions(
        tokens_max=completion_limit(prompt_tokens, completion_tokens_asked(body), replica.spec.context_tokens),
        tokens_min=body.min_tokens,
        ignores_eos=body.ignore_eos,
        stop=body.stops,
        has_stop_in_output=body.include_stop_str_in_output,
        schema=schema,
        choices=choices,
        tools=tools_of(body.tools),
        tool_choice=tool_choice_of(replica, body),
        is_parallel=body.parallel_tool_calls is not False,
        user_text=user_text,
        may_call=last.get("role") == "user",
    )


def guidance(
    response_format: Mapping[str, Any] | None, structured: Mapping[str, Any] | None
) -> tuple[object | None, tuple[str, ...]]:
    """The schema and the closed list of answers that a request imposes. Raises vLLM's grammar error for a schema that is
    none."""
    schema: object | None = None
    kind = (response_format or {}).get("type")
    if kind == "json_schema":
        schema = (response_format or {}).get("json_schema", {}).get("schema", {})
    elif kind == "json_object":
        schema = _ANY_OBJECT
    if structured:
        schema = structured.get("json", schema)
        if structured.get("json_object"):
            schema = _ANY_OBJECT
        if structured.get("regex"):
            schema = None
    if isinstance(schema, str):
        schema = orjson.loads(schema)
    check_schema(schema)
    return schema, tuple(structured.get("choice") or ()) if structured else ()


def tools_of(tools: Sequence[Mapping[str, Any]] | None) -> tuple[Tool, ...]:
    found: list[Tool] = []
    for tool in tools or ():
        function = tool.get("function") if isinstance(tool.get("function"), Mapping) else tool
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            parameters = function.get("parameters") or function.get("input_schema") or {}
            check_schema(parameters)
            found.append(Tool(function["name"], parameters, str(function.get("description") or "")))
    return tuple(found)


def tool_choice_of(replica: "Replica", body: ChatBody) -> str:
    """ "none", "auto", "required" or the name of a tool. Raises vLLM's 400s for a server without a tool parser."""
    choice = body.tool_choice if body.tool_choice is not None else ("auto" if body.tools else "none")
    if choice == "none":
        return "none"
    if not body.tools:
        raise bad_request("When using `tool_choice`, `tools` must be set.")
    if isinstance(choice, str) and choice not in ("auto", "required"):
        raise bad_request(
            f'Invalid value for `tool_choice`: {choice}! Only named tools, "none", "auto" or "required" are supported.'
        )
    has_parser = replica.spec.has_tool_parser
    if isinstance(choice, Mapping):
        name = str((choice.get("function") or choice).get("name"))
        if not has_parser:
            raise bad_request(f'tool_choice=function "{name}" requires --tool-call-parser to be set')
        if name not in [tool.name for tool in tools_of(body.tools)]:
            raise bad_request("The tool specified in `tool_choice` does not match any of the specified `tools`")
        return name
    if not has_parser:
        if choice == "auto":
            raise bad_request('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
        raise bad_request(f'tool_choice="{choice}" requires --tool-call-parser to be set')
    return str(choice)


class ChatStream:
    """Chunks, one per token. What does not change from token to token is rendered once."""

    def __init__(self, generation: Generation, body: ChatBody) -> None:
        replica = generation.replica
        self._generation = generation
        self._body = body
        self._send = generation.answer.send
        self._has_details = replica.spec.has_prompt_tokens_details
        self._is_continuous = body.wants_continuous_usage
        self._has_ids = bool(body.return_token_ids)
        self._is_plain = not (self._has_ids or self._is_continuous or body.logprobs)
        self._unfinished = len(generation.choices)
        head = {"id": generation.id, "object": "chat.completion.chunk", "created": generation.created}
        self._head = b"data: %b" % orjson.dumps({**head, "model": replica.spec.model})[:-1]
        self._plain = [
            self._head + b',"choices":[{"index":%d,"delta":{"content":' % choice.index for choice in generation.choices
        ]
        self._tool_ids: dict[tuple[int, int], str] = {}

    def begin(self) -> None:
        for choice in self._generation.choices:
            usage = self._running_usage(choice, 0) if self._is_continuous else b""
            ids = orjson.dumps(choice.prompt) if self._has_ids else b"null"
            text = orjson.dumps(language.decode(choice.prompt)) if self._body.return_prompt_text else b"null"
            self._send(
                b'%b,"choices":[{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
                b'%b,"prompt_token_ids":%b,"prompt_text":%b}\n\n' % (self._head, choice.index, usage, ids, text)
            )

    def tokens(self, choice: Choice, start: int, end: int) -> None:
        reply = choice.reply
        if self._is_plain and end == start + 1 and end < len(reply.token_ids):
            delta = reply.deltas[start]
            if delta.channel is Channel.CONTENT:
                self._send(b"%b%b%b" % (self._plain[choice.index], orjson.dumps(delta.text), _PLAIN_END))
                return
        is_last = end == len(reply.token_ids)
        groups = self._deltas(choice, start, end)
        if not groups and (is_last or self._has_ids):
            groups = [{}]
        for position, delta_value in enumerate(groups):
            is_end = is_last and position == len(groups) - 1
            self._send(self._chunk(choice, delta_value, start, end, is_end=is_end, is_first=position == 0))

    def end(self) -> None:
        if self._body.wants_usage:
            usage = wire.usage_of_stream(self._generation.usage(), has_details=self._has_details)
            self._send(
                b'%b,"choices":[],"usage":%b%b}\n\n'
                % (self._head, orjson.dumps(usage), wire.stream_tail(self._generation, is_usage=True))
            )
        self._send(DONE)
        self._generation.answer.finish()

    def _chunk(
        self, choice: Choice, delta: Mapping[str, Any], start: int, end: int, *, is_end: bool, is_first: bool
    ) -> bytes:
        logprobs: object = None
        if self._body.logprobs and is_first:
            logprobs = wire.chat_logprobs(choice, start, end, self._body.top_logprobs or 0)
        value: dict[str, Any] = {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
        if is_end:
            self._unfinished -= 1
            value["finish_reason"] = choice.reply.finish_reason
            value["stop_reason"] = choice.reply.stop_reason
        value["token_ids"] = choice.reply.token_ids[start:end] if self._has_ids and is_first else None
        usage = self._running_usage(choice, end) if self._is_continuous else b""
        is_stream_end = is_end and self._unfinished == 0 and not self._body.wants_usage
        tail = wire.stream_tail(self._generation, is_usage=False) if is_stream_end else b""
        return b'%b,"choices":[%b]%b%b}\n\n' % (self._head, orjson.dumps(value), usage, tail)

    def _deltas(self, choice: Choice, start: int, end: int) -> list[dict[str, Any]]:
        """What these tokens add, neighbours of one kind joined."""
        groups: list[dict[str, Any]] = []
        kind: tuple[Channel, int] | None = None
        for delta in choice.reply.deltas[start:end]:
            if delta.channel is Channel.HIDDEN:
                continue
            if (delta.channel, delta.tool) == kind:
                self._extend(groups[-1], delta.channel, delta.text)
                continue
            kind = (delta.channel, delta.tool)
            groups.append(self._opened(choice, delta.channel, delta.text, delta.tool))
        return groups

    def _opened(self, choice: Choice, channel: Channel, text: str, tool: int) -> dict[str, Any]:
        if channel is Channel.CONTENT:
            return {"content": text}
        if channel is Channel.REASONING:
            return {"reasoning": text}
        if channel is Channel.TOOL_NAME:
            call_id = self._tool_ids.setdefault((choice.index, tool), tool_call_id(self._generation, choice, tool))
            call = {"id": call_id, "type": "function", "index": tool, "function": {"name": text}}
        else:
            call = {"index": tool, "function": {"arguments": text}}
        return {"content": None, "tool_calls": [call]}

    @staticmethod
    def _extend(group: dict[str, Any], channel: Channel, text: str) -> None:
        if channel is Channel.TOOL_ARGUMENTS:
            group["tool_calls"][0]["function"]["arguments"] += text
        else:
            group["content" if channel is Channel.CONTENT else "reasoning"] += text

    def _running_usage(self, choice: Choice, produced: int) -> bytes:
        prompt = len(choice.prompt)
        return (
            b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,"completion_tokens_details":null}'
            % (prompt, prompt + produced, produced)
        )


def tool_call_id(generation: Generation, choice: Choice, tool: int) -> str:
    return f"chatcmpl-tool-{language.digest(generation.id, choice.index, tool):016x}"


class ChatAnswer(WholeAnswer):
    def __init__(
        self, generation: Generation, body: ChatBody, role: str, messages: Sequence[Mapping[str, Any]]
    ) -> None:
        self._generation = generation
        self._body = body
        self._role = role
        self._messages = messages

    def end(self) -> None:
        self._generation.answer.respond(200, orjson.dumps(self.value()))

    def value(self) -> dict[str, Any]:
        generation, body = self._generation, self._body
        replica = generation.replica
        prompt = generation.choices[0].prompt
        logged = 1 if body.prompt_logprobs is None else body.prompt_logprobs
        wants_prompt_logprobs = body.prompt_logprobs is not None or body.echo
        return {
            "id": generation.id,
            "object": "chat.completion",
            "created": generation.created,
            "model": replica.spec.model,
            "choices": [self._choice(choice) for choice in generation.choices],
            "service_tier": None,
            "system_fingerprint": replica.fingerprint,
            "usage": wire.usage_of_answer(generation.usage(), has_details=replica.spec.has_prompt_tokens_details),
            "prompt_logprobs": wire.prompt_logprobs(prompt, 0 if body.echo else logged)
            if wants_prompt_logprobs
            else None,
            "prompt_token_ids": prompt if body.return_token_ids else None,
            "prompt_text": language.decode(prompt) if body.return_prompt_text else None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": wire.metrics_of_answer(generation),
        }

    def _choice(self, choice: Choice) -> dict[str, Any]:
        reply, body = choice.reply, self._body
        calls = reply.tool_calls
        content: str | None = reply.text(Channel.CONTENT)
        if body.echo and body.continue_final_message:
            content = str(self._messages[-1].get("content") or "") + (content or "")
        if calls and not content:
            content = None
        message: dict[str, Any] = {
            "role": self._role,
            "content": content,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
        }
        if calls:
            message["tool_calls"] = [
                {
                    "id": tool_call_id(self._generation, choice, position),
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }
                for position, (name, arguments) in enumerate(calls)
            ]
        message["reasoning"] = reply.text(Channel.REASONING) or None
        logprobs = None
        if body.logprobs:
            logprobs = wire.chat_logprobs(choice, 0, len(reply.token_ids), body.top_logprobs or 0)
        return {
            "index": choice.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": reply.finish_reason,
            "stop_reason": reply.stop_reason,
            "token_ids": list(reply.token_ids) if body.return_token_ids else None,
            "routed_experts": None,
        }
