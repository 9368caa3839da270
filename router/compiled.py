"""The hot pure rooms as machine code, where `jeton compile` has made it.

What it makes lies in the environment, never among the sources, and is imported only while it is what the sources say: it bears
the digest of all pure rooms, so after a change of one byte in any of them all of them are Python again. They behave alike, and
the tests hold either way; a request costs about a fifth more without, a simulated one more than twice as much.
"""

import os
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).parents[1]
DIRECTORY = Path(sysconfig.get_path("platlib")) / "jeton_compiled"
DIGEST_FILE = "sources.blake2b"
# Set to 0, Python runs as it is written, whatever has been compiled.
SWITCH = "JETON_COMPILED"

# What compiled modules are made of: they, and all that they import of ours (the floor plan lets a pure room import no other).
ROOMS = (
    "router/domain", "router/wire", "router/classify", "router/pricing", "router/selection", "load/engine",
)  # fmt: skip


def sources_digest(project: Path = PROJECT) -> str:
    """Of every file of the pure rooms, by name and content."""
    digest = blake2b(digest_size=16)
    for room in ROOMS:
        for path in sorted((project / room).glob("*.py")):
            content = path.read_bytes()
            digest.update(f"{room}/{path.name} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def compiled_modules(directory: Path = DIRECTORY) -> dict[str, Path]:
    """The modules that were compiled of these very sources for this Python, by name; empty when there are none."""
    try:
        is_current = (directory / DIGEST_FILE).read_text() == sources_digest()
    except OSError:  # nothing was compiled, or the sources did not come along
        return {}
    return dict(_extensions(directory)) if is_current else {}


def _extensions(directory: Path) -> Iterator[tuple[str, Path]]:
    suffix = EXTENSION_SUFFIXES[0]  # this Python's alone
    for path in directory.rglob(f"*{suffix}"):
        yield ".".join(path.relative_to(directory).parts).removesuffix(suffix), path


class CompiledFinder(MetaPathFinder):
    """Finds these modules at these files."""

    def __init__(self, modules: Mapping[str, Path]) -> None:
        self._modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._modules.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, str(file)))


def finders() -> list[MetaPathFinder]:
    """What belongs at the head of `sys.meta_path` before any other module of ours is imported; none where nothing is compiled."""
    if os.environ.get(SWITCH) == "0":
        return []
    modules = compiled_modules()
    return [CompiledFinder(modules)] if modules else []
