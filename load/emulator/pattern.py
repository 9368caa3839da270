"""A text that a regular expression matches, drawn from a seed.

Pure. Reads the subset that JSON schemas use: literals, classes, escapes, groups, alternation and counted repetition. What lies
outside it (look-around, back-references) is skipped over, so such a pattern gets its nearest miss.
"""

import re
from random import Random

_CLASSES = {"d": "0123456789", "w": "abcdefghijklmnopqrstuvwxyz_", "s": " "}
_ANY = "abcdefghijklmnopqrstuvwxyz"
_PRINTABLE = [chr(code) for code in range(32, 127)]
_REPEAT_EXTRA = 3  # how far an open repetition goes beyond its least
_QUANTIFIER = re.compile(r"\*|\+|\?|\{(\d+)(,(\d*))?\}")


def text_matching(pattern: str, random: Random, shortest: int = 0, longest: int = 10**6) -> str:
    """A text for the pattern, within the lengths where open repetitions allow it."""
    text = ""
    for extra in (0, 1, _REPEAT_EXTRA, 10, 100, 1000):
        text = _Reader(pattern, random, extra).alternatives()
        if shortest <= len(text) <= longest:
            break
    return text


class _Reader:
    """Recursive descent over the pattern, writing the text as it goes. `extra` lengthens every open repetition."""

    def __init__(self, pattern: str, random: Random, extra: int) -> None:
        self._pattern = pattern
        self._position = 0
        self._random = random
        self._extra = extra

    def alternatives(self) -> str:
        options = [self._sequence()]
        while self._peek() == "|":
            self._position += 1
            options.append(self._sequence())
        return self._random.choice(options)

    def _peek(self) -> str:
        return self._pattern[self._position : self._position + 1]

    def _take(self) -> str:
        character = self._peek()
        self._position += 1
        return character

    def _sequence(self) -> str:
        parts: list[str] = []
        while self._peek() not in ("", "|", ")"):
            start = self._position
            part = self._atom()
            end = self._position
            match = _QUANTIFIER.match(self._pattern, end)
            if match is None:
                parts.append(part)
                continue
            for _ in range(self._count(match)):
                self._position = start  # read the atom again for each repetition, so that repetitions differ
                parts.append(self._atom())
            self._position = match.end()
            if self._peek() in ("?", "+"):
                self._position += 1  # lazy and possessive match the same texts
        return "".join(parts)

    def _count(self, match: re.Match[str]) -> int:
        symbol = match.group()
        least = {"*": 0, "+": 1, "?": 0}.get(symbol, int(match.group(1) or 0))
        if symbol == "?":
            return self._random.randint(0, 1)
        if match.group(1) is not None and match.group(2) is None:
            return least
        most = int(match.group(3)) if match.group(3) else least + max(self._extra, 1)
        return min(most, least + self._extra) if least else min(most, max(1, self._extra))

    def _atom(self) -> str:
        character = self._take()
        if character == "(":
            if self._peek() == "?":
                self._position += 1
                if self._peek() == "P":
                    self._position += 1
                if self._peek() == "<":
                    self._position = self._pattern.index(">", self._position) + 1
                else:
                    self._position += 1
            text = self.alternatives()
            self._position += 1
            return text
        if character == "[":
            return self._random.choice(self._class())
        if character == ".":
            return self._random.choice(_ANY)
        if character in "^$":
            return ""
        if character == "\\":
            return self._escaped()
        return character

    def _escaped(self) -> str:
        character = self._take()
        if character in _CLASSES:
            return self._random.choice(_CLASSES[character])
        if character.lower() in _CLASSES:
            return self._random.choice([other for other in "-.a7 " if other not in _CLASSES[character.lower()]])
        if character in "bBAzZ":
            return ""
        if character == "u":
            code, self._position = self._pattern[self._position : self._position + 4], self._position + 4
            return chr(int(code, 16))
        return {"n": "\n", "t": "\t", "r": "\r"}.get(character, character)

    def _class(self) -> list[str]:
        is_negated = self._peek() == "^"
        self._position += is_negated
        members: list[str] = []
        while self._peek() not in ("", "]") or not members:
            character = self._take()
            if character == "\\":
                escape = self._peek()
                if escape in _CLASSES:
                    self._position += 1
                    members += _CLASSES[escape]
                    continue
                character = self._escaped()
            if self._peek() == "-" and self._pattern[self._position + 1 : self._position + 2] not in ("", "]"):
                self._position += 1
                last = self._take()
                if last == "\\":
                    last = self._escaped()
                members += [chr(code) for code in range(ord(character), min(ord(last), ord(character) + 200) + 1)]
            else:
                members.append(character)
        self._position += 1
        if is_negated:
            return [character for character in _PRINTABLE if character not in members] or ["~"]
        return members
