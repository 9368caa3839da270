"""What is kept in memory is bounded by bytes and by time, and the longest unused goes first."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.cache.answer import (
    ENTRY_BYTES,
    AnswerUnreadable,
    StoredAnswer,
    answer_from_bytes,
    answer_to_bytes,
)
from router.cache.memory import MemoryAnswers

ANSWER = StoredAnswer(False, "application/json", b"{}", "llama", "small", "edge-small", 10, 5, 2, False)


def sized(size: int) -> StoredAnswer:
    return replace(ANSWER, body=b"x" * size)


class Kept:
    def __init__(self, bytes_max: int) -> None:
        self.now = 100.0
        self.answers = MemoryAnswers(lambda: self.now)
        self.answers.limit(bytes_max)


def test_an_answer_is_found_until_its_time_is_over() -> None:
    kept = Kept(10_000)
    kept.answers.put(b"a", ANSWER, ttl_seconds=60)
    kept.now += 59
    assert kept.answers.get(b"a") == ANSWER
    kept.now += 1
    assert kept.answers.get(b"a") is None
    assert (len(kept.answers), kept.answers.bytes) == (0, 0)


def test_the_longest_unused_makes_room() -> None:
    kept = Kept(3 * (ENTRY_BYTES + 100))
    for name in (b"a", b"b", b"c"):
        kept.answers.put(name, sized(100), 60)
    assert kept.answers.get(b"a") is not None
    kept.answers.put(b"d", sized(100), 60)
    assert [kept.answers.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert kept.answers.evictions == 1


def test_what_is_larger_than_everything_together_is_not_kept() -> None:
    kept = Kept(2_000)
    kept.answers.put(b"a", sized(5_000), 60)
    assert (len(kept.answers), kept.answers.bytes) == (0, 0)


def test_a_smaller_limit_takes_effect_at_once() -> None:
    kept = Kept(10_000)
    for name in (b"a", b"b"):
        kept.answers.put(name, sized(100), 60)
    kept.answers.limit(0)
    assert (len(kept.answers), kept.answers.bytes) == (0, 0)


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "get", "wait", "limit"]), st.integers(0, 7), st.integers(0, 3_000)),
        max_size=60,
    )
)
def test_whatever_happens_the_bytes_are_those_of_what_is_kept_and_within_the_limit(
    script: list[tuple[str, int, int]],
) -> None:
    kept, limit = Kept(5_000), 5_000
    for verb, name, number in script:
        key = b"%d" % name
        if verb == "put":
            kept.answers.put(key, sized(number), ttl_seconds=30)
        elif verb == "get":
            kept.answers.get(key)
        elif verb == "wait":
            kept.now += number / 100
        else:
            limit = number
            kept.answers.limit(limit)
        found = [one for one in (kept.answers._kept.get(b"%d" % each) for each in range(8)) if one is not None]
        assert kept.answers.bytes == sum(answer.bytes for answer, _ in found) <= limit
        assert len(found) == len(kept.answers)


@pytest.mark.parametrize("body", [b"", b"{}", b"a\nb\n\nc", "é\n".encode(), bytes(range(256))])
def test_an_answer_survives_its_way_through_bytes(body: bytes) -> None:
    for answer in (replace(ANSWER, body=body), replace(ANSWER, body=body, is_stream=True, is_estimated=True)):
        assert answer_from_bytes(answer_to_bytes(answer)) == answer


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"{}\n", b"[1]\n", b'[true,"a"]\nx', b"not json\nx", answer_to_bytes(ANSWER)[:40]]
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(AnswerUnreadable):
        answer_from_bytes(data)
