"""The floor plan holds: who may import whom, and what the pure rooms keep out. Read from the source, without running it.

A room is a package (`router.wire`) or, for `load` and the joints of `router`, a file. A new room or joint gets its row here
first. What a row lists may be imported with all that is below it; `router.errors` and the room itself always may.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGES = ("router", "policies", "load")

DOMAIN = "router.domain"
WIRE = "router.wire"
PRICING = "router.pricing"

PURE = {
    "router.errors": (),
    DOMAIN: (),
    WIRE: (DOMAIN,),
    "router.classify": (DOMAIN,),
    PRICING: (DOMAIN,),
    "router.selection": (DOMAIN, PRICING),
    "router.ledger.budget": (DOMAIN,),
    "router.reporting": (DOMAIN, PRICING),
    "policies": (DOMAIN,),
    "load.engine": (PRICING, "load.kv_cache"),
    "load.kv_cache": (),
    "load.attribution.mixes": ("load.traces",),
    "load.attribution.run": (PRICING, "load.engine", "load.attribution.mixes"),
    "load.attribution.rules": (PRICING, "load.attribution.run"),
    "load.attribution.table": (PRICING, "load.engine", "load.attribution"),
    "load.traces": (),
    "load.drive.outcome": (),
    "load.drive.schedule": ("load.traces",),
    "load.drive.result": ("load.drive.outcome",),
    "load.drive.verdict": ("load.drive.outcome",),
    "load.simulate.tally": ("load.drive",),
    "load.simulate.asks": (
        DOMAIN,
        WIRE,
        "router.classify",
        "load.traces",
        "load.draws",
        "load.workload",
        "load.emulator.language",
    ),
    "load.simulate.replica": (DOMAIN, PRICING, "load.engine", "load.simulate.attempt", "load.simulate.total_meter"),
    "load.simulate.total_meter": (PRICING,),
    "load.simulate.attempt": (DOMAIN, PRICING, "load.engine", "load.drive", "load.simulate", "router.fleet.in_flight"),
    "load.simulate.decider": (
        DOMAIN,
        PRICING,
        "router.selection",
        "router.fleet",
        "router.dispatch.retries",
        "router.deployment",
        "router.config",
    ),
    "load.simulate.world": (
        DOMAIN,
        PRICING,
        "router.fleet.health",
        "load.engine",
        "load.drive",
        "load.simulate",
        "load.traces",
    ),
    "load.simulate.happenings": (DOMAIN, PRICING, "router.config", "load.simulate"),
    "load.simulate.hindsight": (DOMAIN, PRICING, "load.simulate"),
    "load.replay.recorded": ("load.traces",),
    "load.replay.asks": (DOMAIN, "router.classify", "load.replay", "load.simulate", "load.traces"),
    "load.replay.table": ("load.replay", "load.simulate"),
    "load.simulate.scaling": (DOMAIN, "router.config", "load.simulate"),
    "load.simulate.blocks": ("load.simulate", "load.traces"),
    "load.simulate.network": (),
    "load.simulate.table": ("load.simulate",),
    "load.simulate.recording": (DOMAIN, PRICING, "load.simulate"),
    "load.report": ("load.drive", "load.simulate", "router.reporting"),
    "load.draws": ("load.traces",),
    "load.workload": ("load.draws", "load.traces", "load.emulator.language"),
    "load.calibration.closed_loop": (PRICING,),
    "load.calibration.open_loop": (PRICING,),
    "load.calibration.report": ("load.calibration.rows",),
    "load.plan.demand": ("load.traces",),
    "load.plan.trial": (PRICING, "load.engine", "load.drive"),
    "load.plan.capacity": (PRICING, "load.calibration.open_loop", "load.drive", "load.plan"),
    "load.plan.purchase": (),
    "load.plan.fleet": (PRICING, "load.drive", "load.plan"),
    "load.plan.break_even": ("load.plan",),
    "load.plan.table": ("load.drive", "load.plan"),
    "load.scenarios.claim": ("router.config",),
    "load.scenarios.sites": (),
    "load.scenarios.table": ("load.scenarios.claim",),
    "load.demo.figures": ("load.demo.fleet",),
    "load.demo.view": ("load.demo.figures",),
}

# They take a slice of the configuration by its class, never `RouterConfig`: see the test of that name.
IO = {
    "router.access": (DOMAIN, "router.config.tenants", "router.config.stores", "router.redis_link"),
    "router.fleet": (DOMAIN, WIRE, "router.config.fleet"),
    "router.dispatch": (DOMAIN, WIRE),
    "router.ledger": (DOMAIN, "router.config.stores", "router.redis_link"),
    "router.telemetry": (DOMAIN,),
    "router.cache": (DOMAIN, "router.config.stores", "router.redis_link"),
}

# What joins the rooms: files directly in `router`, and those of the books. First those of the configuration, then those that
# one request passes through, then those that know everything.
CONFIG = (
    "router.config", "router.config_source", "router.config_shape", "router.config_checks", "router.fleet_config",
    "router.profiles",
)  # fmt: skip
JOINTS = {
    "router": (),
    "router.config": (DOMAIN,),
    "router.config_source": (),
    "router.profiles": (PRICING,),
    "router.config_shape": CONFIG,
    "router.config_checks": (DOMAIN, PRICING, *CONFIG),
    "router.fleet_config": (DOMAIN, PRICING, *CONFIG),
    "router.config_policy": (DOMAIN, "router.selection.loader", *CONFIG),
    "router.config_file": (
        *(DOMAIN, PRICING, "router.classify", "router.selection", "router.dispatch", "router.config_policy"),
        *CONFIG,
    ),
    "router.price_file": (PRICING,),
    "router.feeds": (PRICING,),
    "router.preemption_record": (DOMAIN, "router.ledger", "router.selection"),
    "router.price_watch": (PRICING, "router.config_file", "router.feeds"),
    "router.reload": ("router.config_file", *CONFIG),
    "router.clock": (),
    "router.compiled": (),
    "router.redis_link": ("router.config.stores",),
    "router.prefix_news": (DOMAIN, WIRE, "router.selection", "router.config.stores", "router.redis_link"),
    "router.open_files": ("router.config",),
    "router.cohort": (),
    "router.connection": (WIRE, "router.config.server", "router.dispatch"),
    "router.server": ("router.config.server", "router.connection", "router.dispatch.outbox"),
    "router.conversation": ("router.access", "router.dispatch", "router.attempt", "router.connection"),
    "router.upload": (DOMAIN, WIRE, "router.conversation"),
    "router.accounting": (),  # how what happens to attempts becomes money, and is held against its journal
    "router.accounting.leases": (DOMAIN, PRICING, "router.ledger"),
    "router.accounting.charging": (DOMAIN, PRICING, "router.ledger", "router.accounting.leases"),
    "router.accounting.accountant": (
        DOMAIN,
        PRICING,
        "router.ledger",
        "router.accounting.charging",
        "router.accounting.leases",
    ),
    "router.accounting.head_accountant": (
        DOMAIN,
        PRICING,
        "router.ledger",
        "router.accounting.accountant",
        "router.accounting.charging",
        "router.accounting.leases",
    ),
    "router.accounting.reporter": (
        DOMAIN,
        PRICING,
        "router.ledger",
        "router.accounting.accountant",
        "router.accounting.charging",
    ),
    "router.accounting.bookkeeper": (DOMAIN, PRICING, "router.ledger", "router.accounting.head_accountant"),
    "router.accounting.books": ("router",),
    "router.accounting.derivation": (DOMAIN, PRICING, "router.ledger"),
    "router.accounting.audited_metrics": (DOMAIN, "router.accounting.derivation", "router.telemetry.money"),
    "router.accounting.audit": (
        DOMAIN,
        PRICING,
        "router.accounting.audited_metrics",
        "router.accounting.derivation",
        "router.ledger",
        "router.telemetry",
    ),
    "router.accounting.prune": (DOMAIN, "router.accounting.derivation", "router.ledger"),
    "router.accounting.rebuild": (DOMAIN, "router.accounting.derivation", "router.ledger"),
    "router.accounting.bursar": (DOMAIN, "router.selection", "router.ledger", "router.clock"),
    "router.attempt": (
        DOMAIN,
        PRICING,
        WIRE,
        "router.dispatch",
        "router.fleet",
        "router.selection.ask",
    ),
    "router.group": ("router.telemetry", "router.orders"),
    "router.recall": (
        DOMAIN,
        PRICING,
        WIRE,
        "router.cache",
        "router.telemetry",
        "router.accounting.accountant",
        "router.conversation",
    ),
    "router.migration": (),
    "router.discovery": (DOMAIN, "router.fleet", "router.fleet_config", "router.config_file", *CONFIG),
    "router.deployment": ("router",),
    "router.intake": (
        DOMAIN,
        WIRE,
        "router.access",
        "router.dispatch.names",
        "router.conversation",
        "router.deployment",
        "router.upload",
    ),
    "router.work": (
        DOMAIN,
        WIRE,
        "router.cache.responses",
        "router.dispatch.watchdog",
        "router.ledger.budget",
        "router.conversation",
        "router.deployment",
        "router.intake",
    ),
    "router.parcels": (DOMAIN, WIRE, "router.dispatch", "router.attempt", "router.work"),
    "router.delivery": (
        DOMAIN,
        WIRE,
        "router.dispatch",
        "router.attempt",
        "router.cohort",
        "router.conversation",
        "router.recall",
        "router.work",
    ),
    "router.errands": (),
    "router.recount": (
        DOMAIN,
        WIRE,
        "router.dispatch",
        "router.attempt",
        "router.errands",
        "router.parcels",
        "router.work",
    ),
    "router.shadows": (
        DOMAIN,
        WIRE,
        "router.dispatch",
        "router.attempt",
        "router.delivery",
        "router.errands",
        "router.parcels",
        "router.work",
    ),
    "router.leftovers": ("router.dispatch", "router.errands", "router.work"),
    "router.failover": (
        DOMAIN,
        WIRE,
        "router.dispatch",
        "router.fleet.state",
        "router.ledger.budget",
        "router.selection.acceptance",
        "router.selection.terms",
        "router.telemetry.metrics",
        "router.attempt",
        "router.accounting.bursar",
        "router.clock",
        "router.cohort",
        "router.conversation",
        "router.delivery",
        "router.leftovers",
        "router.missing_rates",
        "router.parcels",
        "router.recount",
        "router.shadows",
        "router.work",
    ),
    "router.missing_rates": (DOMAIN, "router.pricing"),
    "router.pipeline": (
        DOMAIN,
        WIRE,
        "router.access",
        "router.classify",
        "router.dispatch.names",
        "router.dispatch.watchdog",
        "router.fleet.state",
        "router.ledger.budget",
        "router.selection",
        "router.telemetry.metrics",
        "router.accounting.bursar",
        "router.clock",
        "router.cohort",
        "router.conversation",
        "router.deployment",
        "router.failover",
        "router.intake",
        "router.recall",
        "router.work",
    ),
    "router.gateway": ("router",),
    "router.api": ("router",),
    "router.admin": ("router",),
    "router.orders": (DOMAIN, "router.fleet.health", "router.departures"),
    "router.departures": (DOMAIN, "router.fleet"),
    "router.app": ("router",),
    "router.accounting.process": ("router",),
    "router.ledger_options": ("router.config", "router.config_source", "router.ledger"),
    "router.commands": ("router", "policies"),
    "router.__main__": ("router",),
    "load": ("router", "policies"),
}

PLAN: Mapping[str, tuple[str, ...]] = PURE | IO | JOINTS

# Where names become modules: policies by file name, commands by entry point, sub-commands by file name, machine code by module.
MAY_IMPORT_BY_NAME = {
    "router.selection.loader",
    "router.dispatch.provider_loader",
    "router.compiled",
    "router.commands.compile",
    "router.__main__",
    "load.__main__",
}

# Modules whose very use is a clock, the environment, chance or the world outside.
IMPURE_MODULES = {
    "asyncio", "aiohttp", "httpx", "multiprocessing", "secrets", "selectors", "signal", "socket", "sqlite3", "ssl",
    "subprocess", "threading", "time", "uuid", "uvloop",
}  # fmt: skip
IMPURE_ATTRIBUTES = {
    "os.environ",
    "os.getenv",
    "os.urandom",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
}
SEEDED = {"random.Random", "np.random.default_rng", "np.random.Generator"}  # called with a seed, that is
ASYNC_NODES = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)

Import = tuple[str, int]


def is_below(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, ast.Module]:
    """Every module of ours and its syntax tree."""
    paths = (path for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))
    return {module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in sorted(paths)}


def room_of(module: str) -> str | None:
    """The most specific row of the plan; a file directly in `router` needs one of its own."""
    rooms = [room for room in PLAN if is_below(module, room) and (room != "router" or module == "router")]
    return max(rooms, key=len, default=None)


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute chain, as far as it is made of names."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value)}.{attr}"
        case _:
            return ""


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every name that is imported, wherever in the file; `from a import b` is `a.b`, for b may be a module."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                prefix = "." * level + (module or "")
                yield from ((f"{prefix}.{alias.name}", node.lineno) for alias in names)


def trespasses(module: str, tree: ast.Module) -> list[str]:
    """Imports that the plan does not allow `module`."""
    room = room_of(module)
    if room is None:
        return [f"{module} has no row in the floor plan"]
    allowed = (*PLAN[room], room, "router.errors")
    found = []
    for name, line in imports(tree):
        if name.startswith("."):
            found.append(f"{module}:{line} imports {name}: write absolute imports")
        elif name.split(".")[0] in PACKAGES and not any(is_below(name, other) for other in allowed):
            found.append(
                f"{module}:{line} imports {name}; {room} may import {', '.join(PLAN[room]) or 'nothing of ours'}"
            )
    return found


def impurities(module: str, tree: ast.Module) -> list[str]:
    """What a pure module may not hold: async, a clock, the environment, chance that nobody seeded."""
    imported = dict(imports(tree))
    hidden_chance = ("random.",) * ("random" in imported) + ("np.random.",) * ("numpy" in imported)
    found = [f"{name} (line {line})" for name, line in imported.items() if name.split(".")[0] in IMPURE_MODULES]
    found += [
        f"{name} (line {line})"
        for name, line in imported.items()
        if is_below(name, "random") and name not in {"random", *SEEDED}
    ]
    for node in ast.walk(tree):
        if isinstance(node, ASYNC_NODES):
            found.append(f"async (line {node.lineno})")
        elif isinstance(node, ast.Attribute):
            name = dotted(node)
            if ".".join(name.split(".")[-2:]) in IMPURE_ATTRIBUTES:
                found.append(f"{name} (line {node.lineno})")
            elif name.startswith(hidden_chance) and name not in SEEDED:
                found.append(f"{name} (line {node.lineno}): chance comes as a generator that the caller has seeded")
        elif isinstance(node, ast.Call) and dotted(node.func) in SEEDED and not node.args:
            found.append(f"{dotted(node.func)}() without a seed (line {node.lineno})")
    return [f"{module}: {what}" for what in found]


SOURCES = sources()
PURE_MODULES = [module for module in SOURCES if room_of(module) in PURE]
POLICIES = sorted(module.removeprefix("policies.") for module in SOURCES if module.startswith("policies."))


def test_every_room_imports_only_what_the_floor_plan_allows() -> None:
    assert [trespass for module, tree in SOURCES.items() for trespass in trespasses(module, tree)] == []


def test_pure_rooms_hold_no_async_no_clock_no_environment_and_no_unseeded_chance() -> None:
    assert [impurity for module in PURE_MODULES for impurity in impurities(module, SOURCES[module])] == []


def test_only_joints_see_the_whole_configuration() -> None:
    assert [
        f"{module}:{line}"
        for module, tree in SOURCES.items()
        for name, line in imports(tree)
        if name == "router.config.RouterConfig" and room_of(module) not in JOINTS
    ] == []


def test_modules_are_imported_by_name_only_where_names_become_modules() -> None:
    by_name = {module for module, tree in SOURCES.items() for name, _ in imports(tree) if is_below(name, "importlib")}
    readers = {"importlib.resources", "importlib.metadata"}
    by_name -= {
        m
        for m in by_name
        if all(n.startswith(tuple(readers)) for n, _ in imports(SOURCES[m]) if is_below(n, "importlib"))
    }
    assert by_name <= MAY_IMPORT_BY_NAME


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_is_one_file_that_no_other_code_names(policy: str) -> None:
    """The one exception is the default of `policy.name` in the configuration."""
    naming = {
        module
        for module, tree in SOURCES.items()
        if module != f"policies.{policy}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value == policy
    }
    importing = {
        module for module, tree in SOURCES.items() for name, _ in imports(tree) if is_below(name, f"policies.{policy}")
    }
    assert naming | importing <= {"router.config.routing"}


def test_every_row_of_the_plan_stands_in_the_house() -> None:
    assert [room for room in PLAN if not any(is_below(module, room) for module in SOURCES)] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("router.domain.usage", "from router.wire import sse"),
        ("router.wire.sse", "def read():\n    import router.dispatch.relay"),
        ("router.ledger.store", "from router import fleet"),
        ("router.access.keys", "import router.ledger.store as store"),
        ("router.app", "from load.engine import Engine"),
        ("policies.cheapest", "from router.pricing.book import Price"),
        ("router.pricing.meter", "from .book import Price"),
        ("router.utils", ""),
    ],
)
def test_a_trespass_is_seen(module: str, source: str) -> None:
    assert trespasses(module, ast.parse(source)) != []


@pytest.mark.parametrize(
    "source",
    [
        "async def read(): ...",
        "from time import monotonic",
        "import os\nos.environ['X']",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import date\ndate.today()",
        "import random\nrandom.choice([1])",
        "import random\nrandom.Random()",
        "from random import choice",
        "import numpy as np\nnp.random.default_rng()",
    ],
)
def test_an_impurity_is_seen(source: str) -> None:
    assert impurities("router.wire.sse", ast.parse(source)) != []


def test_seeded_chance_is_pure() -> None:
    source = "import random\nimport numpy as np\nrandom.Random(7).random()\nnp.random.default_rng(7).integers(3)"
    assert impurities("load.engine", ast.parse(source)) == []
