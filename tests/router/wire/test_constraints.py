"""How large, how deep and how hard the shape may be that a client demands of an answer."""

import json
from typing import Any

import pytest
from payloads import CITY, CLOCK, WEATHER

from router.errors import BadRequest
from router.wire.constraints import ConstraintBounds, Constraints

HARD = "(a+)+$"
PROPERTIES = {"type": "object", "properties": {"name": {"type": "string", "pattern": HARD}}}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "members",
    [
        {"structured_outputs": {"regex": HARD}},
        {"structured_outputs": {"json": PROPERTIES}},
        {"structured_outputs": {"json": json.dumps(PROPERTIES)}},
        {"structured_outputs": {"structural_tag": json.dumps({"structures": [{"schema": PROPERTIES}]})}},
        {"structured_outputs": {"json": {}, "whitespace_pattern": HARD}},
        {"guided_regex": HARD},
        {"guided_json": json.dumps(PROPERTIES)},
        {"guided_whitespace_pattern": HARD},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": PROPERTIES}}},
        {"response_format": {"type": "structural_tag", "format": {"type": "regex", "pattern": HARD}}},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": PROPERTIES}}},
        {"output_config": {"format": {"type": "json_schema", "schema": PROPERTIES}}},
        {"tools": [WEATHER, {"type": "function", "function": {"name": "f", "parameters": PROPERTIES}}]},
        {"tools": [{"name": "f", "input_schema": PROPERTIES}]},
        {"tools": [{"type": "custom", "custom": {"format": {"grammar": {"syntax": "regex", "definition": HARD}}}}]},
        {"functions": [{"name": "f", "parameters": {"patternProperties": {HARD: {}}}}]},
        {"guided_json": {"anyOf": [{"not": {"$defs": {"x": {"allOf": [{"pattern": HARD}]}}}}]}},
    ],
)
def test_a_hard_pattern_is_found_wherever_it_stands(members: dict[str, Any]) -> None:
    (name,) = members
    with pytest.raises(BadRequest, match=r"`\(a\+\)\+`, 2 deep; at most 1") as raised:
        Constraints().check(members)
    assert raised.value.param == name
    Constraints(ConstraintBounds(pattern_nesting_max=2)).check(members)


@pytest.mark.parametrize(
    ("bounds", "members", "message"),
    [
        (ConstraintBounds(schema_bytes_max=1000), {"guided_json": {"x": "y" * 1000}}, "larger than 1000 bytes"),
        (ConstraintBounds(schema_bytes_max=1000), {"guided_grammar": "y" * 1000}, "larger than 1000 bytes"),
        (ConstraintBounds(schema_depth_max=10), {"guided_json": deep(10)}, "deeper than 10 levels"),
        (ConstraintBounds(schema_depth_max=10), {"guided_json": json.dumps(deep(10))}, "deeper than 10 levels"),
        (ConstraintBounds(pattern_bytes_max=9), {"tools": [{"pattern": c * 5} for c in "ab"]}, "than 9 characters"),
        (ConstraintBounds(pattern_states_max=9), {"guided_regex": "a{10}"}, "over 9 characters"),
    ],
)
def test_each_bound_has_its_message(bounds: ConstraintBounds, members: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Constraints(bounds).check(members)
    Constraints().check(members)


def test_what_passed_once_passes_again_and_what_did_not_does_not() -> None:
    constraints = Constraints()
    for _ in range(3):
        constraints.check({"tools": [WEATHER, CLOCK], "response_format": CITY, "structured_outputs": None})
        with pytest.raises(BadRequest):
            constraints.check({"guided_regex": HARD})


@pytest.mark.parametrize(
    "value", ["x", 5, True, [], [None], {"pattern": {"type": "string"}}, {"json": "no JSON"}, [[{}]]]
)
def test_what_makes_no_sense_here_is_left_to_the_backend(value: Any) -> None:
    Constraints().check({"structured_outputs": value, "tools": value, "text": value})
