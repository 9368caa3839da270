"""Values for JSON schemas: judged by pydantic, from whose models the schemas come."""

import re
from datetime import date, datetime
from enum import StrEnum
from random import Random
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from load.emulator.errors import ApiError
from load.emulator.json_value import Hints, check_schema, value_for
from load.emulator.pattern import text_matching


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=3, max_length=12)]
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{3,5}$")]
    size: Annotated[float, Field(gt=0, lt=1)]


class Tree(BaseModel):
    label: str
    children: list["Tree"]


class Machine(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: UUID
    made: date
    seen: datetime
    colour: Colour
    kind: Literal["pump", "valve"]
    count: Annotated[int, Field(ge=5, le=9)]
    even: Annotated[int, Field(multiple_of=4, gt=10)]
    parts: Annotated[list[Part], Field(min_length=1, max_length=4)]
    spare: Part | None
    flags: dict[str, bool]
    either: int | str
    pair: tuple[int, str]
    tree: Tree
    is_on: bool


@pytest.mark.parametrize("seed", range(25))
def test_a_value_satisfies_the_schema_it_was_drawn_for(seed: int) -> None:
    schema = Machine.model_json_schema()
    check_schema(schema)
    Machine.model_validate(value_for(schema, Random(seed)))


def test_all_of_folds_its_parts_and_unique_items_differ() -> None:
    schema: dict[str, Any] = {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]},
            {"properties": {"b": {"const": "x"}}, "required": ["b"]},
        ]
    }
    value = value_for(schema, Random(0))
    assert value["a"] >= 3
    assert value["b"] == "x"
    enum = {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True}
    assert sorted(value_for(enum, Random(0))) == [1, 2, 3]


def test_what_the_prompt_offers_is_used_once_and_within_bounds() -> None:
    schema = TypeAdapter(dict[str, int]).json_schema() | {
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "maximum": 9}, "c": {"type": "string"}}
    }
    hints = Hints.of('give me 12 and 7 of "brass"')
    assert value_for(schema, Random(0), hints) == {"a": 12, "b": 7, "c": "brass"}


def test_a_type_that_is_none_is_refused_in_vllms_words() -> None:
    for schema in (
        {"type": "banana"},
        {"properties": {"type": {"type": ["null", "banana"]}}},
        {"items": {"type": "banana"}},
    ):
        with pytest.raises(ApiError, match="Grammar error: Invalid type: banana"):
            check_schema(schema)
    check_schema({"enum": [{"type": "banana"}], "properties": {"type": {"type": "string"}}})


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{4}-\d{2}$",
        r"[A-Z][a-z]+(ish|ous)?",
        r"^(a|bc)*d$",
        r"\w{3,6}@\w+\.com",
        r"[^0-9]{5}",
        r"^[\w-]+\.[A-Za-z]{2,}$",
        r"x?y{2,3}z*",
    ],
)
@pytest.mark.parametrize("seed", range(10))
def test_a_text_matches_the_pattern_it_was_drawn_for(pattern: str, seed: int) -> None:
    assert re.search(pattern, text_matching(pattern, Random(seed)))
    assert len(text_matching(r"^[a-z]+$", Random(seed), shortest=40)) >= 40
