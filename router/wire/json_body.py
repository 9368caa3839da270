"""From a body's bytes to one JSON object, refusing what would hang, swamp or split us.

orjson refuses NaN, infinities, lone surrogates, bad UTF-8, trailing text and more than 1,024 levels by itself. It does not
bound the number of members and arrays: a million of them in 12 MB block the event loop for 373 ms, so they are counted before.
"""

import json
from collections.abc import Iterator
from typing import Any

import orjson

from router.errors import BadRequest

# An integer of 19 digits or more may exceed 64 bits, where orjson would turn it into a float. Every digit mapped to 0, such a
# run is found by one substring search.
DIGITS_AS_ZERO = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x2E for byte in range(256))
LONG_INTEGER = b"0" * 19

# Below this size the members that fit cannot block for 20 ms, so nobody counts them.
KEY_COUNT_BYTES_MIN = 128 * 2**10
KEY_COUNT_STEP_BYTES = 64 * 2**10


def key_counts(body: bytes) -> Iterator[int]:
    """Members, objects and arrays counted so far, after each 64 KB, so that a caller can refuse early and let the event loop
    breathe between.

    Colons and opening brackets outside strings are counted; strings are told by splitting at the quotes that no backslash
    escapes.
    """
    keys = 0
    is_inside_string = False
    carry = b""
    for start in range(0, len(body), KEY_COUNT_STEP_BYTES):
        piece = carry + body[start : start + KEY_COUNT_STEP_BYTES]
        kept = piece.rstrip(b"\\")  # an escape must not be cut in two: runs of backslashes stay together
        carry = piece[len(kept) :]
        segments = kept.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        for segment in segments[1 if is_inside_string else 0 :: 2]:
            keys += segment.count(b":") + segment.count(b"[") + segment.count(b"{")
        if len(segments) % 2 == 0:
            is_inside_string = not is_inside_string
        yield keys


def parse_object(body: bytes) -> dict[str, Any]:
    """The body as one JSON object. Of a member given twice the last value counts, here and (re-encoded) at the backend.

    Raises BadRequest saying what is wrong and at which byte.
    """
    if not body:
        raise BadRequest("The request has no body; send a JSON object.", param=None)
    try:
        members = orjson.loads(body)
        if LONG_INTEGER in body.translate(DIGITS_AS_ZERO):
            members = json.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(_what_is_wrong(body, error)) from None
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(members, dict):
        raise BadRequest(f"The body must be a JSON object, not {_kind(members)}.")
    return members


def _what_is_wrong(body: bytes, error: orjson.JSONDecodeError) -> str:
    """Of a body in another encoding orjson says surrogates, and where it began to read."""
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        return f"The body is not valid JSON: it is not UTF-8 at byte {fault.start}."
    return f"The body is not valid JSON: {error.msg} at character {error.pos}."


def encode_object(members: dict[str, Any]) -> bytes:
    """The reverse. Integers beyond 64 bits survive, which orjson alone cannot write."""
    try:
        return orjson.dumps(members)
    except TypeError:
        return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()


def wrong_member(name: str, right: str, value: object) -> BadRequest:
    """The refusal of a member. Only numbers and booleans are quoted: the rest may be a prompt."""
    if value is None:
        got = "missing"
    elif isinstance(value, bool | int | float):
        got = f"{_kind(value)}, {orjson.dumps(value).decode() if abs(value) < 2**63 else 'too large'}"
    else:
        got = _kind(value) if value else "empty"
    return BadRequest(f"`{name}` must be {right}; it is {got}.", param=name)


def _kind(value: object) -> str:
    names = {
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
        int: "a number",
        float: "a number",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)
