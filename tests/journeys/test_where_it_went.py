"""From requests to the report: what was held out, what it cost, and that the hours say what the router said."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from whole_app import running

from router.commands.report import report

PATH = "/v1/chat/completions"
BODY = {"model": "auto", "messages": [{"role": "user", "content": "What is two and two?"}], "max_tokens": 5}


def half(config: dict[str, Any]) -> None:
    config["baseline"] = "cloud"
    config["holdout_ratio"] = 0.5


async def test_a_held_out_request_goes_to_the_baseline_and_is_marked(tmp_path: Path) -> None:
    async with running(tmp_path, half) as jeton:
        answers = [await jeton.http.post(PATH, json=BODY) for _ in range(40)]
        named = await jeton.http.post(PATH, json={**BODY, "model": "small-model"})
        prices = (await jeton.http.get("/metrics")).text
        charges = {charge["request_id"]: charge for charge in await jeton.charges()}
    held = [answer for answer in answers if answer.headers["x-jeton-reason"] == "holdout"]
    assert 5 < len(held) < 35
    assert {answer.headers["x-jeton-backend"] for answer in held} == {"cloud"}
    assert named.headers["x-jeton-reason"] != "holdout"
    for answer in answers:
        charge = charges[answer.headers["x-request-id"]]
        assert (charge["reason"] == "holdout") == (answer in held)
    assert (
        'jeton_token_cost_usd_per_million{backend="cloud",basis="allocated",class="completion",pool="cloud"}' in prices
    )

    files = ["--ledger", str(tmp_path / "jeton.sqlite"), "--config", str(tmp_path / "router.yaml")]
    result = CliRunner().invoke(report, [*files, "--output", str(tmp_path / "told")])
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["attempts"] == 41
    cost = sum(charge["cost_nanousd"] for charge in charges.values())
    assert sum(Decimal(row["cost_usd"]) for row in told["tenants"]) * 10**9 == cost
    # Everything has ended: what is in flight is the residue, less than a nano-dollar for each lease.
    assert 0 <= Decimal(told["bill"]["in_flight_usd"]) * 10**9 <= 10
    (priced, _) = told["savings"]["holdout"]
    assert (priced["requests_held_out"], priced["requests_routed"]) == (len(held), 40 - len(held))
