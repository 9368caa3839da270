"""How hard a regular expression is to hold an answer to, told without running it.

Two things are measured. *nesting*: how deep repetitions lie inside repetitions such that one text can be cut in many ways, as
in `(a+)+`; each level multiplies the ways, which hangs whoever searches them. A repetition that is kept apart by something it
cannot contain itself, as in `([a-z]+-)*`, does not count. *states*: how many characters it spells once counted repetitions
are written out, as in `((a{9}){9}){9}`, which is what an automaton is built of.

Read are the dialects of Python, ECMAScript and Rust together, leniently: what is no expression is the backend's to refuse. Not
seen: automata that explode for other reasons, such as `[ab]*a[ab]{30}`; since GHSA-rwxx-mrjm-wc2m vLLM itself gives up compiling
a pattern after `VLLM_REGEX_COMPILATION_TIMEOUT_S`.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

# A set of characters is a bit for each of ASCII, and for the rest one each of letters and digits, of spaces, of all others.
_ASCII = 128
_LETTERS, _SPACES, _OTHERS = 1 << _ASCII, 2 << _ASCII, 4 << _ASCII
_ALL = (8 << _ASCII) - 1
_UNBOUNDED = 1 << 62
# Deeper parentheses than this are taken for a nesting of their own: no person writes them, and reading them recurses.
GROUPS_MAX = 60
_QUANTIFIER = re.compile(r"\*|\+|\?|\{(\d*)(,(\d*))?\}")
_GROUP = re.compile(r"\?(?:P?<[A-Za-z_][^>]*>|P=\w+|[#:>]|(?P<look><?[=!])|[a-zA-Z-]+:?)")
_IGNORES_CASE = re.compile(r"\(\?[a-zA-Z]*i")


def _set(characters: str) -> int:
    return sum(1 << ord(character) for character in set(characters))


_DIGITS = _set("0123456789")
_LOWER = _set("abcdefghijklmnopqrstuvwxyz")
_UPPER = _LOWER >> 32
_WORD = _DIGITS | _LOWER | _UPPER | _set("_") | _LETTERS
_SPACE = _set(" \t\n\r\f\v") | _SPACES
# Of what is not ASCII, dialects differ in what they count among the digits and the letters: both sides get it.
_CLASSES = {
    "d": _DIGITS | _LETTERS,
    "D": _ALL & ~_DIGITS,
    "w": _WORD,
    "W": _ALL & ~_WORD | _LETTERS,
    "s": _SPACE,
    "S": _ALL & ~_SPACE,
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_ZERO_WIDTH = frozenset("bBAZzG")


class Hardness(NamedTuple):
    nesting: int
    states: int


class _Item(NamedTuple):
    """Something and how often it comes. characters: that it may hold; varying: those that it holds in varying number.

    inner: what a group without alternatives stands for when it comes once, so that it can be seen through.
    """

    characters: int
    varying: int
    nesting: int
    states: int
    least: int = 1
    most: int = 1
    inner: "Sequence[_Item] | None" = None

    @property
    def varies(self) -> bool:
        return self.least != self.most


@lru_cache(maxsize=1024)
def hardness(pattern: str) -> Hardness:
    """Takes some two microseconds a character, and little where the same pattern was seen before."""
    whole = _Reader(pattern).group(0)
    return Hardness(whole.nesting, whole.states)


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._ignores_case = _IGNORES_CASE.search(pattern) is not None

    def group(self, depth: int) -> _Item:
        """Alternatives up to the closing parenthesis or the end."""
        if depth > GROUPS_MAX:
            self._at = len(self._pattern)
            return _Item(_ALL, _ALL, GROUPS_MAX, 1)
        alternatives = [list(self._sequence(depth))]
        while self._peek() == "|":
            self._at += 1
            alternatives.append(list(self._sequence(depth)))
        if self._peek() == ")":
            self._at += 1
        if len(alternatives) == 1:
            return _join(alternatives[0])._replace(inner=alternatives[0])
        return _either([_join(sequence) for sequence in alternatives], [_is_kept_apart(one) for one in alternatives])

    def _sequence(self, depth: int) -> Iterator[_Item]:
        while self._at < len(self._pattern):
            character = self._peek()
            if character == "|" or (character == ")" and depth):
                return
            item = self._atom(depth)
            quantifier = _QUANTIFIER.match(self._pattern, self._at)
            if quantifier is not None and quantifier[0] not in ("{}", "{,}"):
                self._at = quantifier.end()
                if self._peek() in ("?", "+"):  # lazy, possessive
                    self._at += 1
                if item is not None:
                    item = _repeated(item, *_counts(quantifier))
            if item is not None:
                yield item

    def _atom(self, depth: int) -> _Item | None:
        """None for what has no width: an assertion, a flag, a comment."""
        character = self._take()
        if character == "(":
            return self._parenthesis(depth)
        if character == "[":
            return self._one_of(self._class())
        if character == ".":
            return self._one_of(_ALL)
        if character in "^$":
            return None
        if character != "\\":
            return self._one_of(_bit(character))
        if self._peek() in _ZERO_WIDTH:
            self._at += 1
            return None
        return self._one_of(self._escaped())

    def _parenthesis(self, depth: int) -> _Item | None:
        kind = _GROUP.match(self._pattern, self._at)
        if kind is None:
            return self.group(depth + 1)
        self._at = kind.end()
        if kind[0] == "?#":
            end = self._pattern.find(")", self._at)
            self._at = len(self._pattern) if end < 0 else end + 1
            return None
        if kind[0].startswith("?P="):
            self._at += 1
            return self._one_of(_ALL)
        item = self.group(depth + 1)
        if kind["look"]:  # looks, and consumes nothing; but must be searched
            return _Item(0, 0, item.nesting, item.states, 0, 0)
        return item

    def _class(self) -> int:
        found = 0
        is_negated = self._peek() == "^"
        if is_negated:
            self._at += 1
        start = self._at
        while self._at < len(self._pattern) and (self._peek() != "]" or self._at == start):
            first, low = self._member()
            if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                second, high = self._member()
                found |= _span(low, high) if low is not None and high is not None else first | second
            else:
                found |= first
        self._at += 1
        return _ALL & ~found | (found >> _ASCII << _ASCII) if is_negated else found

    def _member(self) -> tuple[int, str | None]:
        """The characters that one member of a class stands for, and which one if it is only one."""
        character = self._take()
        if character == "[" and self._peek() == ":":
            end = self._pattern.find(":]", self._at)
            if end >= 0:
                self._at = end + 2
                return _ALL, None
        if character != "\\":
            return _bit(character), character
        before = self._at
        found = self._escaped()
        letter = self._pattern[before : before + 1]
        is_one = letter not in _CLASSES and letter not in "pP"
        return found, chr(found.bit_length() - 1) if is_one and 0 < found < _LETTERS else None

    def _escaped(self) -> int:
        character = self._take()
        if character in _CLASSES:
            return _CLASSES[character]
        if character in ("p", "P", "k"):
            bracket = {"{": "}", "<": ">"}.get(self._peek(), "")
            end = self._pattern.find(bracket, self._at) if bracket else self._at
            self._at = max(end, self._at) + 1
            return _ALL
        if character in ("x", "u"):
            code = re.compile(r"\{([0-9a-fA-F]+)\}|([0-9a-fA-F]{4})|([0-9a-fA-F]{2})").match(self._pattern, self._at)
            if code is not None:
                self._at = code.end()
                return _bit(chr(min(int(code[1] or code[2] or code[3], 16), sys.maxunicode)))
        if character == "c":
            self._at += 1
            return _ALL
        if character != "0" and character.isdigit():  # a back-reference
            return _ALL
        return _bit(_CONTROLS.get(character, character))

    def _one_of(self, characters: int) -> _Item:
        if self._ignores_case:
            characters |= (characters & _UPPER) << 32 | (characters & _LOWER) >> 32
        return _Item(characters, 0, 0, 1)

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._peek()
        self._at += 1
        return character


def _bit(character: str) -> int:
    if not character:
        return 0
    if character.isascii():
        return 1 << ord(character)
    if character.isspace():
        return _SPACES
    return _LETTERS if character.isalnum() else _OTHERS


def _span(low: str, high: str) -> int:
    first, last = ord(low), min(ord(high), _ASCII - 1)
    found = 0 if high.isascii() else _LETTERS | _SPACES | _OTHERS
    return found | ((1 << last + 1) - (1 << first) if first <= last else 0)


def _counts(quantifier: re.Match[str]) -> tuple[int, int]:
    sign = quantifier[0][0]
    if sign != "{":
        return {"*": (0, _UNBOUNDED), "+": (1, _UNBOUNDED), "?": (0, 1)}[sign]
    least = _number(quantifier[1]) if quantifier[1] else 0
    if quantifier[2] is None:
        return least, least
    return least, _number(quantifier[3]) if quantifier[3] else _UNBOUNDED


def _number(digits: str) -> int:
    return min(int(digits[:20]), _UNBOUNDED)


def _join(items: Sequence[_Item]) -> _Item:
    characters = varying = states = nesting = 0
    for item in items:
        characters |= item.characters
        varying |= item.varying
        states += item.states
        nesting = max(nesting, item.nesting)
    return _Item(characters, varying, nesting, states)


def _either(joined: Sequence[_Item], are_kept_apart: Sequence[bool]) -> _Item:
    """Of alternatives only those count that are not kept apart; a group of them is seen as one thing."""
    whole = _join(joined)
    loose = [one.varying for one, is_kept_apart in zip(joined, are_kept_apart, strict=True) if not is_kept_apart]
    return whole._replace(varying=whole.varying if any(loose) else 0)


def _repeated(item: _Item, least: int, most: int) -> _Item:
    times = most if most < _UNBOUNDED else max(least, 1)
    is_kept_apart = item.varying == 0 or (item.inner is not None and _is_kept_apart(item.inner))
    nesting = max(item.nesting, 1 if most != least else 0) + (0 if most <= 1 or is_kept_apart else 1)
    varying = item.varying | (item.characters if most != least else 0)
    return _Item(item.characters, varying, nesting, item.states * times, least, most)


def _is_kept_apart(items: Sequence[_Item]) -> bool:
    """Whether a repetition of this sequence can be cut in one way only, as far as its repetitions go: each round has something
    that none of them can hold."""
    flat = list(_seen_through(items))
    varying = 0
    for item in flat:
        varying |= item.varying
    must = [item for item in flat if item.least > 0 and item.characters]
    for item in must:
        if not item.varying:
            if not item.characters & varying:
                return True
            continue
        others = 0
        for other in flat:
            if other is not item:
                others |= other.characters
        # A run of its own in each round, which something else must end.
        if item.inner is None and len(must) > 1 and not item.characters & others:
            return True
    return False


def _seen_through(items: Sequence[_Item]) -> Iterator[_Item]:
    for item in items:
        if item.inner is not None and item.least == item.most == 1:
            yield from _seen_through(item.inner)
        else:
            yield item
