"""Replicas that are found come and go with their leases: whoever is found is served and paid, whoever is gone is neither."""

import json
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from emulated_fleet import EmulatedProcess
from jeton_server import JetonServer, fleet_config, new_api_key

from router.config_file import LoadedConfig, load
from router.config_source import ConfigRefused
from router.discovery import Discovery
from router.fleet.discovery import Found

WAIT_SECONDS_MAX = 60.0
DISCOVERY = {"file": "replicas.yaml", "grace_seconds": 0.5}


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def discovering(config: dict[str, Any], backend: str, discovery: dict[str, Any]) -> dict[str, Any]:
    """The configuration with one backend's replicas to be found."""
    for pool in config["pools"]:
        for one in pool["backends"]:
            if one["name"] == backend:
                del one["replicas"]
                one["discovery"] = discovery
    return config


def written(directory: Path, config: dict[str, Any]) -> LoadedConfig:
    lease = {"kind": "lease", "from": "2026-01-01", "usd_per_hour": 3.6, "source": "a round figure for tests"}
    (directory / "router.yaml").write_text(json.dumps(config))
    (directory / "prices.yaml").write_text(json.dumps({"prices": {"gpu": [lease]}}))
    return load(directory / "router.yaml", environ={"JETON_API_KEY_PEPPER": "pepper"})


def configured(**discovery: Any) -> dict[str, Any]:
    config = fleet_config(["http://a:1"], ["http://b:1"], ["http://c:1"], new_api_key())
    return discovering(config, "small", discovery)


def test_a_replica_is_taken_at_once_and_given_up_after_its_grace(tmp_path: Path) -> None:
    now, told = [0.0], []
    loaded = written(tmp_path, configured(file="replicas.yaml", grace_seconds=30))
    discovery = Discovery(lambda: told.append(1), lambda: now[0])
    discovery.follow(loaded)
    followed = discovery._followed["small"]

    def urls() -> list[str]:
        [small] = [one for one in discovery.filled(loaded).backends if one.name == "small"]
        return [replica.url for replica in small.replicas]

    assert urls() == []
    assert discovery._take("small", followed, (Found("http://x:1"), Found("http://y:1", "pod-y")))
    assert urls() == ["http://x:1", "http://y:1"]
    assert [replica.id for replica in followed.replicas.values()] == ["small/x:1", "small/pod-y"]
    now[0] = 10.0
    assert not discovery._take("small", followed, (Found("http://x:1"),))
    now[0] = 39.0
    assert urls() == ["http://x:1", "http://y:1"]
    assert not discovery._take("small", followed, (Found("http://x:1"), Found("http://y:1", "pod-y")))  # it blinked
    assert not discovery._take("small", followed, (Found("http://x:1"),))
    now[0] = 69.0
    assert discovery._expire("small", followed)
    assert urls() == ["http://x:1"]
    assert discovery.moves == {("small", "found"): 2, ("small", "gone"): 1}


def test_it_is_told_since_when_a_source_cannot_tell(tmp_path: Path) -> None:
    now = [100.0]
    discovery = Discovery(lambda: None, lambda: now[0])
    discovery.follow(written(tmp_path, configured(file="replicas.yaml")))
    assert discovery.stale_seconds() == {"small": 0.0}
    discovery.look_first()
    discovery.look_first()  # still not there
    now[0] = 130.0
    assert discovery.stale_seconds() == {"small": 30.0}
    assert discovery.results == {("small", "failed"): 2}
    (tmp_path / "replicas.yaml").write_text("[{url: 'http://x:1'}]")
    discovery.look_first()
    assert discovery.stale_seconds() == {"small": 0.0}


def test_an_address_that_two_backends_find_is_paid_once(tmp_path: Path) -> None:
    config = discovering(configured(file="replicas.yaml"), "large", {"file": "others.yaml"})
    loaded = written(tmp_path, config)
    discovery = Discovery(lambda: None, time.monotonic)
    discovery.follow(loaded)
    for backend in ("small", "large"):
        discovery._take(backend, discovery._followed[backend], (Found("http://x:1"), Found("http://c:1")))
    found = {one.name: [replica.url for replica in one.replicas] for one in discovery.filled(loaded).backends}
    assert found == {"small": ["http://x:1"], "large": [], "embed": ["http://c:1"]}


