"""The README is true, and so are the pages that it leads to: every command and snippet of them runs, on emulated vLLM servers
in the place of the reader's.

A word behind a block's language, which is not shown, says what is done with it: `run` (with a shell, Python or Node), `file=…`
(written down), `serve` and `emulate` (started, on other ports), `backend` (checked as the backends of a metered pool). Blocks
without a word are `make` targets, or set what the tests set themselves. A shell's variables live on from block to block, as the
reader's do.
"""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Union

import pytest
import yaml
from audited import assert_what_is_told_is_the_audits
from client_journeys import NODE_JOURNEYS
from ports import free_port
from pydantic import TypeAdapter

from load.demo.run import reading_command
from load.simulate.scenario import Scenario
from router.config import RouterConfig
from router.config.fleet import BackendConfig
from router.config_file import load
from router.pricing.book import PriceBook

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
# In this order, because what one page makes another may use. Pages whose commands other tests run are not among them.
PAGES = (
    "clouds",
    "prices",
    "budgets",
    "reports",
    "workers",
    "refusals",
    "load-testing",
    "repeats",
    "replicas",
    "failures",
)
TEXTS = {"README.md": README} | {
    f"docs/{page}.md": (PROJECT / f"docs/{page}.md").read_text(encoding="utf-8") for page in PAGES
}
BLOCK = re.compile(r"^```(?P<language>\w+)(?: (?P<word>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
STEP_SECONDS_MAX = 60.0


class Block(NamedTuple):
    language: str
    word: str
    text: str


BLOCKS = [
    Block(found["language"], found["word"] or "", found["text"])
    for text in TEXTS.values()
    for found in BLOCK.finditer(text)
]


def blocks(language: str, word: str) -> list[str]:
    return [block.text for block in BLOCKS if (block.language, block.word) == (language, word)]


@dataclass
class Reader:
    """Somebody who types the README's commands in `directory`, and what they have started."""

    directory: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def shell(self, commands: str) -> str:
        """Run a block; what it exports stays. Raises AssertionError with its output when a command fails."""
        kept = self.directory / ".environment"
        script = f"set -euo pipefail\n{commands}\nenv -0 > {kept}"
        output = self.run("bash", "-c", script)
        self.environment = dict(line.split("=", 1) for line in kept.read_text().split("\0") if line)
        return output

    def run(self, *command: str, directory: Path | None = None) -> str:
        result = subprocess.run(
            command,
            cwd=directory or self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS_MAX,
        )
        assert result.returncode == 0, f"{command[-1]}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def start(self, command: str, ready: str) -> None:
        """Start a block's command in the background and wait until the URL answers."""
        log = self.directory / f"{len(self.started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(ready, timeout=1):
                return
            time.sleep(0.1)
        raise AssertionError(f"{command} did not answer at {ready}:\n{log.read_text()}")

    def stop(self) -> None:
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STEP_SECONDS_MAX)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if (ledger := self.directory / "var/jeton.sqlite").exists():
            assert_what_is_told_is_the_audits(ledger)


def emulate(reader: Reader, model: str) -> str:
    """Start the README's emulated server for `model`; its URL."""
    [command] = blocks("sh", "emulate")
    assert "--model llama-3.1-8b" in command
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = command.replace("--port 8000", f"--port {port}").replace("--model llama-3.1-8b", f"--model {model}")
    reader.start(command, f"{url}/health")
    return url


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Up to the point where jeton serves, with the README's own configuration; only hosts and ports differ."""
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "JETON_"))}
    reader = Reader(tmp_path, inherited)
    try:
        for block in BLOCKS:
            if block.word.startswith("file="):
                (tmp_path / block.word.removeprefix("file=")).write_text(block.text)
        configuration = tmp_path / "router.yaml"
        text = configuration.read_text()
        for host, model in (("gpu-1", "llama-3.1-8b"), ("gpu-2", "llama-3.1-70b"), ("gpu-3", "llama-3.1-70b")):
            assert f"http://{host}:8000" in text
            text = text.replace(f"http://{host}:8000", emulate(reader, model))
        configuration.write_text(text)

        key, check = [text for text in blocks("sh", "run") if "jeton key" in text or "jeton check" in text]
        printed = reader.shell(key)
        api_key = re.search(r"sk-jeton-\S+", printed)
        assert api_key
        configuration.write_text(text + printed[printed.index("tenants:") :])
        assert "llama" in reader.shell(check) or "edge" in reader.shell(check)

        [serve] = blocks("sh", "serve")
        url = f"http://127.0.0.1:{(port := free_port())}"
        reader.start(serve.replace("--port 8080", f"--port {port}"), f"{url}/ready")
        reader.environment |= {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": api_key[0]}
        yield reader
    finally:
        reader.stop()


@pytest.mark.timeout(300)  # it starts a dozen processes, and a machine may be busy
def test_every_snippet_runs_against_the_readmes_own_configuration(reader: Reader) -> None:
    for snippet in blocks("python", "run"):
        assert reader.run(sys.executable, "-c", snippet).strip()

    curls = [text for text in blocks("sh", "run") if text.startswith("curl")]
    answers = [reader.shell(text) for text in curls]
    chat = next(answer for answer in answers if answer.startswith("HTTP/"))
    assert chat.startswith("HTTP/1.1 200")
    for header in re.findall(r"`(x-[a-z-]+)`", README):
        assert f"\n{header}: " in chat
    assert all('"error"' not in answer for answer in answers)

    for text in blocks("sh", "run"):
        if "jeton ledger reconcile" in text:
            assert "1 missing here" in reader.shell(text)
        elif "jeton ledger" in text:
            output = reader.shell(text)
            assert "research" in output or "every row is what the journal makes it" in output
        elif "jeton prices" in text:
            assert "1 imported" in reader.shell(text)
        elif "jeton report" in text:
            assert "bill $" in reader.shell(text)
            assert {path.suffix for path in (reader.directory / "var").glob("report.*")} == {".html", ".json", ".csv"}

    url = reader.environment["OPENAI_BASE_URL"].removesuffix("/v1")
    exposition = reader.run("curl", "--fail", "--silent", f"{url}/metrics")
    families = set(re.findall(r"^# TYPE (\S+) ", exposition, re.MULTILINE))
    of_several_workers = {"jeton_ledger_lag_seconds", "jeton_late_events_total"}
    named = set(re.findall(r"`(jeton_\w+)`", "\n".join(TEXTS.values())))
    assert named - {"jeton_cost"} - of_several_workers <= families


@pytest.mark.parametrize("text", blocks("yaml", "backend"))
def test_every_backend_of_a_cloud_is_accepted(text: str, tmp_path: Path) -> None:
    backends = yaml.safe_load(text)
    price = {
        "kind": "tokens",
        "from": "2026-01-01",
        "prompt_usd_per_million": 2,
        "completion_usd_per_million": 8,
        "source": "round figures for tests",
    }
    pool = {"name": "cloud", "kind": "cloud", "billing": "metered", "backends": backends}
    config = {"baseline": backends[0]["name"], "tiers": ["large"], "policy": {"name": "round_robin"}, "pools": [pool]}
    environ = {}
    for replica in (replica for backend in backends for replica in backend["replicas"]):
        if "api_key_env" in replica:
            environ[replica["api_key_env"]] = "a key"
        if "api_key_file" in replica:
            replica["api_key_file"] = str(tmp_path / "key")
            (tmp_path / "key").write_text("a-key")
    (tmp_path / "router.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump({"prices": {"cloud-large": [price]}}))
    assert load(tmp_path / "router.yaml", environ=environ).providers.keys() == {row["name"] for row in backends}


EXCERPTS = [
    pytest.param(found["text"], id=f"{page.stem}-{number}")
    for page in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))
    for number, found in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")))
    if (found["language"], found["word"]) == ("yaml", None)
]


