"""Where a stream's pieces may be put at once, and where they must be waited for."""

from types import SimpleNamespace
from typing import Any

import pytest

from router.access.repeats import AnswerCopy
from router.connection import EXCHANGE_KEY
from router.conversation import Conversation
from router.dispatch.watchdog import Watchdog


def conversation(exchange: Any) -> Conversation:
    scope = {"headers": [], EXCHANGE_KEY: exchange}
    return Conversation(scope, None, None, Watchdog(), 1.0)  # type: ignore[arg-type]


def exchange(put: list[bytes], **facts: Any) -> SimpleNamespace:
    body = SimpleNamespace(put=lambda data: put.append(data) or len(put) < 2)
    flow = SimpleNamespace(write_paused=facts.get("write_paused", False))
    connection = SimpleNamespace(loop=None)
    return SimpleNamespace(body_pieces=body, flow=flow, connection=connection, disconnected=facts.get("gone", False))


async def test_pieces_go_to_the_connection_and_its_word_is_passed_on() -> None:
    put: list[bytes] = []
    outlet = conversation(exchange(put)).outlet()
    assert outlet is not None
    assert (outlet(b"a"), outlet(b"b"), put) == (True, False, [b"a", b"b"])


async def test_what_is_put_is_copied_where_a_copy_is_kept() -> None:
    put: list[bytes] = []
    call = conversation(exchange(put))
    call.copy = AnswerCopy(SimpleNamespace(bytes=0, bytes_max=1000), 1000)  # type: ignore[arg-type]
    outlet = call.outlet()
    assert outlet is not None
    outlet(b"a")
    assert put == [b"a"]
    kept = call.copy.answer()
    assert kept is not None
    assert kept.body == b"a"


@pytest.mark.parametrize("facts", [{"write_paused": True}, {"gone": True}])
async def test_who_reads_slowly_or_has_left_is_written_to_in_turn(facts: dict[str, bool]) -> None:
    assert conversation(exchange([], **facts)).outlet() is None


async def test_under_another_server_everything_is_written_in_turn() -> None:
    assert conversation(None).outlet() is None
