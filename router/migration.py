"""From a LiteLLM proxy's config.yaml to jeton's two files, and a report of what has no counterpart. Values in, values out.

What LiteLLM does not say is not guessed: it is left out, so that `jeton check` names it with its line and remedy. Keys in clear
text are not copied. Sources of the members: LiteLLM's documentation of its proxy configuration (model_list, litellm_settings,
router_settings, general_settings).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

# LiteLLM's prefixes of models that are an engine of one's own, of OpenAI, and of clouds that jeton speaks to natively.
OWN_ENGINES = frozenset({"hosted_vllm", "vllm", "openai_like"})
PROVIDERS: Mapping[str, str] = {
    "azure": "azure",
    "anthropic": "anthropic",
    "bedrock": "bedrock",
    "vertex_ai": "vertex",
    "groq": "groq",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "deepinfra": "deepinfra",
    "openrouter": "openrouter",
}
OPENAI_URL = "https://api.openai.com"
# LiteLLM's `mode` of a model as capabilities here; a chat's are the default.
CAPABILITIES: Mapping[str, list[str]] = {
    "completion": ["completions"],
    "embedding": ["embeddings"],
    "rerank": ["rerank"],
    "audio_transcription": ["transcriptions"],
}
CHAT_MODES = frozenset({"chat", "responses"})
ENVIRONMENT = re.compile(r"os\.environ/([A-Z][A-Z0-9_]*)")
UNFIT = re.compile(r"[^A-Za-z0-9._:@-]+")
TOKENS_PER_MILLION = 1_000_000

PARAMETERS_READ = frozenset({"model", "api_base", "base_url", "api_key"})
INFO_READ = frozenset(
    {"max_input_tokens", "max_tokens", "max_output_tokens", "input_cost_per_token", "output_cost_per_token", "id", "mode",
     "cache_read_input_token_cost"}
)  # fmt: skip
SETTINGS_READ = {
    "litellm_settings": frozenset({"num_retries", "request_timeout"}),
    "router_settings": frozenset({"num_retries", "timeout", "model_group_alias"}),
    "general_settings": frozenset[str](),
}
# What jeton does in another way, by the member's name.
INSTEAD: Mapping[str, str] = {
    "rpm": "a provider's limits are learned from its 429 and its headers",
    "tpm": "a provider's limits are learned from its 429 and its headers",
    "weight": "the policy orders candidates by price, quality and load",
    "order": "the policy orders candidates; its order is the fail-over",
    "fallbacks": "the policy's order is the fail-over, among all that an alias allows",
    "context_window_fallbacks": "a backend whose context is too small is not a candidate",
    "default_fallbacks": "the policy's order is the fail-over",
    "routing_strategy": "`policy`: quality_floor, least_busy and others",
    "allowed_fails": "`health.failures_to_eject`",
    "cooldown_time": "`health.ejection_seconds`",
    "cache": "`cache` keeps answers that can only come out the same",
    "cache_params": "`cache`, and `redis` to share it",
    "master_key": "clients' keys are hashes: `jeton key --tenant NAME`",
    "database_url": "`ledger.url`; virtual keys are `tenants` with `api_keys`",
    "max_budget": "`budgets` of a tenant or a key",
    "budget_duration": "`per: day | month | total` of a budget",
    "drop_params": "what a backend cannot do is asked of another",
    "success_callback": "`/metrics`, and the ledger",
    "failure_callback": "`/metrics`, and the ledger",
    "redis_host": "`redis.url`",
    "redis_password": "`redis.password_env`",
}


@dataclass(slots=True)
class Migration:
    """router, prices: what to write. notes: (where in config.yaml, what about it): nothing is dropped in silence."""

    router: dict[str, Any] = field(default_factory=dict)
    prices: dict[str, Any] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)


def from_litellm(config: Mapping[str, Any], day: str) -> Migration:
    """day: ISO, from which the prices that the file states are taken to hold. Raises ValueError for what is no such file."""
    models = config.get("model_list")
    if not isinstance(models, list) or not models:
        raise ValueError("there is no `model_list` in it; give the config.yaml of a LiteLLM proxy")
    migration, pools = (
        Migration(),
        {"own": _pool("own", "central", "leased"), "cloud": _pool("cloud", "cloud", "metered")},
    )
    aliases: dict[str, dict[str, Any]] = {"auto": {}}
    backends: dict[str, dict[str, Any]] = {}
    for position, entry in enumerate(models):
        place = f"model_list[{position}]"
        try:
            if (why := _unserved(entry)) is not None:
                migration.notes.append((place, why))
                continue
            pool, backend = _backend(entry, place, day, migration)
        except (KeyError, TypeError, AttributeError):
            raise ValueError(f"{place} has no `model_name` and `litellm_params.model`") from None
        known = backends.get(backend["name"])
        if known is not None and _whose(known) != _whose(backend):  # the same model at somebody else's
            backend["name"] = backend["price"] = f"{backend['name']}-{_whose(backend)}"
            known = backends.get(backend["name"])
        if known is None:
            _price(backend["price"], entry.get("model_info") or {}, pool == "own", place, day, migration)
            backends[backend["name"]] = backend
            pools[pool]["backends"].append(backend)
        else:  # the same model at another address: another replica
            known["replicas"] += backend["replicas"]
        alias = aliases.setdefault(_fit(entry["model_name"]), {"backends": []})
        if backend["name"] not in alias["backends"]:
            alias["backends"].append(backend["name"])
    for alias, target in _settings(config, "router_settings").get("model_group_alias", {}).items():
        if isinstance(target, str) and _fit(target) in aliases:
            aliases[_fit(alias)] = dict(aliases[_fit(target)])
        else:
            migration.notes.append((f"router_settings.model_group_alias.{alias}", "leads to no model of the list"))
    if not backends:
        raise ValueError("there is no model that could be taken over in its `model_list`")
    backends = _as_groups(backends, aliases)
    names = {name for backend in backends.values() for name in (backend["name"], backend["model"])}
    migration.router = {
        "baseline": next(iter(backends)),
        "aliases": {name: one for name, one in aliases.items() if name not in names},
        "pools": [pool for pool in pools.values() if pool["backends"]],
    }
    baseline = migration.router["baseline"]
    migration.notes.append(("baseline", f"savings are measured against `{baseline}`; name another if you like"))
    _limits(config, migration)
    migration.notes += _left_over(config)
    return migration


def _unserved(entry: Mapping[str, Any]) -> str | None:
    """Why an entry becomes no backend; None where it does."""
    if "*" in entry["model_name"] or "*" in entry["litellm_params"]["model"]:
        return "a wildcard has no counterpart: name every model that is to be served"
    mode = (entry.get("model_info") or {}).get("mode", "chat")
    return None if mode in CHAT_MODES or mode in CAPABILITIES else f"`mode: {mode}` has no counterpart"


def _whose(backend: Mapping[str, Any]) -> str:
    """By whom it is served."""
    provider = backend.get("provider")
    return str(provider["name"] if isinstance(provider, Mapping) else provider or backend.get("engine") or "own")


def _as_groups(backends: Mapping[str, dict[str, Any]], aliases: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The backends by name, where a name by which a group is asked for leads to all of it: an alias may not be called as a
    backend or a model is, so the group's name becomes its backends' model."""
    renamed: dict[str, str] = {}
    taken = {name for backend in backends.values() for name in (backend["name"], backend["model"])}
    for group, alias in aliases.items():
        members = alias.get("backends", [])
        if group not in taken or len(members) < 2:
            continue
        for name in members:
            backend = backends[name]
            backend["served_model"] = backend.get("served_model", backend["model"])
            backend["model"] = group
            if name == group:
                renamed[name] = backend["name"] = f"{group}-{_whose(backend)}"
    for alias in aliases.values():
        if "backends" in alias:
            alias["backends"] = [renamed.get(name, name) for name in alias["backends"]]
    return {backend["name"]: backend for backend in backends.values()}


