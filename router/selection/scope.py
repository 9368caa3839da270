"""What a model name stands for: an alias, a backend, or a model that some backends serve.

Built once per configuration; a look-up per request. What may not live here: health, load, or anything that changes
between two requests.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from router.domain.fleet import Backend
from router.errors import Forbidden, UnknownModel

# Configured names are at most 100 characters; more of what a client sent is neither compared (difflib is quadratic)
# nor repeated to it.
NAME_CHARACTERS_MAX = 100


class Filter(Protocol):
    """An alias as configured: a backend matches if every list that is not empty names its tier, pool, name or model."""

    @property
    def tiers(self) -> Sequence[str]: ...
    @property
    def pools(self) -> Sequence[str]: ...
    @property
    def backends(self) -> Sequence[str]: ...
    @property
    def models(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Scope:
    """The backends that a model name allows, in the order of the configuration; never empty."""

    model: str
    backends: tuple[Backend, ...]


class Scopes:
    """Every name that a client may ask for. An alias goes before a backend's name, and that before a model's."""

    def __init__(self, aliases: Mapping[str, Filter], backends: Iterable[Backend]) -> None:
        backends = tuple(backends)
        matches: dict[str, list[Backend]] = {}
        for backend in backends:
            matches.setdefault(backend.model, []).append(backend)
        matches |= {backend.name: [backend] for backend in backends}
        matches |= {
            name: [backend for backend in backends if _admits(alias, backend)] for name, alias in aliases.items()
        }
        self._scopes = {name: Scope(name, tuple(found)) for name, found in matches.items() if found}

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that resolves, sorted."""
        return tuple(sorted(self._scopes))

    def resolve(self, model: str, allowed: Sequence[str] = ()) -> Scope:
        """The scope of the name that a client asked for. allowed: the names that its tenant may use; empty means all.

        Raises UnknownModel (404) with the nearest names that it may use, Forbidden (403) for one that it may not.
        """
        scope = self._scopes.get(model)
        if scope is None:
            raise UnknownModel(self._unknown(model, allowed), param="model")
        if allowed and model not in allowed:
            raise Forbidden(f"This API key may not use the model {model!r}.", param="model")
        return scope

    def _unknown(self, model: str, allowed: Sequence[str]) -> str:
        asked = model[:NAME_CHARACTERS_MAX]
        names = [name for name in self.names if not allowed or name in allowed]
        lowered = {name.lower(): name for name in names}
        nearest = [lowered[near] for near in difflib.get_close_matches(asked.lower(), lowered, n=3, cutoff=0.5)]
        if nearest:
            return f"The model {asked!r} does not exist. Nearest: {', '.join(nearest)}."
        return f"The model {asked!r} does not exist. GET /v1/models lists those that do."


def _admits(alias: Filter, backend: Backend) -> bool:
    return (
        (not alias.tiers or backend.tier in alias.tiers)
        and (not alias.pools or backend.pool.name in alias.pools)
        and (not alias.backends or backend.name in alias.backends)
        and (not alias.models or backend.model in alias.models)
    )
