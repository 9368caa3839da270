"""`python -m docs.generate`: writes the pages of `docs/reference/` from the code that they are about. A test compares.

Configuration from its pydantic models, metrics from the registry of a router that was built for it, headers from the sources.
"""

import asyncio
import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from load.demo.fleet import CLOUD_API_KEY, PRICES, read_fleet, replica_specs, router_config
from router.app import App
from router.config import RouterConfig
from router.config_file import PEPPER, load
from router.dispatch.provider_loader import provider_class, provider_names
from router.pricing.book import PriceBook

PROJECT = Path(__file__).parents[1]
PAGES = PROJECT / "docs/reference"
MADE = "\n<!-- Made by `python -m docs.generate`; change the code. -->\n"

# What each header says is written here; that all are here, and no others, is the test's.
ASKED: Mapping[str, str] = {
    "x-jeton-criticality": "`sheddable` requests are turned away first when there is too much, `critical` ones never",
    "x-jeton-deadline-ms": "milliseconds for the first token of a stream, or for the last of a whole answer",
    "x-jeton-max-usd": "US dollars that the request, with all its attempts, may not cost more than, at its worst",
    "x-jeton-region": "where the client is, for pools with `rtt_seconds_from`",
}
HEADERS: Mapping[str, str] = {
    "x-jeton-attempts": "how many replicas were tried",
    "x-jeton-backend": "the backend that answered; of an error, the last that was asked",
    "x-jeton-cache": "what the response cache had: `hit`, `shared` (of an identical request under way), `miss` or `bypass`",
    "x-jeton-cost-usd": "what the request cost, in US dollars; not on streams, whose headers go out before that is known, nor "
    "where its tokens are counted after it",
    "x-jeton-model": "that backend's model, by its name in the configuration",
    "x-jeton-policy": "the policy that chose",
    "x-jeton-reason": "why, in the policy's own words",
    "x-jeton-tier": "that backend's tier",
}


def pages() -> dict[str, str]:
    """The text of each page, by its file's name."""
    return {"configuration.md": configuration(), "metrics.md": metrics(), "headers.md": headers()}


# -- configuration


def configuration() -> str:
    text = [
        "# Configuration, member by member",
        MADE,
        "`router.yaml` is a `RouterConfig`, `prices.yaml` a `PriceBook`. Nothing unknown is accepted, and every mistake is told"
        " with file, line and remedy: `jeton check`. Secrets are in the environment, never in a file of these.",
        "",
    ]
    for file, model in (("router.yaml", RouterConfig), ("prices.yaml", PriceBook)):
        text += [f"# {file}", "", *_models(model)]
    about = "What stands under `parameters` of a backend's `provider`; those that are not here take none. What each can do is in"
    text += ["# Parameters of providers", "", f"{about} [its file](../../router/dispatch/providers).", ""]
    for name in provider_names():
        if (provider := provider_class(name)).model_fields:
            text += _models(provider)
    return "\n".join(text).rstrip() + "\n"


