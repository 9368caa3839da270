"""Sends one request to an OpenAI-compatible server and watches its answer come."""

import json
import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import aiohttp

from load.drive.outcome import Outcome
from router.domain.money import nanousd_from_usd

# Words in an event that make it worth decoding: all else is text.
TELLING = (b'"usage":{', b'"usage": {', b'"finish_reason":"', b'"finish_reason": "', b'"error"')
LATEST_EVENT_BYTES = 2**20


async def ask(
    http: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    outcome: Outcome,
    began_seconds: float,
) -> None:
    """Send it now, read the answer to its end, and write into the outcome what is seen. Raises nothing but cancellation.

    began_seconds: when the run began, on the clock of `time.monotonic`.
    """
    watcher = _Watcher(outcome, began_seconds)
    try:
        async with http.post(url, json=body, headers=headers) as answer:
            watcher.labels(answer.headers)
            if answer.status != 200:
                await answer.read()
                outcome.error = f"http_{answer.status}"
            elif answer.content_type == "text/event-stream":
                async for data in answer.content.iter_any():
                    watcher.pieces(data)
                if not outcome.error and not watcher.is_finished:
                    outcome.error = "unfinished"
            else:
                watcher.whole(await answer.read())
    except aiohttp.ClientConnectorError:
        outcome.error = "connect"
    except TimeoutError:
        outcome.error = "timeout"
    except aiohttp.ClientError as error:
        outcome.error = type(error).__name__
    except (ValueError, KeyError, TypeError, LookupError):
        outcome.error = "not_openai"
    finally:
        outcome.ended_seconds = time.monotonic() - began_seconds


class _Watcher:
    def __init__(self, outcome: Outcome, began_seconds: float) -> None:
        self.is_finished = False
        self._outcome = outcome
        self._began_seconds = began_seconds
        self._rest = b""
        self._last_seconds: float | None = None

    def labels(self, headers: Mapping[str, str]) -> None:
        outcome = self._outcome
        outcome.backend = headers.get("x-jeton-backend", "")
        outcome.tier = headers.get("x-jeton-tier", "")
        outcome.cost_nanousd = _nanousd(headers.get("x-jeton-cost-usd"))

    def whole(self, data: bytes) -> None:
        answer = json.loads(data)
        self._outcome.model = answer.get("model") or ""
        self._usage(answer.get("usage"))
        for choice in answer["choices"]:
            self._finished(choice.get("finish_reason"))
        if not self.is_finished:
            self._outcome.error = "unfinished"

    def pieces(self, data: bytes) -> None:
        now_seconds = time.monotonic() - self._began_seconds
        *events, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._rest) > LATEST_EVENT_BYTES:
            raise ValueError("an event without end")
        for event in events:
            if event.startswith(b"data:") and not event.startswith(b"data: [DONE]"):
                self._event(event, now_seconds)

    def _event(self, event: bytes, now_seconds: float) -> None:
        outcome = self._outcome
        if self._last_seconds is not None and not any(word in event for word in TELLING):
            self._text_came(now_seconds)
            return
        told = json.loads(event.removeprefix(b"data:"))
        if "error" in told:
            outcome.error = "error_event"
            self._cost(told["error"])
            return
        outcome.model = told.get("model") or outcome.model
        for choice in told.get("choices") or ():
            delta = choice.get("delta") or {}
            if any(delta.get(kind) for kind in ("content", "reasoning", "reasoning_content", "tool_calls", "refusal")):
                self._text_came(now_seconds)
            if choice.get("finish_reason"):
                self._finished(choice["finish_reason"])
        self._usage(told.get("usage"))
        self._cost(told)

    def _cost(self, members: Any) -> None:
        cost = members.get("jeton_cost") if isinstance(members, dict) else None
        if isinstance(cost, dict) and isinstance(cost.get("nanousd"), int):
            self._outcome.cost_nanousd = cost["nanousd"]

    def _finished(self, reason: str | None) -> None:
        self.is_finished = reason is not None
        if reason == "abort":  # vLLM's word for an answer that it gave up
            self._outcome.error = "aborted"

    def _text_came(self, now_seconds: float) -> None:
        if self._last_seconds is None:
            self._outcome.first_seconds = now_seconds
        else:
            self._outcome.gaps_seconds.append(now_seconds - self._last_seconds)
        self._last_seconds = now_seconds

    def _usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        outcome = self._outcome
        outcome.prompt_tokens = usage.get("prompt_tokens", outcome.prompt_tokens)
        outcome.completion_tokens = usage.get("completion_tokens", outcome.completion_tokens)
        details = usage.get("prompt_tokens_details")
        outcome.cached_tokens = (details.get("cached_tokens") if isinstance(details, dict) else 0) or 0
        if isinstance(usage.get("cost"), int | float) and outcome.cost_nanousd is None:  # OpenRouter's, in dollars
            outcome.cost_nanousd = _nanousd(str(usage["cost"]))


def _nanousd(text: str | None) -> int | None:
    try:
        return None if text is None else nanousd_from_usd(Decimal(text))
    except InvalidOperation:
        return None
