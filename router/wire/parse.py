"""From a JSON body to what routing needs to know of it.

Only what we route, bound and bill on is looked at; everything else is the backend's business and reaches it untouched.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from router.domain.immutable import immutable
from router.domain.request import Capability, Endpoint, Prompt
from router.errors import BadRequest
from router.wire.constraints import CONSTRAINING, Constraints
from router.wire.media import MediaRules, media_hosts

# Clipped before classification, so that a long prompt costs no more than a short one.
PROMPT_TEXT_CHARACTERS = 4096
SYSTEM_TEXT_CHARACTERS = 1024
# vLLM's own default ceiling is 20 (`--max-logprobs`); above this some versions hang.
LOGPROBS_MAX = 100
RARE_INTEGERS = frozenset({"best_of", "logprobs", "top_logprobs", "prompt_logprobs", "min_tokens"})
# What an image costs in language tokens when nothing else is known: a 512 × 512 tile at OpenAI's published 170 + 85.
IMAGE_TOKENS_ESTIMATE = 255
# Members of a chat that every provider can be given; `tools` and images are looked at for themselves.
ORDINARY_MEMBERS = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "stop",
        "tools",
        "tool_choice",
    }
)
# Members that steer other proxies to another host or key. A client must not be able to.
STEERING_MEMBERS = frozenset({"api_base", "base_url", "api_key", "api_version", "custom_llm_provider"})


@immutable
class Bounds:
    """What a request may ask for at most; from the server's configuration."""

    completion_tokens_max: int = 1_000_000
    choices_max: int = 128
    constraints: Constraints = Constraints()
    media: MediaRules = MediaRules()


class ParsedBody(NamedTuple):
    """The body's members (ours to copy, never to change) and what was read from them; see `InferenceRequest` for the fields.

    media_hosts: from which the engine would fetch media, if these lead to public addresses.
    """

    members: dict[str, Any]
    model: str
    is_streaming: bool
    prompt: Prompt
    needs: frozenset[Capability]
    completion_tokens_max: int | None
    choices: int
    prompts: int
    wants_usage: bool
    wants_continuous_usage: bool
    media_hosts: frozenset[str] = frozenset()


def parse(endpoint: Endpoint, members: dict[str, Any], bounds: Bounds) -> ParsedBody:
    """Raises BadRequest naming the member that is missing, of the wrong type or out of bounds."""
    model = members.get("model")
    if type(model) is not str or not model:
        raise BadRequest(
            _wrong("model", "a string: an alias such as `auto`, or the name of a model", model), param="model"
        )
    if not STEERING_MEMBERS.isdisjoint(members):
        members = {key: value for key, value in members.items() if key not in STEERING_MEMBERS}
    is_streaming = members.get("stream")
    if is_streaming is not None and type(is_streaming) is not bool:
        raise BadRequest(_wrong("stream", "true or false", is_streaming), param="stream")
    if not CONSTRAINING.isdisjoint(members):
        bounds.constraints.check(members)
    content = _READERS[endpoint](members)
    choices = _choices(members, bounds) * content.parallel_prompts
    options = members.get("stream_options")
    if options is not None and type(options) is not dict:
        raise BadRequest(_wrong("stream_options", "an object", options), param="stream_options")
    wants_usage = bool(options and options.get("include_usage"))
    return ParsedBody(
        members=members,
        model=model,
        is_streaming=bool(is_streaming),
        prompt=content.prompt,
        needs=_needs(endpoint, members, content.prompt),
        completion_tokens_max=_completion_tokens_max(members, bounds),
        choices=choices,
        prompts=content.parallel_prompts,
        wants_usage=wants_usage,
        wants_continuous_usage=wants_usage and bool(options and options.get("continuous_usage_stats")),
        media_hosts=media_hosts(members, bounds.media) if content.has_parts else frozenset(),
    )


@immutable
class _Content:
    """has_parts: it is more than text, or may be."""

    prompt: Prompt
    parallel_prompts: int = 1
    has_parts: bool = False


