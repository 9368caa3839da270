import os
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from router.classify.words import (
    FEW_WORDS,
    HEAD_BYTES,
    TAIL_BYTES,
    WORDS_MAX,
    buckets,
    clip,
    pair_hashes,
    word_buckets,
    word_hashes,
    words,
)


def test_words_are_lower_case_runs_of_letters_and_digits() -> None:
    assert words("What's 3.14 × 2?\n\tHTTP/2") == [b"what", b"s", b"3", b"14", "×".encode(), b"2", b"http", b"2"]


def test_a_script_without_spaces_has_a_word_per_character() -> None:
    assert words("東京 é😀") == [character.encode() for character in "東京é😀"]


def test_what_is_neither_letter_nor_digit_is_no_word() -> None:
    assert words("") == words(" \n\t") == words("?!") == []


def test_a_lone_surrogate_does_no_harm() -> None:
    assert words("before \ud800 after")[0] == b"before"


def test_of_a_long_text_head_and_tail_are_read() -> None:
    found = words("first " + "x" * 1_000_000 + " last")
    assert found[0] == b"first"
    assert found[-1] == b"last"


@given(st.text(), st.integers(1, 3000))
def test_no_text_gives_more_than_the_bound(piece: str, times: int) -> None:
    text = piece * times
    assert len(words(text)) <= WORDS_MAX
    assert len(clip(text)) <= HEAD_BYTES + TAIL_BYTES + 1


def test_pairs_know_their_order() -> None:
    hashes = word_hashes([b"not", b"all", b"not"])
    not_all, all_not = pair_hashes(hashes)
    assert not_all != all_not
    assert len(pair_hashes(hashes[:1])) == len(pair_hashes(hashes[:0])) == 0


@given(st.lists(st.integers(0, 2**32 - 1), max_size=50), st.integers(1, 20))
def test_buckets_are_the_distinct_leading_bits(values: list[int], bits: int) -> None:
    found = buckets(np.array(values, np.uint32), bits)
    assert found.tolist() == sorted({value >> (32 - bits) for value in values})


@given(st.lists(st.sampled_from([b"w%d" % n for n in range(2 * FEW_WORDS)]), max_size=4 * FEW_WORDS))
def test_few_words_and_many_words_fall_in_the_same_buckets(found: list[bytes]) -> None:
    single = word_hashes(found)
    both = np.concatenate((single, pair_hashes(single)))
    words_alone, features = word_buckets(found, set(found), 11, 17)
    assert list(words_alone) == buckets(single, 11).tolist()
    assert list(features) == buckets(both, 17).tolist()


def test_hashes_are_the_same_in_every_process() -> None:
    program = (
        "from router.classify.words import *; h = word_hashes(words('to be or not to be')); print(*h, *pair_hashes(h))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    hashes = word_hashes(words("to be or not to be"))
    assert printed == {" ".join(map(str, [*hashes, *pair_hashes(hashes)])) + "\n"}


def test_hashes_are_those_that_the_shipped_arrays_were_trained_with() -> None:
    hashes = word_hashes([b"hello", b"world"])
    assert hashes.tolist() == [0x3610A686, 0x3A771143]
    # In whole numbers: (0x3610a686 · 0x9e3779b1 + 0x3a771143) mod 2³², x ^= x >> 15, x · 0x85ebca6b mod 2³², x ^= x >> 13.
    assert pair_hashes(hashes).tolist() == [0x12617CD1]
