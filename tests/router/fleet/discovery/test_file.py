"""A file as a source of replicas: read whole, looked at whenever it changes, and never believed when it is wrong."""

import asyncio
from pathlib import Path

import pytest

from router.fleet.discovery import Found, SourceFailed
from router.fleet.discovery.file import FileSource


async def first(path: Path) -> tuple[Found, ...]:
    async with asyncio.timeout(30):
        return await anext(FileSource(path).states())


async def test_replicas_are_read_from_yaml_and_json(tmp_path: Path) -> None:
    file = tmp_path / "replicas.yaml"
    file.write_text("- {url: http://10.0.0.7:8000}\n- {url: http://10.0.0.8:8000, name: spot-8}\n")
    assert await first(file) == (Found("http://10.0.0.7:8000"), Found("http://10.0.0.8:8000", "spot-8"))
    file.write_text('[{"url": "http://10.0.0.9:8000"}]')
    assert await first(file) == (Found("http://10.0.0.9:8000"),)


@pytest.mark.parametrize("nothing", ["", "[]", "# none yet\n"])
async def test_an_empty_file_has_no_replicas(tmp_path: Path, nothing: str) -> None:
    file = tmp_path / "replicas.yaml"
    file.write_text(nothing)
    assert await first(file) == ()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("url: http://10.0.0.7:8000", "the list"),
        ("- {url: 10.0.0.7}", "0.url"),
        ("- {url: http://10.0.0.7:8000, weight: 3}", "0.weight"),
        ("- [", "cannot be read"),
        ("- {url: http://user:word@10.0.0.7}", "0.url"),
    ],
)
async def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "replicas.yaml"
    file.write_text(text)
    with pytest.raises(SourceFailed, match=what):
        await first(file)


async def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="cannot be read"):
        await first(tmp_path / "replicas.yaml")


async def test_a_change_is_seen_whether_written_or_put_in_place(tmp_path: Path) -> None:
    file = tmp_path / "replicas.yaml"
    file.write_text("[]")
    states = FileSource(file).states()
    async with asyncio.timeout(60):
        assert await anext(states) == ()
        changed = asyncio.create_task(anext(states))
        await asyncio.sleep(0)
        file.write_text("[{url: 'http://a:1'}]")
        assert await changed == (Found("http://a:1"),)
        other = tmp_path / "other"
        other.write_text("[{url: 'http://b:1'}]")
        other.replace(file)
        assert await anext(states) == (Found("http://b:1"),)
