"""Finds a provider by its name: a file in `providers/`. Nothing is registered, and no other import is made from configuration.

A provider's file is imported when a configuration names it, so that what it needs beside jeton is needed by nobody else. What
is not there is the extra of jeton's that has the provider's name.
"""

import difflib
import importlib
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
    """Raises LookupError ("what is wrong; what would be right") for a name that leads to none, or whose needs are not there."""
    names = provider_names()
    if name not in names:
        nearest = difflib.get_close_matches(name[:100], names, n=1, cutoff=0.4)
        hint = f"did you mean `{nearest[0]}`? there are" if nearest else "there are"
        raise LookupError(f"there is no provider `{name[:100]}`; {hint} {', '.join(names)}")
    try:
        module = importlib.import_module(f"router.dispatch.providers.{name}")
    except ModuleNotFoundError as error:
        raise LookupError(
            f"the provider `{name}` needs {error.name}, which is not installed; install jeton[{name}]"
        ) from None
    found: type[Provider] = getattr(module, "".join(word.capitalize() for word in name.split("_")))
    return found


def load_provider(name: str, parameters: Mapping[str, Any], folder: Path) -> Provider:
    """The provider with its parameters; paths among them are relative to `folder`.

    Raises LookupError as `provider_class` does, and pydantic's ValidationError for parameters that it does not take.
    """
    return provider_class(name).model_validate(dict(parameters), context={"folder": folder})
