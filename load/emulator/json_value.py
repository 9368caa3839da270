"""A value that satisfies a JSON schema, drawn from a seed: what a model under guided decoding would write.

Pure. Covers the keywords that structured-output backends accept: types, enum, const, properties, required, items, lengths,
ranges, patterns, formats, anyOf/oneOf/allOf, $ref. Numbers and quoted words that the prompt offers are preferred, so that a
tool called about "city 3" is called with 3. Optional properties are written too, as guided models mostly do.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from load.emulator.errors import bad_request
from load.emulator.pattern import text_matching
from load.emulator.words import ADJECTIVES, NOUNS

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
DEPTH_MAX = 12
FORMATS = {
    "date": "2026-11-23",
    "time": "06:20:36Z",
    "date-time": "2026-11-23T06:20:36Z",
    "duration": "PT90S",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uuid": "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    "uri": "https://example.com/",
    "url": "https://example.com/",
}


@dataclass
class Hints:
    """What the prompt offers to be used as values; each is used once, in order."""

    integers: list[int] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> "Hints":
        integers = [int(number) for number in re.findall(r"(?<![\w.])-?\d{1,15}(?![\w.]\d)", text)]
        return cls(integers, [word for word in re.findall(r"[\"“”]([^\"“”\n]{1,80})[\"“”]", text) if word])


def check_schema(schema: object) -> None:
    """Raises vLLM's grammar error where a type is none. Other nonsense is read as "anything"."""
    if isinstance(schema, Mapping):
        named = schema.get("type")
        for name in named if isinstance(named, list) else [named]:
            if isinstance(name, str) and name not in TYPES:
                raise bad_request(f"Grammar error: Invalid type: {name}")
        for key, part in schema.items():
            if key not in ("enum", "const", "default", "examples"):
                if key in ("properties", "patternProperties", "$defs", "definitions") and isinstance(part, Mapping):
                    for inner in part.values():
                        check_schema(inner)
                else:
                    check_schema(part)
    elif isinstance(schema, list):
        for part in schema:
            check_schema(part)


def value_for(schema: object, random: Random, hints: Hints | None = None) -> Any:
    """A value for the schema. A schema that admits nothing gets its nearest miss; the caller does not learn of it."""
    return _Sampler(schema, random, hints or Hints()).value(schema, 0)


