"""Adds rows to a prices.yaml without touching what stands in it: comments, order and layout are somebody's own.

The text is edited where YAML's marks say, then read again: unless it is the old value with exactly the wanted rows added, and a
valid price book, nothing is written.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from router.pricing.book import PriceBook

HEADER = """\
# What capacity costs: dated rows by name, each with its source. A changed price is a new row with a later `from`, never an edit,
# so that yesterday's bill can be recomputed.
prices:
"""
# The parser in C, where PyYAML was built with it: a book of thousands of rows is read in a tenth of the time.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
NUMBER = re.compile(r"-?\d+(\.\d+)?")
DAY = re.compile(r"\d{4}-\d\d-\d\d")
INDENT = "  "


class LayoutRefused(Exception):
    """The file is laid out in a way that rows cannot be added to: what is wrong; what to do."""


@dataclass(frozen=True, slots=True)
class Addition:
    """row: to be added to the rows of a name. confirms: no new row, but the one that begins on this day still holds."""

    name: str
    row: Mapping[str, Any]
    confirms: date | None = None


def added(text: str, additions: Iterable[Addition], day: date) -> str:
    """The text with the rows added, and the confirmed ones dated `day`. Raises LayoutRefused."""
    additions = list(additions)
    if not additions:
        return text
    text = text if text.endswith("\n") else f"{text}\n" if text else HEADER
    old = yaml.load(text, LOADER) or {}
    pieces, position = [], 0
    for edit in sorted(_edits(text, _prices_node(text), additions, day)):
        pieces += [text[position : edit.start], edit.new]
        position = edit.end
    edited = "".join([*pieces, text[position:]])
    try:
        new = yaml.load(edited, LOADER)
        if new == _expected(old, additions, day):
            PriceBook.model_validate(new)
            return edited
    except ValidationError as error:
        raise LayoutRefused(f"the file would not be a price book any more: {error.errors()[0]['msg']}") from None
    except yaml.YAMLError:
        pass
    raise LayoutRefused("rows cannot be added to the file as it is laid out; write its rows as lines with `- kind: …`")


def write(path: Path, text: str) -> None:
    """At once or not at all; a symbolic link stays one."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, path.stat().st_mode & 0o7777 if path.exists() else 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def block(value: Mapping[str, Any], indent: str) -> str:
    """A mapping as YAML lines, each with its indent. Decimal text stands as a number."""
    lines = []
    for name, item in value.items():
        if isinstance(item, list) and item and isinstance(item[0], Mapping):
            lines.append(f"{indent}{name}:")
            lines += [f"{indent}{INDENT}- {_flow(one)}" for one in item]
        elif isinstance(item, list):
            lines.append(f"{indent}{name}:")
            lines += [f"{indent}{INDENT}- {scalar(one)}" for one in item]
        elif isinstance(item, Mapping):
            lines.append(f"{indent}{name}:")
            lines += [f"{indent}{INDENT}{one}: {_flow(inner)}" for one, inner in item.items()]
        else:
            lines.append(f"{indent}{name}: {scalar(item)}")
    return "\n".join(lines)


def scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if NUMBER.fullmatch(text) or DAY.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    """Where YAML would read it as something else, or not at all."""
    return text if PLAIN_NAME.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text, ensure_ascii=False)


# What YAML takes for something else than text.
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def _flow(value: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {_flowing(item)}" for name, item in value.items()) + "}"


def _flowing(item: Any) -> str:
    if isinstance(item, list):
        return f"[{', '.join(map(_flow, item))}]"
    return _flow(item) if isinstance(item, Mapping) else scalar(item)


def _expected(old: Any, additions: Iterable[Addition], day: date) -> Any:
    """What the file must say afterwards."""
    prices: dict[str, list[Any]] = {name: list(rows) for name, rows in (old.get("prices") or {}).items()}
    for one in additions:
        if one.confirms is None:
            prices.setdefault(one.name, []).append(yaml.load(_flow(one.row), LOADER))
            continue
        prices[one.name] = [
            row | {"confirmed": day} if _day_of(row) == one.confirms else row for row in prices[one.name]
        ]
    return {**old, "prices": prices}


