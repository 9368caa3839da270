"""Pieces of JSON that several of vLLM's paths share: usage objects, log-probabilities, per-request metrics, SSE events.

Pure. Key order is vLLM's, as recorded.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from load.emulator.generation import Choice, Generation, Usage
from load.emulator.language import WORD_IDS, decode, token_bytes
from load.engine import EngineSequence

_ALTERNATIVE_STRIDE = 37  # walks the vocabulary for tokens that "might have been"


def data_event(value: Mapping[str, Any]) -> bytes:
    """One SSE event of the OpenAI paths."""
    return b"data: %b\n\n" % orjson.dumps(value)


def named_event(name: str, value: Mapping[str, Any]) -> bytes:
    """One SSE event with a name, as /v1/responses and /v1/messages have."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(value))


def usage_of_answer(usage: Usage, *, has_details: bool) -> dict[str, Any]:
    """Usage of a whole answer: absent details are null."""
    cached = {
        "cached_tokens": usage.cached_tokens,
        "created_cache_tokens": usage.created_cache_tokens,
        "multimodal_tokens": None,
    }
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "completion_tokens": usage.completion_tokens,
        "prompt_tokens_details": cached if has_details else None,
        "completion_tokens_details": _reasoning(usage),
    }


def usage_of_stream(usage: Usage, *, has_details: bool) -> dict[str, Any]:
    """Usage of a stream's last chunk: absent details are left out."""
    value: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "completion_tokens": usage.completion_tokens,
    }
    if has_details:
        value["prompt_tokens_details"] = {
            "cached_tokens": usage.cached_tokens,
            "created_cache_tokens": usage.created_cache_tokens,
        }
    if usage.reasoning_tokens:
        value["completion_tokens_details"] = _reasoning(usage)
    return value


def _reasoning(usage: Usage) -> dict[str, int] | None:
    return {"reasoning_tokens": usage.reasoning_tokens} if usage.reasoning_tokens else None


def request_metrics(sequence: EngineSequence, *, is_stream: bool) -> dict[str, Any]:
    """`--enable-per-request-metrics`: times in milliseconds of the engine's clock."""
    admitted = sequence.admitted_seconds or sequence.arrived_seconds
    first = sequence.first_token_seconds or admitted
    ended = sequence.ended_seconds or first
    decode_seconds = ended - first
    gaps = max(sequence.produced_tokens - 1, 1)
    value: dict[str, Any] = {
        "time_to_first_token_ms": (first - sequence.arrived_seconds) * 1e3,
        "generation_time_ms": decode_seconds * 1e3,
        "queue_time_ms": (admitted - sequence.arrived_seconds) * 1e3,
        "mean_itl_ms": decode_seconds / gaps * 1e3,
        "tokens_per_second": sequence.produced_tokens / max(ended - sequence.arrived_seconds, 1e-9),
    }
    if not is_stream:
        value["speculative_decoding"] = None
    return value


def metrics_of_answer(generation: Generation) -> dict[str, Any] | None:
    """The `metrics` member of a whole answer, null unless the server was started with it."""
    if not generation.replica.spec.has_request_metrics:
        return None
    return request_metrics(generation.choices[0].sequence, is_stream=False)


def stream_tail(generation: Generation, *, is_usage: bool) -> bytes:
    """What only the last chunk of a stream says; metrics come on a usage chunk alone."""
    tail = b',"system_fingerprint":"%b"' % generation.replica.fingerprint.encode()
    if is_usage and generation.replica.spec.has_request_metrics:
        tail += b',"metrics":%b' % orjson.dumps(request_metrics(generation.choices[0].sequence, is_stream=True))
    return tail


def likely_tokens(token: int, position: int, count: int) -> list[tuple[int, float]]:
    """The token and `count` alternatives with invented log-probabilities, likeliest first; the same in every run."""
    logprob = -((token * 2_654_435_761 + position * 40_503) % 65_536) / 32_768
    others = [
        (WORD_IDS[(token + rank * _ALTERNATIVE_STRIDE) % len(WORD_IDS)], logprob - 0.25 * rank)
        for rank in range(1, count + 1)
    ]
    return [(token, logprob), *others]


def chat_logprobs(choice: Choice, start: int, end: int, top: int) -> dict[str, Any]:
    """`logprobs` of chat, for the tokens from `start` to `end`."""
    content = []
    for position in range(start, end):
        ranked = likely_tokens(choice.reply.token_ids[position], position, max(0, top - 1))
        entries = [_chat_logprob(token, logprob) for token, logprob in ranked]
        content.append({**entries[0], "top_logprobs": entries[:top]})
    return {"content": content}


def _chat_logprob(token: int, logprob: float) -> dict[str, Any]:
    raw = token_bytes(token)
    return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}


def text_logprobs(ids: Sequence[int], first_position: int, offset: int, top: int) -> dict[str, Any]:
    """`logprobs` of text completions; `offset` is where the first token's text begins."""
    value: dict[str, Any] = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
    for position, token in enumerate(ids, start=first_position):
        ranked = likely_tokens(token, position, max(0, top - 1))
        text = decode([token])
        value["text_offset"].append(offset)
        value["token_logprobs"].append(ranked[0][1])
        value["tokens"].append(text)
        value["top_logprobs"].append({decode([other]): logprob for other, logprob in ranked[: max(top, 1)]})
        offset += len(text)
    return value


def prompt_logprobs(prompt: Sequence[int], top: int) -> list[dict[str, Any] | None]:
    """`prompt_logprobs`: nothing for the first token, then the token and `top` better ones, keyed by id."""
    rows: list[dict[str, Any] | None] = [None]
    for position, token in enumerate(prompt[1:], start=1):
        ranked = likely_tokens(token, position, top)
        worst = ranked[-1][1] - 1.0
        row = {str(token): {"logprob": worst, "rank": top + 1, "decoded_token": decode([token])}}
        for rank, (other, logprob) in enumerate(ranked[1:], start=1):
            row[str(other)] = {"logprob": logprob, "rank": rank, "decoded_token": decode([other])}
        rows.append(row)
    return rows
