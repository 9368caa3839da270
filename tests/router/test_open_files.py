"""The start looks at how many files may be open: raised where it may be, told where it is not enough, else refused."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from jeton_server import ENVIRONMENT, LEASE, fleet_config, new_api_key
from ports import free_port

from router.config import RouterConfig
from router.open_files import FILES_OF_OUR_OWN, FILES_PER_REPLICA, files_needed


def config_of(replicas: int, streams: int) -> RouterConfig:
    urls = [f"http://10.0.0.{number}:8000" for number in range(1, replicas - 1)]
    fleet = fleet_config(urls, ["http://10.0.1.1:8000"], ["http://10.0.2.1:8000"], new_api_key())
    return RouterConfig.model_validate(fleet | {"server": {"streams_expected": streams}})


def test_f36_two_files_for_each_stream_and_some_for_each_replica() -> None:
    needed = files_needed(config_of(5, 1000))
    assert needed.least == FILES_OF_OUR_OWN + 5 * FILES_PER_REPLICA
    assert needed.wanted == needed.least + 2000
    assert [needed.streams(limit) for limit in (0, needed.least, needed.least + 7, needed.wanted)] == [0, 0, 3, 1000]


def start(directory: Path, limits: tuple[int, int], streams: int) -> "subprocess.Popen[str]":
    """`jeton serve` under these limits, soft and hard."""
    fleet = fleet_config(["http://127.0.0.1:1"], ["http://127.0.0.1:2"], ["http://127.0.0.1:3"], new_api_key())
    fleet |= {"server": {"streams_expected": streams, "port": free_port()}, "log": {"format": "json"}}
    (directory / "router.yaml").write_text(json.dumps(fleet))
    (directory / "prices.yaml").write_text(json.dumps({"prices": {"gpu": [LEASE]}}))
    command = (
        "import resource, sys; from router.__main__ import main;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, {limits}); sys.argv[1:] = ['serve', '--config', 'router.yaml']; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", command],
        cwd=directory,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until_ready(process: "subprocess.Popen[str]") -> str:
    """What it logs until it is ready."""
    assert process.stdout is not None
    said = ""
    while '"event": "ready"' not in said and '"ready"' not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


def limit_of(process: "subprocess.Popen[str]") -> int:
    return resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0]


@pytest.mark.parametrize(("streams", "is_enough"), [(300, True), (3000, False)])
def test_f36_the_limit_is_raised_as_far_as_it_goes_and_a_start_below_what_is_expected_says_so(
    tmp_path: Path, streams: int, is_enough: bool
) -> None:
    process = start(tmp_path, (150, 1024), streams)
    try:
        said = until_ready(process)
        wanted = FILES_OF_OUR_OWN + 3 * FILES_PER_REPLICA + 2 * streams
        assert limit_of(process) == (wanted if is_enough else 1024)
        assert ("few open files" in said) is not is_enough
    finally:
        process.terminate()
        process.communicate()


def test_f36_a_start_that_could_not_even_open_its_own_files_is_refused(tmp_path: Path) -> None:
    process = start(tmp_path, (90, 90), 1000)
    said, _ = process.communicate()
    assert process.returncode == 1
    assert "this process may open 90 files, and needs 112 before a single request comes" in said
    assert not (tmp_path / "var").exists()
