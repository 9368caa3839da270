"""Replicas from a file that somebody else writes: a list of `{url, name}`, YAML or JSON, looked at whenever it changes."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError
from watchfiles import awatch

from router.config.fleet import FoundReplicaConfig
from router.fleet.discovery import Found, SourceFailed

# A writer may take several steps; and network file systems tell nothing, so the file is looked at now and then anyway.
SETTLE_MILLISECONDS = 100
LOOK_MILLISECONDS = 5_000

LIST = TypeAdapter(list[FoundReplicaConfig])


class FileSource:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def states(self) -> AsyncGenerator[tuple[Found, ...], None]:
        state = await asyncio.to_thread(self._read)
        yield state
        try:
            async for _ in awatch(
                self._path.absolute().parent,
                recursive=False,
                watch_filter=None,
                step=SETTLE_MILLISECONDS // 2,
                debounce=SETTLE_MILLISECONDS,
                rust_timeout=LOOK_MILLISECONDS,
                yield_on_timeout=True,
            ):
                if (now := await asyncio.to_thread(self._read)) != state:
                    state = now
                    yield state
        except (OSError, RuntimeError) as error:  # the folder went, or there are no watches left
            raise SourceFailed(f"{self._path} cannot be watched ({error})") from None

    def _read(self) -> tuple[Found, ...]:
        try:
            value = yaml.safe_load(self._path.read_text(encoding="utf-8"))
            replicas = LIST.validate_python([] if value is None else value)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SourceFailed(f"{self._path} cannot be read ({error})") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the list"
            raise SourceFailed(f"{self._path}: {place}: {first['msg']}; write a list of {{url: …, name: …}}") from None
        return tuple(Found(replica.url, replica.name or "") for replica in replicas)
