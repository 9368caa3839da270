"""Finds a provider by its name: a file in `providers/`. Nothing is registered, and no other import is made from configuration.

What a provider needs beside jeton is looked for, not imported: importing it is left to the provider's first use.
"""

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.dispatch.provider import Provider


def provider_names() -> list[str]:
    """Sorted: the files of `providers/`."""
    folder = importlib.import_module("router.dispatch.providers").__path__
    return sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))


def provider_class(name: str) -> type[Provider]:
    """Raises LookupError ("what is wrong; what would be right") for a name that leads to none."""
    names = provider_names()
    if name not in names:
        nearest = difflib.get_close_matches(name[:100], names, n=1, cutoff=0.4)
        hint = f"did you mean `{nearest[0]}`? there are" if nearest else "there are"
        raise LookupError(f"there is no provider `{name[:100]}`; {hint} {', '.join(names)}")
    found: type[Provider] = getattr(
        importlib.import_module(f"router.dispatch.providers.{name}"),
        "".join(word.capitalize() for word in name.split("_")),
    )
    return found


def load_provider(name: str, parameters: Mapping[str, Any], folder: Path) -> Provider:
    """The provider with its parameters; paths among them are relative to `folder`.

    Raises LookupError as `provider_class` does, also when what it needs is not installed, and pydantic's ValidationError.
    """
    found = provider_class(name)
    if found.module and importlib.util.find_spec(found.module.partition(".")[0]) is None:
        raise LookupError(
            f"the provider `{name}` needs {found.module}, which is not installed; install jeton[{found.extra}]"
        )
    return found.model_validate(dict(parameters), context={"folder": folder})
