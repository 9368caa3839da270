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

# A shorter prompt is computed in less time than looking for a replica is worth.
TOKENS_MIN = 512
STRETCH_CHARACTERS = 4096
EDGE_CHARACTERS = 192
MARKS_MAX = 512
MESSAGE_TOKENS = 4
# Changed whenever the same text gets other marks than before: workers of either kind then keep apart.
MARKS_VERSION = 1


def marks_secret(pepper: bytes) -> bytes:
    """What marks are keyed with, of what all workers have in common."""
    return hmac.digest(pepper, b"jeton prefix marks %d" % MARKS_VERSION, "sha256")


def prefix_marks(endpoint: Endpoint, members: dict[str, Any], salt: str, secret: bytes) -> tuple[PrefixMark, ...]:
    """salt: the tenant's, as the backend gets it (`outgoing.cache_salt`). secret: of `marks_secret`. Empty where there is no
    text to mark."""
    if endpoint is Endpoint.COMPLETIONS:
        prompt = members.get("prompt")
        texts = [("", prompt)] if type(prompt) is str else []
    else:
        texts = _turns(members)
    marks: list[PrefixMark] = []
    key = _seed(secret, salt, str(members.get("model")), len(members.get("tools") or ()))
    tokens = 0
    for role, text in texts:
        head = role + "\0"
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


def _turns(members: dict[str, Any]) -> list[tuple[str, str]]:
    """(role, text) in the order of the prompt."""
    turns: list[tuple[str, str]] = []
    for name in ("system", "instructions"):
        head = members.get(name)
        if head is not None:
            turns.append(("system", _text(head)))
    messages = members.get("messages")
    if messages is None:
        messages = members.get("input")
        if type(messages) is str:
            return [*turns, ("user", messages)]
    if type(messages) is list:
        for message in messages:
            if type(message) is dict:
                role = message.get("role")
                turns.append((role if type(role) is str else "", _text(message.get("content"))))
    return turns


def _text(content: object) -> str:
    if type(content) is str:
        return content
    if type(content) is not list:
        return ""
    return "\n".join(
        part
        if type(part) is str
        else str(part.get("text") or part.get("image_url") or "")
        if type(part) is dict
        else ""
        for part in content
    )
