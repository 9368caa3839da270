"""The hot modules as machine code, where `jeton compile` has made it.

What it makes lies in the environment, never among the sources, and is imported only while it is what the sources say: it bears
their digest, so after a change of one byte in any of their rooms all of them are Python again. They behave alike, and the tests
hold either way.
"""

import os
import sys
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

# What a request, or a simulated one, passes through time and again, so far as mypyc takes it.
MODULES = (
    "router/domain/attempt.py",
    "router/domain/money.py",
    "router/domain/request.py",
    "router/domain/usage.py",
    "router/classify/category.py",
    "router/classify/classifier.py",
    "router/classify/learned.py",
    "router/classify/rules.py",
    "router/classify/words.py",
    "router/pricing/amounts.py",
    "router/pricing/classes.py",
    "router/pricing/cost.py",
    "router/pricing/estimate.py",
    "router/pricing/forecast.py",
    "router/pricing/meter.py",
    "router/pricing/quote.py",
    "router/pricing/shares.py",
    "router/pricing/steps.py",
    "router/pricing/weigher.py",
    "router/pricing/weights.py",
    "router/pricing/worst_case.py",
    "router/pricing/yields.py",
    "router/selection/affinity.py",
    "router/selection/appraisal.py",
    "router/selection/ask.py",
    "router/selection/candidates.py",
    "router/selection/eligibility.py",
    "router/selection/experience.py",
    "router/selection/extent.py",
    "router/selection/first_token.py",
    "router/selection/lengths.py",
    "router/selection/quality.py",
    "router/selection/sample.py",
    "router/selection/site.py",
    "router/wire/acceptance.py",
    "router/wire/answers.py",
    "router/wire/json_body.py",
    "router/wire/needs.py",
    "router/wire/outgoing.py",
    "router/wire/parse.py",
    "router/wire/prompts.py",
    "router/wire/sse.py",
    "router/wire/streams.py",
    "router/wire/usage.py",
    "router/access/keys.py",
    "router/access/limits.py",
    "router/fleet/in_flight.py",
    "router/fleet/state.py",
    "router/accounting/accountant.py",
    "router/accounting/charging.py",
    "router/accounting/head_accountant.py",
    "router/accounting/leases.py",
    "router/accounting/reporter.py",
    "router/ledger/batch.py",
    "router/ledger/rows.py",
    "router/telemetry/metrics.py",
    "router/telemetry/money.py",
    "router/dispatch/outbox.py",
    "router/dispatch/plain.py",
    "router/dispatch/relay.py",
    "router/attempt.py",
    "router/delivery.py",
    "router/failover.py",
    "router/parcels.py",
    "load/kv_cache.py",
    "load/engine/batch.py",
    "load/engine/engine.py",
    "load/engine/lane.py",
    "load/engine/memory.py",
    "load/engine/pace.py",
    "load/engine/queues.py",
    "load/engine/records.py",
    "load/engine/sequence.py",
    "load/engine/shares.py",
    "load/engine/stretch.py",
    "load/simulate/attempt.py",
    "load/simulate/decider.py",
    "load/simulate/replica.py",
    "load/simulate/total_meter.py",
    "load/simulate/world.py",
)


# What they are made of: they, and what they import of their own rooms.
ROOMS = tuple(sorted({str(Path(module).parent) for module in MODULES}))


def sources_digest(project: Path = PROJECT) -> str:
    """Of the list of modules, and of every file of their rooms by name and content."""
    digest = blake2b("\n".join(MODULES).encode(), digest_size=16)
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


def is_compiled() -> bool:
    """Whether this process runs what was compiled."""
    return any(isinstance(finder, CompiledFinder) for finder in sys.meta_path)
