"""Amazon Bedrock's Converse for a chat of OpenAI's: the request, the answer, and the events of its stream.

Events come decoded from their framing (`dispatch/providers/bedrock.py`). Source: the service model of bedrock-runtime 2023-09-30
in botocore 1.44.
"""

from typing import Any

import orjson

from router.errors import Untranslatable
from router.wire.chunks import COMMON_FINISH_REASONS, DONE, ChunkWriter, call_member, usage_member, whole_answer
from router.wire.json_body import encode_object
from router.wire.turns import Ask, Block, Call, Image, Result, Text, read_ask

FINISH_REASONS = COMMON_FINISH_REASONS | {
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
# Stop reasons with which a model gave up; not a finish.
BROKEN = frozenset({"malformed_model_output", "malformed_tool_use"})


def converse_body(members: dict[str, Any], *, completion_tokens_max: int) -> bytes:
    """completion_tokens_max: the backend's, for a client that sets no bound; 0 where there is none. Raises Untranslatable."""
    ask = read_ask(members)
    if ask.user:
        raise Untranslatable("`user` has no place in the API of this model's provider.", param="user")
    if ask.is_single_tool_call and ask.tools:
        raise Untranslatable("This model's provider cannot be kept to one tool call.", param="parallel_tool_calls")
    body: dict[str, Any] = {
        "messages": [{"role": turn.role, "content": [_block(block) for block in turn.blocks]} for turn in ask.turns]
    }
    if ask.system:
        body["system"] = [{"text": text} for text in ask.system]
    inference: dict[str, Any] = {}
    tokens_max = ask.completion_tokens_max or completion_tokens_max
    if tokens_max:
        inference["maxTokens"] = tokens_max
    if ask.temperature is not None:
        inference["temperature"] = ask.temperature
    if ask.top_p is not None:
        inference["topP"] = ask.top_p
    if ask.stop:
        inference["stopSequences"] = ask.stop
    if inference:
        body["inferenceConfig"] = inference
    tools = _tool_config(ask)
    if tools is not None:
        body["toolConfig"] = tools
    output = _output_config(ask)
    if output:
        body["outputConfig"] = output
    return encode_object(body)


def _block(block: Block) -> dict[str, Any]:
    match block:
        case Text(text=text):
            return {"text": text}
        case Image(url=""):
            return {"image": {"format": block.media_type.removeprefix("image/"), "source": {"bytes": block.data}}}
        case Image():
            raise Untranslatable("An image must be in the body here, not at an address.", param="messages")
        case Call():
            return {"toolUse": {"toolUseId": block.id, "name": block.name, "input": block.arguments}}
        case Result():
            content = [_block(part) for part in block.content]
            return {"toolResult": {"toolUseId": block.call_id, "content": content}}


def _tool_config(ask: Ask) -> dict[str, Any] | None:
    """There is no way to say that tools are there and none may be called. Without any call in the conversation, not to name
    them says the same; with one they must be named."""
    if not ask.tools:
        return None
    if ask.tool_choice == "none":
        if any(type(block) in (Call, Result) for turn in ask.turns for block in turn.blocks):
            raise Untranslatable("This model's provider cannot keep it from calling tools.", param="tool_choice")
        return None
    config: dict[str, Any] = {
        "tools": [
            {"toolSpec": {"name": tool.name, "inputSchema": {"json": tool.parameters}, **tool.optional_members}}
            for tool in ask.tools
        ]
    }
    if ask.tool_choice.startswith("="):
        config["toolChoice"] = {"tool": {"name": ask.tool_choice[1:]}}
    elif ask.tool_choice:
        config["toolChoice"] = {"any" if ask.tool_choice == "required" else "auto": {}}
    return config


def _output_config(ask: Ask) -> dict[str, Any]:
    output: dict[str, Any] = {}
    if ask.schema is not None:
        told: dict[str, Any] = {"schema": encode_object(ask.schema).decode()}
        if ask.schema_name:
            told["name"] = ask.schema_name
        output["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": told}}
    if ask.effort:
        output["effort"] = ask.effort
    return output


def chat_usage(usage: Any) -> dict[str, Any] | None:
    """`inputTokens` are those that were neither read from the cache nor written to it."""
    if (
        type(usage) is not dict
        or type(usage.get("inputTokens")) is not int
        or type(usage.get("outputTokens")) is not int
    ):
        return None
    return usage_member(
        uncached_tokens=usage["inputTokens"],
        cached_tokens=usage.get("cacheReadInputTokens") or 0,
        written_tokens=usage.get("cacheWriteInputTokens") or 0,
        completion_tokens=usage["outputTokens"],
    )


def chat_answer(body: bytes, *, answer_id: str, model: str, created: int) -> bytes:
    """A whole answer. Raises LookupError, TypeError or ValueError for what is none."""
    answer = orjson.loads(body)
    reason = answer["stopReason"]
    if reason in BROKEN:
        raise ValueError(reason)
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in answer["output"]["message"]["content"]:
        if "text" in block:
            texts.append(block["text"])
        elif "toolUse" in block:
            use = block["toolUse"]
            calls.append(call_member(use["toolUseId"], use["name"], use["input"]))
        elif "reasoningContent" in block:
            thoughts.append(block["reasoningContent"].get("reasoningText", {}).get("text", ""))
    return whole_answer(
        answer_id=answer_id,
        model=model,
        created=created,
        text="".join(texts),
        reasoning="".join(thoughts),
        calls=calls,
        finish_reason=FINISH_REASONS.get(reason, "stop"),
        usage=chat_usage(answer.get("usage")),
        service_tier=_service_tier(answer),
    )


def _service_tier(told: dict[str, Any]) -> str | None:
    """Of a whole answer, or of a stream's metadata; None where it does not say."""
    tier = told.get("serviceTier")
    return tier.get("type") if type(tier) is dict else None


class ConverseTranslator:
    """The events of ConverseStream in, chunks of OpenAI's out."""

    def __init__(self, *, answer_id: str, model: str, created: int) -> None:
        self._chunks = ChunkWriter(answer_id, model, created)

    def event(self, kind: str, payload: dict[str, Any]) -> bytes:
        """kind: of the event, as its framing says."""
        chunks = self._chunks
        if kind == "contentBlockDelta":
            delta = payload["delta"]
            if "text" in delta:
                return chunks.text(delta["text"])
            if "toolUse" in delta:
                return chunks.arguments(delta["toolUse"]["input"])
            if "reasoningContent" in delta:
                return chunks.reasoning(delta["reasoningContent"].get("text", ""))
        elif kind == "contentBlockStart":
            use = payload["start"].get("toolUse")
            return chunks.call(use["toolUseId"], use["name"]) if use else b""
        elif kind == "messageStop":
            reason = payload["stopReason"]
            return self.exception(reason) if reason in BROKEN else chunks.finish(FINISH_REASONS.get(reason, "stop"))
        elif kind == "metadata":
            usage = chat_usage(payload.get("usage"))
            return (chunks.usage(usage, _service_tier(payload)) if usage else b"") + DONE
        return b""

    def exception(self, kind: str) -> bytes:
        """In the place of an event: the stream is over."""
        return self._chunks.error("the provider failed", kind)
