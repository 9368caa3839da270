"""Marks along a prompt: equal exactly as far as the text is."""

import os
import subprocess
import sys
from typing import Any

import pytest

from router.domain.request import Endpoint
from router.wire.parse import Bounds, parse
from router.wire.prefix import MARKS_MAX, MESSAGE_TOKENS, STRETCH_CHARACTERS, marks_secret, prefix_marks

SECRET = marks_secret(b"pepper")
SYSTEM = {"role": "system", "content": "You are helpful. " * 100}
ASKED = {"role": "user", "content": "What is a rainbow? " * 50}
ANSWERED = {"role": "assistant", "content": "Light that is bent by drops. " * 40}
AGAIN = {"role": "user", "content": "And at night?"}


def chat(*messages: Any, salt: str = "s", secret: bytes = SECRET, **more: Any) -> list[int]:
    return [
        mark.key
        for mark in prefix_marks(Endpoint.CHAT, {"model": "m", "messages": list(messages)} | more, salt, secret)
    ]


def common(one: list[int], other: list[int]) -> int:
    return len(set(one) & set(other))


def test_the_next_turn_has_all_marks_of_the_turn_before() -> None:
    first, second = chat(SYSTEM, ASKED), chat(SYSTEM, ASKED, ANSWERED, AGAIN)
    assert second[: len(first)] == first
    assert len(second) == len(first) + 2


@pytest.mark.parametrize(
    "other",
    [
        {"messages": [SYSTEM | {"content": "T" + SYSTEM["content"][1:]}, ASKED]},
        {"messages": [SYSTEM | {"content": SYSTEM["content"][:-1] + "!"}, ASKED]},
        {"messages": [SYSTEM | {"content": SYSTEM["content"] + " "}, ASKED]},
        {"messages": [SYSTEM | {"role": "user"}, ASKED]},
        {"messages": [ASKED, SYSTEM]},
        {"model": "another"},
        {"tools": [{}]},
    ],
)
def test_a_difference_at_the_beginning_leaves_nothing_in_common(other: dict[str, Any]) -> None:
    members = {"model": "m", "messages": [SYSTEM, ASKED]} | other
    assert common(chat(SYSTEM, ASKED), [mark.key for mark in prefix_marks(Endpoint.CHAT, members, "s", SECRET)]) == 0


def test_a_difference_at_the_end_leaves_the_beginning() -> None:
    assert common(chat(SYSTEM, ASKED), chat(SYSTEM, AGAIN)) == 1


def test_b61_two_tenants_have_no_mark_in_common() -> None:
    assert common(chat(SYSTEM, ASKED, salt="acme"), chat(SYSTEM, ASKED, salt="initech")) == 0


def test_routers_of_another_pepper_have_no_mark_in_common() -> None:
    assert common(chat(SYSTEM, ASKED), chat(SYSTEM, ASKED, secret=marks_secret(b"another"))) == 0


def test_marks_are_the_same_in_another_process() -> None:
    code = (
        "from router.domain.request import Endpoint\n"
        "from router.wire.prefix import marks_secret, prefix_marks\n"
        f"members = {{'model': 'm', 'messages': [{SYSTEM!r}, {{'role': 'user', 'content': 'Straße, 日本, 🌈'}}]}}\n"
        "print([mark.key for mark in prefix_marks(Endpoint.CHAT, members, 's', marks_secret(b'pepper'))])\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert told == {str(chat(SYSTEM, {"role": "user", "content": "Straße, 日本, 🌈"}))}


def test_every_mark_fits_into_64_bits() -> None:
    marks = chat(*({"role": "user", "content": "é" * length} for length in range(0, 9000, 450)))
    assert len(set(marks)) == len(marks)
    assert all(0 < mark < 2**64 for mark in marks)


def test_a_long_text_is_marked_along_its_way() -> None:
    head = "".join(f"{number} " for number in range(5000))
    one, other = head + "What is it?", head + "Who is it, then?"
    marks = [
        [mark.key for mark in prefix_marks(Endpoint.COMPLETIONS, {"model": "m", "prompt": text}, "s", SECRET)]
        for text in (one, other)
    ]
    assert common(*marks) == len(head) // STRETCH_CHARACTERS


def test_tokens_grow_along_the_way_to_about_a_quarter_of_the_characters() -> None:
    marks = prefix_marks(Endpoint.CHAT, {"model": "m", "messages": [SYSTEM, ASKED, ANSWERED]}, "s", SECRET)
    tokens = [mark.tokens for mark in marks]
    assert tokens == sorted(tokens)
    characters = len(SYSTEM["content"]) + len(ASKED["content"]) + len(ANSWERED["content"])
    assert tokens[-1] == pytest.approx(characters / 4, rel=0.02)


@pytest.mark.parametrize(
    ("endpoint", "members"),
    [
        (Endpoint.MESSAGES, {"system": "Be kind.", "messages": [{"role": "user", "content": [{"text": "a"}, "b", 3]}]}),
        (Endpoint.RESPONSES, {"instructions": "Be kind.", "input": "hello"}),
        (Endpoint.RESPONSES, {"input": [{"role": "user", "content": "hello"}, 3, None]}),
        (Endpoint.CHAT, {"messages": [{"role": 7}, {"content": {}}, "x"]}),
        (Endpoint.COMPLETIONS, {"prompt": [[1, 2], [3]]}),
        (Endpoint.CHAT, {}),
    ],
)
def test_every_shape_is_marked_or_passed_over(endpoint: Endpoint, members: dict[str, Any]) -> None:
    marks = prefix_marks(endpoint, members, "s", SECRET)
    assert marks == prefix_marks(endpoint, members, "s", SECRET)


def test_the_marks_are_bounded() -> None:
    assert len(chat(*[AGAIN] * (3 * MARKS_MAX))) == MARKS_MAX


def turn_with_image(data: str) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + data}}
    return {"role": "user", "content": [{"type": "text", "text": ASKED["content"]}, image]}


def test_an_image_has_as_many_tokens_as_it_is_estimated_to_have_however_long_its_data() -> None:
    members = {"model": "m", "messages": [turn_with_image("A" * 400_000), ANSWERED, AGAIN]}
    marked = prefix_marks(Endpoint.CHAT, members, "s", SECRET)[-1].tokens
    estimate = parse(Endpoint.CHAT, members, Bounds()).prompt.tokens_estimate
    assert marked <= estimate + MESSAGE_TOKENS
    assert marked == pytest.approx(estimate, rel=0.02)


@pytest.mark.parametrize(
    "other",
    [
        turn_with_image("B" * 500),
        {"role": "user", "content": ASKED["content"]},
        {
            "role": "user",
            "content": [*turn_with_image("A" * 500)["content"], {"type": "image", "source": {"data": "A"}}],
        },
    ],
)
def test_the_same_text_with_another_image_is_another_prompt(other: dict[str, Any]) -> None:
    assert common(chat(turn_with_image("A" * 500)), chat(other)) == 0
    assert chat(turn_with_image("A" * 500)) == chat(turn_with_image("A" * 500))


def test_tools_that_are_no_array_are_passed_over() -> None:
    assert chat(SYSTEM, tools=5) == chat(SYSTEM)
