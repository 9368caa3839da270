"""Bodies: what is refused, what survives, and how members are counted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import BadRequest
from router.wire.json_body import KEY_COUNT_STEP_BYTES, encode_object, key_counts, parse_object

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "body",
    [
        b'{"temperature":NaN}',
        b'{"temperature":1e999}',
        b'{"temperature":Infinity}',
        b'{"content":"\\ud800"}',
        b'{"content":"\xff"}',
        b'{"model":"a"} trailing',
        b'{"model":"a",}',
        b'{"seed":12345678901234567890123,"x":NaN}',
    ],
)
def test_b46_nan_infinities_surrogates_bad_utf8_and_trailing_text_are_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        parse_object(body)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"messages":' + b"[" * 100_000])
def test_b45_json_a_hundred_thousand_levels_deep_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="depth"):
        parse_object(body)


@pytest.mark.parametrize(
    ("body", "got"), [(b"[]", "an array"), (b"null", "null"), (b'"x"', "a string"), (b"1", "a number")]
)
def test_b48_a_body_that_is_no_object_is_refused_by_name(body: bytes, got: str) -> None:
    with pytest.raises(BadRequest, match=got):
        parse_object(body)


@pytest.mark.parametrize(
    ("body", "at"), [(b'{"a":"\xff\xfe"}', 6), ('{"a":1}'.encode("utf-16"), 0), ("{'é': 'é'}".encode("latin-1"), 2)]
)
def test_b46_a_body_in_another_encoding_is_told_where_it_is_not_utf8(body: bytes, at: int) -> None:
    with pytest.raises(BadRequest, match=rf"^The body is not valid JSON: it is not UTF-8 at byte {at}\.$"):
        parse_object(body)


def test_b48_an_empty_body_is_refused() -> None:
    with pytest.raises(BadRequest, match="no body"):
        parse_object(b"")


def test_b47_of_a_member_given_twice_one_value_counts_and_is_what_goes_out() -> None:
    members = parse_object(b'{"model":"small","model":"large"}')
    assert members["model"] == "large"
    assert encode_object(members) == b'{"model":"large"}'


def test_an_integer_beyond_64_bits_goes_out_as_it_came() -> None:
    body = b'{"seed":123456789012345678901234567890,"text":"99999999999999999999"}'
    assert encode_object(parse_object(body)) == body


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5))
def test_what_is_parsed_and_encoded_again_means_the_same(members: dict[str, object]) -> None:
    body = json.dumps(members).encode()
    assert json.loads(encode_object(parse_object(body))) == json.loads(body)


def _count_members(value: object) -> int:
    """Members, objects and arrays."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(_count_members, value.values()))
    return 1 + sum(map(_count_members, value)) if isinstance(value, list) else 0


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5), st.integers(0, 40))
def test_b45_members_are_counted_exactly_whatever_stands_in_strings(members: dict[str, object], pad: int) -> None:
    # The padding moves escapes and quotes across the boundary between two steps.
    filler = '\\"' * (KEY_COUNT_STEP_BYTES // 4) + ":" * pad
    body = json.dumps({"filler": filler, "members": members}).encode()
    assert list(key_counts(body))[-1] == 3 + _count_members(members)


def test_b45_a_million_members_are_counted_in_small_steps() -> None:
    body = b"{" + b",".join(b'"k%d":0' % n for n in range(1_000_000)) + b"}"
    counts = list(key_counts(body))
    assert counts[-1] == 1_000_001
    assert len(counts) == -(-len(body) // KEY_COUNT_STEP_BYTES)
