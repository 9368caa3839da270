"""The index of what was sent where."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.request import PrefixMark
from router.selection.affinity import BLOCK_TOKENS, MARKS_MAX, NO_MARK, UNTOLD_MARKS_MAX, PrefixIndex, PrefixNews


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
    assert len(index._shelves["a"].kept) == len(index._holders) == MARKS_MAX


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(1, 6)), max_size=60))
def test_no_replica_is_ever_said_to_hold_more_than_its_cache(steps: list[tuple[str, int, int]]) -> None:
    index = PrefixIndex()
    index.follow({"a": 3000, "b": 1000})
    for replica, name, turns in steps:
        index.sent(replica, chain(str(name), *range(400, 400 * turns + 1, 400)))
    for replica, capacity in (("a", 3000), ("b", 1000)):
        shelf = index._shelves[replica]
        assert shelf.tokens == sum(one[0] for one in shelf.kept.values()) <= capacity
        assert {key for key, holders in index._holders.items() if replica in holders} == set(shelf.kept)


# -- what other workers sent


CAPACITIES = {"a": 10_000, "b": 10_000}


@pytest.fixture
def others() -> tuple[PrefixIndex, PrefixIndex]:
    """Two workers' indexes of one fleet."""
    made = PrefixIndex(), PrefixIndex()
    for one in made:
        one.is_shared = True
        one.follow(CAPACITIES)
    return made


def tell(teller: PrefixIndex, listener: PrefixIndex) -> list[PrefixNews]:
    """All that there is to tell."""
    told = teller.take_untold(10**9)
    for news in told:
        tokens = [mark.tokens for mark in (news.before, *news.marks)]
        added = [after - before for before, after in pairwise(tokens)]
        listener.heard(news.replica, news.before.key, [mark.key for mark in news.marks], added)
    return told


def order(index: PrefixIndex, replica: str) -> list[int]:
    return list(index._shelves[replica].kept)


def test_the_next_turn_finds_the_turns_before_though_another_worker_sent_them(
    others: tuple[PrefixIndex, PrefixIndex],
) -> None:
    one, other = others
    one.sent("a", chain("x", 100, 500))
    assert other.cached_tokens(chain("x", 100, 500, 900)) == {}
    tell(one, other)
    assert other.cached_tokens(chain("x", 100, 500, 900)) == {"a": 500}
    other.sent("a", chain("x", 100, 500, 900))
    tell(other, one)
    assert one.cached_tokens(chain("x", 100, 500, 900, 1000)) == {"a": 900}


def test_only_what_is_new_is_told_and_what_it_follows(others: tuple[PrefixIndex, PrefixIndex]) -> None:
    one, other = others
    first, second = chain("x", 100, 500), chain("x", 100, 500, 900, 1000)
    one.sent("a", first)
    assert tell(one, other) == [PrefixNews("a", NO_MARK, first)]
    other.sent("a", second)
    assert tell(other, one) == [PrefixNews("a", second[1], second[2:])]
    one.sent("a", second)
    assert tell(one, other) == [PrefixNews("a", second[2], second[3:])], (
        "that it was used again is told by its last mark"
    )
    one.sent("a", chain("huge", 10_001))
    assert tell(one, other) == []


def test_what_is_heard_fills_the_cache_as_what_is_sent(others: tuple[PrefixIndex, PrefixIndex]) -> None:
    """Each worker sends a half of what fills it."""
    one, other = others
    one.sent("a", chain("old", 4000))
    tell(one, other)
    for number in range(2):
        other.sent("a", chain(f"new{number}", 4000))
        tell(other, one)
    for index in others:
        assert index.cached_tokens(chain("old", 4000, 5000)) == {}
        assert index.cached_tokens(chain("new1", 4000, 5000)) == {"a": 4000}


def test_who_missed_the_beginning_finds_a_conversation_by_its_later_turns(
    others: tuple[PrefixIndex, PrefixIndex],
) -> None:
    one, other = others
    one.sent("a", chain("x", 100, 500))
    one.take_untold(10**9)  # lost
    one.sent("a", chain("x", 100, 500, 900))
    tell(one, other)
    assert other.cached_tokens(chain("x", 100, 500, 900, 1000)) == {"a": 900}
    assert other.cached_tokens((*chain("x", 100, 500), PrefixMark(1, 900))) == {}, "nobody told of so short a beginning"


def test_a_conversation_that_goes_on_elsewhere_is_kept_from_its_beginning(
    others: tuple[PrefixIndex, PrefixIndex],
) -> None:
    """Of each turn only the new marks are told; the others move up as well once an eighth of the cache has been computed."""
    one, other = others
    for turn in range(2, 30):
        one.sent("a", chain("long", *range(100, 100 * turn, 100)))
        one.sent("a", chain(f"between{turn}", 400))
        tell(one, other)
    lengths = list(range(100, 2900, 100))
    for index in others:
        assert index.cached_tokens((*chain("long", *lengths[:1]), PrefixMark(1, 600))) == {"a": 100}, "its beginning"
        assert index.cached_tokens(chain("long", *lengths, 3000)) == {"a": 2800}
        assert index.cached_tokens(chain("between2", 400, 600)) == {}


