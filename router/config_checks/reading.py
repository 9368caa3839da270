"""What is checked, and against what; and what several checks have in common."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import NamedTuple

from router.config import RouterConfig
from router.config.fleet import BackendConfig, PoolConfig
from router.config_shape import nearest_name
from router.config_source import Finding, Place, Source
from router.domain.request import Capability
from router.fleet_config import KeyFile
from router.pricing.book import PriceBook


class Provided(NamedTuple):
    """What a backend's provider can do and wants."""

    capabilities: frozenset[Capability]
    needs_api_key: bool
    needs_completion_tokens_max: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """router.yaml once its shape is right, and what it is checked against. book is None when the prices cannot be used.

    key_files: by the path that the file gives. providers: of those backends that have one that is right, by name.
    """

    source: Source
    config: RouterConfig
    book: PriceBook | None
    environ: Mapping[str, str]
    day: date
    has_pepper: bool
    key_files: Mapping[Path, KeyFile]
    providers: Mapping[str, Provided]

    @property
    def now_seconds(self) -> float:
        """The day's beginning, since 1970."""
        return datetime.combine(self.day, time(), UTC).timestamp()

    def pools(self) -> Iterator[tuple[Place, PoolConfig]]:
        for position, pool in enumerate(self.config.pools):
            yield ("pools", position), pool

    def backends(self) -> Iterator[tuple[Place, PoolConfig, BackendConfig]]:
        for place, pool in self.pools():
            for position, backend in enumerate(pool.backends):
                yield (*place, "backends", position), pool, backend

    def backend_names(self) -> list[str]:
        return [backend.name for _, _, backend in self.backends()]

    def model_names(self) -> list[str]:
        return [backend.model for _, _, backend in self.backends()]


def refuse_repeated(reading: Reading, kind: str, named: Iterable[tuple[str, Place]]) -> Iterator[Finding]:
    """Every name after the first of its like."""
    counts: Counter[str] = Counter()
    for name, place in named:
        counts[name] += 1
        if counts[name] > 1:
            yield reading.source.finding(
                place, f"there is another {kind} named `{name}`", "give each a name of its own"
            )


def refuse_unknown(reading: Reading, place: Place, kind: str, name: str, known: Iterable[str]) -> Iterator[Finding]:
    if name not in set(known):
        yield reading.source.finding(place, f"there is no {kind} named `{name}`", nearest_name(name, known))
