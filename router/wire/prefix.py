"""Marks along a prompt, by which the same beginning is known again: at the end of each message and of stretches of long ones.

A mark is a hash of the new text, seeded with the mark before it, so equal marks mean equal text until there. Of a long text not
every character is hashed, but its length, its beginning and its end: a conversation of a megabyte costs as many hashes as it has
messages, not a pass over the megabyte. Two texts that differ only in the middle are taken for the same; the price of that error
is a forecast that was too good.

Marks are the same in every worker and on every host that has the same secret, so that workers can tell one another of them. The
first seed is a keyed BLAKE2b of the tenant's salt: nobody without the secret knows a tenant's seed, hence nobody can aim at
another's mark, or find out whether another's text is known. Along the way XXH3 does, which is quick and no more than that.
"""

import hmac
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from xxhash import xxh3_64_intdigest

from router.domain.request import Endpoint, PrefixMark
from router.wire.prompts import IMAGE_TOKENS_ESTIMATE, IMAGE_TYPES

# A shorter prompt is computed in less time than looking for a replica is worth.
TOKENS_MIN = 512
STRETCH_CHARACTERS = 4096
EDGE_CHARACTERS = 192
MARKS_MAX = 512
MESSAGE_TOKENS = 4
# Changed whenever the same text gets other marks than before: workers of either kind then keep apart.
MARKS_VERSION = 2


def marks_secret(pepper: bytes) -> bytes:
    """What marks are keyed with, of what all workers have in common."""
    return hmac.digest(pepper, b"jeton prefix marks %d" % MARKS_VERSION, "sha256")


def prefix_marks(endpoint: Endpoint, members: dict[str, Any], salt: str, secret: bytes) -> tuple[PrefixMark, ...]:
    """salt: the tenant's, as the backend gets it (`outgoing.cache_salt`). secret: of `marks_secret`. Empty where there is no
    text to mark."""
    if endpoint is Endpoint.COMPLETIONS:
        prompt = members.get("prompt")
        texts = [("", prompt, 0)] if type(prompt) is str else []
    else:
        texts = _turns(members)
    marks: list[PrefixMark] = []
    tools = members.get("tools")
    key = _seed(secret, salt, str(members.get("model")), len(tools) if type(tools) is list else 0)
    tokens = 0
    for head, text, images in texts:
        tokens += images * IMAGE_TOKENS_ESTIMATE
        for start in range(0, max(len(text), 1), STRETCH_CHARACTERS):
            stretch = text[start : start + STRETCH_CHARACTERS]
            characters = len(stretch)
            if characters > 2 * EDGE_CHARACTERS:
                stretch = stretch[:EDGE_CHARACTERS] + stretch[-EDGE_CHARACTERS:]
            # orjson refuses lone surrogates, so that all of it can be encoded.
            key = xxh3_64_intdigest((head + stretch).encode(), key ^ characters)
            head = ""
            tokens += characters // 4
            marks.append(PrefixMark(key, tokens + MESSAGE_TOKENS))
            if len(marks) == MARKS_MAX:
                return tuple(marks)
        tokens += MESSAGE_TOKENS
    return tuple(marks)


@lru_cache(maxsize=4096)
def _seed(secret: bytes, salt: str, model: str, tools: int) -> int:
    named = "\0".join((salt, str(tools), model))
    return int.from_bytes(blake2b(named.encode(), key=secret, digest_size=8).digest(), "big")


def _turns(members: dict[str, Any]) -> list[tuple[str, str, int]]:
    """In the order of the prompt: (role, and what names each image; text; images)."""
    turns: list[tuple[str, str, int]] = []
    for name in ("system", "instructions"):
        head = members.get(name)
        if head is not None:
            turns.append(_turn("system", head))
    messages = members.get("messages")
    if messages is None:
        messages = members.get("input")
        if type(messages) is str:
            return [*turns, _turn("user", messages)]
    if type(messages) is list:
        for message in messages:
            if type(message) is dict:
                role = message.get("role")
                turns.append(_turn(role if type(role) is str else "", message.get("content")))
    return turns


def _turn(role: str, content: object) -> tuple[str, str, int]:
    """An image is as many tokens as it is estimated to be, however long its address or its data: those are hashed."""
    head = role + "\0"
    if type(content) is str:
        return head, content, 0
    if type(content) is not list:
        return head, "", 0
    texts: list[str] = []
    images = 0
    for part in content:
        if type(part) is str:
            texts.append(part)
        elif type(part) is dict:
            text = part.get("text")
            if type(text) is str:
                texts.append(text)
            kind = part.get("type")
            if type(kind) is str and kind in IMAGE_TYPES:
                images += 1
                head += f"{xxh3_64_intdigest(_address(part).encode()):x}\0"
    return head, "\n".join(texts), images


def _address(part: dict[str, Any]) -> str:
    """Of an image: where it is, or itself."""
    image = part.get("image_url") or part.get("video_url") or part.get("source")
    if type(image) is dict:
        image = image.get("url") or image.get("data")
    return image if type(image) is str else ""
