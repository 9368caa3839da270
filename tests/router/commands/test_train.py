import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from router.__main__ import main
from router.classify.classifier import Classifier
from router.domain.request import Prompt

OUTCOMES = Path(__file__).parents[1] / "classify" / "data" / "outcomes.jsonl.gz"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_what_it_writes_can_be_loaded_and_predicts(tmp_path: Path) -> None:
    result = run("--data", OUTCOMES, "--out", tmp_path / "model.npz")
    assert result.exit_code == 0, result.output
    assert "from 700 outcomes" in result.output
    assert 0 < Classifier.load(tmp_path / "model.npz").predict(Prompt("Is it true?")).small_suffices < 1


def test_your_own_rows_and_pair(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for dataset in ("support", "search"):
        rows = [
            {
                "id": f"{dataset}/{n}",
                "dataset": dataset,
                "prompt": f"{dataset} asks {n}",
                "scores": {"a": n % 2, "b": 1},
            }
            for n in range(20)
        ]
        (tmp_path / "data" / f"{dataset}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    out = tmp_path / "own.npz"
    assert run("--data", tmp_path / "data", "--out", out, "--pair", "a", "b").exit_code == 0
    assert Classifier.load(out)
    held_out = run("--data", tmp_path / "data", "--out", out, "--pair", "a", "b", "--exclude", tmp_path / "data")
    assert held_out.exit_code == 1
    assert "at least two datasets" in held_out.output


def test_excluded_questions_are_not_learned(tmp_path: Path) -> None:
    lines = gzip.decompress(OUTCOMES.read_bytes()).splitlines()
    (tmp_path / "some.jsonl").write_bytes(b"\n".join(lines[:100]))
    result = run("--data", OUTCOMES, "--out", tmp_path / "model.npz", "--exclude", tmp_path / "some.jsonl")
    assert result.exit_code == 0
    assert int(result.output.split(" from ")[1].split()[0]) <= 600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "x"}', "rows.jsonl:1: x: member 'prompt' is missing"),
        ("\n[]", "rows.jsonl:2: not a JSON object"),
        ("{", "rows.jsonl:1: "),
        ("", "at least two datasets"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(content, encoding="utf-8")
    result = run("--data", tmp_path, "--out", tmp_path / "model.npz")
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "model.npz").exists()


def test_a_directory_without_outcomes_is_refused(tmp_path: Path) -> None:
    result = run("--data", tmp_path, "--out", tmp_path / "model.npz")
    assert result.exit_code == 1
    assert "holds no outcome files" in result.output


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    result = run("--data", OUTCOMES, "--out", tmp_path / "nowhere" / "model.npz")
    assert result.exit_code == 1
    assert "nowhere" in result.output
    assert "Traceback" not in result.output
