"""Request bodies of vLLM's generation paths, checked with vLLM's own words.

Two layers, as there: pydantic refuses wrong types ("Bad Request"), then the server refuses values ("BadRequestError").
Unknown members are ignored. Messages are checked by hand: vLLM tries each against a union of ten types and lists every
failure; here the first one speaks for all.
"""

import json
import math
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from load.emulator.errors import ApiError, bad_parameter, bad_request, invalid_body
from load.emulator.language import VOCABULARY_TOKENS

Body = TypeVar("Body", bound=BaseModel)

LOGPROBS_MAX = 20  # vLLM's --max-logprobs
CHOICES_MAX = 16_384  # vLLM's VLLM_MAX_N_SEQUENCES


class StreamOptions(BaseModel):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class SamplingBody(BaseModel):
    """What chat and text completions have in common."""

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    logit_bias: dict[str, float] | None = None
    prompt_logprobs: int | None = None
    echo: bool | None = False
    priority: int = 0
    request_id: str | None = None
    return_token_ids: bool | None = None
    return_prompt_text: bool | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    cache_salt: Any = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_continuous_usage(self) -> bool:
        """Only together with include_usage; alone it does nothing, as recorded."""
        return self.wants_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)


class ChatBody(SamplingBody):
    messages: list[Any]
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = True
    add_generation_prompt: bool = True
    continue_final_message: bool = False


class CompletionBody(SamplingBody):
    prompt: Any = None
    logprobs: int | None = None
    suffix: str | None = None


def parse_json(raw: bytes, content_type: str) -> dict[str, Any]:
    """A JSON object from a request's body. Raises the 400 that FastAPI would answer; json.loads is what FastAPI uses."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise invalid_body(["Unsupported Media Type: Only 'application/json' is allowed"], None)
    try:
        body = json.loads(raw) if raw else None
    except UnicodeDecodeError as error:
        raise UnreadableBody from error
    except json.JSONDecodeError as error:
        message, position = _as_python_311(error)
        ctx = {"error": message}
        raise _refusal([_problem("json_invalid", f"body.{position}", "JSON decode error", {}, ctx)]) from error
    if body is None:
        raise _refusal([_problem("missing", "body", "Field required", None)])
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise _refusal([_problem("model_attributes_type", "body", message, body)])
    return body


def _as_python_311(error: json.JSONDecodeError) -> tuple[str, int]:
    """Message and position as the recorded server gave them: since 3.13 a trailing comma has words of its own."""
    if not error.msg.startswith("Illegal trailing comma"):
        return error.msg, error.pos
    rest = error.doc[error.pos + 1 :]
    position = len(error.doc) - len(rest.lstrip())
    is_object = error.doc[position : position + 1] == "}"
    return ("Expecting property name enclosed in double quotes" if is_object else "Expecting value"), position


class UnreadableBody(Exception):
    """A body that is no UTF-8: FastAPI answers it with a bare `detail`."""


def validate(shape: type[Body], body: dict[str, Any]) -> Body:
    """The body as a typed value. Raises "Bad Request" with every problem found."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        problems = [
            _problem(e["type"], ".".join(["body", *map(str, e["loc"])]), e["msg"], e["input"], e.get("ctx"))
            for e in error.errors(include_url=False)
        ]
        raise _refusal(problems) from error


def check_messages(messages: list[Any]) -> list[dict[str, Any]]:
    """The messages of a chat as objects with a role and readable content. Raises as vLLM does."""
    if not messages:
        raise bad_request("Cannot apply chat template to an empty conversation. Provide at least one message.")
    for position, message in enumerate(messages):
        place = f"body.messages.{position}"
        if not isinstance(message, dict):
            raise _refusal([_problem("dict_type", place, "Input should be a valid dictionary", message)])
        if "role" not in message:
            raise _refusal([_problem("missing", f"{place}.role", "Field required", message)])
        if not isinstance(message.get("content"), str | list | None):
            problem = _problem("string_type", f"{place}.content", "Input should be a valid string", message["content"])
            raise _refusal([problem])
    return messages


