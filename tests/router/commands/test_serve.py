"""`jeton serve` before it serves: what it does not start with, it says."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from jeton_server import LEASE, PEPPER, fleet_config, new_api_key

from router.__main__ import main


def serve(directory: Path, config: dict[str, Any], *arguments: str) -> Result:
    """It is to end by itself."""
    (directory / "router.yaml").write_text(json.dumps(config))
    (directory / "prices.yaml").write_text(json.dumps({"prices": {"gpu": [LEASE]}}))
    command = ["serve", "--config", str(directory / "router.yaml"), "--port", "0", *arguments]
    return CliRunner().invoke(main, command, env={"JETON_API_KEY_PEPPER": PEPPER})


@pytest.fixture
def config() -> dict[str, Any]:
    small, large, embed = ([f"http://127.0.0.1:{port}"] for port in (1, 2, 3))
    return fleet_config(small, large, embed, new_api_key())


@pytest.mark.parametrize("workers", ["1", "4"])
def test_a11_it_does_not_start_with_a_policy_that_lacks_what_it_decides_on(
    tmp_path: Path, config: dict[str, Any], workers: str
) -> None:
    config["tiers"] = ["large"]
    config["aliases"] = {"auto": {}}
    for pool in config["pools"]:
        for backend in pool["backends"]:
            backend["tier"] = "large"
    done = serve(tmp_path, config, "--workers", workers)
    assert done.exit_code == 1
    assert "the policy `quality_floor` weighs quality, but there is only one tier" in done.stderr
    assert not (tmp_path / "var").exists()


def test_a12_it_does_not_start_with_a_backend_that_has_no_price(tmp_path: Path, config: dict[str, Any]) -> None:
    config["pools"][0]["backends"][0]["price"] = "nobody-knows"
    done = serve(tmp_path, config)
    assert done.exit_code == 1
    assert "nobody-knows" in done.stderr
