import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from router.__main__ import main

DEPLOY = Path(__file__).parents[3] / "deploy" / "config"


def check(path: Path, **environ: str) -> Result:
    arguments = ["check", "--config", str(path), "--day", "2026-11-23"]  # the example's prices are of that year
    return CliRunner().invoke(main, arguments, env={"CLOUD_API_KEY": None, **environ})


@pytest.fixture
def router_yaml(tmp_path: Path) -> Path:
    for name in ("router.yaml", "prices.yaml"):
        shutil.copy(DEPLOY / name, tmp_path)
    return tmp_path / "router.yaml"


def row(table: str, backend: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if backend in line.split()[1:2]]
    return line.split()


def test_the_fleet_is_printed_with_its_prices(router_yaml: Path) -> None:
    result = check(router_yaml, CLOUD_API_KEY="a secret")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "a secret" not in result.output
    edge, cloud = row(result.stdout, "edge-small"), row(result.stdout, "cloud-large")
    assert edge[:6] == ["edge", "edge-small", "llama-3.1-8b-instruct", "small", "2", "0.7992"]
    assert edge[9] == "16,384"
    assert edge[10:] == ["chat", "completions"]
    assert cloud[:10] == [
        "cloud",
        "cloud-large",
        "gpt-4.1",
        "large",
        "1",
        "–",
        "2.0000",
        "0.5000",
        "8.0000",
        "1,047,576",
    ]
    assert "$12.9384 an hour, busy or not" in result.stdout, "two at 0.7992, one at 3.78, one at 7.56"


def test_budgets_are_printed(router_yaml: Path) -> None:
    printed = check(router_yaml, CLOUD_API_KEY="a secret").stdout.splitlines()
    assert [line for line in printed if line.startswith("budget")] == [
        "budget    research: $50.00 a day, from 80% on tier small",
        "budget    research/notebooks: $200.00 a month",
    ]


def test_prices_of_tokens_on_leased_replicas_order_as_they_must(router_yaml: Path) -> None:
    table = check(router_yaml, CLOUD_API_KEY="a secret").stdout
    for backend in ("edge-small", "central-small", "central-large"):
        prompt, cached, completion = map(float, row(table, backend)[6:9])
        assert 0 < cached < prompt < completion


def test_what_names_lead_to_is_printed(router_yaml: Path) -> None:
    lines = check(router_yaml, CLOUD_API_KEY="a secret").stdout.splitlines()
    assert "alias     chat-small → edge-small, central-small" in lines
    assert "tenant    support: 1 API key, may ask for chat-small, chat-private" in lines
    assert "policy    quality_floor(quality_min=0.75, ttft_seconds_max=2.0), saving against central-large" in lines


def test_every_refusal_is_printed_to_stderr_and_the_exit_code_is_1(router_yaml: Path) -> None:
    router_yaml.write_text(router_yaml.read_text().replace("baseline: central-large", "baseline: large"))
    result = check(router_yaml)
    assert result.exit_code == 1
    assert result.stdout == ""
    first, second, count = result.stderr.splitlines()
    assert first.startswith(f"{router_yaml}:25:11: there is no backend named `large`; there is `central-large`, ")
    line = router_yaml.read_text().split("api_key_env: CLOUD_API_KEY")[0].count("\n") + 1
    assert second.startswith(f"{router_yaml}:{line}:26: the environment variable CLOUD_API_KEY, ")
    assert count == "2 mistakes; jeton would not start"


def test_a_warning_is_printed_and_refuses_nothing(router_yaml: Path) -> None:
    router_yaml.write_text(router_yaml.read_text().replace("https://api.openai", "http://api.openai"))
    result = check(router_yaml, CLOUD_API_KEY="a secret")
    assert result.exit_code == 0
    assert "in clear text; use https://" in result.stderr


def test_a_file_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    result = check(tmp_path / "router.yaml")
    assert result.exit_code == 1
    assert "router.yaml:1:1: cannot be read (No such file or directory)" in result.stderr


def test_a_stale_price_is_warned_of_with_what_to_do_and_refuses_nothing(router_yaml: Path) -> None:
    prices = router_yaml.with_name("prices.yaml")
    prices.write_text(prices.read_text().replace("prices:\n", "stale_days: 180\nprices:\n", 1))
    result = check(router_yaml, CLOUD_API_KEY="a secret")
    assert result.exit_code == 0
    warned = [line for line in result.stderr.splitlines() if "is stale" in line]
    assert [line.partition("the price `")[2].partition("`")[0] for line in warned] == [
        "edge-l4",
        "central-h100",
        "central-h100-x2",
    ]
    assert "router.yaml:" in warned[0]
    assert (
        "200 days ago (`stale_days` is 180); look whether it still does, then write `confirmed: 2026-11-23`"
        in warned[0]
    )
    prices.write_text(prices.read_text().replace("from: 2026-05-07", "from: 2026-05-07\n      confirmed: 2026-11-01"))
    assert check(router_yaml, CLOUD_API_KEY="a secret").stderr == ""


