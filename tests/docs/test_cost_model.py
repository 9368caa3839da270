"""The page on the cost model is true: its examples print what it says, and the formula agrees with the code in each."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from router.pricing.cost import TOKENS_PER_RATE
from router.pricing.mix import CHAT
from router.pricing.profile import (
    BANDWIDTH_EFFICIENCY,
    FLOPS_EFFICIENCY,
    LAYER_OVERHEAD_SECONDS,
    STEP_OVERHEAD_SECONDS,
)
from router.pricing.quote import IDLE_SCARCITY, SLACK_RATIO_MIN
from router.pricing.rows import HOURS_PER_YEAR
from router.pricing.standard import TARGET_UTILIZATION_RATIO

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs/cost-model.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^```python run\n(?P<code>.*?)^```\n\n```text\n(?P<printed>.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    code: str
    printed: str


EXAMPLES = [Example(found["code"], found["printed"]) for found in EXAMPLE.finditer(PAGE)]


def test_every_example_says_what_it_prints() -> None:
    assert len(EXAMPLES) == PAGE.count("```python run") == PAGE.count("```text") >= 7


def test_the_examples_print_what_the_page_says() -> None:
    """One after another, as a reader types them: later ones use what earlier ones made."""
    mark = "-- next"
    script = f"\nprint({mark!r})\n".join(example.code for example in EXAMPLES)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(f"{mark}\n") == [example.printed for example in EXAMPLES]


def test_constants_that_are_named_are_the_codes() -> None:
    assert f"× {BANDWIDTH_EFFICIENCY:g})" in PAGE
    assert f"× {FLOPS_EFFICIENCY:g})" in PAGE
    assert f"overhead  = {STEP_OVERHEAD_SECONDS * 1000:g} ms + layers × {LAYER_OVERHEAD_SECONDS * 1e6:g} µs" in PAGE
    assert f"u is {TARGET_UTILIZATION_RATIO:g}:" in PAGE
    assert f"({TARGET_UTILIZATION_RATIO:g} × its capacity)" in PAGE
    assert f"scarcity = {IDLE_SCARCITY:g} + {1 - IDLE_SCARCITY:g} × max(slots, cache)" in PAGE
    assert f"max(what is left of the slack, {SLACK_RATIO_MIN:g})" in PAGE
    assert f"{CHAT.prompt_tokens:,} prompt and {CHAT.completion_tokens} completion tokens" in PAGE
    assert f"life_years × {HOURS_PER_YEAR:,}" in PAGE
    assert TOKENS_PER_RATE == 1_000_000
