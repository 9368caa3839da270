"""Chance decides who has a shadow; it goes to another backend than the one that answered."""

from types import SimpleNamespace
from typing import Any

import pytest

from router.domain.decision import Choice
from router.selection.holdout import Holdout
from router.selection.shadow import Shadow

CHOICES: Any = [
    Choice(SimpleNamespace(backend=SimpleNamespace(name=name)), "cheapest")  # type: ignore[arg-type]
    for name in ("small", "small", "large", "cloud")
]


def name(choice: Choice | None) -> str:
    return "" if choice is None else choice.candidate.backend.name


@pytest.mark.parametrize("ratio", [0.01, 0.5])
def test_the_share_is_the_ratio(ratio: float) -> None:
    shadow, number = Shadow(ratio, ()), 20_000
    cast = sum(shadow.includes(f"req_{n}") for n in range(number))
    assert abs(cast - ratio * number) < 4 * (number * ratio * (1 - ratio)) ** 0.5


def test_it_goes_to_the_best_other_backend_and_only_where_it_may() -> None:
    assert name(Shadow(1.0, ()).choice("req_1", CHOICES, "small")) == "large"
    assert name(Shadow(1.0, ()).choice("req_1", CHOICES, "large")) == "small"
    assert name(Shadow(1.0, ["cloud"]).choice("req_1", CHOICES, "small")) == "cloud"
    assert Shadow(1.0, ["small"]).choice("req_1", CHOICES, "small") is None
    found = Shadow(1.0, ()).choice("req_1", CHOICES, "small")
    assert found is not None
    assert found.reason == "shadow"


def test_without_a_ratio_nobody_has_one() -> None:
    assert not Shadow(0.0, ()).is_on
    assert Shadow(0.0, ()).choice("req_1", CHOICES, "small") is None


def test_who_has_a_shadow_has_nothing_to_do_with_who_is_held_out() -> None:
    shadow, holdout, number = Shadow(0.5, ()), Holdout("base", 0.5), 20_000
    both = sum(shadow.includes(f"req_{n}") and holdout.includes(f"req_{n}") for n in range(number))
    assert abs(both - number / 4) < 4 * (number * 3 / 16) ** 0.5
