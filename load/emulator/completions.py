"""/v1/completions: prompts as text or token ids, one text per prompt and choice."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from load.emulator import language, wire
from load.emulator.bodies import CompletionBody, check_sampling, completion_tokens_asked, parse_json, validate
from load.emulator.chat import guidance
from load.emulator.errors import DONE, bad_parameter, bad_request, invalid_body
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
from load.emulator.reply import Channel, Delta, ReplyOptions

if TYPE_CHECKING:
    from load.emulator.replica import Replica

COMPLETION_TOKENS_DEFAULT = 16  # OpenAI's default for text completions, kept by vLLM


def completions(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    body = validate(CompletionBody, parse_json(request.body, request.headers.get("content-type", "")))
    replica.check_model(body.model)
    if body.suffix:
        error = bad_request("suffix is only supported for models with FIM completion rendering")
        error.param = "suffix"
        raise error
    prompts = prompts_of(body.prompt)
    check_sampling(body, replica.spec.context_tokens)
    generation = new_generation(replica, answer, request, "cmpl", body.request_id)
    schema, choices = guidance(body.response_format, body.structured_outputs)
    for prompt in prompts:
        asked = completion_tokens_asked(body)
        wanted = COMPLETION_TOKENS_DEFAULT if asked is None else asked
        options = ReplyOptions(
            tokens_max=max(1, completion_limit(len(prompt), wanted, replica.spec.context_tokens)),
            tokens_min=body.min_tokens,
            ignores_eos=body.ignore_eos,
            stop=body.stops,
            has_stop_in_output=body.include_stop_str_in_output,
            schema=schema,
            choices=choices,
        )
        add_choices(
            generation,
            prompt,
            options,
            count=body.n or 1,
            seed=body.seed or 0,
            salt=body.cache_salt or "",
            priority=body.priority,
        )
    rendering: Rendering = CompletionStream(generation, body) if body.stream else CompletionAnswer(generation, body)
    generation.start(rendering, is_stream=bool(body.stream))


def prompts_of(prompt: object) -> list[list[int]]:
    """The prompts of a body: a text, token ids, or a list of either. Raises vLLM's 400s."""
    if prompt is None or prompt == "":
        raise bad_parameter("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    if isinstance(prompt, str):
        return [language.encode(prompt)]
    if not isinstance(prompt, list):
        problem = {
            "type": "string_type",
            "loc": "body.prompt",
            "msg": "Input should be a valid string",
            "input": str(prompt),
        }
        raise invalid_body([str(problem)], "body.prompt")
    if not prompt:
        raise bad_request("You must pass at least one prompt")
    if all(isinstance(part, str) for part in prompt):
        return [language.encode(part) for part in prompt]
    if all(isinstance(part, list) for part in prompt):
        return [_checked(part) for part in prompt]
    return [_checked(prompt)]


def _checked(ids: Sequence[object]) -> list[int]:
    checked: list[int] = []
    for position, token in enumerate(ids):
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            place = f"body.prompt.{position}"
            problem = {
                "type": "greater_than_equal",
                "loc": place,
                "msg": "Input should be greater than or equal to 0",
                "input": str(token),
                "ctx": {"ge": 0},
            }
            raise invalid_body([str(problem)], place)
        if token >= language.VOCABULARY_TOKENS:
            raise bad_request(f"Token id {token} is out of vocabulary")
        checked.append(token)
    if not checked:
        raise bad_parameter("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    return checked


def text_of(deltas: Iterable[Delta]) -> str:
    """Raw text: reasoning and content alike, as a completion has no parsers."""
    return "".join(delta.text for delta in deltas if delta.channel in (Channel.CONTENT, Channel.REASONING))


def is_echo_alone(body: CompletionBody) -> bool:
    """`max_tokens: 0` with echo: the prompt comes back, and one token is made and charged but not shown; as recorded."""
    return bool(body.echo) and body.max_tokens == 0


class CompletionStream:
    """Chunks, one per token."""

    def __init__(self, generation: Generation, body: CompletionBody) -> None:
        replica = generation.replica
        self._generation = generation
        self._body = body
        self._send = generation.answer.send
        self._has_ids = bool(body.return_token_ids)
        self._is_plain = not (self._has_ids or body.echo or body.wants_continuous_usage or body.logprobs is not None)
        self._unfinished = len(generation.choices)
        head = {"id": generation.id, "object": "text_completion", "created": generation.created}
        self._head = b"data: %b" % orjson.dumps({**head, "model": replica.spec.model})[:-1]
        self._offsets = [0] * len(generation.choices)

    def begin(self) -> None:
        pass

    def tokens(self, choice: Choice, start: int, end: int) -> None:
        reply = choice.reply
        is_last = end == len(reply.token_ids)
        text = text_of(reply.deltas[start:end])
        if self._is_plain and not is_last:
            self._send(
                b'%b,"choices":[{"index":%d,"text":%b,"logprobs":null,"finish_reason":null,"stop_reason":null,'
                b'"prompt_token_ids":null,"token_ids":null}]}\n\n' % (self._head, choice.index, orjson.dumps(text))
            )
            return
        if start == 0 and self._body.echo:
            text = language.decode(choice.prompt) + ("" if is_echo_alone(self._body) else text)
        logprobs = None
        if self._body.logprobs is not None:
            offset = self._offsets[choice.index]
            logprobs = wire.text_logprobs(reply.token_ids[start:end], start, offset, self._body.logprobs)
            self._offsets[choice.index] = offset + len(text)
        shows_prompt = start == 0 and (self._has_ids or self._body.echo)
        value = {
            "index": choice.index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": reply.finish_reason if is_last else None,
            "stop_reason": reply.stop_reason if is_last else None,
            "prompt_token_ids": choice.prompt if shows_prompt else None,
            "token_ids": list(reply.token_ids[start:end]) if self._has_ids else None,
        }
        usage = b""
        if self._body.wants_continuous_usage:
            prompt = len(choice.prompt)
            usage = b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
                prompt,
                prompt + end,
                end,
            )
        self._unfinished -= is_last
        is_stream_end = is_last and self._unfinished == 0 and not self._body.wants_usage
        tail = wire.stream_tail(self._generation, is_usage=False) if is_stream_end else b""
        self._send(b'%b,"choices":[%b]%b%b}\n\n' % (self._head, orjson.dumps(value), usage, tail))

    def end(self) -> None:
        generation = self._generation
        if self._body.wants_usage:
            usage = wire.usage_of_stream(
                generation.usage(), has_details=generation.replica.spec.has_prompt_tokens_details
            )
            usage.get("prompt_tokens_details", {}).pop("created_cache_tokens", None)  # chat alone tells it
            tail = wire.stream_tail(generation, is_usage=True)
            self._send(b'%b,"choices":[],"usage":%b%b}\n\n' % (self._head, orjson.dumps(usage), tail))
        self._send(DONE)
        generation.answer.finish()


class CompletionAnswer(WholeAnswer):
    def __init__(self, generation: Generation, body: CompletionBody) -> None:
        self._generation = generation
        self._body = body

    def end(self) -> None:
        generation = self._generation
        replica = generation.replica
        usage = wire.usage_of_answer(generation.usage(), has_details=replica.spec.has_prompt_tokens_details)
        if usage["prompt_tokens_details"] is not None:
            usage["prompt_tokens_details"]["created_cache_tokens"] = None  # chat alone tells it
        value = {
            "id": generation.id,
            "object": "text_completion",
            "created": generation.created,
            "model": replica.spec.model,
            "choices": [self._choice(choice) for choice in generation.choices],
            "service_tier": None,
            "system_fingerprint": replica.fingerprint,
            "usage": usage,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": wire.metrics_of_answer(generation),
        }
        generation.answer.respond(200, orjson.dumps(value))

    def _choice(self, choice: Choice) -> dict[str, Any]:
        reply, body = choice.reply, self._body
        text = "" if is_echo_alone(body) else text_of(reply.deltas)
        logprobs = None
        if body.logprobs is not None:
            logprobs = wire.text_logprobs(reply.token_ids, 0, 0, body.logprobs)
        asked = body.prompt_logprobs
        return {
            "index": choice.index,
            "text": language.decode(choice.prompt) + text if body.echo else text,
            "logprobs": logprobs,
            "finish_reason": reply.finish_reason,
            "stop_reason": reply.stop_reason,
            "token_ids": list(reply.token_ids) if body.return_token_ids else None,
            "prompt_logprobs": wire.prompt_logprobs(choice.prompt, asked) if asked is not None else None,
            "prompt_token_ids": choice.prompt if body.return_token_ids else None,
            "routed_experts": None,
        }
