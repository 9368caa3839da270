"""Which patterns are hard to hold an answer to, and that those which people write are not."""

import pytest

from router.wire.pattern import GROUPS_MAX, hardness

AMBIGUOUS = [
    "(a+)+", "(a+)+$", "(a*)*b", "(a+)*", r"(\w+\s?)+", "([a-zA-Z]+)*$", "(aa+)+", "(a?){50}", r"(\.[^@]+)+",
    r"([\/\w \.-]*)*", r"(\S+\s*)+", "(x+x+)+y", "(.*)*", "(?:a|b+)*", "(?i)(A[a-z]+)*", "((a|b)+c?)+",
    r"(\s*[a-z]+\s*)*", "(a{1,9})+", "(?=(a+)+)", "^(([a-z])+.)+[A-Z]([a-z])+$", "(a|[ab]+)*", "(?P<n>a+)+",
    "([a-z]+-?)*", "(-|a+)*", "(?:(?:a+))+", r"(\x61+)+", r"(\u0061+a)+", "(a+?)+?", "(a++)++", r"(\p{L}+)+",
    "([[:alpha:]]+)+", "(?#why)(a+)+", "(é+)+", "([^b]+)+", "(?:x(?:a+b?)c?)*x(a+)*(?:a*)*",
]  # fmt: skip
USUAL = [
    r"^[a-z0-9]+(?:-[a-z0-9]+)*$",
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$",  # zod's e-mail
    r"^((25[0-5]|2[0-4]\d|[01]?\d\d?)\.){3}(25[0-5]|2[0-4]\d|[01]?\d\d?)$",
    r"^([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}$",
    r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    r"^(\w+\s)*\w+$",
    r"^[A-Z][a-z]+(?: [A-Z][a-z]+)*$",
    r"^[^,]+(,[^,]+)*$",
    r"^\d{1,3}(,\d{3})*(\.\d+)?$",
    r'"([^"\\]|\\.)*"',
    r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$",  # pydantic's Decimal
    r"(a+-+)*",
    # semver.org's
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$",
    r"^P(?!$)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?$",
    r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$",
    r"\w+@\w+\.com\n",
    r"^.{1,5000}$",
    r"([a-z]+\s*,\s*)+",
    r"^(\/[a-z_]+)+$",
    r"(\([0-9]+\))*",
    r"^#([0-9a-f]{3}){1,2}$",
    r"^[\u4e00-\u9fff]+( [\u4e00-\u9fff]+)*$",
]


@pytest.mark.parametrize("pattern", AMBIGUOUS)
def test_a_repetition_that_can_be_cut_in_many_ways_is_nested(pattern: str) -> None:
    assert hardness(pattern).nesting == 2


@pytest.mark.parametrize("pattern", USUAL)
def test_what_people_write_is_not(pattern: str) -> None:
    found = hardness(pattern)
    assert found.nesting <= 1
    assert found.states <= 5000


def test_each_level_counts() -> None:
    assert [hardness("(" * n + "a+" + ")+" * n).nesting for n in range(5)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("pattern", "states"),
    [
        ("abc", 3),
        ("a{7}", 7),
        ("a{2,7}", 7),
        ("a{3,}", 3),
        ("((a{9}){9}){9}", 729),
        ("(ab|c){5}", 15),
        (r"\{{3}", 3),
        ("a{x}", 4),
        ("[a{9}]", 1),
        ("(((((a{99}){99}){99}){99}){99}){99}", 99**6),
    ],
)
def test_states_are_counted_with_repetitions_written_out(pattern: str, states: int) -> None:
    assert hardness(pattern).states == states


@pytest.mark.parametrize(
    "pattern",
    ["", "(", ")", "[", "]", "\\", "a{", "(?", "(?<", "[^", "[a-", "a**", "\\x", "\\u12", "\\p{", "\\k<", "(?#", "[[:"],
)
def test_what_is_no_expression_does_no_harm(pattern: str) -> None:
    assert hardness(pattern).nesting <= 1


def test_parentheses_beyond_what_anybody_writes_are_a_nesting_of_their_own() -> None:
    assert hardness("(" * GROUPS_MAX + "a" + ")" * GROUPS_MAX).nesting == 0
    assert hardness("(" * 5000 + "a" + ")" * 5000).nesting == GROUPS_MAX
