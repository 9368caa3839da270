"""Exchanges that are read as if they were OpenAI's: nothing that could be read is lost, and what cannot be is a failure."""

from collections.abc import Iterator

import pytest

from router.dispatch.translation import EventEditor, TranslatedAnswer, TranslatedStream
from router.dispatch.upstream import UpstreamFailed


class Script:
    """An exchange that gives these pieces, then ends."""

    status = 200
    headers = ((b"content-type", b"application/octet-stream"),)

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.released: list[bool] = []

    async def read(self, seconds: float) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def release(self, *, lingers: bool = False) -> None:
        self.released.append(lingers)


class Upper:
    """Words in capitals, a piece for each; `?` cannot be read, `-` says nothing."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        for word in data.split():
            if word == b"?":
                raise ValueError
            yield b"" if word == b"-" else word.upper()

    def end(self) -> bytes:
        return b"."


async def test_a_stream_is_translated_as_it_comes_and_what_says_nothing_is_waited_out() -> None:
    stream = TranslatedStream(Script(b"a b", b"-", b"c"), Upper())
    assert [await stream.read(1) for _ in range(4)] == [b"AB", b"C", b".", b""]
    assert stream.headers == ((b"content-type", b"text/event-stream"),)


@pytest.mark.parametrize("pieces", [(b"a ? b",), (b"a", b"?", b"b")])
async def test_what_comes_before_something_unreadable_is_handed_on_first(pieces: tuple[bytes, ...]) -> None:
    stream = TranslatedStream(Script(*pieces), Upper())
    assert await stream.read(1) == b"A"
    for _ in range(2):
        with pytest.raises(UpstreamFailed, match="protocol: a stream that cannot be read: ValueError"):
            await stream.read(1)


async def test_an_event_without_end_is_a_failure() -> None:
    with pytest.raises(UpstreamFailed, match="an event without end"):
        await TranslatedStream(Script(b"data: {" + b"x" * 2**21), EventEditor(lambda event: event)).read(1)


async def test_events_are_mended_whole_and_the_last_one_without_its_blank_line_too() -> None:
    stream = TranslatedStream(Script(b"data: a\n\nda", b"ta: b\n\ndata: c\n"), EventEditor(bytes.upper))
    assert [await stream.read(1) for _ in range(4)] == [b"DATA: A\n\n", b"DATA: B\n\n", b"DATA: C\n\n", b""]


async def test_a_whole_answer_is_translated_once_and_what_is_none_is_a_failure() -> None:
    answer = TranslatedAnswer(Script(b"a", b"b"), bytes.upper)
    assert [await answer.read(1), await answer.read(1)] == [b"AB", b""]

    def unreadable(data: bytes) -> bytes:
        raise KeyError(data)

    with pytest.raises(UpstreamFailed, match="protocol: an answer that cannot be read: KeyError"):
        await TranslatedAnswer(Script(b"a"), unreadable).read(1)


async def test_to_release_is_to_release_what_it_stands_for() -> None:
    script = Script()
    TranslatedStream(script, Upper()).release(lingers=True)
    TranslatedAnswer(script, bytes.upper).release()
    assert script.released == [True, False]