def check_sampling(body: SamplingBody, context_tokens: int) -> None:
    """Values that vLLM refuses, in the order in which it looks."""
    if body.stream_options is not None and not body.stream:
        raise bad_parameter("Stream options can only be defined when `stream=True`.", "stream_options")
    if body.cache_salt is not None and (not isinstance(body.cache_salt, str) or not body.cache_salt):
        raise bad_parameter("Parameter 'cache_salt' must be a non-empty string if provided.", "cache_salt")
    _check_logprobs(body)
    n = 1 if body.n is None else body.n
    if n < 1:
        raise bad_request(f"n must be at least 1, got {n}.")
    if n > CHOICES_MAX:
        raise bad_request(
            f"n must be at most {CHOICES_MAX}, got {n}. To increase this limit, set the VLLM_MAX_N_SEQUENCES environment"
            " variable."
        )
    _check_temperature(body.temperature)
    if body.top_p is not None and not 0 < body.top_p <= 1:
        raise bad_request(f"top_p must be in (0, 1], got {body.top_p}.", "top_p", body.top_p)
    tokens_max = completion_tokens_asked(body)
    if tokens_max is not None and tokens_max < (0 if isinstance(body, CompletionBody) and body.echo else 1):
        raise bad_request(f"max_tokens must be at least 1, got {tokens_max}.", "max_tokens", tokens_max)
    if body.min_tokens < 0:
        raise bad_request(
            f"min_tokens must be greater than or equal to 0, got {body.min_tokens}.", "min_tokens", body.min_tokens
        )
    if tokens_max is not None and tokens_max > context_tokens:
        raise bad_request(
            f"max_tokens={tokens_max} cannot be greater than max_model_len={context_tokens}."
            " Please request fewer output tokens.",
            "max_tokens",
            tokens_max,
        )
    if tokens_max is not None and body.min_tokens > tokens_max:
        raise bad_request(
            f"min_tokens must be less than or equal to max_tokens={tokens_max}, got {body.min_tokens}.",
            "min_tokens",
            body.min_tokens,
        )
    if n > 1 and body.temperature == 0:
        raise bad_request(f"n must be 1 when using greedy sampling, got {n}.")
    foreign = [int(token) for token in body.logit_bias or () if not _is_in_vocabulary(token)]
    if foreign:
        raise bad_request(
            f"token_id(s) {foreign} in logit_bias contain out-of-vocab token ids. Vocabulary size: {VOCABULARY_TOKENS}",
            "logit_bias",
            foreign,
        )


def completion_tokens_asked(body: SamplingBody) -> int | None:
    """The client's bound on a completion. `max_completion_tokens` wins over `max_tokens`, as in vLLM."""
    if isinstance(body, ChatBody) and body.max_completion_tokens is not None:
        return body.max_completion_tokens
    return body.max_tokens


def _check_logprobs(body: SamplingBody) -> None:
    asked = 0
    if isinstance(body, ChatBody):
        asked = body.top_logprobs or 0
        if asked and not body.logprobs:
            raise bad_parameter("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    elif isinstance(body, CompletionBody):
        asked = body.logprobs or 0
    if asked < 0:
        raise bad_request("`logprobs` must be a positive value.", "logprobs", asked)
    if asked > LOGPROBS_MAX:
        raise bad_request(
            f"Requested sample logprobs of {asked}, which is greater than max allowed: {LOGPROBS_MAX}",
            "logprobs",
            asked,
        )


def _check_temperature(temperature: float | None) -> None:
    if temperature is None:
        return
    wrong = None
    if not math.isfinite(temperature):
        wrong = "be a finite number"
    elif temperature < 0:
        wrong = "be non-negative"
    elif temperature > 2:
        wrong = "be in [0, 2]"
    if wrong is not None:
        raise bad_request(f"temperature must {wrong}, got {temperature}.", "temperature", temperature)


def _is_in_vocabulary(token: str) -> bool:
    return not token.lstrip("-").isdigit() or 0 <= int(token) < VOCABULARY_TOKENS


def _problem(kind: str, place: str, message: str, given: object, ctx: dict[str, Any] | None = None) -> tuple[str, str]:
    """One line of a "Bad Request", and the place it speaks of."""
    told = f"<{type(given).__name__} of {len(given)} items>" if isinstance(given, dict | list) else str(given)
    line: dict[str, Any] = {"type": kind, "loc": place, "msg": message, "input": told}
    if ctx:
        line["ctx"] = ctx
    return str(line), place


def _refusal(problems: list[tuple[str, str]]) -> ApiError:
    return invalid_body([line for line, _ in problems], problems[0][1])