class _Sampler:
    def __init__(self, root: object, random: Random, hints: Hints) -> None:
        self._root = root
        self._random = random
        self._hints = hints

    def value(self, schema: object, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return self._anything()
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._random.choice(schema["enum"])
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self._alternative(schema, schema[key], depth)
        kind = schema.get("type") or self._implied_type(schema)
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        draw = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
        }.get(kind)
        if draw is not None:
            return draw(schema, depth)
        return {"boolean": self._random.random() < 0.5, "null": None}.get(kind, self._anything())

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Follow $ref and fold allOf into one schema."""
        for _ in range(DEPTH_MAX):
            reference = schema.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#"):
                break
            target: Any = self._root
            for step in reference.lstrip("#/").split("/"):
                key = step.replace("~1", "/").replace("~0", "~")
                target = target.get(key, {}) if isinstance(target, Mapping) and step else target
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**target, **rest} if isinstance(target, Mapping) else rest
        if not schema.get("allOf"):
            return schema
        folded = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            if isinstance(part, Mapping):
                part = self._resolve(part)
                for key, value in part.items():
                    folded[key] = self._fold(key, folded[key], value) if key in folded else value
        return folded

    @staticmethod
    def _fold(key: str, ours: Any, theirs: Any) -> Any:
        if key in ("properties", "$defs") and isinstance(ours, Mapping):
            return {**ours, **theirs}
        if key == "required":
            return list(dict.fromkeys([*ours, *theirs]))
        if key in ("minimum", "minLength", "minItems", "exclusiveMinimum"):
            return max(ours, theirs)
        if key in ("maximum", "maxLength", "maxItems", "exclusiveMaximum"):
            return min(ours, theirs)
        return theirs

    def _alternative(self, schema: Mapping[str, Any], options: Sequence[Any], depth: int) -> Any:
        common = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
        real = [option for option in options if not (isinstance(option, Mapping) and option.get("type") == "null")]
        if depth >= DEPTH_MAX or not real:
            real = list(options)
        chosen = real[0] if depth >= DEPTH_MAX // 2 else self._random.choice(real)
        if not isinstance(chosen, Mapping):
            return self._anything()
        merged = {"allOf": [common, chosen]} if common.keys() - {"title", "description", "default"} else chosen
        return self.value(merged, depth + 1)

    @staticmethod
    def _implied_type(schema: Mapping[str, Any]) -> str:
        if schema.keys() & {"properties", "required", "additionalProperties"}:
            return "object"
        if schema.keys() & {"items", "prefixItems", "minItems"}:
            return "array"
        if schema.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}:
            return "number"
        return "string"

    def _anything(self) -> str:
        return f"{self._random.choice(ADJECTIVES)} {self._random.choice(NOUNS)}"

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        names = [name for name in properties if name in required or depth < DEPTH_MAX // 2]
        names += [name for name in required if name not in properties]
        value = {name: self.value(properties.get(name, self._extra(schema)), depth + 1) for name in names}
        while len(value) < schema.get("minProperties", 0):
            value[f"{self._random.choice(NOUNS)}_{len(value)}"] = self.value(self._extra(schema), depth + 1)
        return value

    @staticmethod
    def _extra(schema: Mapping[str, Any]) -> object:
        extra = schema.get("additionalProperties")
        return extra if isinstance(extra, Mapping) else {"type": "string"}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        prefix = schema.get("prefixItems") or []
        items = [self.value(part, depth + 1) for part in prefix]
        fewest = int(schema.get("minItems", 0))
        wanted = max(fewest, len(items), 0 if depth >= DEPTH_MAX // 2 else min(2, int(schema.get("maxItems", 2))))
        if schema.get("items") is False:
            wanted = len(items)
        attempts = 0
        while len(items) < wanted and attempts < 50 * wanted:
            attempts += 1
            item = self.value(schema.get("items", {"type": "string"}), depth + 1)
            if not schema.get("uniqueItems") or item not in items:
                items.append(item)
        return items

    def _string(self, schema: Mapping[str, Any], depth: int) -> str:
        shortest, longest = int(schema.get("minLength", 0)), int(schema.get("maxLength", 10**6))
        if isinstance(schema.get("pattern"), str):
            return text_matching(schema["pattern"], self._random, shortest, longest)
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]]
        if self._hints.words and shortest <= len(self._hints.words[0]) <= longest:
            return self._hints.words.pop(0)
        text = self._anything()
        while len(text) < shortest:
            text = f"{text} {self._random.choice(NOUNS)}"
        return text[:longest]

    def _bounds(self, schema: Mapping[str, Any], unit: float) -> tuple[float, float]:
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        for key, step in (("exclusiveMinimum", unit), ("exclusiveMaximum", -unit)):
            bound = schema.get(key)
            if isinstance(bound, int | float) and not isinstance(bound, bool):
                low, high = (max(low, bound + step), high) if step > 0 else (low, min(high, bound + step))
        if low == -math.inf:
            low = min(0, high - 100) if high < math.inf else 0
        return low, high if high < math.inf else low + 100

    def _integer(self, schema: Mapping[str, Any], depth: int) -> int:
        low, high = (math.ceil(self._bounds(schema, 1)[0]), math.floor(self._bounds(schema, 1)[1]))
        multiple = int(schema.get("multipleOf", 1)) or 1
        for position, offered in enumerate(self._hints.integers):
            is_bounded = schema.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
            if (low <= offered <= high or not is_bounded) and offered % multiple == 0:
                return self._hints.integers.pop(position)
        return multiple * self._random.randint(
            math.ceil(low / multiple), max(math.ceil(low / multiple), high // multiple)
        )

    def _number(self, schema: Mapping[str, Any], depth: int) -> float:
        multiple = schema.get("multipleOf")
        if self._hints.integers or (multiple and float(multiple).is_integer()):
            return self._integer(schema, depth)
        low, high = self._bounds(schema, 0.01)
        if multiple:
            return float(multiple * math.ceil(low / multiple))
        return min(max(round(self._random.uniform(low, high), 2), low), high)
