"""The prompt in a body, of whatever endpoint: its text as far as it is classified, and how long it is, as nearly as can be told
without a tokenizer.
"""

from collections.abc import Callable
from typing import Any

from router.domain.immutable import immutable
from router.domain.request import Endpoint, Prompt
from router.wire.json_body import encode_object, wrong_member

# Clipped before classification, so that a long prompt costs no more than a short one.
PROMPT_TEXT_CHARACTERS = 4096
SYSTEM_TEXT_CHARACTERS = 1024
# What an image costs in language tokens when nothing else is known: a 512 × 512 tile at OpenAI's published 170 + 85.
IMAGE_TOKENS_ESTIMATE = 255
# Parts that must be seen, that must be heard, and others whose tokens are not in the body either.
IMAGE_TYPES = frozenset({"image_url", "image", "input_image", "video_url", "video", "input_video"})
AUDIO_TYPES = frozenset({"input_audio", "audio_url", "audio"})
FILE_TYPES = frozenset({"file", "input_file", "document", "container_upload", "item_reference"})
# Members of the Responses API by which a backend adds what it has kept.
KEPT_MEMBERS = frozenset({"previous_response_id", "conversation", "prompt"})


@immutable
class Content:
    """What an endpoint's body says. parallel_prompts: how many are answered each for itself. has_parts: it is more than text, or
    may be."""

    prompt: Prompt
    parallel_prompts: int = 1
    has_parts: bool = False


class _Beside:
    """What stands beside the text of a prompt. attached: tokens of tools' calls and results."""

    __slots__ = ("attached", "has_audio", "has_files", "images")

    def __init__(self) -> None:
        self.images = self.attached = 0
        self.has_audio = self.has_files = False


def tokens_estimate(text: str) -> int:
    """About four characters a token in English (OpenAI's rule of thumb); three bytes where the script is not Latin."""
    return len(text) // 4 + 1 if text.isascii() else len(text.encode()) // 3 + 1


def _read_chat(members: dict[str, Any]) -> Content:
    messages = members.get("messages")
    if type(messages) is not list or not messages:
        raise wrong_member("messages", "a non-empty array of messages", messages)
    system_text = last_text = ""
    tokens = 0
    beside = _Beside()
    has_parts = False
    system = members.get("system")  # Anthropic's place for it
    if system is not None:
        has_parts = type(system) is not str
        system_text = _content_text(system, "system", beside)
        tokens += tokens_estimate(system_text)
    for position, message in enumerate(messages):
        if type(message) is not dict:
            raise wrong_member(f"messages.{position}", "an object", message)
        content = message.get("content")
        if message.get("tool_calls"):
            beside.attached += _json_tokens(message["tool_calls"])
        if type(content) is str:
            text = content
        elif content is None:
            continue
        else:
            text = _content_text(content, f"messages.{position}.content", beside)
            has_parts = True
        tokens += tokens_estimate(text) + 4
        role = message.get("role")
        if role == "user":
            last_text = text
        elif role in ("system", "developer") and not system_text:
            system_text = text
    prompt = _prompt(members, last_text, system_text, len(messages), tokens, beside)
    return Content(prompt, has_parts=has_parts)


def _content_text(content: object, where: str, beside: _Beside) -> str:
    """The text of a message's content; what stands beside it is noted."""
    if type(content) is str:
        return content
    if type(content) is not list:
        raise wrong_member(where, "a string or an array of parts", content)
    texts: list[str] = []
    for part in content:
        if type(part) is str:
            texts.append(part)
        elif type(part) is dict:
            text = part.get("text")
            if type(text) is str:
                texts.append(text)
            kind = part.get("type")
            if type(kind) is not str or kind == "text":
                continue
            if kind in IMAGE_TYPES:
                beside.images += 1
            elif kind in AUDIO_TYPES:
                beside.has_audio = True
            elif kind in FILE_TYPES:
                beside.has_files = True
            elif kind == "tool_use":
                beside.attached += _json_tokens(part.get("input"))
            elif kind == "tool_result" and part.get("content") is not None:
                beside.attached += tokens_estimate(_content_text(part["content"], where, beside))
    return "\n".join(texts)


def _json_tokens(value: object) -> int:
    """Of what is written as JSON into the prompt, or something like it."""
    return len(encode_object({"": value})) // 4


def _read_completions(members: dict[str, Any]) -> Content:
    prompt: Any = members.get("prompt")
    if prompt is None and members.get("prompt_embeds") is None:
        raise wrong_member("prompt", "a string, an array of strings, or token ids", prompt)
    text, tokens, count = _texts(prompt, "prompt")
    return Content(_prompt(members, text, "", 1, tokens, _Beside()), parallel_prompts=count)


