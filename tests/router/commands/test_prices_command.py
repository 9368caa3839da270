"""`jeton prices`: public tables come in, doubtful rows stay outside, and what is in force can be seen."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from price_tables import GENAI_PRICES, LITELLM, OPENROUTER, SKYPILOT

from router.__main__ import main
from router.config_shape import check_shape
from router.config_source import read_source
from router.pricing.book import PriceBook

DEPLOY = Path(__file__).parents[3] / "deploy" / "config"
DAY = "2026-11-26"


@pytest.fixture
def prices_yaml(tmp_path: Path) -> Path:
    for name in ("router.yaml", "prices.yaml"):
        shutil.copy(DEPLOY / name, tmp_path)
    return tmp_path / "prices.yaml"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["prices", *map(str, arguments)])


def import_(table: Path, out: Path, *options: object, day: str = DAY) -> Result:
    return run("import", table, "--out", out, "--date", day, *options)


def quarantined(out: Path) -> dict[str, list[str]]:
    listed = yaml.safe_load(out.with_name("prices.quarantine.yaml").read_text())["quarantined"]
    return {entry["name"]: entry["why"] for entry in listed}


@pytest.mark.parametrize("table", [LITELLM, GENAI_PRICES, OPENROUTER, SKYPILOT])
def test_what_is_written_is_a_price_book_and_can_be_imported_again(table: Path, prices_yaml: Path) -> None:
    before = prices_yaml.read_text()
    first = import_(table, prices_yaml)
    assert first.exit_code in (0, 3)
    after = prices_yaml.read_text()
    assert after.startswith(before)
    check_shape(read_source(prices_yaml), PriceBook)
    again = import_(table, prices_yaml, day="2026-11-27")
    assert again.exit_code == first.exit_code
    assert "0 imported, 0 changed, " in again.stdout
    assert prices_yaml.read_text().replace("      confirmed: 2026-11-27\n", "") == after


def test_the_13_wrong_rows_of_a_public_table_go_into_quarantine_with_reasons(prices_yaml: Path) -> None:
    result = import_(LITELLM, prices_yaml)
    assert result.exit_code == 3
    aside = quarantined(prices_yaml)
    assert len([name for name in aside if name.startswith("wandb/")]) == 13
    assert all(aside.values())
    book = check_shape(read_source(prices_yaml), PriceBook)
    assert not [name for name in book.prices if name.startswith("wandb/")]
    assert "openai/gpt-4.1" in book.prices
    assert "135000 USD for a million prompt tokens" in " ".join(result.stdout.split())


def test_disagreement_with_another_table_goes_into_quarantine(prices_yaml: Path) -> None:
    import_(LITELLM, prices_yaml, "--against", GENAI_PRICES, "--only", "groq/gemma-7b-it", "--only", "openai/gpt-4*")
    assert list(quarantined(prices_yaml)) == ["groq/gemma-7b-it"]
    assert quarantined(prices_yaml)["groq/gemma-7b-it"] == [
        "genai_prices.json says 0.07 for prompt_usd_per_million, not 0.05",
        "genai_prices.json says 0.07 for completion_usd_per_million, not 0.08",
    ]
    book = check_shape(read_source(prices_yaml), PriceBook)
    assert {name for name in book.prices if "/" in name} == {"openai/gpt-4.1", "openai/gpt-4o-mini"}


def test_all_that_is_believed_exits_with_0_and_empties_the_quarantine(prices_yaml: Path) -> None:
    import_(LITELLM, prices_yaml, "--only", "wandb/*")
    assert len(quarantined(prices_yaml)) == 13
    result = import_(LITELLM, prices_yaml, "--only", "openai/gpt-4.1")
    assert result.exit_code == 0
    assert quarantined(prices_yaml) == {}


def test_a_row_that_somebody_has_looked_at_is_accepted(prices_yaml: Path) -> None:
    result = import_(OPENROUTER, prices_yaml, "--only", "*:free", "--accept", "*:free")
    assert result.exit_code == 0
    (row,) = yaml.safe_load(prices_yaml.read_text())["prices"]["openrouter/dots-studio/dots-3-note-preview:free"]
    assert row["unusual_price_confirmed"] is True


def test_a_changed_price_is_a_new_row_and_too_large_a_change_is_none(prices_yaml: Path, tmp_path: Path) -> None:
    import_(LITELLM, prices_yaml, "--only", "openai/gpt-4.1")
    table = json.loads(LITELLM.read_text())
    for factor, outcome, exit_code in ((0.8, "1 changed", 0), (0.1, "1 quarantined", 3)):
        table["gpt-4.1"]["input_cost_per_token"] = 2e-06 * factor
        changed = tmp_path / "changed.json"
        changed.write_text(json.dumps(table))
        result = import_(changed, prices_yaml, "--only", "openai/gpt-4.1", day="2026-12-01")
        assert (result.exit_code, outcome in result.stdout) == (exit_code, True)
    history = run("show", "--prices", prices_yaml, "openai/gpt-4.1").stdout
    assert [line.split()[1:3] for line in history.splitlines() if "openai/gpt-4.1" in line] == [
        [DAY, "2026-12-01"],
        ["2026-12-01", "–"],
    ]


def test_a_dry_run_writes_nothing(prices_yaml: Path) -> None:
    before = prices_yaml.read_text()
    assert import_(LITELLM, prices_yaml, "--dry-run").exit_code == 3
    assert prices_yaml.read_text() == before
    assert not prices_yaml.with_name("prices.quarantine.yaml").exists()


def test_a_catalogue_is_of_the_cloud_whose_folder_it_is_in(prices_yaml: Path) -> None:
    assert import_(SKYPILOT, prices_yaml, "--only", "nebius/*").exit_code == 0
    book = check_shape(read_source(prices_yaml), PriceBook)
    assert "nebius/gpu-h200-sxm_1gpu-16vcpu-200gb/eu-west1/spot" in book.prices


def test_what_cannot_be_imported_is_said_and_exits_with_1(prices_yaml: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.json"
    nothing.write_text("[]")
    result = import_(nothing, prices_yaml)
    assert result.exit_code == 1
    assert "none of the known tables" in result.stderr
    result = import_(LITELLM, prices_yaml, "--only", "nosuch*")
    assert result.exit_code == 1
    assert "prices has a name like nosuch*" in result.stderr
    prices_yaml.write_text("prices:\n  p:\n    - {kind: lease, from: someday}\n")
    result = import_(LITELLM, prices_yaml)
    assert result.exit_code == 1
    assert f"{prices_yaml}:3:27: " in result.stderr


def test_what_is_in_force_is_shown_with_its_age_and_source(prices_yaml: Path) -> None:
    result = run("show", "--config", prices_yaml.with_name("router.yaml"), "--date", "2026-11-26")
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if "bench-gpu" in line)
    assert line.split()[:9] == ["bench-gpu", "3.6", "an", "hour", "2026-01-01", "329", "d", "current", "the"]
    later = run("show", "--prices", prices_yaml, "--date", "2027-06-01").stdout
    assert "stale" in next(line for line in later.splitlines() if "bench-gpu" in line)
    before = run("show", "--prices", prices_yaml, "--date", "2025-06-01").stdout
    assert "unknown" in next(line for line in before.splitlines() if "bench-gpu" in line)


def test_an_unknown_name_is_refused_with_its_neighbours(prices_yaml: Path) -> None:
    result = run("show", "--prices", prices_yaml, "central-h10")
    assert result.exit_code == 1
    assert "there is `central-h100`" in result.stderr


def test_a_price_that_a_feed_moves_is_shown_as_what_holds_until_it_tells(prices_yaml: Path) -> None:
    with prices_yaml.open("a") as file:
        file.write("feeds:\n  market: {file: spot.json, prices: [bench-gpu]}\n")
    shown = run("show", "--prices", prices_yaml, "--date", "2027-06-01").stdout
    assert "until market tells" in " ".join(next(line for line in shown.splitlines() if "bench-gpu" in line).split())


def test_a_name_that_the_table_has_twice_with_different_prices_is_not_believed(
    prices_yaml: Path, tmp_path: Path
) -> None:
    entry = '"m": {"litellm_provider": "p", "mode": "chat", "input_cost_per_token": %s, "output_cost_per_token": 2e-06}'
    table = tmp_path / "twice.json"
    table.write_text("{" + entry % "1e-06" + ", " + entry % "1.5e-06" + "}")
    assert import_(table, prices_yaml).exit_code == 3
    assert quarantined(prices_yaml)["p/m"] == ["stands in the table twice, with different prices"]


def test_a_name_that_the_price_book_has_twice_is_neither_shown_nor_added_to(prices_yaml: Path) -> None:
    row = "    - {kind: lease, from: 2026-01-01, usd_per_hour: 3, source: s}\n"
    prices_yaml.write_text(f"prices:\n  a:\n{row}  a:\n{row.replace('3,', '4,')}")
    before = prices_yaml.read_text()
    for result in (run("show", "--prices", prices_yaml), import_(LITELLM, prices_yaml, "--only", "openai/gpt-4.1")):
        assert result.exit_code == 1
        assert "`a` is set twice (first in line 2)" in result.stderr
    assert prices_yaml.read_text() == before


def test_tables_of_one_name_to_compare_with_are_all_asked(prices_yaml: Path, tmp_path: Path) -> None:
    witnesses = []
    for folder, usd in (("a", 1e-06), ("b", 2e-06)):
        (tmp_path / folder).mkdir()
        witnesses.append(tmp_path / folder / "table.json")
        model = {
            "litellm_provider": "openai",
            "mode": "chat",
            "input_cost_per_token": usd,
            "output_cost_per_token": 8e-06,
        }
        witnesses[-1].write_text(json.dumps({"gpt-4.1": model}))
    import_(LITELLM, prices_yaml, "--only", "openai/gpt-4.1", "--against", witnesses[0], "--against", witnesses[1])
    assert quarantined(prices_yaml) == {"openai/gpt-4.1": [f"{witnesses[0]} says 1 for prompt_usd_per_million, not 2"]}


def test_a_row_that_counts_again_after_a_later_one_has_ended_is_shown_twice(prices_yaml: Path) -> None:
    prices_yaml.write_text(
        "prices:\n  a:\n"
        "    - {kind: lease, from: 2026-01-01, until: 2026-06-01, usd_per_hour: 4, source: s}\n"
        "    - {kind: lease, from: 2026-02-01, until: 2026-03-01, usd_per_hour: 2, source: s}\n"
        "    - {kind: lease, from: 2026-05-20, until: 2026-06-20, usd_per_hour: 5, source: s}\n"
        "    - {kind: lease, from: 2026-07-01, usd_per_hour: 3, source: s}\n"
    )
    history = run("show", "--prices", prices_yaml, "a").stdout
    assert [line.split()[1:4] for line in history.splitlines() if line.split()[:1] == ["a"]] == [
        ["2026-01-01", "2026-02-01", "4"],
        ["2026-02-01", "2026-03-01", "2"],
        ["2026-03-01", "2026-05-20", "4"],
        ["2026-05-20", "2026-06-20", "5"],
        ["2026-07-01", "–", "3"],
    ]


@pytest.mark.parametrize("name", ["a\u2028b", "a\x7fb", "a\x85b", "a\ud800b", "a\x1b[31mb", "a\nb"])
def test_a_name_that_cannot_be_shown_is_spelled_out_in_quarantine_and_the_rest_imported(
    prices_yaml: Path, tmp_path: Path, name: str
) -> None:
    model = {"litellm_provider": "p", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}
    table = tmp_path / "table.json"
    table.write_text(json.dumps({name: model, "fine": model}))
    result = import_(table, prices_yaml)
    assert result.exit_code == 3, result.output
    assert name not in result.output
    (spelled,) = quarantined(prices_yaml).items()
    assert spelled == (
        f"p/{name.encode('unicode_escape').decode()}",
        ["has characters in its name that cannot be shown"],
    )
    assert "p/fine" in check_shape(read_source(prices_yaml), PriceBook).prices


def test_the_quarantine_never_takes_the_place_of_the_price_book_or_the_table(prices_yaml: Path, tmp_path: Path) -> None:
    table = Path(shutil.copy(LITELLM, tmp_path))
    before = prices_yaml.read_text()
    for aside in (prices_yaml, table):
        result = import_(table, prices_yaml, "--quarantine", aside)
        assert result.exit_code == 2
        assert "give it a file of its own" in result.stderr
    assert prices_yaml.read_text() == before
    assert table.read_text() == LITELLM.read_text()
