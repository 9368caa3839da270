"""What a kept stream says it cost."""

import json

import pytest

from router.domain.usage import UsageSource
from router.recall import at_no_cost

COST = {"usd": 0.00000123, "nanousd": 1230, "basis": "allocated", "usage_source": "provider"}


def stream(cost: str) -> bytes:
    said = json.dumps({"choices": [{"delta": {"content": 'say "jeton_cost":{"usd":1} and \\"jeton_cost\\":{}'}}]})
    return f'data: {said}\n\ndata: {{"usage":{{"a":1}},"jeton_cost":{cost}}}\n\ndata: [DONE]\n\n'.encode()


@pytest.mark.parametrize("source", [UsageSource.PROVIDER, UsageSource.ESTIMATED])
@pytest.mark.parametrize("cost", [json.dumps(COST), json.dumps(COST, separators=(",", ":")), '{"usd":null}'])
def test_a_kept_stream_cost_nothing_however_its_cost_was_written(cost: str, source: UsageSource) -> None:
    before, after = stream(cost), at_no_cost(stream(cost), source)
    first, usage, done = after.split(b"\n\n")[:3]
    assert (first, done) == (before.split(b"\n\n")[0], b"data: [DONE]"), "what the model says is left alone"
    told = json.loads(usage[6:])["jeton_cost"]
    assert (told["nanousd"], told["usage_source"]) == (0, source.value), "an estimate stays one"


def test_a_stream_that_tells_no_cost_is_left_as_it_is() -> None:
    text = b'data: {"choices":[]}\n\ndata: [DONE]\n\n'
    assert at_no_cost(text, UsageSource.PROVIDER) == text
