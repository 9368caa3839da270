"""What workers tell one another of prefix caches, as bytes: read as it was written, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.fleet import Replica
from router.wire.prefix_news import (
    HEAD,
    NEWS,
    TOKENS_MAX,
    VERSION,
    NotNews,
    Told,
    pack_news,
    replica_name,
    teller_of,
    unpack_news,
)

NUMBERS = st.integers(0, 2**64 - 1)


@st.composite
def told(draw: st.DrawFn) -> Told:
    marks = draw(st.lists(NUMBERS, max_size=8))
    tokens = draw(st.lists(st.integers(0, TOKENS_MAX), min_size=len(marks), max_size=len(marks)))
    return Told(draw(NUMBERS), draw(NUMBERS), tuple(marks), tuple(tokens))


@given(NUMBERS, st.lists(told(), max_size=8))
def test_a_message_is_read_as_it_was_written(teller: int, news: list[Told]) -> None:
    message = pack_news(teller, news)
    assert teller_of(message) == teller
    assert list(unpack_news(message)) == news


@given(st.binary(max_size=200))
def test_what_is_no_message_is_refused_whatever_it_is(message: bytes) -> None:
    try:
        news = list(unpack_news(message))
    except NotNews:
        return
    assert pack_news(teller_of(message), news) == message


WHOLE = pack_news(7, [Told(1, 2, (3, 4), (5, 6)), Told(8, 0, (), ())])


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "too short"),
        (WHOLE[: HEAD.size - 1], "too short"),
        (WHOLE[: HEAD.size + NEWS.size], "too short"),
        (WHOLE[:-1], "its length is not what it says"),
        (WHOLE + b"\0", "its length is not what it says"),
        (bytes([VERSION + 1]) + WHOLE[1:], f"of version {VERSION + 1}"),
    ],
)
def test_a_message_that_is_cut_or_of_another_version_is_refused(message: bytes, why: str) -> None:
    assert len(list(unpack_news(WHOLE))) == 2
    with pytest.raises(NotNews, match=why):
        unpack_news(message)


def test_a_mark_takes_ten_bytes_and_one_that_adds_very_much_is_told_as_much_as_fits() -> None:
    one, two = (pack_news(7, [Told(1, 0, range(marks), [TOKENS_MAX + 9] * marks)]) for marks in (1, 2))
    assert len(two) - len(one) == 10
    assert [list(news.tokens) for news in unpack_news(two)] == [[TOKENS_MAX] * 2]


def test_a_replica_is_meant_by_its_id_and_its_url() -> None:
    one = Replica("central/0", "central", "http://one:8000")
    same = Replica("central/0", "renamed", "http://one:8000", api_key="secret")
    assert replica_name(one, "machine") == replica_name(same, "another")
    others = Replica("central/1", "central", "http://one:8000"), Replica("central/0", "central", "http://two:8000")
    assert len({replica_name(replica, "machine") for replica in (one, *others)}) == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_replica_at_the_loopback_is_another_one_on_another_machine(host: str) -> None:
    one = Replica("edge/0", "edge", f"http://{host}:8000")
    assert replica_name(one, "machine") == replica_name(one, "machine") != replica_name(one, "another")
