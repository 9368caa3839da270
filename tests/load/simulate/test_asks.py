"""Requests as the router would read them: what it is told of a prompt is in one measure."""

import pytest

from load.draws import Mix
from load.simulate.asks import Asks
from load.traces import Arrival
from router.classify.classifier import Classifier


def test_marks_along_a_prompt_are_in_the_tokens_that_the_router_takes_it_for() -> None:
    mix = Mix(models={"auto": 1.0}, tenants={"a": 1.0}, streaming_ratio=1.0)
    asks = Asks(Classifier.load(), ["What is a quorum?"], mix, block_tokens=512, seed=1)
    request, _, prompt_tokens, has_context, _ = asks.ask(0, Arrival(0.0, 16 * 512, 100, blocks=(range(16),)))
    assert has_context
    assert prompt_tokens == 16 * 512
    estimate = request.prompt.tokens_estimate
    assert estimate != prompt_tokens  # the router has but an estimate, and all it knows of the prompt is in its measure
    marks = [mark.tokens for mark in request.prefix]
    assert marks == pytest.approx([estimate * part / 16 for part in range(1, 17)], abs=1)