@pytest.mark.parametrize("text", EXCERPTS)
def test_every_excerpt_of_a_file_has_members_that_such_a_file_may_have(text: str) -> None:
    """Of router.yaml, of one of its backends, of prices.yaml or of a scenario; only a key's hash is left out in them."""
    text = re.sub(r"hash: (?:…|\"hmac-sha256:…\")", f"hash: hmac-sha256:{'0' * 64}", text)
    members = yaml.safe_load(text)
    assert members
    for name, value in members.items():
        kinds = [
            shape.model_fields[name].annotation
            for shape in (RouterConfig, BackendConfig, PriceBook, Scenario)
            if name in shape.model_fields
        ]
        TypeAdapter(Union[*kinds]).validate_python(value)


@pytest.mark.clients
def test_the_node_snippet_runs_against_the_readmes_own_configuration(reader: Reader) -> None:
    [snippet] = blocks("js", "run")
    assert reader.run("node", "--input-type=module", "--eval", snippet, directory=NODE_JOURNEYS).strip()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z-]+)", "\n".join(blocks("sh", ""))))))
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)


def test_the_demos_ledger_is_read_with_the_command_that_the_demo_prints() -> None:
    assert f"`.venv/bin/{reading_command(Path('FILE'))}`" in README
    assert "`.venv/bin/jeton demo --keep`" in README


def test_no_block_goes_untried() -> None:
    known = {
        "",
        "run",
        "serve",
        "emulate",
        "backend",
        "file=router.yaml",
        "file=prices.yaml",
        "file=mapping.yaml",
        "file=usage.csv",
        "file=scenario.yaml",
        "file=model_prices.json",
    }
    assert {block.word for block in BLOCKS} <= known
    for text in blocks("sh", ""):
        assert all(line.startswith(("make ", "export OPENAI_")) for line in text.splitlines())


def test_every_policy_is_listed() -> None:
    [table] = re.findall(r"^\| policy \|.*?\n\n", README, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+)`", table)) == {path.stem for path in (PROJECT / "policies").glob("[a-z]*.py")}


FOLDERS_WITH_PAGES = ("deploy", "docs", "load", "router", "tests")


def prose(page: Path) -> str:
    """Without its blocks, whose brackets and hashes are code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Where a link may lead to on it: its headings, by the names that GitHub gives them, and the marks it sets itself."""
    text = prose(page)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one).strip().lower().replace(" ", "-") for one in headings} | set(
        re.findall(r'<a id="([^"]+)">', text)
    )


LINKS = [
    (str(page.relative_to(PROJECT)), link)
    for page in (
        *sorted(PROJECT.glob("*.md")),
        *(page for folder in FOLDERS_WITH_PAGES for page in sorted((PROJECT / folder).rglob("*.md"))),
    )
    if "node_modules" not in page.parts
    for link in sorted(set(re.findall(r"\]\((?!http)([^)\s]+)\)", prose(page))))
]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_every_link_leads_somewhere(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (PROJECT / page).parent / path if path else PROJECT / page
    assert target.exists()
    assert not anchor or anchor in anchors(target)


def test_every_page_can_be_found_from_the_readme() -> None:
    found, left = set[str](), ["README.md"]
    while left:
        page = left.pop()
        if page not in found and page.endswith(".md"):
            found.add(page)
            base = (PROJECT / page).parent
            left += [
                str((base / link.partition("#")[0]).resolve().relative_to(PROJECT)) for at, link in LINKS if at == page
            ]
    assert {str(path.relative_to(PROJECT)) for path in (PROJECT / "docs").glob("*.md")} <= found
