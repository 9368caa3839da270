"""`jeton profile`: fit, show, list."""

import csv
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_errors import DATA

from load.calibration.command import profile
from router.profiles import read_catalogue


def run(*arguments: str) -> Result:
    return CliRunner().invoke(profile, list(arguments))


def test_show_tells_speed_and_prices_against_concurrency() -> None:
    result = run("show", "llama-3.1-70b", "fp8", "h200", "--tp", "1", "--usd-per-hour", "2")
    assert result.exit_code == 0, result.output
    assert "fitted to" in result.output
    for word in ("tokens/s", "TTFT ms", "TPOT ms", "$/M in", "$/M cached", "$/M out", "KV cache"):
        assert word in result.output
    assert result.output.count("against concurrency") == 3
    assert "against concurrency" not in run("show", "llama-3.1-70b", "fp8", "h200", "--no-plot").output


def test_twice_the_price_of_an_hour_is_twice_the_price_of_a_token() -> None:
    def dollars(usd_per_hour: str) -> list[float]:
        lines = run(
            "show", "llama-3.1-8b", "fp8", "h100", "--no-plot", "--usd-per-hour", usd_per_hour
        ).output.splitlines()
        return [float(line.split()[-1]) for line in lines if line.strip()[:1].isdigit()]

    assert dollars("200") == pytest.approx([2 * usd for usd in dollars("100")], rel=1e-3)


def test_a_deployment_that_nobody_measured_is_shown_as_such() -> None:
    assert "never measured" in run("show", "qwen3-14b", "int8", "l40s", "--no-plot", "--usd-per-hour", "1").output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("lama-3.1-70b", "fp8", "h200"), "did you mean `llama-3.1-70b`?"),
        (("llama-3.1-70b", "fp8", "h2000"), "did you mean `h200`?"),
        (("llama-3.1-70b", "fp9", "h200"), "no quantization `fp9`"),
        (("llama-3.1-70b", "bf16", "l4"), "leave no room for a KV cache on 1 × l4"),
        (("llama-3.1-8b", "fp8", "l4"), "add --usd-per-hour"),
    ],
)
def test_what_cannot_be_shown_is_said(arguments: tuple[str, ...], says: str) -> None:
    result = run("show", *arguments)
    assert result.exit_code == 1
    assert says in result.output


def test_check_tells_how_far_the_profiles_are_from_runs_without_fitting_anything(tmp_path: Path) -> None:
    result = run("check", str(DATA / "e2e_agg.csv"))
    assert result.exit_code == 0, result.output
    assert "vllm: llama-3.1-70b fp8 on h200" in result.output
    (total,) = [line for line in result.output.splitlines() if line.split()[:1] == ["all"]]
    assert float(total.split()[2].rstrip("%")) < 8
    unknown = tmp_path / "runs.csv"
    unknown.write_text((DATA / "e2e_agg.csv").read_text().replace("H200-SXM", "H2000"))
    assert "there is no column, model or GPU 'h2000'" in run("check", str(unknown)).output
    unknown.write_text((DATA / "e2e_agg.csv").read_text().partition("\n")[0])
    assert "holds no runs" in run("check", str(unknown)).output


def test_list_names_what_there_is() -> None:
    listed = run("list").output
    assert "llama-3.1-70b-fp8-h200 " in listed
    assert "GPUs: " in listed


def test_fit_writes_profiles_and_the_table_of_their_errors(tmp_path: Path) -> None:
    calibration, prices = tmp_path / "calibration", tmp_path / "prices"
    calibration.mkdir()
    prices.mkdir()
    shutil.copy(DATA / "models.csv", calibration)
    shutil.copy(DATA / "gpu_specs.csv", prices)
    (prices / "gpu_tco.csv").write_text("gpu,tco_neocloud_usd_per_gpu_hr\nH100-SXM,1.5\n")
    with (DATA / "e2e_agg.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["model"] == "meta-llama/Llama-3.1-70B"]
    with (calibration / "e2e_agg.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows * 6)  # of each deployment, enough for a profile of its own
    # A made-up run, in the columns of the source.
    (calibration / "open_loop_vllm_h100.csv").write_text(
        "experiment,model,gpu,tp,max_num_batched_tokens,max_num_seqs,rate_req_s,system_prompt_tokens,question_tokens,"
        "output_tokens,workload_spec,ttft_mean_ms,itl_mean_ms,e2e_mean_ms\n"
        "a,meta-llama/Llama-3.1-8B-Instruct,H100-SXM,1,2048,128,1.0+2.0,100,400,200,exact,50,8,1700\n"
        "b,meta-llama/Llama-3.1-8B-Instruct,H100-SXM,1,2048,,3.0,100,400,200,inferred from category,50,8,1700\n"
    )
    profiles, errors = tmp_path / "profiles.yaml", tmp_path / "errors.md"
    result = run("fit", "--calibration", str(calibration), "--profiles", str(profiles), "--errors", str(errors))
    assert result.exit_code == 0, result.output
    catalogue = read_catalogue(profiles)
    assert catalogue.gpu_usd_per_hour == {"h100": 1.5}
    assert any(name.startswith("llama-3.1-70b-fp8-h200") for name in catalogue.fits)
    table = errors.read_text()
    assert "| vllm |" in table
    assert "vllm: llama-3.1-70b fp8 on h200" in table
    assert "| exact | 1 |" in table


def test_fit_says_which_file_is_missing(tmp_path: Path) -> None:
    result = run("fit", "--calibration", str(tmp_path), "--prices", str(tmp_path))
    assert result.exit_code == 1
    assert "there is no " in result.output
    assert "e2e_agg.csv" in result.output
