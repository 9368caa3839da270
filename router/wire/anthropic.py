"""Anthropic's Messages for a chat of OpenAI's: the request, the answer, and the stream's events.

Source: https://platform.claude.com/docs/en/api/messages, and the types of anthropic-python 2.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from router.errors import Untranslatable
from router.wire.chunks import COMMON_FINISH_REASONS, DONE, ChunkWriter, call_member, usage_member, whole_answer
from router.wire.json_body import encode_object
from router.wire.sse import EventSplitter, event_data
from router.wire.turns import Ask, Block, Call, Image, Result, Text, read_ask

FINISH_REASONS = COMMON_FINISH_REASONS | {"refusal": "content_filter"}


def messages_body(
    members: dict[str, Any], *, served_model: str, completion_tokens_max: int, is_streaming: bool
) -> bytes:
    """completion_tokens_max: the backend's, for a client that sets no bound; Anthropic wants one. Raises Untranslatable."""
    ask = read_ask(members)
    body: dict[str, Any] = {
        "model": served_model,
        "max_tokens": ask.completion_tokens_max or completion_tokens_max,
        "messages": [{"role": turn.role, "content": [_block(block) for block in turn.blocks]} for turn in ask.turns],
    }
    if ask.system:
        body["system"] = [{"type": "text", "text": text} for text in ask.system]
    if ask.temperature is not None:
        body["temperature"] = ask.temperature
    if ask.top_p is not None:
        body["top_p"] = ask.top_p
    if ask.stop:
        body["stop_sequences"] = ask.stop
    if ask.tools:
        body["tools"] = [
            {"name": tool.name, "input_schema": tool.parameters, **tool.optional_members} for tool in ask.tools
        ]
        choice = _tool_choice(ask)
        if choice is not None:
            body["tool_choice"] = choice
    output = _output_config(ask)
    if output:
        body["output_config"] = output
    if ask.user:
        body["metadata"] = {"user_id": ask.user}
    if is_streaming:
        body["stream"] = True
    return encode_object(body)


def refuse_sampling(members: dict[str, Any]) -> None:
    """Raises Untranslatable for what the API has not had since 2026-10-21."""
    for name in ("temperature", "top_p"):
        if members.get(name) is not None:
            raise Untranslatable(f"`{name}` has no place in the API of this model's provider.", param=name)


def _block(block: Block) -> dict[str, Any]:
    match block:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Image(url=""):
            source = {"type": "base64", "media_type": block.media_type, "data": block.data}
            return {"type": "image", "source": source}
        case Image(url=url):
            return {"type": "image", "source": {"type": "url", "url": url}}
        case Call():
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": block.arguments}
        case Result():
            content = [_block(part) for part in block.content]
            return {"type": "tool_result", "tool_use_id": block.call_id, "content": content}


def _tool_choice(ask: Ask) -> dict[str, Any] | None:
    choice: dict[str, Any]
    if ask.tool_choice.startswith("="):
        choice = {"type": "tool", "name": ask.tool_choice[1:]}
    elif ask.tool_choice or ask.is_single_tool_call:
        choice = {"type": {"required": "any", "none": "none"}.get(ask.tool_choice, "auto")}
    else:
        return None
    if ask.is_single_tool_call and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _output_config(ask: Ask) -> dict[str, Any]:
    output: dict[str, Any] = {}
    if ask.schema is not None:
        output["format"] = {"type": "json_schema", "schema": ask.schema}
    if ask.effort:
        output["effort"] = ask.effort
    return output


def chat_usage(usage: Any) -> dict[str, Any] | None:
    """Of a whole `usage`: its three kinds of input stand beside one another, thought is inside the output."""
    if (
        type(usage) is not dict
        or type(usage.get("input_tokens")) is not int
        or type(usage.get("output_tokens")) is not int
    ):
        return None
    details, writes = usage.get("output_tokens_details"), usage.get("cache_creation")
    return usage_member(
        uncached_tokens=usage["input_tokens"],
        cached_tokens=usage.get("cache_read_input_tokens") or 0,
        written_tokens=usage.get("cache_creation_input_tokens") or 0,
        completion_tokens=usage["output_tokens"],
        reasoning_tokens=(details.get("thinking_tokens") or 0) if type(details) is dict else 0,
        written_hour_tokens=(writes.get("ephemeral_1h_input_tokens") or 0) if type(writes) is dict else 0,
    )


def chat_answer(body: bytes, *, model: str, created: int) -> bytes:
    """A whole message. Raises LookupError, TypeError or ValueError for what is none."""
    message = orjson.loads(body)
    if message["type"] != "message":
        raise ValueError("not a message")
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    usage = message.get("usage")
    for block in message["content"]:
        kind = block["type"]
        if kind == "text":
            texts.append(block["text"])
        elif kind == "thinking":
            thoughts.append(block["thinking"])
        elif kind == "tool_use":
            calls.append(call_member(block["id"], block["name"], block["input"]))
    return whole_answer(
        answer_id=message["id"],
        model=model,
        created=created,
        text="".join(texts),
        reasoning="".join(thoughts),
        calls=calls,
        finish_reason=FINISH_REASONS.get(message["stop_reason"], "stop"),
        usage=chat_usage(usage),
        service_tier=usage.get("service_tier") if type(usage) is dict else None,
    )


class MessagesTranslator:
    """A stream of Messages in, chunks of OpenAI's out."""

    def __init__(self, *, model: str, created: int) -> None:
        self._splitter = EventSplitter()
        self._chunks = ChunkWriter("", model, created)
        self._usage: dict[str, Any] = {}

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Event by event. Raises LookupError, TypeError, ValueError or EventTooLong at one that cannot be read."""
        return map(self._translated, self._splitter.feed(data))

    def usage_told(self) -> dict[str, Any] | None:
        """The prompt's tokens are told at the start."""
        return chat_usage(self._usage)

    def end(self) -> bytes:
        return self._translated(rest + b"\n\n") if (rest := self._splitter.rest().strip()) else b""

    def _translated(self, event: bytes) -> bytes:
        data = event_data(event)
        if not data:
            return b""
        payload = orjson.loads(data)
        kind = payload["type"]
        chunks = self._chunks
        if kind == "content_block_delta":
            delta = payload["delta"]
            match delta["type"]:
                case "text_delta":
                    return chunks.text(delta["text"])
                case "thinking_delta":
                    return chunks.reasoning(delta["thinking"])
                case "input_json_delta":
                    return chunks.arguments(delta["partial_json"])
            return b""
        if kind == "content_block_start":
            block = payload["content_block"]
            if block["type"] == "tool_use":
                return chunks.call(block["id"], block["name"])
            return chunks.text(block["text"]) if block["type"] == "text" else b""
        if kind == "message_start":
            chunks.id = payload["message"]["id"]
            self._note(payload["message"].get("usage"))
        elif kind == "message_delta":
            self._note(payload.get("usage"))
            reason = payload["delta"].get("stop_reason")
            if reason is None:
                return b""
            usage, service_tier = chat_usage(self._usage), self._usage.get("service_tier")
            finish = chunks.finish(FINISH_REASONS.get(reason, "stop"))
            return finish + (chunks.usage(usage, service_tier) if usage else b"")
        elif kind == "message_stop":
            return DONE
        elif kind == "error":
            return chunks.error("the provider failed", str(payload["error"].get("type")))
        return b""

    def _note(self, usage: Any) -> None:
        """Counts are running totals; one that is null says nothing."""
        if type(usage) is dict:
            self._usage |= {name: value for name, value in usage.items() if value is not None}
