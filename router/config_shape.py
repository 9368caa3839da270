"""Checks a file's value against its pydantic shape, and says what pydantic found in words that help.

Knows nothing of jeton's files in particular: names and members come from the shape itself.
"""

import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from router.config.section import DNS_NAME, ENVIRONMENT_NAME, HOST, NAME, POSTGRES_URL, REDIS_URL, URL
from router.config_source import ConfigRefused, Finding, Place, Source, looks_secret, read_source

Model = TypeVar("Model", bound=BaseModel)

# Members whose wrong value may be a secret that was put in the wrong place: it is never repeated.
UNSHOWN = frozenset({"hash", "api_key_env", "api_key_file"})

NUMBERS = frozenset({int, float, Decimal})

# A password in an address.
CREDENTIALS = re.compile(r"://[^/\s]*@")

PATTERNS = {
    NAME: "use letters, digits and . _ / : @ - (the first a letter or digit, at most 100)",
    URL: "write http:// or https://, the host and the port, as in http://10.0.0.7:8000",
    REDIS_URL: "write redis:// or rediss://, the host and the port, as in redis://10.0.0.9:6379; a password goes where "
    "`password_env` says",
    POSTGRES_URL: "write postgresql://, the host and the database, as in postgresql://jeton@10.0.0.9/jeton; a password goes "
    "where `password_env` says",
    HOST: "write a host's name in lower case, without scheme and port, as in images.example.org; or * for every public host",
    DNS_NAME: "write a name without scheme and port, as in edge-small.vllm.svc.cluster.local",
    ENVIRONMENT_NAME: "name an environment variable in capitals, as in CLOUD_API_KEY, and put the key there",
}


def check_shape(source: Source, shape: type[Model]) -> Model:
    """The file's value as its shape. Raises ConfigRefused with all that pydantic finds wrong."""
    if source.value is None:
        raise ConfigRefused([source.finding((), "is empty", f"it needs {_listed(_required(shape))}")])
    try:
        found = shape.model_validate(source.value)
    except ValidationError as error:
        raise ConfigRefused(shape_mistakes(source, shape, error)) from None
    if mistakes := misplaced_booleans(source, shape):
        raise ConfigRefused(mistakes)
    return found


def read_shape(path: Path, shape: type[Model]) -> Model:
    """A file's value as its shape. Raises ConfigRefused with all that is wrong, a member that is set twice included."""
    source = read_source(path)
    read = check_shape(source, shape)
    if source.mistakes:
        raise ConfigRefused(source.mistakes)
    return read


def shape_mistakes(source: Source, shape: type[BaseModel], error: ValidationError, under: Place = ()) -> list[Finding]:
    """Pydantic's findings on the value at `under`, as mistakes of the file, and the booleans that it took for numbers."""
    mistakes = misplaced_booleans(source, shape, under)
    told = {(one.line, one.column) for one in mistakes}
    found = [
        _mistake(source, shape, details, under) for details in error.errors(include_url=False) if _is_real(details)
    ]
    return mistakes + [one for one in found if (one.line, one.column) not in told]


def misplaced_booleans(source: Source, shape: type[BaseModel], under: Place = ()) -> list[Finding]:
    """What is true or false in the value at `under` where its shape has a number: pydantic takes them for 1 and 0, and YAML a
    mere `yes` for true."""
    if under not in source.value_marks:
        return []
    value = source.value
    for part in under:
        value = value[part]
    return [
        source.finding(
            place,
            f"`{place_text(place)}` is `{str(given).lower()}`",
            "it must be a number (YAML reads yes and on as true, no and off as false)",
        )
        for place, given in booleans_for_numbers(shape, value, under)
    ]


def booleans_for_numbers(shape: type[BaseModel], value: Any, place: Place = ()) -> Iterator[tuple[Place, bool]]:
    """Where a plain value, which stands at `place`, is true or false and its shape has a number."""
    return _misplaced_booleans([shape], value, place)


def _misplaced_booleans(kinds: Sequence[Any], value: Any, place: Place) -> Iterator[tuple[Place, bool]]:
    """kinds: the annotations of which the value is one."""
    if isinstance(value, bool):
        plain = {one for kind in kinds for one in _alternatives(kind)}
        if not plain.isdisjoint(NUMBERS) and plain.isdisjoint({bool, Any}):
            yield place, value
        return
    parts: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    for part, inner in parts:
        yield from _misplaced_booleans([one for kind in kinds for one in _inside(kind, part)], inner, (*place, part))


def _is_real(details: ErrorDetails) -> bool:
    """Pydantic counts a list's good items only: with a bad one in it, it is found too short as well."""
    return details["type"] != "too_short" or len(details["input"]) < details["ctx"]["min_length"]


