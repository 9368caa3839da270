"""Engine profiles by name: those that come with jeton, and those of a YAML file in the shape of router.yaml's `profiles`.

Reading files is all that happens here; the formulas are `router/pricing/roofline.py`'s.
"""

from pathlib import Path

import yaml
from pydantic import TypeAdapter

from router.config.profiles import AnyProfileConfig, ModelProfileConfig, ProfileConfig
from router.fleet_config import build_profile
from router.pricing.profile import EngineProfile
from router.profiles import shipped

_SHAPE: TypeAdapter[ProfileConfig | ModelProfileConfig] = TypeAdapter(AnyProfileConfig)

BUILT_IN = Path(__file__).with_name("profiles.yaml")


def profiles_in(path: Path = BUILT_IN) -> dict[str, EngineProfile]:
    """Every profile of a file. Raises ValueError for one that is not in the shape of router.yaml's, or does not fit its memory;
    LookupError for a model or GPU that jeton does not know; OSError when the file cannot be read."""
    rows = yaml.safe_load(path.read_text())
    if not isinstance(rows, dict):
        raise ValueError(f"{path}: expected a mapping of names to profiles")
    return {name: built(row) for name, row in rows.items()}


def built(row: object) -> EngineProfile:
    """One profile of a file; raises as `profiles_in` does."""
    return build_profile(_SHAPE.validate_python(row))


def profile_named(name: str) -> EngineProfile:
    """A built-in profile or a measured one by name, or the one of a YAML file by `path` (if it holds one) or `path:name`.

    Raises ValueError, with the names there are, when there is no such profile.
    """
    built_in = profiles_in()
    if name in built_in:
        return built_in[name]
    if name in shipped().deployments:
        return shipped().named(name)
    file, _, inner = name.partition(":")
    if not Path(file).is_file():
        raise ValueError(
            f"no profile {name!r}; there are {', '.join(built_in)}, those of `jeton profile list`, or name a YAML file"
        )
    found = profiles_in(Path(file))
    if inner in found:
        return found[inner]
    if not inner and len(found) == 1:
        return next(iter(found.values()))
    raise ValueError(f"{file} holds {', '.join(found)}: name one as {file}:{next(iter(found))}")


def profile_label(name: str) -> str:
    """What to call a model that has no name of its own: the built-in profile, the one inside a file, or the file."""
    if name in profiles_in() or name in shipped().deployments:
        return name
    file, _, inner = name.partition(":")
    return inner or Path(file).stem