def _models(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema()
    shapes = {schema["title"]: schema} | {
        name: one for name, one in sorted(schema.get("$defs", {}).items()) if "properties" in one
    }
    for name, one in shapes.items():
        yield f"## {name}\n"
        if description := one.get("description"):
            yield f"{_flowing(description)}\n"
        yield "| member | what it may be | default | |\n|---|---|---|---|"
        required = set(one.get("required", ()))
        for member, kind in one["properties"].items():
            default = "**needed**" if member in required else _default(kind)
            about = _cell(_flowing(kind.get("description", "")))
            yield f"| `{member}` | {_cell(_kind(kind, schema))} | {_cell(default)} | {about} |"
        yield ""


def _kind(kind: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words; shapes by the name of their heading."""
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        shape = schema["$defs"][name]
        return f"[{name}](#{name.lower()})" if "properties" in shape else _kind(shape, schema)
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    if "const" in kind:
        return f"`{kind['const']}`"
    for branches in ("anyOf", "oneOf", "allOf"):
        if branches in kind:
            told = dict.fromkeys(_kind(one, schema) for one in kind[branches] if one.get("type") != "null")
            if "number" in {one.get("type") for one in kind[branches]}:  # an exact decimal may be written as text, too
                told = {one: None for one in told if not one.startswith("text")}
            return " or ".join(told)
    name = kind.get("type")
    if name == "array":
        return f"list of {_kind(kind.get('items', {}), schema)}"
    if name == "object":
        values = kind.get("additionalProperties") or next(iter(kind.get("patternProperties", {}).values()), None)
        return f"mapping to {_kind(values, schema)}" if isinstance(values, dict) and values else "mapping"
    words = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        None: "anything",
    }
    limits = [
        f"{sign} {kind[key]:g}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in kind
    ]
    if kind.get("format") in ("date", "path"):
        return str(kind["format"])
    return f"{words[name]} {', '.join(limits)}".rstrip()


def _default(kind: Mapping[str, Any]) -> str:
    """As YAML would have it; a shape's is what its own members say."""
    value = kind.get("default")
    if value is None or ("$ref" in kind and isinstance(value, dict)):
        return "–" if value is None else "its own"
    if value == "":
        return "empty"
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace('"', "")


# -- metrics


def metrics() -> str:
    text = [
        "# Metrics",
        MADE,
        "What `/metrics` may hold. Money is the ledger's; labels hold names of the configuration and of jeton's own alone, never"
        " what a client sent. [The quick start](../quick-start.md) and [the boards](../monitoring.md) show how to look at them.",
        "",
        "| metric | kind | labels | |",
        "|---|---|---|---|",
    ]
    for family in sorted(_families(), key=lambda one: str(one.name)):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(family._labelnames)
        text.append(f"| `{name}` | {family.type} | {labels} | {_cell(family.documentation)} |")
    return "\n".join(text) + "\n"


def _families() -> Iterable[Any]:
    """Of a router that several workers share the books of, so that what only those have is there."""
    directory = Path(tempfile.mkdtemp(prefix="jeton-reference-"))
    try:
        fleet = read_fleet()
        keys = {tenant["name"]: secrets.token_hex(8) for tenant in fleet["tenants"]}
        urls = [f"http://127.0.0.1:{9000 + position}" for position in range(len(replica_specs(fleet, "key")))]
        config = router_config(fleet, urls, keys, "pepper", directory / "jeton.sqlite")
        config["ledger"] |= {"accountant": "inside"}
        (directory / "router.yaml").write_text(json.dumps(config), encoding="utf-8")
        shutil.copy(PRICES, directory)
        return asyncio.run(_registered(directory / "router.yaml"))
    finally:
        shutil.rmtree(directory)


async def _registered(path: Path) -> list[Any]:
    app = App(load(path, environ={PEPPER: "pepper", CLOUD_API_KEY: "key"}))
    try:
        collectors: list[Any] = list(app._metrics.registry._collector_to_names)
        return [family for collector in collectors for family in collector.describe()]
    finally:
        app._books.store.close()


# -- headers


def headers() -> str:
    text = [
        "# Headers",
        MADE,
        "## Of an answer",
        "",
        "Beside these, `x-request-id` names the request in the ledger and in the log.",
        "",
        "| header | |",
        "|---|---|",
        *(f"| `{name}` | {about} |" for name, about in HEADERS.items()),
        "",
        "## Of a request",
        "",
        "| header | |",
        "|---|---|",
        *(f"| `{name}` | {about} |" for name, about in ASKED.items()),
    ]
    return "\n".join(text) + "\n"


def headers_in_code() -> set[str]:
    sources = (path.read_text(encoding="utf-8") for path in (PROJECT / "router").rglob("*.py"))
    return {name for source in sources for name in re.findall(r'b"(x-jeton-[a-z-]+)"', source)}


def _flowing(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")
