"""Answers and streams written in OpenAI's shape, for providers whose own is another.

A stream's first chunk carries the role and the first of what was said: until then nothing is owed to the client, so another
backend may still take over. Usage is OpenAI's, cached tokens inside the prompt's and thought inside the completion's.
"""

from typing import Any

import orjson

from router.domain.usage import service_tier_named

DONE = b"data: [DONE]\n\n"
# By the stop reasons that Anthropic and Bedrock have in common.
COMMON_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


def usage_member(
    *,
    uncached_tokens: int,
    cached_tokens: int,
    written_tokens: int,
    completion_tokens: int,
    reasoning_tokens: int = 0,
    written_hour_tokens: int = 0,
) -> dict[str, Any]:
    """Of counts that stand beside one another: the prompt is all of the first three. `cache_write_tokens` is no member of
    OpenAI's; OpenRouter has it there as well, and `usage.py` reads it. written_hour_tokens: of those that were written."""
    prompt_tokens = uncached_tokens + cached_tokens + written_tokens
    details = {"cached_tokens": cached_tokens} | ({"cache_write_tokens": written_tokens} if written_tokens else {})
    if written_hour_tokens:
        details["cache_write_hour_tokens"] = written_hour_tokens
    usage: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": details,
    }
    if reasoning_tokens:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return usage


def service_tier_member(told: Any) -> dict[str, str]:
    """By OpenAI's name, which has `default` where others have other words; nothing where nobody said."""
    return {"service_tier": service_tier_named(told) or "default"} if type(told) is str else {}


class ChunkWriter:
    """The chunks of one stream. created: Unix time, for the member of that name."""

    def __init__(self, answer_id: str, model: str, created: int) -> None:
        self.id = answer_id
        self._model = model
        self._created = created
        self._has_role = False
        self._calls = 0

    def text(self, text: str) -> bytes:
        return self._delta({"content": text}) if text else b""

    def reasoning(self, text: str) -> bytes:
        return self._delta({"reasoning": text}) if text else b""

    def call(self, call_id: str, name: str) -> bytes:
        """A tool's call begins; its arguments follow."""
        self._calls += 1
        function = {"name": name, "arguments": ""}
        call = {"index": self._calls - 1, "id": call_id, "type": "function", "function": function}
        return self._delta({"tool_calls": [call]})

    def arguments(self, text: str) -> bytes:
        """Of the call that began last."""
        call = {"index": max(0, self._calls - 1), "function": {"arguments": text}}
        return self._delta({"tool_calls": [call]}) if text else b""

    def finish(self, reason: str) -> bytes:
        return self._delta({}, reason)

    def usage(self, usage: dict[str, Any], service_tier: str | None = None) -> bytes:
        """service_tier: as of a whole answer."""
        return self._event({"choices": [], **service_tier_member(service_tier), "usage": usage})

    def error(self, message: str, code: str) -> bytes:
        return (
            b"data: "
            + orjson.dumps({"error": {"message": message, "type": code, "param": None, "code": code}})
            + b"\n\n"
        )

    def _delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        if not self._has_role:
            self._has_role = True
            delta = {"role": "assistant", "content": "", **delta}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._event({"choices": [choice]})

    def _event(self, members: dict[str, Any]) -> bytes:
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}
        return b"data: " + orjson.dumps(head | members) + b"\n\n"


def whole_answer(
    *,
    answer_id: str,
    model: str,
    created: int,
    text: str,
    reasoning: str,
    calls: list[dict[str, Any]],
    finish_reason: str,
    usage: dict[str, Any] | None,
    service_tier: str | None = None,
) -> bytes:
    """calls: as `call_member` makes them. usage: None where nobody said, and so is service_tier."""
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    if reasoning:
        message["reasoning"] = reasoning
    if calls:
        message["tool_calls"] = calls
    answer: dict[str, Any] = {
        "id": answer_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}],
        **service_tier_member(service_tier),
    }
    return orjson.dumps(answer if usage is None else {**answer, "usage": usage})


def call_member(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    text = orjson.dumps(arguments).decode()
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}
