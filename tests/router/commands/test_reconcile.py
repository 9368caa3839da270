"""`jeton ledger reconcile`: a provider's export, read by a mapping, against the days of the ledger."""

import csv
import io
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from two_days import make

from router.commands.ledger import ledger
from router.ledger.periods import Invoiced, read_periods

MAPPING = """
columns:
  day: start_time
  model: line_item
  requests: num_model_requests
  uncached_tokens: input_uncached
  cached_tokens: input_cached
  completion_tokens: output_tokens
  cost_usd: amount_value
day_format: "%Y-%m-%dT%H:%M:%S%z"
models: {gpt-large-2026-08-06: model-of-cloud-large}
backends: [cloud-large]
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("reconcile"))


@pytest.fixture(scope="module")
def days(path: Path) -> list[Invoiced]:
    with read_periods(path) as periods:
        return periods.invoiced(periods.whole(), ["cloud-large"])


def export(
    days: list[Invoiced], *, off_usd: float = 0.0, more_tokens: int = 0, model: str = "gpt-large-2026-08-06"
) -> str:
    lines = ["start_time,line_item,num_model_requests,input_uncached,input_cached,output_tokens,amount_value"]
    for one in days:
        uncached = one.prompt_tokens - one.cached_tokens
        cost = one.cost_nanousd / 1e9 + off_usd
        completion = one.completion_tokens + more_tokens
        lines.append(
            f"{one.day}T00:00:00+00:00,{model},{one.requests},{uncached},{one.cached_tokens},{completion},{cost:.9f}"
        )
    return "\n".join(lines) + "\n"


def run(path: Path, tmp_path: Path, invoice: str, *arguments: str, mapping: str = MAPPING) -> Result:
    (tmp_path / "invoice.csv").write_text(invoice, encoding="utf-8-sig")
    (tmp_path / "mapping.yaml").write_text(mapping)
    files = ["--invoice", str(tmp_path / "invoice.csv"), "--mapping", str(tmp_path / "mapping.yaml")]
    return CliRunner().invoke(ledger, ["--ledger", str(path), "reconcile", *files, *arguments])


def verdicts(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [row["verdict"] for row in csv.DictReader(io.StringIO(result.stdout))]


def test_a24_what_the_provider_bills_as_we_booked_it_matches(path: Path, tmp_path: Path, days: list[Invoiced]) -> None:
    assert verdicts(run(path, tmp_path, export(days), "--csv")) == ["matched", "matched"]
    assert run(path, tmp_path, export(days), "--strict").exit_code == 0


def test_a24_a_price_that_differs_is_found_and_a_rounding_is_not(
    path: Path, tmp_path: Path, days: list[Invoiced]
) -> None:
    assert verdicts(run(path, tmp_path, export(days, off_usd=0.5), "--csv")) == ["price differs"] * 2
    assert verdicts(run(path, tmp_path, export(days, off_usd=0.009), "--csv")) == ["matched"] * 2
    assert run(path, tmp_path, export(days, off_usd=0.5), "--strict").exit_code == 1


def test_other_usage_is_found(path: Path, tmp_path: Path, days: list[Invoiced]) -> None:
    assert verdicts(run(path, tmp_path, export(days, more_tokens=1), "--csv")) == ["usage differs"] * 2


def test_a_model_that_nobody_mapped_is_missing_here_and_there(path: Path, tmp_path: Path, days: list[Invoiced]) -> None:
    result = run(path, tmp_path, export(days, model="gpt-new"), "--csv")
    assert sorted(verdicts(result)) == ["missing here"] * 2 + ["missing there"] * 2


def test_a_model_is_shown_by_the_name_that_the_export_has(path: Path, tmp_path: Path, days: list[Invoiced]) -> None:
    shown = run(path, tmp_path, export(days, model="gpt [batch] [/red]"))
    assert shown.exit_code == 0, shown.exception
    assert "gpt [batch] [/red]" in shown.output


def test_a_day_that_the_provider_has_not_billed_is_missing_there(
    path: Path, tmp_path: Path, days: list[Invoiced]
) -> None:
    later = days[1]._replace(day="2026-11-22")
    result = run(path, tmp_path, export([days[0], later]), "--csv")
    assert verdicts(result) == ["matched", "missing there", "missing here"]


def test_attempts_without_a_price_are_told_beside_the_figures(path: Path, tmp_path: Path, days: list[Invoiced]) -> None:
    assert [one.unpriced for one in days] == [0, 1]
    result = run(path, tmp_path, export(days), "--csv")
    assert result.stderr == "1 attempts here have no price: what they cost is not known, and in no figure here.\n"
    assert run(path, tmp_path, export(days[:1])).stderr == ""


def test_a_backend_of_which_the_ledger_knows_nothing_is_told(path: Path, tmp_path: Path, days: list[Invoiced]) -> None:
    result = run(
        path, tmp_path, export(days[:1]), mapping=MAPPING.replace("[cloud-large]", "[cloud-large, cloud-lagre]")
    )
    assert result.stderr == "The ledger has nothing of a backend `cloud-lagre` in this period.\n"


def test_the_table_says_how_many_of_what(path: Path, tmp_path: Path, days: list[Invoiced]) -> None:
    output = run(path, tmp_path, export(days, off_usd=0.5)).output
    assert "2 price differs; difference $1.000000000" in output


@pytest.mark.parametrize(
    ("invoice", "mapping", "said"),
    [
        ("a,b\n1,2\n", MAPPING, "the column `amount_value` is not there; there is a, b"),
        (export([]), MAPPING, "no rows"),
        (export([]) + "2026-11-20T00:00:00+00:00,x,1,1,1,1,0,05\n", MAPPING, ":2: cannot be read (more cells"),
        (export([]) + '2026-11-20T00:00:00+00:00,x,1,1,1,1,"0,05"\n', MAPPING, "amount_value is 0,05"),
        (export([]) + '2026-11-20T00:00:00+00:00,x,1,1,1,1,"1.234,50"\n', MAPPING, "amount_value is 1.234,50"),
        (export([]) + '2026-11-20T00:00:00+00:00,x,1,"12,34",1,1,1\n', MAPPING, "input_uncached is 12,34"),
        (export([]) + "2026-11-20T00:00:00+00:00,x,1,1\n", MAPPING, ":2: cannot be read (fewer cells"),
        (export([]) + "2026-11-20T00:00:00+00:00,x,1,1,1,1,NaN\n", MAPPING, "amount_value is NaN"),
        (export([]) + f"2026-11-20T00:00:00+00:00,{'x' * 200_000},1,1,1,1,1\n", MAPPING, "is not CSV in UTF-8"),
        (export([]).replace("line_item", "line_item,line_item"), MAPPING, "`line_item` stands twice"),
        (export([]), MAPPING + "tolerance_usd: a cent\n", "is not a number"),
        (export([]), MAPPING + "tolerance_usd: .inf\n", "is not an amount"),
        (export([]), MAPPING + "backends: [cloud-small]\n", "`backends` is set twice"),
        (export([]) + "yesterday,x,1,1,1,1,1\n", MAPPING, ":2: cannot be read"),
        (export([]) + "2026-11-20T00:00:00+00:00,x,1,1.5,1,1,1\n", MAPPING, "not a whole number"),
        (export([]), MAPPING.replace("backends:", "backend:"), "did you mean `backends`?"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(path: Path, tmp_path: Path, invoice: str, mapping: str, said: str) -> None:
    result = run(path, tmp_path, invoice, mapping=mapping)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_bytes_that_are_not_utf_8_are_told_in_a_line(path: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(export([]).encode() + b"2026-11-20,caf\xe9,1,1,1,1,1\n")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    files = ["--invoice", str(tmp_path / "latin.csv"), "--mapping", str(tmp_path / "mapping.yaml")]
    result = CliRunner().invoke(ledger, ["--ledger", str(path), "reconcile", *files])
    assert result.exit_code == 1
    assert "is not CSV in UTF-8" in result.output


def test_commas_between_thousands_are_read_as_such(path: Path, tmp_path: Path) -> None:
    row = '2026-11-20T00:00:00+00:00,x,"1,234","12,345,678",0,1e3,"$1,234.50"\n'
    result = run(path, tmp_path, export([]) + row, "--csv")
    (found,) = [one for one in csv.DictReader(io.StringIO(result.stdout)) if one["model"] == "x"]
    assert (found["requests_there"], found["prompt_there"], found["completion_there"]) == ("1234", "12345678", "1000")
    assert found["cost_there_usd"] == "1234.500000000"


@pytest.mark.parametrize("cost", ["", " "])
def test_a_cost_that_the_export_does_not_say_is_not_taken_for_0(
    path: Path, tmp_path: Path, days: list[Invoiced], cost: str
) -> None:
    silent = "\n".join(f"{line.rpartition(',')[0]},{cost}" for line in export(days).splitlines()[1:])
    invoice = export([]) + silent + "\n"
    result = run(path, tmp_path, invoice, "--csv")
    assert verdicts(result) == ["matched", "matched"]
    assert {row["difference_usd"] for row in csv.DictReader(io.StringIO(result.stdout))} == {""}
    assert "2 without a cost there, not compared" in run(path, tmp_path, invoice).output
    without = MAPPING.replace("  cost_usd: amount_value\n", "")
    told = run(path, tmp_path, export(days), "--csv", mapping=without)
    assert {row["difference_usd"] for row in csv.DictReader(io.StringIO(told.stdout))} == {""}