def tokens_estimate(text: str) -> int:
    """About four characters a token in English (OpenAI's rule of thumb); three bytes where the script is not Latin."""
    return len(text) // 4 + 1 if text.isascii() else len(text.encode()) // 3 + 1


def _wrong(name: str, right: str, value: object) -> str:
    """Only numbers and booleans are quoted: the rest may be a prompt."""
    got = "missing" if value is None else type(value).__name__
    if isinstance(value, int | float):
        got = f"{got} {str(value)[:40]}"
    return f"`{name}` must be {right}; it is {got}."


def _read_chat(members: dict[str, Any]) -> _Content:
    messages = members.get("messages")
    if type(messages) is not list or not messages:
        raise BadRequest(_wrong("messages", "a non-empty array of messages", messages), param="messages")
    system_text = last_text = ""
    tokens = images = 0
    has_parts = False
    system = members.get("system")  # Anthropic's place for it
    if system is not None:
        has_parts = type(system) is not str
        system_text, images = _content_text(system, "system")
        tokens += tokens_estimate(system_text)
    for position, message in enumerate(messages):
        if type(message) is not dict:
            raise BadRequest(_wrong(f"messages.{position}", "an object", message), param=f"messages.{position}")
        content = message.get("content")
        if type(content) is str:
            text = content
        elif content is None:
            continue
        else:
            text, seen = _content_text(content, f"messages.{position}.content")
            images += seen
            has_parts = True
        tokens += tokens_estimate(text) + 4
        role = message.get("role")
        if role == "user":
            last_text = text
        elif role in ("system", "developer") and not system_text:
            system_text = text
    prompt = _prompt(members, last_text, system_text, len(messages), tokens + images * IMAGE_TOKENS_ESTIMATE, images)
    return _Content(prompt, has_parts=has_parts)


def _content_text(content: object, where: str) -> tuple[str, int]:
    """The text of a message's content and how many images stand in it."""
    if type(content) is str:
        return content, 0
    if type(content) is not list:
        raise BadRequest(_wrong(where, "a string or an array of parts", content), param=where)
    texts: list[str] = []
    images = 0
    for part in content:
        if type(part) is str:
            texts.append(part)
        elif type(part) is dict:
            text = part.get("text")
            if type(text) is str:
                texts.append(text)
            if part.get("type") in ("image_url", "image", "input_image"):
                images += 1
    return "\n".join(texts), images


def _read_completions(members: dict[str, Any]) -> _Content:
    prompt = members.get("prompt")
    if prompt is None and members.get("prompt_embeds") is None:
        raise BadRequest(_wrong("prompt", "a string, an array of strings, or token ids", prompt), param="prompt")
    text, tokens, count = _texts(prompt, "prompt")
    return _Content(_prompt(members, text, "", 1, tokens, 0), parallel_prompts=count)


def _read_responses(members: dict[str, Any]) -> _Content:
    value = members.get("input")
    instructions = members.get("instructions")
    system_text = instructions if type(instructions) is str else ""
    if type(value) is str:
        text, turns, tokens, images = value, 1, tokens_estimate(value), 0
    elif type(value) is list and value:
        text, turns, tokens, images = "", len(value), 0, 0
        for position, item in enumerate(value):
            if type(item) is not dict:
                raise BadRequest(_wrong(f"input.{position}", "an object", item), param=f"input.{position}")
            content = item.get("content")
            if content is None:
                continue
            piece, seen = _content_text(content, f"input.{position}.content")
            images += seen
            tokens += tokens_estimate(piece) + 4
            if item.get("role") == "user":
                text = piece
    else:
        raise BadRequest(_wrong("input", "a string or a non-empty array of items", value), param="input")
    tokens += tokens_estimate(system_text) + images * IMAGE_TOKENS_ESTIMATE
    return _Content(_prompt(members, text, system_text, turns, tokens, images), has_parts=type(value) is list)