def _read_responses(members: dict[str, Any]) -> Content:
    value = members.get("input")
    background = members.get("background")
    if background is not None and background is not False:  # it would be billed, and told to nobody here
        raise wrong_member(
            "background",
            "false or left out, for what is made in the background can be neither fetched nor charged here",
            background,
        )
    instructions = members.get("instructions")
    system_text = instructions if type(instructions) is str else ""
    beside = _Beside()
    beside.has_files = any(members.get(name) is not None for name in KEPT_MEMBERS)
    if type(value) is str:
        text, turns, tokens = value, 1, tokens_estimate(value)
    elif type(value) is list and value:
        text, turns, tokens = "", len(value), 0
        for position, item in enumerate(value):
            if type(item) is not dict:
                raise wrong_member(f"input.{position}", "an object", item)
            for name in ("arguments", "output"):  # of a tool's call and its result
                if item.get(name) is not None:
                    beside.attached += _json_tokens(item[name])
            kind = item.get("type")
            if type(kind) is str and kind in FILE_TYPES:
                beside.has_files = True
            content = item.get("content")
            if content is None:
                continue
            piece = _content_text(content, f"input.{position}.content", beside)
            tokens += tokens_estimate(piece) + 4
            if item.get("role") == "user":
                text = piece
    else:
        raise wrong_member("input", "a string or a non-empty array of items", value)
    tokens += tokens_estimate(system_text)
    return Content(_prompt(members, text, system_text, turns, tokens, beside), has_parts=type(value) is list)


def _read_embeddings(members: dict[str, Any]) -> Content:
    if members.get("messages") is not None:
        return _read_chat(members)
    value = members.get("input")
    if value is None or value == []:
        raise wrong_member("input", "a string, an array of strings, or token ids", value)
    text, tokens, _ = _texts(value, "input")
    return Content(_prompt(members, text, "", 1, tokens, _Beside()))


def _read_rerank(members: dict[str, Any]) -> Content:
    for name in ("query", "documents"):
        if members.get(name) is None:
            raise wrong_member(name, "given", None)
    return Content(_loose_prompt(members, ("query", "documents")), has_parts=True)


def _read_score(members: dict[str, Any]) -> Content:
    members_seen = ("text_1", "text_2", "queries", "documents", "items", "data_1", "data_2", "query")
    if not any(members.get(name) is not None for name in members_seen):
        raise wrong_member("text_1", "given, and `text_2` with it", None)
    return Content(_loose_prompt(members, members_seen), has_parts=True)


def _read_tokenize(members: dict[str, Any]) -> Content:
    if members.get("messages") is not None:
        return _read_chat(members)
    if members.get("prompt") is None:
        raise wrong_member("prompt", "a string (or give `messages`)", None)
    text, tokens, _ = _texts(members["prompt"], "prompt")
    return Content(_prompt(members, text, "", 1, tokens, _Beside()))


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
        raise wrong_member(where, "a string, a non-empty array of strings, or token ids", value)
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
            raise wrong_member(f"{where}.{position}", "a string or token ids", item)
    return text, tokens, len(value)


def _prompt(members: dict[str, Any], text: str, system_text: str, turns: int, tokens: int, beside: _Beside) -> Prompt:
    tools = members.get("tools")
    if tools:
        beside.attached += _json_tokens(tools)
    return Prompt(
        text=text[:PROMPT_TEXT_CHARACTERS],
        system_text=system_text[:SYSTEM_TEXT_CHARACTERS],
        turns=turns,
        tokens_estimate=tokens + beside.attached + beside.images * IMAGE_TOKENS_ESTIMATE,
        attached_tokens_estimate=beside.attached,
        has_tools=bool(tools),
        has_json_schema=_wants_schema(members),
        has_images=beside.images > 0,
        has_audio=beside.has_audio,
        has_files=beside.has_files,
    )


def _wants_schema(members: dict[str, Any]) -> bool:
    for name in ("response_format", "text"):
        value = members.get(name)
        if type(value) is dict:
            shape = value.get("format") if name == "text" else value
            if type(shape) is dict and shape.get("type") == "json_schema":
                return True
    return members.get("structured_outputs") is not None


READERS: dict[Endpoint, Callable[[dict[str, Any]], Content]] = {
    Endpoint.CHAT: _read_chat,
    Endpoint.COMPLETIONS: _read_completions,
    Endpoint.RESPONSES: _read_responses,
    Endpoint.MESSAGES: _read_chat,
    Endpoint.EMBEDDINGS: _read_embeddings,
    Endpoint.RERANK: _read_rerank,
    Endpoint.SCORE: _read_score,
    Endpoint.TOKENIZE: _read_tokenize,
}
