"""What the page of published figures says is what the files quote, and what the files quote is what comes out."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from load.scenarios.command import PUBLISHED, quoted, read, reckoned, scenarios
from load.scenarios.table import markdown
from router.config_source import ConfigRefused

PROJECT = Path(__file__).parents[3]
FILES = {path.stem: path for path in sorted(PUBLISHED.glob("*.yaml"))}


@pytest.mark.parametrize("name", FILES)
def test_every_file_quotes_a_result_and_a_verdict_for_each_of_its_claims_and_a_reason(name: str) -> None:
    restated = read(FILES[name])
    assert all(claim.ours and claim.verdict for claim in restated.claims)
    assert all(
        (claim.verdict == "no figure") == (claim.published is None) or claim.impossible for claim in restated.claims
    )
    assert len(restated.why.split()) > 15


def test_the_page_is_what_the_files_quote() -> None:
    page = (PROJECT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    assert page == markdown([quoted(name, path) for name, path in FILES.items()]), "run `make scenarios`"


# Those that take a second or less; `make scenarios` does all.
@pytest.mark.parametrize("name", ["batching", "continuous-batching", "speculation", "spot"])
def test_reckoned_again_it_comes_out_as_quoted(name: str) -> None:
    result = reckoned(name, FILES[name])
    assert [(line.ours, line.verdict) for line in result.lines] == [
        (claim.ours, claim.verdict) for claim in result.restated.claims
    ]


def test_a_parameter_that_is_no_number_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "routing.yaml"
    text = FILES["routing"].read_text(encoding="utf-8").replace("quality_min: 0.55", "quality_min: yes", 1)
    path.write_text(text, encoding="utf-8")
    line = text[: text.index("quality_min: yes")].count("\n") + 1
    with pytest.raises(ConfigRefused) as refused:
        read(path)
    [mistake] = refused.value.mistakes
    assert mistake.line == line
    assert str(mistake).partition(": ")[2] == (
        "`cases.floor_55.policy.parameters.quality_min` is `true`; it must be a number (YAML reads yes and on as true, no and off"
        " as false)"
    )


def test_what_comes_out_otherwise_than_quoted_is_told_and_written_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "spot.yaml"
    shutil.copy(FILES["spot"], path)
    text = path.read_text(encoding="utf-8")
    first = read(path).claims[0].ours
    path.write_text(text.replace(f'ours: "{first}"', 'ours: "−1%"', 1), encoding="utf-8")
    arguments = ["spot", "--directory", str(tmp_path)]
    told = CliRunner().invoke(scenarios, arguments)
    assert told.exit_code == 4
    assert "otherwise than quoted: spot" in told.output
    assert CliRunner().invoke(scenarios, [*arguments, "--write"]).exit_code == 0
    assert path.read_text(encoding="utf-8") == text
    assert CliRunner().invoke(scenarios, arguments).exit_code == 0


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    told = CliRunner().invoke(scenarios, ["abacus"])
    assert told.exit_code == 2
    assert "there is no abacus; there are bank," in told.output


def test_a_file_that_is_wrong_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "title: t\nsource: s\nwhy: w\ncases:\n  a: {kind: reckoned, times: [1]}\nclaims:\n"
        '  - says: x\n    form: usd\n    of: b.value\n    ours: ""\n'
    )
    told = CliRunner().invoke(scenarios, ["--directory", str(tmp_path)])
    assert told.exit_code == 1
    assert "there is no case b; there are a" in told.output


def rows_of(text: str) -> list[list[str]]:
    """Of its tables: what is claimed, what is published, what came of it, and the verdict."""
    lines = [line.removeprefix("|").removesuffix("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")][-4:] for line in lines]


def test_the_readme_tells_of_each_file_what_the_page_tells() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8").split("## Load-test it")[1].split("## Deploy it")[0]
    page = (PROJECT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    told, published = rows_of(readme)[2:], rows_of(page)
    assert len(told) >= len(FILES)
    assert [row for row in told if row not in published] == []
    assert all(f"docs/scenarios.md#{name}" in readme for name in FILES)
