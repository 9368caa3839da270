"""One runbook for each alert, found from the alert, and its commands are jeton's."""

import re
from pathlib import Path

import click
import pytest
import yaml

from router.__main__ import main

PROJECT = Path(__file__).parents[2]
RULES = yaml.safe_load((PROJECT / "deploy/prometheus/alerts.rules.yaml").read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
RUNBOOKS = PROJECT / "docs/runbooks"
HEADINGS = ["What it means", "Where to look", "What to do", "When it is nothing"]
COMMAND = re.compile(r"`jeton ([^`]+)`")


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_leads_to_its_runbook(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
    text = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}: ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS


def test_every_runbook_has_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == ALERTS.keys()


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: str(path.stem))
def test_commands_exist_with_the_options_that_are_named(path: Path) -> None:
    for found in COMMAND.finditer(path.read_text(encoding="utf-8")):
        words = found[1].split()
        command: click.Command = main
        context = click.Context(main)
        while words and isinstance(command, click.Group):
            inner = command.get_command(context, words.pop(0))
            assert inner is not None, found[0]
            command = inner
        options = {option for one in command.params for option in one.opts}
        assert {word for word in words if word.startswith("--")} <= options, found[0]
        for one in command.params:
            if isinstance(one.type, click.Choice) and (given := set(words) & set(one.opts)):
                assert words[words.index(given.pop()) + 1] in [str(choice) for choice in one.type.choices], found[0]


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: str(path.stem))
def test_boards_and_panels_that_are_named_exist(path: Path) -> None:
    boards = {
        file.stem: file.read_text(encoding="utf-8") for file in (PROJECT / "deploy/grafana/dashboards").glob("*.json")
    }
    text = path.read_text(encoding="utf-8")
    assert {name.lower() for name in re.findall(r"\*(\w+)\*", text)} <= boards.keys() | {"held"}
    for title in re.findall(r"\"([A-Z][^\"]+)\"", text):
        shown = title.rstrip(",")
        assert any(shown in board for board in map(decoded, boards.values())), shown


def decoded(board: str) -> str:
    return re.sub(r"\\u([0-9a-f]{4})", lambda code: chr(int(code[1], 16)), board)
