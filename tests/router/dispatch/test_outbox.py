import asyncio

from hypothesis import given
from hypothesis import strategies as st

from router.dispatch.outbox import ChunkedBody, Outbox


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
    assert log == [b"ran 1", b"ran 2", b"ran 3", b"123"]


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


async def turns(number: int = 4) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_beginning_goes_before_the_next_pieces_of_others_that_came_first() -> None:
    log: list[bytes] = []
    outbox = Outbox()
    flowing, beginning = Recorder(log), Recorder(log)
    loop = asyncio.get_running_loop()
    loop.call_soon(outbox.write_further, flowing, b"next piece")
    loop.call_soon(outbox.write, beginning, b"first piece")
    await turns()
    assert log == [b"first piece", b"next piece"]


async def test_the_next_pieces_stand_back_once_and_no_more() -> None:
    log: list[bytes] = []
    outbox = Outbox()
    flowing, others = Recorder(log), Recorder([])
    outbox.write_further(flowing, b"next piece")
    for _ in range(4):  # beginnings without end
        outbox.write(others, b"first piece")
        await asyncio.sleep(0)
    assert log == [b"next piece"]


async def test_a_flush_writes_beginnings_and_next_pieces() -> None:
    log: list[bytes] = []
    outbox = Outbox()
    outbox.write_further(Recorder(log), b"next piece")
    outbox.write(Recorder(log), b"first piece")
    outbox.flush()
    assert log == [b"first piece", b"next piece"]
    await turns()
    assert len(log) == 2


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["write", "write_further", "flush", "turn"]), st.integers(0, 2)), max_size=40
    )
)
def test_each_sink_gets_all_of_its_bytes_in_their_order(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        logs: list[list[bytes]] = [[], [], []]
        sinks = [Recorder(log) for log in logs]
        expected = [b"", b"", b""]
        outbox = Outbox()
        for number, (step, index) in enumerate(steps):
            if step == "turn":
                await asyncio.sleep(0)
            elif step == "flush":
                outbox.flush()
            else:
                data = b"%d," % number
                expected[index] += data
                getattr(outbox, step)(sinks[index], data)
        await turns()
        assert [b"".join(log) for log in logs] == expected

    asyncio.run(run())


class Reader:
    write_paused = False


async def test_a_chunked_body_tells_whether_it_is_being_read() -> None:
    log: list[bytes] = []
    outbox, sink, reader = Outbox(), Recorder(log), Reader()
    body = ChunkedBody(outbox, sink, reader)
    assert body.put(b"0123456789abcdef")
    reader.write_paused = True
    assert not body.put(b"x")
    reader.write_paused = False
    sink.closing = True
    assert not body.put(b"y")
    sink.closing = False
    outbox.flush()
    assert b"".join(log) == b"10\r\n0123456789abcdef\r\n1\r\nx\r\n1\r\ny\r\n"