def _read_embeddings(members: dict[str, Any]) -> _Content:
    if members.get("messages") is not None:
        return _read_chat(members)
    value = members.get("input")
    if value is None or value == []:
        raise BadRequest(_wrong("input", "a string, an array of strings, or token ids", value), param="input")
    text, tokens, _ = _texts(value, "input")
    return _Content(_prompt(members, text, "", 1, tokens, 0))


def _read_rerank(members: dict[str, Any]) -> _Content:
    for name in ("query", "documents"):
        if members.get(name) is None:
            raise BadRequest(_wrong(name, "given", None), param=name)
    return _Content(_loose_prompt(members, ("query", "documents")), has_parts=True)


def _read_score(members: dict[str, Any]) -> _Content:
    members_seen = ("text_1", "text_2", "queries", "documents", "items", "data_1", "data_2", "query")
    if not any(members.get(name) is not None for name in members_seen):
        raise BadRequest(_wrong("text_1", "given, and `text_2` with it", None), param="text_1")
    return _Content(_loose_prompt(members, members_seen), has_parts=True)


def _read_tokenize(members: dict[str, Any]) -> _Content:
    if members.get("messages") is not None:
        return _read_chat(members)
    if members.get("prompt") is None:
        raise BadRequest(_wrong("prompt", "a string (or give `messages`)", None), param="prompt")
    text, tokens, _ = _texts(members["prompt"], "prompt")
    return _Content(_prompt(members, text, "", 1, tokens, 0))


def _loose_prompt(members: dict[str, Any], names: tuple[str, ...]) -> Prompt:
    """For endpoints whose inputs come in many shapes: count the text, classify none of it."""
    tokens = 0
    for name in names:
        value = members.get(name)
        for item in value if type(value) is list else [value]:
            if type(item) is str:
                tokens += tokens_estimate(item)
            elif item is not None:
                tokens += tokens_estimate(str(item))
    return Prompt(text="", tokens_estimate=tokens)


def _texts(value: object, where: str) -> tuple[str, int, int]:
    """First text, estimated tokens in all, and number of prompts, of: text, texts, token ids, arrays of token ids."""
    if type(value) is str:
        return value, tokens_estimate(value), 1
    if value is None:
        return "", 1, 1
    if type(value) is not list or not value:
        raise BadRequest(_wrong(where, "a string, a non-empty array of strings, or token ids", value), param=where)
    if type(value[0]) is int:
        return "", len(value), 1
    text, tokens = "", 0
    for position, item in enumerate(value):
        if type(item) is str:
            text = text or item
            tokens += tokens_estimate(item)
        elif type(item) is list:
            tokens += len(item)
        else:
            raise BadRequest(_wrong(f"{where}.{position}", "a string or token ids", item), param=f"{where}.{position}")
    return text, tokens, len(value)


def _prompt(members: dict[str, Any], text: str, system_text: str, turns: int, tokens: int, images: int) -> Prompt:
    return Prompt(
        text=text[:PROMPT_TEXT_CHARACTERS],
        system_text=system_text[:SYSTEM_TEXT_CHARACTERS],
        turns=turns,
        tokens_estimate=tokens,
        has_tools=bool(members.get("tools")),
        has_json_schema=_wants_schema(members),
        has_images=images > 0,
    )


def _wants_schema(members: dict[str, Any]) -> bool:
    for name in ("response_format", "text"):
        value = members.get(name)
        if type(value) is dict:
            shape = value.get("format") if name == "text" else value
            if type(shape) is dict and shape.get("type") == "json_schema":
                return True
    return members.get("structured_outputs") is not None


def _needs(endpoint: Endpoint, members: dict[str, Any], prompt: Prompt) -> frozenset[Capability]:
    wants_logprobs = members.get("logprobs") not in (None, False) or members.get("prompt_logprobs") is not None
    wants_tools = prompt.has_tools and members.get("tool_choice") != "none"
    has_rare = endpoint is Endpoint.CHAT and not ORDINARY_MEMBERS.issuperset(members)
    if not (wants_logprobs or wants_tools or prompt.has_json_schema or prompt.has_images or has_rare):
        return _PLAIN_NEEDS[endpoint]
    needs = {Capability(endpoint.value)}
    if wants_logprobs:
        needs.add(Capability.LOGPROBS)
    if wants_tools:
        needs.add(Capability.TOOLS)
    if prompt.has_json_schema:
        needs.add(Capability.JSON_SCHEMA)
    if prompt.has_images:
        needs.add(Capability.VISION)
        if endpoint is Endpoint.CHAT and _has_image_urls(members["messages"]):
            needs.add(Capability.IMAGE_URLS)
    if has_rare:
        needs |= _rare_needs(members)
    return frozenset(needs)


