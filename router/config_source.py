"""YAML text with the place of every value: what lets a mistake be named by file, line and column.

Reads plain data only: no tags, no duplicate members, members named by strings. What the data should look like is not
known here (`config/`, `pricing/book.py`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Place = tuple[str | int, ...]
"""The way from the document's root to a value: names of members and positions in lists."""

# A configuration file has some hundred values. Aliases may repeat them; a bomb of nested aliases may not.
VALUES_MAX = 100_000
DEPTH_MAX = 32

# API keys as their makers print them (OpenAI and those who copied it, Hugging Face, AWS, GitHub, Groq, xAI, Google),
# bearer tokens and private keys. Placeholders such as `sk-…` or `sk-YOUR-KEY` are too short or not matched.
SECRET = re.compile(
    r"\b(?:sk|pk|rk)-(?=[\w-]*\d)[\w-]{16,}|\bhf_\w{20,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}|\bgsk_\w{20,}"
    r"|\bxai-\w{20,}|\bAIza[\w-]{35}|\bBearer\s+[\w.~+/-]{16,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)

STRING = "tag:yaml.org,2002:str"
MERGE = "tag:yaml.org,2002:merge"
NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
# YAML 1.1 reads 010 as 8 and 1:30 as 90: as an amount neither is what its writer meant.
OTHER_BASE = re.compile(r"[-+]?(0[0-7_]+|0[xb].*|[^:]*:.*)")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong or doubtful, where (line and column from 1), and what would be right."""

    file: str
    line: int
    column: int
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")


class ConfigRefused(Exception):
    """The configuration cannot be used. `mistakes` has every one that was found; the message has one on each line.

    paths: the files that must change before it can be, as far as they are known.
    """

    def __init__(self, mistakes: Iterable[Finding], paths: tuple[Path, ...] = ()) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        self.paths = paths
        super().__init__("\n".join(map(str, self.mistakes)))


@dataclass(frozen=True, slots=True)
class Source:
    """One file, read: its plain value and where each part of it stands. Marks are (line, column) from 1.

    mistakes: what is wrong whatever the shape; the value can be checked further so that all is told at once.
    """

    path: Path
    value: Any
    value_marks: Mapping[Place, tuple[int, int]]
    member_marks: Mapping[Place, tuple[int, int]]
    mistakes: tuple[Finding, ...] = ()

    def finding(self, place: Place, what: str, remedy: str = "", *, at_member: bool = False) -> Finding:
        """A finding at a place, or at the nearest thing around it that the file has.

        at_member: point to the member's name, not to its value.
        """
        found = self.nearest(place)
        marks = self.member_marks if at_member and found in self.member_marks else self.value_marks
        line, column = marks.get(found, (1, 1))
        return Finding(str(self.path), line, column, what, remedy)

    def nearest(self, place: Place) -> Place:
        """The place as far as the file has it.

        What it does not have is passed over: a missing member, or what pydantic adds of its own (a union's branch).
        """
        found: Place = ()
        for part in place:
            if (*found, part) in self.value_marks:
                found = (*found, part)
        return found


def read_source(path: Path) -> Source:
    """Read one YAML file. Raises ConfigRefused when nothing can be read from it."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise ConfigRefused([Finding(str(path), 1, 1, what, "give the path of a file")]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        column = error.start - (error.object.rfind(b"\n", 0, error.start) + 1) + 1
        raise ConfigRefused([Finding(str(path), line, column, "is not UTF-8", "save the file as UTF-8")]) from None
    mistakes = list(_secrets(path, text))
    try:
        root = _Composer(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = f"is not valid YAML: {' '.join(filter(None, [error.context, error.problem]))}"
        remedy = error.note or "check indentation (spaces, never tabs), quotes and colons"
        raise ConfigRefused([*mistakes, Finding(str(path), line, column, what, remedy)]) from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        what = f"is not valid YAML: {error}".splitlines()[0]
        raise ConfigRefused([*mistakes, Finding(str(path), 1, 1, what)]) from None
    except RecursionError:
        raise ConfigRefused([*mistakes, Finding(str(path), 1, 1, "is nested without end", "flatten it")]) from None
    reading = _Reading(path, mistakes)
    value = reading.value(root, ()) if root is not None else None
    return Source(path, value, reading.value_marks, reading.member_marks, tuple(mistakes))


def looks_secret(text: str) -> bool:
    """Whether a text is, or holds, what looks like an API key. Such a text is never shown again."""
    return SECRET.search(text) is not None or text.startswith("sk-")


def _secrets(path: Path, text: str) -> Iterator[Finding]:
    """Keys in clear text, wherever they stand: a commented-out key has leaked as well."""
    for number, line in enumerate(text.split("\n"), 1):
        for found in SECRET.finditer(line):
            yield Finding(
                str(path),
                number,
                found.start() + 1,
                "what looks like a secret stands here in clear text",
                "take it out and replace it (it may have been read): put clients' keys as hashes (`jeton key --hash`), "
                "backends' keys in environment variables (`api_key_env`)",
            )


class _Composer(yaml.SafeLoader):
    """PyYAML's composer, refusing tags: a tag asks the reader to build something, and there is nothing to build."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise yaml.composer.ComposerError(
                None, None, f"the tag {tag} is not accepted", event.start_mark, "remove it and write the plain value"
            )
        return super().compose_node(parent, index)


class _Reading:
    """The walk from YAML nodes to plain values that remembers the marks and collects the mistakes."""

    def __init__(self, path: Path, mistakes: list[Finding]) -> None:
        self.path = path
        self.mistakes = mistakes
        self.value_marks: dict[Place, tuple[int, int]] = {}
        self.member_marks: dict[Place, tuple[int, int]] = {}
        self._constructor = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, place: Place) -> Any:
        if len(place) > DEPTH_MAX or len(self.value_marks) > VALUES_MAX:
            remedy = "write out what the aliases (`*name`) stand for"
            raise ConfigRefused([self._finding(node, "is nested or repeated without end", remedy)])
        self.value_marks[place] = _mark(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, position)) for position, item in enumerate(node.value)]
        if node.tag in NUMBERS and OTHER_BASE.fullmatch(node.value):
            what = f"`{node.value}` is a number of another base to YAML"
            self.mistakes.append(self._finding(node, what, "write it in decimal, or in quotes if it is text"))
        try:
            return self._constructor.construct_object(node)
        except (ValueError, yaml.YAMLError):
            self.mistakes.append(
                self._finding(node, f"`{node.value}` cannot be read", "put it in quotes if it is text")
            )
            return None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, item in self._pairs(node, set()):
            name = key.value
            self.member_marks[(*place, name)] = _mark(key)
            value[name] = self.value(item, (*place, name))
        return value

    def _pairs(self, node: yaml.MappingNode, above: set[int]) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """The members of a mapping, those merged by `<<` first so that its own replace them."""
        own: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for key, item in node.value:
            if key.tag == MERGE:
                merged = item.value if isinstance(item, yaml.SequenceNode) else [item]
                for other in reversed(merged):
                    if not isinstance(other, yaml.MappingNode) or id(other) in above | {id(node)}:
                        self.mistakes.append(self._finding(item, "`<<` merges what is not a mapping", "name a mapping"))
                        continue
                    yield from self._pairs(other, above | {id(node)})
            elif not isinstance(key, yaml.ScalarNode) or key.tag != STRING:
                shown = f"`{key.value}`" if isinstance(key, yaml.ScalarNode) else "this"
                self.mistakes.append(self._finding(key, f"{shown} is not the name of a member", "put it in quotes"))
            elif key.value in own:
                first_line = own[key.value][0].start_mark.line + 1
                self.mistakes.append(
                    self._finding(key, f"`{key.value}` is set twice (first in line {first_line})", "keep one of them")
                )
            else:
                own[key.value] = (key, item)
        yield from own.values()

    def _finding(self, node: yaml.Node, what: str, remedy: str) -> Finding:
        return Finding(str(self.path), *_mark(node), what, remedy)


def _mark(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
