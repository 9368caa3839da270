"""The index of what was sent where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.request import PrefixMark
from router.selection.affinity import BLOCK_TOKENS, MARKS_MAX, PrefixIndex


def chain(name: str, *tokens: int) -> tuple[PrefixMark, ...]:
    """Marks of a conversation at these lengths. The same name and position is the same text."""
    return tuple(PrefixMark(hash((name, position)), length) for position, length in enumerate(tokens))


@pytest.fixture
def index() -> PrefixIndex:
    made = PrefixIndex()
    made.follow({"a": 10_000, "b": 10_000})
    return made


def test_what_was_never_sent_is_cached_nowhere(index: PrefixIndex) -> None:
    assert index.cached_tokens(chain("x", 100, 500)) == {}


def test_the_next_turn_finds_the_turns_before_where_they_were_sent(index: PrefixIndex) -> None:
    index.sent("a", chain("x", 100, 500))
    index.sent("b", chain("x", 100))
    assert index.cached_tokens(chain("x", 100, 500, 900)) == {"a": 500, "b": 100}


def test_the_last_block_of_a_prompt_is_always_computed(index: PrefixIndex) -> None:
    index.sent("a", chain("x", 100, 500))
    assert index.cached_tokens(chain("x", 100, 500)) == {"a": 500 - BLOCK_TOKENS}


def test_another_conversation_finds_only_the_common_beginning(index: PrefixIndex) -> None:
    preamble = PrefixMark(1, 400)
    index.sent("a", (preamble, PrefixMark(2, 900)))
    assert index.cached_tokens((preamble, PrefixMark(3, 900))) == {"a": 400}
    assert index.cached_tokens((PrefixMark(4, 400), PrefixMark(2, 900))) == {}


def test_a_full_cache_drops_what_was_not_used_for_longest_its_end_first(index: PrefixIndex) -> None:
    index.sent("a", chain("old", 2000, 4000))
    index.sent("a", chain("new", 3000, 7000))
    assert index.cached_tokens(chain("old", 2000, 4000, 9000)) == {"a": 2000}
    assert index.cached_tokens(chain("new", 3000, 7000, 9000)) == {"a": 7000}


def test_what_is_used_again_stays(index: PrefixIndex) -> None:
    index.sent("a", chain("x", 4000))
    index.sent("a", chain("y", 4000))
    index.sent("a", chain("x", 4000))
    index.sent("a", chain("z", 4000))
    assert index.cached_tokens(chain("x", 4000, 5000)) == {"a": 4000}
    assert index.cached_tokens(chain("y", 4000, 5000)) == {}


def test_a_prompt_that_fits_no_cache_pushes_nothing_out(index: PrefixIndex) -> None:
    index.sent("a", chain("x", 4000))
    index.sent("a", chain("huge", 10_001))
    assert index.cached_tokens(chain("x", 4000, 5000)) == {"a": 4000}


def test_a_replica_that_is_gone_or_was_restarted_holds_nothing(index: PrefixIndex) -> None:
    for replica in ("a", "b"):
        index.sent(replica, chain("x", 500))
    index.follow({"a": 20_000, "c": 10_000})
    assert index.cached_tokens(chain("x", 500, 900)) == {}
    index.sent("b", chain("x", 500))  # an attempt that ends after the reload
    assert index.cached_tokens(chain("x", 500, 900)) == {}
    index.sent("a", chain("x", 500))
    index.forget("a")
    assert index.cached_tokens(chain("x", 500, 900)) == {}


def test_it_is_bounded_whatever_is_sent() -> None:
    index = PrefixIndex()
    index.follow({"a": 10**9})
    for number in range(MARKS_MAX + 100):
        index.sent("a", chain(f"x{number}", 20))
    assert len(index._shelves["a"].tokens_by_mark) == len(index._holders) == MARKS_MAX


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(1, 6)), max_size=60))
def test_no_replica_is_ever_said_to_hold_more_than_its_cache(steps: list[tuple[str, int, int]]) -> None:
    index = PrefixIndex()
    index.follow({"a": 3000, "b": 1000})
    for replica, name, turns in steps:
        index.sent(replica, chain(str(name), *range(400, 400 * turns + 1, 400)))
    for replica, capacity in (("a", 3000), ("b", 1000)):
        shelf = index._shelves[replica]
        assert shelf.tokens == sum(shelf.tokens_by_mark.values()) <= capacity
        assert {key for key, holders in index._holders.items() if replica in holders} == set(shelf.tokens_by_mark)
