"""Finds a policy by its name: a file in `policies/`, or a class of your own as `package.module:Class`.

Nothing is registered. No other import is made from a string of the configuration.
"""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

from router.domain.decision import Policy

_OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def policy_names() -> list[str]:
    """The names of the policies that come with jeton, sorted: the files of `policies/`."""
    folder = importlib.import_module("policies").__path__
    return sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))


def load_policy(name: str, parameters: Mapping[str, Any]) -> Policy:
    """The policy `name` with its parameters.

    Raises LookupError ("what is wrong; what would be right") for a name that leads to no policy, and pydantic's
    ValidationError for parameters that the policy does not take.
    """
    return cast(Policy, policy_class(name).model_validate(dict(parameters)))


def policy_class(name: str) -> type[BaseModel]:
    """The class behind a policy's name: a pydantic class with a method `rank`. Raises LookupError as `load_policy` does."""
    if ":" in name:
        return _own_class(name)
    names = policy_names()
    if name not in names:
        nearest = difflib.get_close_matches(name[:100], names, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}? there are" if nearest else "there are"
        raise LookupError(f"there is no policy {name[:100]!r}; {hint} {', '.join(names)}")
    class_name = "".join(word.capitalize() for word in name.split("_"))
    return _policy_in(f"policies.{name}", class_name)


def _own_class(path: str) -> type[BaseModel]:
    if not _OWN.fullmatch(path):
        raise LookupError(f"{path[:100]!r} is no path to a policy; write it as package.module:Class")
    module_name, class_name = path.split(":")
    return _policy_in(module_name, class_name)


def _policy_in(module_name: str, class_name: str) -> type[BaseModel]:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise LookupError(
            f"the policy's module {module_name!r} cannot be imported: {error}; install it beside jeton"
        ) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, BaseModel) and callable(getattr(found, "rank", None))):
        raise LookupError(f"{module_name} has no policy {class_name}; it must be a pydantic class with a method rank")
    return found