def test_feeds_are_printed(router_yaml: Path) -> None:
    with router_yaml.with_name("prices.yaml").open("a") as file:
        file.write(
            "feeds:\n  market: {url: 'https://prices.internal/spot?region=eu', prices: [edge-l4], poll_seconds: 30}\n"
        )
    printed = check(router_yaml, CLOUD_API_KEY="a secret").stdout.splitlines()
    assert [line for line in printed if line.startswith("feed")] == [
        "feed      market: edge-l4 from https://prices.internal/spot?region=eu, every 30 s, stale after 900 s"
    ]


def test_a_feed_that_others_could_change_on_its_way_is_warned_of(router_yaml: Path) -> None:
    with router_yaml.with_name("prices.yaml").open("a") as file:
        file.write("feeds:\n  market: {url: 'http://prices.example.com/spot', prices: [edge-l4]}\n")
    result = check(router_yaml, CLOUD_API_KEY="a secret")
    assert result.exit_code == 0
    assert "in clear text: whoever is on the way sets prices; use https://" in result.stderr


def restricted(router_yaml: Path, *changes: tuple[str, str]) -> list[str]:
    text = router_yaml.read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    router_yaml.write_text(text)
    result = check(router_yaml, CLOUD_API_KEY="a secret")
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


def test_rules_are_printed_in_their_order_with_what_they_cover_and_whom_they_serve(router_yaml: Path) -> None:
    rules = """policies:
  - {name: pack, hours: "22:00-06:00", days: [sun], parameters: {fill_ratio_max: 1.5}}
  - {name: slo, parameters: {ttft_seconds_max: 0.5}, tenants: [support], models: [chat-small, auto]}
  - {name: always_large, tenants: [research]}
  - {name: always_small}

baseline:"""
    lines = restricted(router_yaml, ("baseline:", rules))
    assert [line for line in lines if line.startswith(("rule", "policy"))] == [
        "rule 1    pack(fill_ratio_max=1.5, ttft_seconds_max=2.0, quality_min=0.0), for all tenants, 22:00-06:00 UTC, on sun",
        "rule 2    slo(ttft_seconds_max=0.5, tpot_seconds_max=0.1), for tenant support, asking for chat-small or auto",
        "rule 3    always_large(), for tenant research",
        "rule 4    always_small(), for all tenants",
        "policy    quality_floor(quality_min=0.75, ttft_seconds_max=2.0), where no rule does, saving against central-large",
    ]
    assert [line for line in lines if line.startswith("tenant")] == [
        "tenant    research: 1 API key, may ask for everything, decided by pack (rule 1), else always_large (rule 3)",
        "tenant    support: 1 API key, may ask for chat-small, chat-private, decided by pack (rule 1), else slo (rule 2), else "
        "always_small (rule 4)",
    ]


def test_a_rule_for_names_that_a_tenant_may_not_ask_for_does_not_decide_on_it(router_yaml: Path) -> None:
    rules = """policies:
  - {name: always_large, models: [chat-large]}
  - {name: always_small, models: [chat-small, chat-private], days: [mon]}
  - {name: pack, models: [chat-small, chat-private]}

baseline:"""
    lines = restricted(router_yaml, ("baseline:", rules))
    assert [line.partition("decided by ")[2] for line in lines if line.startswith("tenant")] == [
        "always_large (rule 1), else always_small (rule 2), else pack (rule 3), else quality_floor",
        "always_small (rule 2), else pack (rule 3)",
    ]


def test_where_data_and_tenants_may_go_is_printed_with_the_backends_that_are_left(router_yaml: Path) -> None:
    lines = restricted(
        router_yaml,
        ("    region: eu-central\n", "    region: eu-central\n    residency: eu\n"),
        ("    region: eu-west\n", "    region: eu-west\n    residency: eu\n"),
        ("  - name: support\n", "  - name: support\n    residency: [eu]\n    pools: [central, cloud]\n"),
    )
    assert [line for line in lines if line.startswith(("data", "reach"))] == [
        "data      in eu: pools edge, central",
        "data      in an undeclared place: pool cloud",
        "reach     support: only pools central, cloud, data in eu → central-small, central-large",
    ]


def test_who_is_isolated_and_whom_dedicated_backends_leave_is_printed(router_yaml: Path) -> None:
    lines = restricted(
        router_yaml,
        ("      - name: edge-small\n", "      - name: edge-small\n        dedicated_to: [research]\n"),
        ("  - name: research\n", "  - name: research\n    isolation: dedicated\n"),
    )
    assert [line for line in lines if line.startswith("reach")] == [
        "reach     research: only backends of its own → edge-small",
        "reach     support: all that is not dedicated to others → central-small, central-large, cloud-large",
    ]


def test_what_is_not_restricted_is_not_told(router_yaml: Path) -> None:
    lines = check(router_yaml, CLOUD_API_KEY="a secret").stdout.splitlines()
    assert not [line for line in lines if line.startswith(("rule", "reach")) or "decided by" in line]
