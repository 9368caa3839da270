"""OpenRouter. URL: https://openrouter.ai

| asked for | |
|---|---|
| chat, completions; tools, JSON schema, vision, log-probabilities, `seed`, `logit_bias`, penalties | as they come |
| `n` > 1 | not |
| `models`, `route`, `preset` | not: another model than the one that was chosen, allowed and priced might answer |
| responses, embeddings, audio, messages, score, tokenize | not |

It leaves out, without a word, what the model behind it has not; so we ask for one that has all of it, unless the client says
otherwise (`provider: {require_parameters: …}`). What it billed (`usage.cost`, in dollars) is asked for and preferred to the
price book; clients see it only if they asked for it themselves.

402 is an empty account. 403 is moderation, which is the client's affair. Errors of the provider behind it come with status 200
too, in the body or the stream, and are what their `code` says: limits and too much work leave it alone for a while.
"""

from typing import Any, ClassVar

import orjson

from router.dispatch.failure import AttemptFailed, limited, refused
from router.dispatch.provider import Order
from router.dispatch.providers.openai import Openai
from router.dispatch.translation import EventEditor, TranslatedStream
from router.dispatch.upstream import Exchange, Headers
from router.domain.request import Capability
from router.errors import Untranslatable
from router.wire.error_body import read_error, told_wait_seconds

# What it adds to a usage that was asked to be accounted for.
_ACCOUNTS = frozenset({"cost", "cost_details", "is_byok"})
# Members that choose another model there.
_CHOOSING = ("models", "route", "preset")


class Openrouter(Openai, frozen=True):
    capabilities: ClassVar[frozenset[Capability]] = Openai.capabilities - {
        Capability.RESPONSES,
        Capability.EMBEDDINGS,
        Capability.TRANSCRIPTIONS,
        Capability.TRANSLATIONS,
        Capability.N,
    }
    prefix: ClassVar[str] = "/api/v1"

    def body(self, order: Order) -> bytes:
        asked = order.members
        for name in _CHOOSING:
            if asked.get(name) is not None:
                raise Untranslatable(f"`{name}` has no place here: the router chooses the model.", param=name)
        routing = asked.get("provider")
        members = {
            **asked,
            "usage": {"include": True},
            "provider": {"require_parameters": True, **(routing if type(routing) is dict else {})},
        }
        return super().body(order._replace(members=members))

    def failure(self, status: int, headers: Headers, body: bytes) -> AttemptFailed:
        if status == 403:
            message, param, code = read_error(body)
            return refused(status, message, param, code)
        failed = super().failure(status, headers, body)
        if failed.fault == "limited" and failed.retry_after_seconds is None:
            return limited(status, _wait_seconds(body))
        return failed

    def received(self, exchange: Exchange, order: Order) -> Exchange:
        """Its usage comes on a last chunk that has a choice which says nothing; OpenAI's has none."""
        return TranslatedStream(exchange, EventEditor(_mended)) if order.is_streaming else exchange

    def shown(self, order: Order, data: bytes) -> bytes:
        usage = order.members.get("usage")
        if type(usage) is dict and usage.get("include"):
            return data
        if not order.is_streaming:
            return orjson.dumps(_without_accounts(orjson.loads(data)))
        return b"".join(_unaccounted(event) + b"\n\n" for event in data.split(b"\n\n") if event)


def _mended(event: bytes) -> bytes:
    if b'"usage"' not in event or not event.startswith(b"data: {"):
        return event
    chunk = orjson.loads(event[6:])
    choices = chunk.get("choices")
    usage = chunk.pop("usage", None)
    if type(usage) is not dict or type(choices) is not list or not choices:
        return event
    last = b"data: " + orjson.dumps({**chunk, "choices": [], "usage": usage}) + b"\n\n"
    return last if _says_nothing(choices) else b"data: " + orjson.dumps(chunk) + b"\n\n" + last


def _says_nothing(choices: list[dict[str, Any]]) -> bool:
    deltas = [choice.get("delta") or {} for choice in choices]
    return not any(delta.get("content") or delta.get("tool_calls") for delta in deltas) and not any(
        choice.get("finish_reason") for choice in choices
    )


def _unaccounted(event: bytes) -> bytes:
    if b'"usage"' not in event or not event.startswith(b"data: {"):
        return event
    return b"data: " + orjson.dumps(_without_accounts(orjson.loads(event[6:])))


def _without_accounts(answer: dict[str, object]) -> dict[str, object]:
    usage = answer.get("usage")
    if type(usage) is not dict:
        return answer
    return {**answer, "usage": {name: value for name, value in usage.items() if name not in _ACCOUNTS}}


def _wait_seconds(body: bytes) -> float | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return told_wait_seconds(answer.get("error") if type(answer) is dict else None)
