import json
from pathlib import Path

from click.testing import CliRunner, Result

from router.__main__ import main

OUTCOMES = Path(__file__).parents[1] / "classify" / "data" / "outcomes.jsonl.gz"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["eval", *map(str, arguments)])


def test_the_classifier_stands_beside_random_length_and_rules() -> None:
    result = run("--data", OUTCOMES, "--folds", "3")
    assert result.exit_code == 0, result.output
    for column in ("random", "length", "rules", "by rows", "datasets out"):
        assert column in result.output
    for dataset in ("mmlu", "mmlu_pro", "gsm8k", "gsm8k_z", "math_l5", "llmrouter"):
        assert f" {dataset} " in result.output
    (macro,) = [line for line in result.output.splitlines() if "macro" in line]
    assert "0.500" in macro
    assert macro.count("[") == 4  # an interval for each but random
    for line in ("Brier", "expected calibration error", "completion tokens", "µs a prompt"):
        assert line in result.output


def test_pairs_that_never_ran_are_refused(tmp_path: Path) -> None:
    row = {"id": "1", "dataset": "d", "prompt": "p", "scores": {"a": 1}}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    result = run("--data", tmp_path, "--pair", "a", "b")
    assert result.exit_code == 1
    assert "name yours with --pair" in result.output


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(b"not gzip")
    result = run("--data", tmp_path)
    assert result.exit_code == 1
    assert "rows.jsonl.gz:0" in result.output


def test_of_two_datasets_none_is_left_out(tmp_path: Path) -> None:
    rows = [
        {"id": f"{d}{n}", "dataset": d, "prompt": f"{d} asks {n}", "scores": {"a": n % 2, "b": 1}}
        for d in ("support", "search")
        for n in range(20)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    result = run("--data", tmp_path, "--pair", "a", "b")
    assert result.exit_code == 0, result.output
    assert "none is left out" in result.output
    assert "by rows" in result.output
    assert "datasets out" not in result.output