def nearest_name(name: str, names: Iterable[str]) -> str:
    """`did you mean …?` where a known name is near, else what names there are."""
    known = sorted(set(names))
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    return f"did you mean `{near[0]}`?" if near else f"there is {_listed(known)}"


def place_text(place: Place) -> str:
    """A place as people write it: pools[0].backends[1].price."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _mistake(source: Source, shape: type[BaseModel], details: ErrorDetails, under: Place) -> Finding:
    place: Place = (*under, *details["loc"])
    kind = details["type"]
    found = source.nearest(place)
    around = f"`{place_text(found)}`" if found else "the file"
    if kind == "missing":
        return source.finding(place, f"`{place[-1]}` is missing in {around}", f"add `{place[-1]}: …`", at_member=True)
    if kind == "extra_forbidden":
        name, home = str(place[-1]), found[:-1]
        remedy = nearest_name(name, _members(shape, details["loc"][:-1]))
        what = f"`{name}` is not a member of " + (f"`{place_text(home)}`" if home else "the file")
        return source.finding(place, what, remedy, at_member=True)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        member = str(details["ctx"]["discriminator"]).strip("'")
        if kind == "union_tag_not_found":
            return source.finding(place, f"`{member}` is missing in {around}", f"add `{member}: …`")
        what = f"`{member}` of {around} is {_shown(details['ctx']['tag'], found)}"
        return source.finding((*place, member), what, _allowed(details["ctx"]["tag"], details["ctx"]["expected_tags"]))
    if kind in ("value_error", "assertion_error"):
        what, _, remedy = details["msg"].partition(", ")[2].partition("; ")
        return source.finding(place, f"{around}: {what}" if found else what, remedy)
    what = f"{around} is {_shown(details['input'], found)}"
    return source.finding(place, what, _remedy(details))


def _remedy(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind in ("enum", "literal_error"):
        return _allowed(details["input"], context["expected"])
    if kind == "string_pattern_mismatch":
        pattern = str(context.get("pattern", ""))
        return PATTERNS.get(pattern, f"it must match {pattern}")
    if kind in ("model_type", "dict_type", "model_attributes_type", "mapping_type"):
        return "it must be a mapping: members below it, indented"
    if kind in ("tuple_type", "list_type"):
        return "it must be a list: [a, b], or lines that begin with `- `"
    return (
        details["msg"]
        .replace("Input should", "it must")
        .replace("Tuple should", "it must")
        .replace(" after validation", "")
    )


def _allowed(value: Any, expected: str) -> str:
    """The values of an enumeration, as pydantic lists them, and which of them was meant."""
    allowed = re.findall(r"'([^']*)'", expected)
    near = get_close_matches(str(value), allowed, n=1)
    return (f"did you mean `{near[0]}`? " if near else "") + f"allowed: {', '.join(allowed)}"


def _shown(value: Any, place: Place) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    if value is None:
        return "empty"
    text = str(value)
    if (place and place[-1] in UNSHOWN) or looks_secret(text) or CREDENTIALS.search(text):
        return "not right (its value is not shown: it may be a secret)"
    return f"`{text if len(text) <= 60 else text[:57] + '…'}`"


def _members(shape: type[BaseModel], location: Sequence[str | int]) -> set[str]:
    """Names of the members that the models at a pydantic location have."""
    kinds: list[Any] = [shape]
    for part in location:
        inner = [kind for outer in kinds for kind in _inside(outer, part)]
        kinds = inner or [model for kind in kinds for model in _models(kind) if _is_branch(model, part)] or kinds
    return {name for kind in kinds for model in _models(kind) for name in _fields(model)}


def _inside(kind: Any, part: str | int) -> Iterator[Any]:
    """The annotations that one step into an annotation leads to."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if part in (fields := _fields(kind)):
            yield fields[str(part)]
    elif origin is typing.Annotated:
        yield from _inside(arguments[0], part)
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from _inside(argument, part)
    elif isinstance(part, int) and arguments:
        yield arguments[0]
    elif isinstance(part, str) and len(arguments) == 2:
        yield arguments[1]


def _is_branch(model: type[BaseModel], part: str | int) -> bool:
    """Whether a part that pydantic put into a location, the tag of a union's branch, means this model."""
    return any(part in typing.get_args(kind) for kind in _fields(model).values() if typing.get_origin(kind) is Literal)


def _alternatives(kind: Any) -> Iterator[Any]:
    """What an annotation may be, itself if it is no union."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        yield from _alternatives(arguments[0])
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from _alternatives(argument)
    else:
        yield kind


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    elif typing.get_origin(kind) in (typing.Annotated, typing.Union, types.UnionType):
        for argument in typing.get_args(kind):
            yield from _models(argument)


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Annotations by the name that the file uses."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _required(shape: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in shape.model_fields.items() if field.is_required()]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) if names else "none"
