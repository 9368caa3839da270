"""Chance, and nothing else, decides who is held out; a held-out request is answered all the same."""

from types import SimpleNamespace
from typing import Any

import pytest

from router.domain.decision import Choice
from router.selection.holdout import Holdout

CHOICES: Any = [
    Choice(SimpleNamespace(backend=SimpleNamespace(name=name)), "cheapest")  # type: ignore[arg-type]
    for name in ("small", "base", "other", "base")
]


def request(number: int, model: str = "auto") -> Any:
    return SimpleNamespace(request_id=f"req_{number}", model=model)


def names(choices: Any) -> list[str]:
    return [choice.candidate.backend.name for choice in choices]


@pytest.mark.parametrize("ratio", [0.01, 0.05, 0.5])
def test_the_share_is_the_ratio(ratio: float) -> None:
    holdout, number = Holdout("base", ratio), 20_000
    held = sum(holdout.includes(f"req_{n}") for n in range(number))
    assert abs(held - ratio * number) < 4 * (number * ratio * (1 - ratio)) ** 0.5


def test_a_held_out_request_goes_to_the_baseline_and_keeps_the_others_for_failover() -> None:
    found = Holdout("base", 1.0).apply(request(1), CHOICES)
    assert names(found) == ["base", "base", "small", "other"]
    assert {choice.reason for choice in found} == {"holdout"}


def test_one_that_the_baseline_cannot_serve_is_held_out_all_the_same() -> None:
    found = Holdout("elsewhere", 1.0).apply(request(1), CHOICES)
    assert names(found) == names(CHOICES)
    assert {choice.reason for choice in found} == {"holdout"}


def test_only_auto_is_held_out_and_the_same_request_always() -> None:
    holdout = Holdout("base", 1.0)
    assert holdout.apply(request(1, "chat-small"), CHOICES) is CHOICES
    assert Holdout("base", 0.0).apply(request(1), CHOICES) is CHOICES
    half = Holdout("base", 0.5)
    assert [half.includes(f"r{n}") for n in range(50)] == [half.includes(f"r{n}") for n in range(50)]