def test_a_conversation_is_not_moved_up_at_every_turn(index: PrefixIndex) -> None:
    """Else each turn would cost its whole conversation, at every other worker."""
    index.is_shared = True
    index.heard("a", 0, [1, 2], [100, 100])
    index.heard("a", 2, [3], [100])
    assert order(index, "a") == [2, 1, 3]
    index.heard("a", 0, [9], [2000])
    index.heard("a", 3, [4], [100])
    assert order(index, "a") == [9, 4, 3, 2, 1]
    index.heard("a", 4, [5], [100])
    assert order(index, "a") == [9, 4, 3, 2, 1, 5]


def test_marks_that_follow_one_another_in_a_ring_are_followed_only_so_far(index: PrefixIndex) -> None:
    """Nobody makes such marks, and anybody who can write to Redis can say so."""
    index.is_shared = True
    index.heard("a", 2, [1], [10])
    index.heard("a", 1, [2], [10])
    index.sent("a", chain("x", 5000))
    index.heard("a", 2, [3], [10])
    assert order(index, "a")[0] == chain("x", 5000)[0].key
    assert set(order(index, "a")[1:]) == {1, 2, 3}


def test_what_is_heard_of_replicas_that_are_not_here_or_at_length_is_bounded(index: PrefixIndex) -> None:
    index.heard("c", 0, [1], [10])
    index.heard("a", 0, list(range(1, MARKS_MAX + 100)), [0] * (MARKS_MAX + 99))
    index.heard("b", 0, list(range(1, 101)), [400] * 100)
    assert len(order(index, "a")) == MARKS_MAX
    assert order(index, "b") == list(range(25, 0, -1)), "the beginning, as much as the cache holds"
    assert index._shelves.keys() == {"a", "b"}


def test_what_nobody_takes_is_given_up_and_the_latest_kept(index: PrefixIndex) -> None:
    index.sent("a", chain("before", 500))
    assert index.take_untold(10**9) == [], "nobody tells anybody"
    index.is_shared = True
    for number in range(UNTOLD_MARKS_MAX // 2 + 10):
        index.sent("a", chain(f"x{number}", 10, 20))
    assert index.given_up == 10
    taken = index.take_untold(10**9)
    assert sum(len(news.marks) for news in taken) == UNTOLD_MARKS_MAX
    assert taken[-1].marks == chain(f"x{UNTOLD_MARKS_MAX // 2 + 9}", 10, 20)
    for number in range(UNTOLD_MARKS_MAX // 2):
        index.sent("a", chain(f"y{number}", 10, 20))
    assert index.given_up == 10, "there is room again"


def test_as_much_is_taken_as_is_asked_for_and_at_least_one(index: PrefixIndex) -> None:
    index.is_shared = True
    for name in ("x", "y", "z"):
        index.sent("a", chain(name, 10, 20, 30))
    assert [len(index.take_untold(marks_max)) for marks_max in (1, 5, 6, 6)] == [1, 1, 1, 0]
    index.sent("a", chain("w", 10))
    assert len(index.take_untold(1)) == 1


def test_a_restart_is_told_in_the_place_of_what_was_sent_before_it(index: PrefixIndex) -> None:
    index.is_shared = True
    index.sent("a", chain("x", 500))
    index.sent("b", chain("x", 500))
    for _ in range(2):
        index.restarted("a")
    index.sent("a", chain("y", 500))
    assert index.cached_tokens(chain("x", 500, 900)) == {"b": 500}
    assert index.take_untold(10**9) == [
        PrefixNews("b", NO_MARK, chain("x", 500)),
        PrefixNews("a", NO_MARK, ()),
        PrefixNews("a", NO_MARK, chain("y", 500)),
    ]
    index.forget("b")
    assert index.take_untold(10**9) == [], "that it sleeps everybody knows by himself"


def test_known_tokens_are_counted_by_whose_work_was_continued(others: tuple[PrefixIndex, PrefixIndex]) -> None:
    one, other = others
    one.sent("a", chain("x", 100, 500))
    tell(one, other)
    other.sent("a", chain("x", 100, 500, 900))
    assert (other.own_tokens, other.heard_tokens) == (0, 500)
    other.sent("a", chain("x", 100, 500, 900, 1000))
    assert (other.own_tokens, other.heard_tokens) == (900, 500)
    assert (one.own_tokens, one.heard_tokens) == (0, 0)


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.integers(0, 5), st.integers(1, 6), st.booleans()),
    max_size=60,
)


@given(STEPS)
def test_whatever_workers_tell_no_replica_is_said_to_hold_more_than_its_cache(
    steps: list[tuple[int, str, int, int, bool]],
) -> None:
    indexes = [PrefixIndex() for _ in range(3)]
    for one in indexes:
        one.is_shared = True
        one.follow({"a": 3000, "b": 1000})
    for worker, replica, name, turns, is_lost in steps:
        indexes[worker].sent(replica, chain(str(name), *range(400, 400 * turns + 1, 400)))
        listeners = [] if is_lost else [one for one in indexes if one is not indexes[worker]]
        for news in indexes[worker].take_untold(10**9):
            for listener in listeners:
                listener.heard(
                    news.replica, news.before.key, [mark.key for mark in news.marks], [400] * len(news.marks)
                )
    for index in indexes:
        for replica, capacity in (("a", 3000), ("b", 1000)):
            shelf = index._shelves[replica]
            assert shelf.tokens == sum(one[0] for one in shelf.kept.values()) <= capacity
            assert {key for key, holders in index._holders.items() if replica in holders} == set(shelf.kept)
