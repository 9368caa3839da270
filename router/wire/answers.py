"""What a whole (not streamed) answer says: is it one at all, what did it use; and the body as the client gets it."""

import re
from math import inf
from typing import Any, NamedTuple

import orjson

from router.domain.request import AUDIO, GENERATING, Endpoint
from router.domain.usage import ToolCalls, Usage
from router.wire.error_body import told_fault, told_wait_seconds
from router.wire.hosted_tools import told_calls
from router.wire.prompts import tokens_estimate
from router.wire.streams import UNREAL_FINISHES, model_rename
from router.wire.usage import read_usage, told_service_tier

# What a model wrote, in JSON that broke off; the last of them may lack its closing quote.
WRITTEN = re.compile(rb'"(?:content|text|reasoning|arguments)"\s*:\s*"([^"\\]*+(?:\\.[^"\\]*+)*+)')
# As much of it is looked at; more than that nobody is billed for.
BROKEN_BYTES_MAX = 4 * 2**20


class Answer(NamedTuple):
    """fault: "" when usable. usage: None when the backend said none that can be true; completion_tokens_estimate then
    stands in, from the length of what came, and is 0 where an unusable one has no text. wait_seconds: for how long an error asks
    to be left alone, where it says so. service_tier: as `told_service_tier` has it; tool_calls: as `told_calls`. audio_seconds:
    how long the sound was, where the answer tells that beside its text."""

    body: bytes
    fault: str
    usage: Usage | None
    completion_tokens_estimate: int
    wait_seconds: float | None = None
    service_tier: str | None = None
    tool_calls: ToolCalls | None = None
    audio_seconds: float | None = None


def read_answer(endpoint: Endpoint, body: bytes, *, model: str, context_tokens: int, choices: int) -> Answer:
    """Judge a 200. HTML, nothing, or JSON that is no object is a failure, and so is a choice that the engine gave up."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if type(answer) is not dict:
        # Plain text (`response_format` text, srt, vtt at some providers), and were it a mere number.
        if endpoint in AUDIO and body and body.lstrip()[:1] != b"<":
            return Answer(body, "", None, len(body) // 4)
        return broken_answer(endpoint, body, "not_json")
    usage = read_usage(endpoint, answer.get("usage"), context_tokens=context_tokens, choices=choices)
    service_tier, tool_calls = told_service_tier(endpoint, answer), told_calls(endpoint, answer)
    error = answer.get("error")
    if error is not None:
        fault, wait_seconds = told_fault(error, "error_body"), told_wait_seconds(error)
        return Answer(body, fault, usage, _written_tokens(answer), wait_seconds, service_tier, tool_calls)
    if _is_aborted(answer):
        return Answer(body, "aborted", usage, _written_tokens(answer), None, service_tier, tool_calls)
    if endpoint is Endpoint.TOKENIZE:
        usage = Usage(0, 0)  # nothing is generated and no prompt is run: the tokenizer's count is not usage
    rename = model_rename(body, model)
    if rename is not None:
        body = body.replace(*rename, 1)
    estimate = 0 if usage is not None else tokens_estimate(_text(answer))
    heard_seconds = _heard_seconds(answer) if endpoint in AUDIO else None
    return Answer(body, "", usage, estimate, None, service_tier, tool_calls, heard_seconds)


def broken_answer(endpoint: Endpoint, body: bytes, fault: str) -> Answer:
    """What had come of an answer that broke off: its texts, as far as they go, were made where the endpoint makes any (a rerank
    says the documents again)."""
    texts = b" ".join(WRITTEN.findall(body[:BROKEN_BYTES_MAX])) if endpoint in GENERATING else b""
    return Answer(body, fault, None, tokens_estimate(texts.decode(errors="replace")) if texts else 0)


def is_complete(endpoint: Endpoint, body: bytes) -> bool:
    """Whether an answer that was found good says of each part why it ended: it is all that there is."""
    answer = orjson.loads(body)
    if endpoint is Endpoint.RESPONSES:
        return answer.get("status") in ("completed", "incomplete")
    if endpoint is Endpoint.MESSAGES:
        return type(answer.get("stop_reason")) is str
    choices = answer.get("choices")
    return (
        type(choices) is list
        and bool(choices)
        and all(type(choice) is dict and type(choice.get("finish_reason")) is str for choice in choices)
    )


def _is_aborted(answer: dict[str, Any]) -> bool:
    choices = answer.get("choices")
    if type(choices) is list:
        reasons = [choice.get("finish_reason") for choice in choices if type(choice) is dict]
        return any(type(reason) is str and reason in UNREAL_FINISHES for reason in reasons)
    return answer.get("status") == "failed"


def _heard_seconds(answer: dict[str, Any]) -> float | None:
    """`duration` of a `verbose_json`: seconds, which some write as a string."""
    duration = answer.get("duration")
    try:
        seconds = float(duration) if isinstance(duration, int | float | str) and type(duration) is not bool else -1.0
    except ValueError:
        return None
    return seconds if 0 < seconds < inf else None


def _written_tokens(answer: dict[str, Any]) -> int:
    text = _text(answer)
    return tokens_estimate(text) if text else 0


def _text(answer: dict[str, Any]) -> str:
    """All text of an answer, whatever its API."""
    texts: list[str] = []
    stack: list[Any] = [answer.get("choices"), answer.get("output"), answer.get("content"), answer.get("text")]
    while stack:
        value = stack.pop()
        if type(value) is str:
            texts.append(value)
        elif type(value) is list:
            stack.extend(value)
        elif type(value) is dict:
            stack.extend(
                value.get(name) for name in ("message", "content", "text", "reasoning", "tool_calls", "arguments")
            )
            stack.append(value.get("function"))
    return " ".join(texts)
