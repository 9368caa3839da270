import asyncio

from router.dispatch.outbox import Outbox


class Recorder:
    def __init__(self, log: list[bytes]) -> None:
        self.log = log
        self.closing = False

    def write(self, data: bytes) -> None:
        self.log.append(data)

    def is_closing(self) -> bool:
        return self.closing


async def test_what_is_ready_runs_before_anything_is_written() -> None:
    log: list[bytes] = []
    outbox, sink = Outbox(), Recorder(log)

    def answer(data: bytes) -> None:
        log.append(b"ran " + data)
        outbox.write(sink, data)

    loop = asyncio.get_running_loop()
    for data in (b"1", b"2", b"3"):
        loop.call_soon(answer, data)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log == [b"ran 1", b"ran 2", b"ran 3", b"1", b"2", b"3"]


async def test_a_flush_writes_at_once_and_only_once() -> None:
    log: list[bytes] = []
    outbox, sink = Outbox(), Recorder(log)
    outbox.write(sink, b"a")
    outbox.flush()
    assert log == [b"a"]
    outbox.write(sink, b"b")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log == [b"a", b"b"]


async def test_nothing_is_written_to_a_sink_that_is_closing() -> None:
    log: list[bytes] = []
    outbox, closing, other = Outbox(), Recorder(log), Recorder(log)
    outbox.write(closing, b"lost")
    outbox.write(other, b"kept")
    closing.closing = True
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log == [b"kept"]