def _pool(name: str, kind: str, billing: str) -> dict[str, Any]:
    return {"name": name, "kind": kind, "billing": billing, "backends": []}


def _backend(entry: Mapping[str, Any], place: str, day: str, migration: Migration) -> tuple[str, dict[str, Any]]:
    parameters, info = entry["litellm_params"], entry.get("model_info") or {}
    prefix, _, model = parameters["model"].rpartition("/")
    provider = prefix.split("/")[0]
    if provider not in {*OWN_ENGINES, *PROVIDERS, "openai", ""}:
        what = f"`{provider}` is taken for an API like OpenAI's: jeton has no other word for it"
        migration.notes.append((f"{place}.litellm_params.model", what))
    if provider == "openrouter":  # the vendor is a part of its model's name
        model = parameters["model"].partition("/")[2]
    base = parameters.get("api_base") or parameters.get("base_url")
    is_own = provider in OWN_ENGINES or (provider == "openai" and base is not None and "api.openai.com" not in base)
    name = _fit(model)
    backend: dict[str, Any] = {"name": name, "model": name}
    if model != name:
        backend["served_model"] = model
    if not is_own:
        backend |= {"provider": PROVIDERS[provider]} if provider in PROVIDERS else {"engine": "openai"}
    read = PARAMETERS_READ
    if provider == "azure" and "api_version" in parameters:
        backend["provider"] = {"name": "azure", "parameters": {"api_version": str(parameters["api_version"])}}
        read = read | {"api_version"}
    if (context := info.get("max_input_tokens") or info.get("max_tokens")) is not None:
        backend["context_tokens"] = int(context)
    else:
        migration.notes.append(
            (place, f"how many tokens the context of `{name}` has is not said: add `context_tokens`")
        )
    if not is_own and (most := info.get("max_output_tokens")) is not None:
        backend["completion_tokens_max"] = int(most)
    mode = info.get("mode") or ("embedding" if "embed" in name.lower() else "chat")
    if mode in CAPABILITIES:
        backend["capabilities"] = list(CAPABILITIES[mode])
    backend["price"] = name
    replica: dict[str, Any] = {}
    if base is not None:
        replica["url"] = base.rstrip("/").removesuffix("/v1")
    elif provider in {"openai", ""}:
        replica["url"] = OPENAI_URL
    else:
        migration.notes.append((place, f"where `{name}` is asked is not said: add `url` to its replica"))
    replica |= _api_key(parameters.get("api_key"), f"{place}.litellm_params.api_key", migration)
    backend["replicas"] = [replica]
    if is_own:
        what = f"what `{name}` runs on is not said: add an engine `profile`, and its row of price per hour"
        migration.notes.append((place, what))
    for member in sorted(parameters.keys() - read):
        migration.notes.append((f"{place}.litellm_params.{member}", INSTEAD.get(member, "has no counterpart")))
    for member in sorted(info.keys() - INFO_READ):
        migration.notes.append((f"{place}.model_info.{member}", INSTEAD.get(member, "has no counterpart")))
    return ("own" if is_own else "cloud"), backend


