"""What an idle stream weighs, in a router of its own process."""

from load.bench.idle_streams import weigh


def test_f36_an_idle_stream_weighs_at_most_64_kb_and_holds_two_files() -> None:
    *_, before, weight = weigh(400)
    assert weight.streams == 450
    assert 0 < weight.kb_per_stream <= 64
    assert weight.open_files - before.open_files == 2 * (weight.streams - before.streams)
