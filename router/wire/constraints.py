"""What a client may demand of an answer's shape: schemas, patterns and grammars, bounded before an engine compiles them.

vLLM compiles them for as long as it takes, and some for minutes, while others wait. So their size, their depth and how hard
their patterns are (`pattern.py`) end here. Whether they mean anything is the backend's to say.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import orjson

from router.domain.immutable import immutable
from router.errors import BadRequest
from router.wire.json_body import encode_object
from router.wire.pattern import hardness

# Members that shape an answer, of OpenAI's endpoints, Anthropic's, and vLLM's (those with `guided_` until 0.11).
CONSTRAINING = frozenset(
    {
        "response_format", "text", "tools", "functions", "output_format", "output_config", "structured_outputs",
        "structural_tag", "guided_json", "guided_regex", "guided_grammar", "guided_choice", "guided_whitespace_pattern",
    }
)  # fmt: skip
# Strings that are patterns, and strings that are JSON.
PATTERN_MEMBERS = frozenset({"pattern", "regex", "guided_regex", "whitespace_pattern", "guided_whitespace_pattern"})
JSON_TEXT_MEMBERS = frozenset({"json", "guided_json", "structural_tag", "schema"})
PASSED_MAX = 4096


@immutable
class ConstraintBounds:
    """Of one member of a request; from the server's configuration, where they are explained."""

    schema_bytes_max: int = 256 * 2**10
    schema_depth_max: int = 64
    pattern_bytes_max: int = 8 * 2**10
    pattern_nesting_max: int = 1
    pattern_states_max: int = 10_000


class Constraints:
    """Clients send the same tools and schemas again and again: what has passed is known by its digest and not looked at again."""

    def __init__(self, bounds: ConstraintBounds | None = None) -> None:
        self._bounds = bounds or ConstraintBounds()
        self._passed: set[bytes] = set()

    def check(self, members: dict[str, Any]) -> None:
        """Raises BadRequest naming the member that is too large, too deep, or has too hard a pattern."""
        for name in CONSTRAINING.intersection(members):
            if members[name] is None:
                continue
            text = encode_object({name: members[name]})
            if len(text) > self._bounds.schema_bytes_max:
                raise BadRequest(f"`{name}` is larger than {self._bounds.schema_bytes_max} bytes.", param=name)
            digest = sha256(text).digest()
            if digest in self._passed:
                continue
            _check(name, members[name], self._bounds)
            if len(self._passed) >= PASSED_MAX:
                self._passed.clear()
            self._passed.add(digest)


def _check(name: str, value: Any, bounds: ConstraintBounds) -> None:
    patterns = set(_patterns({name: value}, name, bounds.schema_depth_max))
    if sum(map(len, patterns)) > bounds.pattern_bytes_max:
        message = f"The patterns of `{name}` are longer than {bounds.pattern_bytes_max} characters together."
        raise BadRequest(message, param=name)
    for pattern in patterns:
        _check_pattern(pattern, name, bounds)


def _check_pattern(pattern: str, name: str, bounds: ConstraintBounds) -> None:
    found = hardness(pattern)
    if found.nesting > bounds.pattern_nesting_max:
        message = (
            f"A pattern in `{name}` repeats what itself repeats, as in `(a+)+`, {found.nesting} deep; at most "
            f"{bounds.pattern_nesting_max} is allowed. End each repetition with something that it cannot contain."
        )
        raise BadRequest(message, param=name)
    if found.states > bounds.pattern_states_max:
        message = f"A pattern in `{name}` spells over {bounds.pattern_states_max} characters, its counts written out."
        raise BadRequest(message, param=name)


def _patterns(value: dict[str, Any], name: str, depth_max: int) -> Iterator[str]:
    """Every pattern in it, level by level. Raises BadRequest where there are too many levels."""
    level: list[Any] = [value]
    for _ in range(depth_max + 1):
        below: list[Any] = []
        for node in level:
            if type(node) is list:
                below += [item for item in node if type(item) is dict or type(item) is list]
                continue
            for key, item in node.items():
                if type(item) is dict:
                    below.append(item)
                    if key == "patternProperties":
                        yield from item
                elif type(item) is list:
                    below.append(item)
                elif type(item) is str:
                    if key in PATTERN_MEMBERS or (key == "definition" and node.get("syntax") == "regex"):
                        yield item
                    elif key in JSON_TEXT_MEMBERS:
                        below += _from_text(item)
        if not below:
            return
        level = below
    raise BadRequest(f"`{name}` is nested deeper than {depth_max} levels.", param=name)


def _from_text(text: str) -> list[Any]:
    """A schema that was written as text; what is none is the backend's to refuse."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    return [value] if type(value) is dict or type(value) is list else []
