"""Marks along a prompt, by which the same beginning is known again: at the end of each message and of stretches of long ones.

A mark is a hash over the one before it and the new text, so equal marks mean equal text until there. Of a long text not every
character is hashed, but its length, its beginning and its end: a conversation of a megabyte costs as many hashes as it has
messages, not a pass over the megabyte. Two texts that differ only in the middle are taken for the same; the price of that error
is a forecast that was too good. The hash is Python's own, keyed anew in every process: marks mean nothing outside of it, and
nobody can aim at one.
"""

from typing import Any

from router.domain.request import Endpoint, PrefixMark

# A shorter prompt is computed in less time than looking for a replica is worth.
TOKENS_MIN = 512
STRETCH_CHARACTERS = 4096
EDGE_CHARACTERS = 192
MARKS_MAX = 512
MESSAGE_TOKENS = 4


def prefix_marks(endpoint: Endpoint, members: dict[str, Any], salt: str) -> tuple[PrefixMark, ...]:
    """salt: the tenant's, as the backend gets it (`outgoing.cache_salt`). Empty where there is no text to mark."""
    if endpoint is Endpoint.COMPLETIONS:
        prompt = members.get("prompt")
        texts = [("", prompt)] if type(prompt) is str else []
    else:
        texts = _turns(members)
    marks: list[PrefixMark] = []
    key = hash((salt, members.get("model"), len(members.get("tools") or ())))
    tokens = 0
    for role, text in texts:
        key = hash((key, role))
        length = len(text)
        for start in range(0, max(length, 1), STRETCH_CHARACTERS):
            end = min(start + STRETCH_CHARACTERS, length)
            if end - start > 2 * EDGE_CHARACTERS:
                key = hash((key, end - start, text[start : start + EDGE_CHARACTERS], text[end - EDGE_CHARACTERS : end]))
            else:
                key = hash((key, text[start:end]))
            tokens += (end - start) // 4
            marks.append(PrefixMark(key, tokens + MESSAGE_TOKENS))
            if len(marks) == MARKS_MAX:
                return tuple(marks)
        tokens += MESSAGE_TOKENS
    return tuple(marks)


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