def _api_key(value: Any, place: str, migration: Migration) -> dict[str, str]:
    if value is None:
        return {}
    found = ENVIRONMENT.fullmatch(str(value))
    if found is not None:
        return {"api_key_env": found[1]}
    what = "is in clear text, or its variable not in capitals: not copied; put it into a variable and name that in `api_key_env`"
    migration.notes.append((place, what))
    return {}


def _price(name: str, info: Mapping[str, Any], is_own: bool, place: str, day: str, migration: Migration) -> None:
    prompt, completion = info.get("input_cost_per_token"), info.get("output_cost_per_token")
    if is_own:
        if prompt is not None or completion is not None:
            migration.notes.append(
                (f"{place}.model_info", "a price per token is not what a GPU costs: give the hour's")
            )
        return
    if prompt is None or completion is None:
        migration.notes.append(
            (place, f"what `{name}` costs is not said: add its row to prices.yaml, or `jeton prices import`")
        )
        return
    row = {"kind": "tokens", "from": day, "prompt_usd_per_million": _per_million(prompt)}
    if (cached := info.get("cache_read_input_token_cost")) is not None:
        row["cached_usd_per_million"] = _per_million(cached)
    row |= {"completion_usd_per_million": _per_million(completion), "source": "model_info of LiteLLM's config.yaml"}
    migration.prices.setdefault("prices", {})[name] = [row]


def _per_million(usd_per_token: Any) -> float:
    return float(Decimal(str(usd_per_token)) * TOKENS_PER_MILLION)


def _limits(config: Mapping[str, Any], migration: Migration) -> None:
    lite, router = _settings(config, "litellm_settings"), _settings(config, "router_settings")
    retries = router.get("num_retries", lite.get("num_retries"))
    if retries is not None:
        migration.router["retries"] = {"attempts_max": min(int(retries) + 1, 10)}
    seconds = router.get("timeout", lite.get("request_timeout"))
    if seconds is not None:
        migration.router["timeouts"] = {"total_seconds": float(seconds)}


def _left_over(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for section in sorted(config.keys() - {"model_list"}):
        if section not in SETTINGS_READ:
            yield section, "has no counterpart"
            continue
        for member in sorted(_settings(config, section).keys() - SETTINGS_READ[section]):
            yield f"{section}.{member}", INSTEAD.get(member, "has no counterpart")


def _settings(config: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    value = config.get(section)
    return value if isinstance(value, Mapping) else {}


def _fit(name: str) -> str:
    """A name as jeton's configuration takes it; slashes stay out, so that it can stand in a path."""
    return UNFIT.sub("-", name.rpartition("/")[2]).strip("-._:@")[:100] or "model"