@pytest.mark.parametrize(
    ("discovery", "what", "remedy"),
    [
        ({}, "names no source", "give one of `file`, `dns` and `kubernetes`"),
        ({"file": "a.yaml", "dns": "a.test"}, "names file and dns", "give one of"),
        ({"dns": "http://a.test"}, "`http://a.test`", "write a name without scheme and port"),
        ({"dns": "a.test", "port": 0}, "`0`", "it must be greater than 0"),
        ({"dns": "a.test", "nameservers": ["localhost"]}, "`localhost` is no address and port", "127.0.0.1:8600"),
        ({"file": "a.yaml", "port": 8000}, "`port` is of `dns` alone", "remove it"),
        ({"kubernetes": {"service": "a"}, "port": 8000}, "`port` is of `dns` alone", "put it under `kubernetes`"),
        ({"file": "a.yaml", "api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY", "export NO_SUCH_KEY=…"),
        ({"files": "a.yaml"}, "`files` is not a member", "did you mean `file`?"),
    ],
)
def test_a_wrong_discovery_is_refused_with_file_line_and_remedy(
    tmp_path: Path, discovery: dict[str, Any], what: str, remedy: str
) -> None:
    with pytest.raises(ConfigRefused) as refused:
        written(tmp_path, configured(**discovery))
    [mistake] = refused.value.mistakes
    assert what in mistake.what
    assert remedy in mistake.remedy
    assert mistake.file.endswith("router.yaml")
    assert mistake.line > 0


@pytest.mark.parametrize(("members", "remedy"), [({}, "list them under"), ({"both": True}, "keep one")])
def test_a_backend_lists_its_replicas_or_finds_them(tmp_path: Path, members: dict[str, Any], remedy: str) -> None:
    config = configured(file="replicas.yaml")
    [small] = config["pools"][0]["backends"]
    if members:
        small["replicas"] = [{"url": "http://a:1"}]
    else:
        del small["discovery"]
    with pytest.raises(ConfigRefused) as refused:
        written(tmp_path, config)
    [mistake] = refused.value.mistakes
    assert remedy in mistake.remedy


class Fleet:
    """jeton over emulated replicas, of which the small ones are told by a file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.small = EmulatedProcess.start(directory, "small", replicas=2)
        self.large = EmulatedProcess.start(directory, "large")
        self.urls = [*self.small.wait_until_ready()]
        self.api_key = new_api_key()
        config = fleet_config(self.urls, self.large.wait_until_ready(), ["http://c:1"], self.api_key)
        config["pools"][1]["backends"].pop()  # nothing is embedded here
        self.config = discovering(config, "small", DISCOVERY)
        self.tell(self.urls[:1])
        self.server = JetonServer.start(directory, self.config, self.api_key)

    def tell(self, urls: list[str]) -> None:
        (self.directory / "replicas.yaml").write_text(json.dumps([{"url": url} for url in urls]))

    def serving(self) -> set[str]:
        """Small replicas that take work, by their addresses."""
        up = [line for line in self.server.metrics() if line.startswith('jeton_replica_up{backend="small"')]
        return {line.split("small/")[1].split('"')[0] for line in up if line.endswith(" 1.0")}

    def leases(self) -> dict[str, tuple[bool, int]]:
        """By the replica's address: whether it has ended, and its bill."""
        with closing(sqlite3.connect(f"file:{self.directory / 'var/jeton.sqlite'}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT replica, ended_ns, bill_nanousd FROM leases WHERE backend = 'small' ORDER BY started_ns"
            ).fetchall()
        assert len(rows) == len({replica for replica, _, _ in rows}), "a lease ended and began again for nothing"
        return {replica.removeprefix("small/"): (ended is not None, bill) for replica, ended, bill in rows}

    def ask(self) -> int:
        body = {"model": "small", "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 8}
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.server.url}/v1/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    try:
        yield fleet
        assert fleet.server.stop() == 0  # and the audit is clean
    finally:
        fleet.server.process.kill()
        fleet.small.stop()
        fleet.large.stop()


def test_leases_begin_and_end_with_the_replicas_that_a_file_tells(fleet: Fleet) -> None:
    first, second = (url.removeprefix("http://") for url in fleet.urls)
    until(lambda: fleet.serving() == {first})
    assert fleet.ask() == 200
    assert fleet.leases().keys() == {first}

    fleet.tell(fleet.urls)
    until(lambda: fleet.serving() == {first, second})
    assert [fleet.ask() for _ in range(4)] == [200] * 4

    fleet.tell(fleet.urls[1:])
    until(lambda: fleet.serving() == {second})
    until(lambda: fleet.leases()[first][0])
    billed = fleet.leases()[first][1]
    assert fleet.ask() == 200

    (fleet.directory / "replicas.yaml").write_text("this: is no list")
    until(
        lambda: any('jeton_discoveries_total{backend="small",result="failed"}' in one for one in fleet.server.metrics())
    )
    assert fleet.serving() == {second}  # what was told last stays true
    assert fleet.leases()[first] == (True, billed)

    fleet.tell([])
    until(lambda: fleet.serving() == set())
    assert fleet.ask() == 503
    until(lambda: fleet.leases()[second][0])


def test_a_restart_finds_replicas_before_it_goes_on_with_their_leases(fleet: Fleet) -> None:
    fleet.tell(fleet.urls)
    until(lambda: len(fleet.serving()) == 2)
    assert fleet.server.stop() == 0
    before = fleet.leases()
    fleet.server = JetonServer.start(fleet.directory, fleet.config, fleet.api_key)
    until(lambda: len(fleet.serving()) == 2)
    until(lambda: all(bill > before[replica][1] for replica, (_, bill) in fleet.leases().items()))
    assert [ended for ended, _ in fleet.leases().values()] == [False, False]
