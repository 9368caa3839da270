"""The block pool: sharing, reuse and eviction, in whole blocks."""

from hypothesis import given
from hypothesis import strategies as st

from load.kv_cache import BlockPool


def test_a_block_that_nobody_holds_stays_until_room_is_needed() -> None:
    pool = BlockPool(3)
    assert pool.take((), 2)
    assert pool.publish(11)
    assert pool.publish(12)
    pool.release((12, 11), 0)
    assert pool.used == 0
    assert pool.match((11, 12)) == 2
    assert pool.take((), 2)
    assert pool.match((11, 12)) == 1, "the tail of the prefix goes first"


def test_a_shared_block_is_counted_once_and_freed_with_its_last_holder() -> None:
    pool = BlockPool(2)
    assert pool.take((), 1)
    assert pool.publish(7)
    assert pool.take((7,), 1)
    assert pool.used == 2
    assert not pool.take((), 1)
    pool.release((7,), 1)
    assert pool.used == 1
    pool.release((7,), 0)
    assert pool.used == 0


def test_a_copy_of_a_block_that_is_held_stays_private() -> None:
    pool = BlockPool(4)
    assert pool.take((), 2)
    assert pool.publish(5)
    assert not pool.publish(5)
    assert pool.used == 2


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.booleans()), max_size=60))
def test_the_pool_never_holds_more_than_its_capacity(moves: list[tuple[int, int, bool]]) -> None:
    pool = BlockPool(8)
    held: list[tuple[tuple[int, ...], int]] = []
    for prefix, fresh, is_release in moves:
        if is_release and held:
            shared, private = held.pop()
            pool.release(tuple(reversed(shared)), private)
        else:
            wanted = tuple(range(prefix))
            shared = wanted[: pool.match(wanted)]
            if pool.take(shared, fresh):
                if fresh and len(shared) < prefix and pool.publish(wanted[len(shared)]):
                    shared, fresh = (*shared, wanted[len(shared)]), fresh - 1
                held.append((shared, fresh))
        assert pool.used <= pool.capacity
        distinct = {block for shared, _ in held for block in shared}
        assert pool.used == len(distinct) + sum(private for _, private in held)
    for shared, private in held:
        pool.release(tuple(reversed(shared)), private)
    assert pool.used == 0
