"""What a metered cloud says where vLLM says more: OpenAI's own shapes, made out of vLLM's answers on their way out.

Handlers know nothing of dialects: they write vLLM's JSON, `CloudAnswer` rewrites it. And a cloud is strict where vLLM is lenient:
a parameter that OpenAI does not know is a 400, so a router that forces vLLM's extensions upon a cloud finds out here.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from load.emulator.errors import ApiError
from load.emulator.http import Answer
from load.emulator.retelling import Retelling

FINGERPRINT = "fp_emulated"

_VLLM_ONLY = frozenset(
    (
        "prompt_logprobs",
        "prompt_token_ids",
        "prompt_text",
        "kv_transfer_params",
        "ec_transfer_params",
        "metrics",
        "stop_reason",
        "token_ids",
        "routed_experts",
        "input_messages",
        "output_messages",
    )
)
_COMMON = (
    "model stream stream_options n temperature top_p max_tokens stop seed logit_bias user presence_penalty frequency_penalty"
    " logprobs metadata store service_tier"
)
# https://platform.openai.com/docs/api-reference: the parameters of the two paths that vLLM extends most.
_PARAMETERS = {
    "/v1/chat/completions": frozenset(
        f"{_COMMON} messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls response_format"
        " reasoning_effort modalities audio prediction functions function_call web_search_options verbosity"
        " prompt_cache_key safety_identifier".split()
    ),
    "/v1/completions": frozenset(f"{_COMMON} prompt best_of echo suffix".split()),
}
_STREAM_OPTIONS = frozenset(("include_usage", "include_obfuscation"))


# What is asked for by these names is served under the tier that OpenAI calls `default`.
_DEFAULT_TIERS = (None, "auto", "default")
# As vLLM's answers say it, which know no tiers: of a response, in a stream's events too.
_RESPONSES_TIER = b'"service_tier":"auto"'


class Asked(NamedTuple):
    """What a cloud's answer depends on beside the handler. has_usage: asked for in a stream. service_tier: that it is served
    under."""

    has_usage: bool = False
    service_tier: str = "default"


def check_parameters(path: str, raw: bytes, allowed: frozenset[str] = frozenset()) -> Asked:
    """Raises OpenAI's 400 for a parameter it does not know, and for a service tier.

    allowed: what else is known."""
    known = _PARAMETERS.get(path)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return Asked()  # the handler says what is wrong
    if not isinstance(body, dict):
        return Asked()
    tier = body.get("service_tier")
    if tier not in (*_DEFAULT_TIERS, "flex", "priority"):
        raise ApiError(400, f"Invalid service_tier argument: {tier!r}.", "BadRequestError", "service_tier")
    served = "default" if tier in _DEFAULT_TIERS else str(tier)
    if known is None:
        return Asked(service_tier=served)
    options = body.get("stream_options") or {}
    foreign = [name for name in body if name not in known and name not in allowed]
    if isinstance(options, dict):
        foreign += [f"stream_options.{name}" for name in options if name not in _STREAM_OPTIONS]
    if foreign:
        raise ApiError(400, f"Unknown parameter: '{foreign[0]}'.", "BadRequestError", foreign[0])
    return Asked(isinstance(options, dict) and bool(options.get("include_usage")), served)


class CloudAnswer(Retelling):
    """An answer in OpenAI's shapes."""

    def __init__(self, answer: Answer, asked: Asked) -> None:
        super().__init__(answer)
        self._asked = asked

    def retold(self, value: Any) -> Any:
        told = _reduced(value)
        if isinstance(told, dict) and "service_tier" in told:
            told["service_tier"] = self._asked.service_tier
        return told

    def send(self, event: bytes) -> None:
        if not event.startswith(b"data: {"):
            served = b'"service_tier":"%b"' % self._asked.service_tier.encode()
            self._answer.send(event.replace(_RESPONSES_TIER, served, 1))
            return
        value = _reduced(orjson.loads(event[6:]))
        if value.get("object") != "chat.completion.chunk":
            self._answer.send(b"data: %b\n\n" % orjson.dumps(value))
            return
        value = {**value, "service_tier": self._asked.service_tier, "system_fingerprint": FINGERPRINT}
        if self._asked.has_usage:
            value.setdefault("usage", None)
        for part in _split_end(value):
            self._answer.send(b"data: %b\n\n" % orjson.dumps(part))


def _reduced(value: Any) -> Any:
    """The value without what only vLLM says, and with usage as OpenAI writes it."""
    if isinstance(value, list):
        return [_reduced(part) for part in value]
    if not isinstance(value, dict):
        return value
    reduced = {name: _reduced(part) for name, part in value.items() if name not in _VLLM_ONLY}
    if "object" not in value:
        reduced.pop("reasoning", None)  # of a message or a delta: clouds keep their thoughts to themselves
    if "system_fingerprint" in reduced:
        reduced["system_fingerprint"] = FINGERPRINT
    if isinstance(reduced.get("usage"), dict) and "completion_tokens" in reduced["usage"]:
        reduced["usage"] = _usage(reduced["usage"])
    return reduced


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0)
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _split_end(value: dict[str, Any]) -> list[dict[str, Any]]:
    """OpenAI ends a choice with a chunk of its own, whose delta is empty."""
    choices = value.get("choices") or []
    if not choices or choices[0].get("finish_reason") is None or not choices[0]["delta"]:
        return [value]
    said = {**choices[0], "finish_reason": None}
    ended = {**choices[0], "delta": {}}
    is_silent = choices[0]["delta"] == {"content": ""}
    return [{**value, "choices": [part]} for part in ((ended,) if is_silent else (said, ended))]