def _day_of(row: Mapping[str, Any]) -> Any:
    first_day = row.get("from")
    return first_day if isinstance(first_day, date) else date.fromisoformat(str(first_day))


def _prices_node(text: str) -> yaml.Node:
    root: yaml.Node | None = yaml.compose(text, Loader=LOADER)
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if key.value == "prices" and isinstance(value, yaml.Node):
                return value
    raise LayoutRefused("there is no `prices:` in the file; write it on a line of its own")


class _Edit(NamedTuple):
    """What stands from `start` to `end` afterwards. Those at one place are made in this order: confirmed, appended, new."""

    start: int
    end: int
    order: int
    new: str


def _edits(text: str, prices: yaml.Node, additions: Iterable[Addition], day: date) -> Iterator[_Edit]:
    """None overlaps another."""
    is_empty = not isinstance(prices, yaml.MappingNode) or not prices.value
    if isinstance(prices, yaml.MappingNode) and prices.flow_style:
        raise LayoutRefused("`prices` is written in braces; write its names on lines of their own")
    names = {} if is_empty else {key.value: value for key, value in prices.value}
    appended: dict[str, list[Mapping[str, Any]]] = {}
    for one in additions:
        if one.confirms is not None:
            yield _confirmed(text, names[one.name], one.confirms, day)
        else:
            appended.setdefault(one.name, []).append(one.row)
    indent = INDENT if is_empty else " " * prices.value[0][0].start_mark.column
    lines = []
    for name, rows in appended.items():
        if name in names:
            yield _appended(text, names[name], rows)
        else:
            lines += [f"{indent}{_quoted(name)}:", *(_item(row, indent + INDENT) for row in rows)]
    if lines:
        at = _line_end(text, prices.end_mark.index if is_empty else _content_end(prices))
        yield _Edit(at, at, 2, _joined(lines))


def _appended(text: str, node: yaml.Node, rows: Iterable[Mapping[str, Any]]) -> _Edit:
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise LayoutRefused("a name has no rows to add to; write one, or take the name out")
    if node.flow_style:
        at = node.value[-1].end_mark.index
        return _Edit(at, at, 1, "".join(f", {_flow(row)}" for row in rows))
    at = _line_end(text, _content_end(node))
    return _Edit(at, at, 1, _joined(_item(row, " " * node.start_mark.column) for row in rows))


def _confirmed(text: str, rows: yaml.Node, first_day: date, day: date) -> _Edit:
    assert isinstance(rows, yaml.SequenceNode)
    for row in rows.value:
        if not isinstance(row, yaml.MappingNode):
            continue
        members = {key.value: (key, value) for key, value in row.value}
        key, began = members.get("from", (None, None))
        if key is None or began is None or began.value != first_day.isoformat():
            continue
        if "confirmed" in members:
            old = members["confirmed"][1]
            return _Edit(old.start_mark.index, old.end_mark.index, 0, day.isoformat())
        if row.flow_style:
            at = began.end_mark.index
            return _Edit(at, at, 0, f", confirmed: {day}")
        at = _line_end(text, began.end_mark.index)
        return _Edit(at, at, 0, f"{' ' * key.start_mark.column}confirmed: {day}\n")
    raise LayoutRefused(f"the row from {first_day} on cannot be found; write its `from` as a plain date")


def _item(row: Mapping[str, Any], indent: str) -> str:
    lines = block(row, f"{indent}{INDENT}")
    return f"{indent}- {lines.removeprefix(indent + INDENT)}"


def _content_end(node: yaml.Node) -> int:
    """Where a value's own text ends; a block's mark is where the next one begins, comments between them included."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return int(node.end_mark.index)


def _line_end(text: str, at: int) -> int:
    """The beginning of the next line; the text ends with one."""
    if at and text[at - 1] == "\n":
        return at
    return text.index("\n", at) + 1


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