def _rare_needs(members: dict[str, Any]) -> set[Capability]:
    """What the members of a chat ask for that not every provider's API has. One that changes nothing asks for nothing."""
    needs: set[Capability] = set()
    for name, value in members.items():
        if name in ORDINARY_MEMBERS or value is None:
            continue
        need, idle = _RARE_MEMBERS.get(name, (Capability.EXTENSIONS, ()))
        if value not in idle:
            needs.add(need)
    shape = members.get("response_format")
    if type(shape) is dict and shape.get("type") not in ("text", "json_schema"):
        needs.add(Capability.JSON_OBJECT)
    return needs


def _has_image_urls(messages: list[Any]) -> bool:
    for message in messages:
        content = message.get("content")
        for part in content if type(content) is list else ():
            image = part.get("image_url") if type(part) is dict else None
            url = image.get("url") if type(image) is dict else image
            if type(url) is str and not url.startswith("data:"):
                return True
    return False


# Rare members of a chat: the capability that each needs, and the values that ask for nothing.
_RARE_MEMBERS: dict[str, tuple[Capability, tuple[Any, ...]]] = {
    "n": (Capability.N, (1,)),
    "seed": (Capability.SEED, ()),
    "logit_bias": (Capability.LOGIT_BIAS, ({},)),
    "frequency_penalty": (Capability.PENALTIES, (0,)),
    "presence_penalty": (Capability.PENALTIES, (0,)),
    "logprobs": (Capability.LOGPROBS, (False,)),
    "top_logprobs": (Capability.LOGPROBS, (0,)),
    "parallel_tool_calls": (Capability.SINGLE_TOOL_CALL, (True,)),
    "reasoning_effort": (Capability.REASONING_EFFORT, ()),
    "user": (Capability.USER, ()),
    "response_format": (Capability.CHAT, ()),  # looked at for its type
}
_PLAIN_NEEDS = {endpoint: frozenset({Capability(endpoint.value)}) for endpoint in Endpoint}


def _integer(members: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise BadRequest(_wrong(name, f"an integer from {least} to {most}", value), param=name)
    return value


def _choices(members: dict[str, Any], bounds: Bounds) -> int:
    if not RARE_INTEGERS.isdisjoint(members):
        _integer(members, "best_of", 1, bounds.choices_max)
        for name in ("logprobs", "top_logprobs", "prompt_logprobs"):
            if type(members.get(name)) is not bool:
                _integer(members, name, 0, LOGPROBS_MAX)
        _integer(members, "min_tokens", 0, bounds.completion_tokens_max)
    return _integer(members, "n", 1, bounds.choices_max) or 1


def _completion_tokens_max(members: dict[str, Any], bounds: Bounds) -> int | None:
    least = 0 if members.get("echo") else 1  # evaluation harnesses ask for nothing but the prompt's log-probabilities
    found = None
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        if name in members:
            value = _integer(members, name, least, bounds.completion_tokens_max)
            found = value if found is None else found
    return found


_READERS: dict[Endpoint, Callable[[dict[str, Any]], _Content]] = {
    Endpoint.CHAT: _read_chat,
    Endpoint.COMPLETIONS: _read_completions,
    Endpoint.RESPONSES: _read_responses,
    Endpoint.MESSAGES: _read_chat,
    Endpoint.EMBEDDINGS: _read_embeddings,
    Endpoint.RERANK: _read_rerank,
    Endpoint.SCORE: _read_score,
    Endpoint.TOKENIZE: _read_tokenize,
}
