"""The reference pages are what the code says, and every header of an answer stands on its page and in the README."""

import re
from pathlib import Path

from docs.generate import ASKED, HEADERS, PAGES, headers_in_code, pages

PROJECT = Path(__file__).parents[2]


def test_the_committed_pages_are_what_the_code_says() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    assert written == pages(), "run: make reference"


def test_every_header_that_is_sent_or_heeded_is_told_and_no_other() -> None:
    assert headers_in_code() == HEADERS.keys() | ASKED.keys()
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert {name for name in (*HEADERS, *ASKED) if name not in readme} == set()


def test_every_metric_has_a_text_and_its_unit_last() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([\w, ]*) \| (.+) \|$", (PAGES / "metrics.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) > 40
    assert len({name for name, *_ in rows}) == len(rows)
    for name, kind, _, text in rows:
        assert name.startswith("jeton_")
        assert text.strip()
        assert kind != "counter" or name.endswith("_total")


def test_shapes_that_are_named_have_their_heading() -> None:
    text = (PAGES / "configuration.md").read_text(encoding="utf-8")
    headings = {heading.lower() for heading in re.findall(r"^## (\w+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= headings
