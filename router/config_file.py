"""Reads router.yaml and the prices it names, proves that they can be used, and hands over all that follows from them.

The steps live beside: YAML with marks (`config_source.py`), shape (`config_shape.py`), what must hold beyond it
(`config_checks/`), the fleet's nouns (`fleet_config.py`). It blocks on files: a running router calls it in a thread.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from pydantic import SecretStr, ValidationError

from router.classify.classifier import Classifier
from router.config import RouterConfig, Secrets
from router.config.routing import PolicyConfig
from router.config_checks import find_mistakes, find_warnings
from router.config_checks.reading import Provided, Reading
from router.config_policy import policy_at
from router.config_shape import check_shape, misplaced_booleans, shape_mistakes
from router.config_source import ConfigRefused, Finding, Place, Source, looks_secret, read_source
from router.dispatch.credentials import CredentialsMissing, read_key
from router.dispatch.provider import Provider
from router.dispatch.provider_loader import load_provider, provider_class
from router.domain.budget import Budget
from router.domain.decision import Policy
from router.domain.fleet import Backend, PoolKind
from router.fleet_config import (
    DiscoveryTerms,
    KeyFile,
    build_budgets,
    build_discoveries,
    build_fleet,
    build_prices,
    build_profiles,
)
from router.pricing.book import Price, PriceBook
from router.pricing.price import LeasedPrice, Purchase
from router.pricing.profile import EngineProfile
from router.selection.timetable import DAYS, Named, Rule, Timetable, span_of

PEPPER = "JETON_API_KEY_PEPPER"

# Members, wherever they stand, that name a file with a secret: such a file is watched like the configuration itself.
SECRET_FILES = ("api_key_file", "credentials_file")

# What a policy may declare in `needs`. A price, a forecast of the time to the first token and what a prefix cache holds are there
# for every candidate (a backend without price or profile is refused); quality says something only between tiers, or backends
# with different `quality_ratio`, and some go from tier to tier; edge and spot capacity must be there.
POLICY_NEEDS = frozenset({"price", "quality", "tiers", "ttft", "prefix", "edge", "spot"})


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration that has passed every check, with what was built from it.

    backends: the fleet, in the file's order, without replicas where `discoveries` tells how they are found. prices: the price in
    force today, by backend; `fleet_config.build_prices` tells another day's. profiles: by name. providers: by backend. paths: the
    files read: router.yaml, prices.yaml, and what else is named there. warnings: allowed, hardly meant.
    """

    config: RouterConfig
    book: PriceBook
    policies: Timetable
    secrets: Secrets
    backends: tuple[Backend, ...]
    prices: Mapping[str, Price]
    profiles: Mapping[str, EngineProfile]
    budgets: tuple[Budget, ...]
    discoveries: Mapping[str, DiscoveryTerms]
    providers: Mapping[str, Provider]
    classifier: Classifier
    paths: tuple[Path, ...]
    warnings: tuple[Finding, ...]

    @property
    def prices_path(self) -> Path:
        return self.paths[1]


def load(path: Path, *, environ: Mapping[str, str] = os.environ, day: date | None = None) -> LoadedConfig:
    """Read and check the configuration. Raises ConfigRefused with every mistake that could be found.

    day: prices must be in force on it; today (UTC) unless told.
    """
    source = read_source(path)
    prices_path = _prices_path(source)
    try:
        return _load(source, prices_path, environ, day or datetime.now(UTC).date())
    except ConfigRefused as refusal:
        watched = (path, prices_path, *_secret_paths(source), *_classifier_paths(source))
        raise ConfigRefused(refusal.mistakes, watched) from None


def _load(source: Source, prices_path: Path, environ: Mapping[str, str], day: date) -> LoadedConfig:
    mistakes = [*source.mistakes]
    book: PriceBook | None = None
    try:
        prices_source = read_source(prices_path)
        mistakes += prices_source.mistakes
        book = check_shape(prices_source, PriceBook)
    except ConfigRefused as refusal:
        if not prices_path.is_file():
            remedy = "write it (dated rows with their source), or name the file where `prices:` says"
            mistakes.append(source.finding(("prices",), f"there is no file of prices at {prices_path}", remedy))
        else:
            mistakes += refusal.mistakes
    try:
        config = check_shape(source, RouterConfig)
    except ConfigRefused as refusal:
        raise ConfigRefused([*mistakes, *refusal.mistakes]) from None
    secrets = read_secrets(environ, config)
    has_pepper = bool(secrets.pepper.get_secret_value())
    key_files = _key_files(config, source.path.parent)
    providers, wrong = _providers(source, config)
    mistakes += wrong
    classifier = _classifier(source, mistakes)
    provided = {
        name: Provided(provider.capabilities, provider.needs_api_key, provider.needs_completion_tokens_max)
        for name, provider in providers.items()
    }
    reading = Reading(source, config, book, environ, day, has_pepper, key_files, provided)
    mistakes += find_mistakes(reading)
    try:
        policies = _policies(source, config)
    except ConfigRefused as refusal:
        raise ConfigRefused([*mistakes, *refusal.mistakes]) from None
    if mistakes or book is None:
        raise ConfigRefused(mistakes)
    prices = build_prices(config, book, day)
    lacking = _without_spot(source, config, policies, prices)
    if lacking:
        raise ConfigRefused(lacking)
    return LoadedConfig(
        config=config,
        book=book,
        policies=policies,
        secrets=secrets,
        backends=build_fleet(
            config,
            environ,
            key_files,
            {name: provider.capabilities for name, provider in providers.items()},
            [name for name, provider in providers.items() if provider.bills_to_the_end],
        ),
        prices=prices,
        profiles=build_profiles(config),
        budgets=build_budgets(config),
        discoveries=build_discoveries(config, environ, source.path.absolute().parent),
        providers=providers,
        classifier=classifier,
        paths=(source.path, prices_path, *_secret_paths(source), *_classifier_paths(source)),
        warnings=tuple(sorted(find_warnings(reading))),
    )


def read_secrets(environ: Mapping[str, str], config: RouterConfig | None = None) -> Secrets:
    """The secrets that are not a backend's own. A pepper that is not set is empty: fit for loopback only."""
    redis_env = config.redis.password_env if config is not None and config.redis is not None else None
    ledger_env = config.ledger.password_env if config is not None else None
    return Secrets(
        pepper=SecretStr(environ.get(PEPPER, "")),
        redis_password=SecretStr(environ.get(redis_env or "", "")),
        ledger_password=SecretStr(environ.get(ledger_env or "", "")),
    )


def _prices_path(source: Source) -> Path:
    """Where the prices are: beside router.yaml unless it says otherwise. Its shape may not have been checked yet."""
    named = source.value.get("prices") if isinstance(source.value, dict) else None
    return source.path.parent / (named if isinstance(named, str) else RouterConfig.model_fields["prices"].default)


def _classifier_paths(source: Source) -> list[Path]:
    """The one that is named, if one is. Its shape may not have been checked yet."""
    named = source.value.get("classifier") if isinstance(source.value, dict) else None
    return [source.path.parent / named] if isinstance(named, str) else []


def _classifier(source: Source, mistakes: list[Finding]) -> Classifier:
    """The one that is named, else the shipped. Adds to the mistakes where it cannot be read."""
    for path in _classifier_paths(source):
        try:
            return Classifier.load(path)
        except OSError as error:
            what = f"the classifier {path} cannot be read ({error.strerror})"
        except ValueError as error:
            what = str(error)
        mistakes.append(source.finding(("classifier",), what, "name a file that `jeton train` has written"))
    return Classifier.load()


def _secret_paths(source: Source) -> list[Path]:
    """The files that hold what the configuration only names. Its shape may not have been checked yet."""
    found: list[Path] = []
    values = [source.value]
    while values:
        value = values.pop()
        if isinstance(value, list):
            values += value
        elif isinstance(value, dict):
            values += value.values()
            found += [
                source.path.parent / value[name]
                for name in SECRET_FILES
                if isinstance(value.get(name), str) and value[name]
            ]
    return sorted(set(found))


def _key_files(config: RouterConfig, folder: Path) -> dict[Path, KeyFile]:
    """What stands in the files of API keys, by the path that the configuration gives."""
    named = {
        replica.api_key_file
        for pool in config.pools
        for backend in pool.backends
        for replica in backend.replicas
        if replica.api_key_file is not None
    }
    read: dict[Path, KeyFile] = {}
    for name in named:
        path = str((folder / name).absolute())
        try:
            read[name] = KeyFile(path, key=read_key(path))
        except CredentialsMissing as missing:
            is_key = looks_secret(str(name))  # the key itself, put here by mistake
            read[name] = KeyFile(path, problem="this is no path, but looks like a key" if is_key else str(missing))
    return read


def _providers(source: Source, config: RouterConfig) -> tuple[dict[str, Provider], list[Finding]]:
    """Those that can be used, by backend, and what is wrong with the others."""
    found: dict[str, Provider] = {}
    mistakes: list[Finding] = []
    for pool_number, pool in enumerate(config.pools):
        for number, backend in enumerate(pool.backends):
            if backend.provider is None:
                continue
            place: Place = ("pools", pool_number, "backends", number, "provider")
            name = backend.provider.name
            try:
                found[backend.name] = load_provider(name, backend.provider.parameters, source.path.parent)
                mistakes += misplaced_booleans(source, provider_class(name), (*place, "parameters"))
            except ValidationError as error:
                mistakes += shape_mistakes(source, provider_class(name), error, (*place, "parameters"))
            except LookupError as error:
                what, _, remedy = str(error.args[0]).partition("; ")
                mistakes.append(source.finding((*place, "name"), what, remedy))
    return found, mistakes


def _policies(source: Source, config: RouterConfig) -> Timetable:
    """The default policy and the rules for others. Raises ConfigRefused with the mistakes of all of them."""
    mistakes: list[Finding] = []
    default = _policy(source, config, ("policy",), config.policy, mistakes)
    rules: list[Rule] = []
    for position, rule in enumerate(config.policies):
        place: Place = ("policies", position)
        policy = _policy(source, config, place, rule, mistakes)
        try:
            span = span_of(rule.hours)
        except ValueError as error:
            remedy = "write it as HH:MM-HH:MM (UTC), 22:00-06:00 for a night"
            mistakes.append(source.finding((*place, "hours"), str(error), remedy))
            continue
        days = frozenset(map(DAYS.index, rule.days or DAYS))
        if policy is not None:
            named = Named(rule.name, policy)
            rules.append(Rule(named, frozenset(rule.tenants), frozenset(rule.models), span, days))
    if mistakes or default is None:
        raise ConfigRefused(mistakes)
    return Timetable(Named(config.policy.name, default), rules)


def _policy(
    source: Source, config: RouterConfig, place: Place, named: PolicyConfig, mistakes: list[Finding]
) -> Policy | None:
    """The policy with its parameters, and with all that it needs: one that lacks something would ignore it in silence."""
    name = named.name
    policy = policy_at(source, place, name, named.parameters, mistakes)
    if policy is None:
        return None
    needs: frozenset[str] = getattr(policy, "needs", frozenset())
    for need in sorted(needs - POLICY_NEEDS):
        what = f"the policy `{name}` needs `{need}`, which jeton does not know"
        mistakes.append(source.finding((*place, "name"), what, "choose another"))
    has_tiers = len(config.tiers) > 1
    ratios = {backend.quality_ratio for pool in config.pools for backend in pool.backends}
    for need, is_there, what, remedy in (
        ("quality", has_tiers or len(ratios) > 1, "weighs quality, but there is only one tier",
         "list the tiers, weakest first, or say what quantization has lost (`quality_ratio` of a backend)"),
        ("tiers", has_tiers, "goes from tier to tier, but there is only one", "list the tiers, weakest first"),
        ("edge", any(pool.kind is PoolKind.EDGE for pool in config.pools), "needs an edge, but no pool is of that kind",
         "say `kind: edge` of a pool"),
        ("prefix", config.prefix_affinity, "goes by prefix caches, which jeton is told not to follow",
         "set `prefix_affinity: true`"),
    ):  # fmt: skip
        if need in needs and not is_there:
            remedy += ", or choose another policy"
            mistakes.append(source.finding((*place, "name"), f"the policy `{name}` {what}", remedy))
    return policy


def _without_spot(
    source: Source, config: RouterConfig, policies: Timetable, prices: Mapping[str, Price]
) -> list[Finding]:
    """How capacity was bought is in the prices, so this comes last."""
    if any(isinstance(price, LeasedPrice) and price.purchase is Purchase.SPOT for price in prices.values()):
        return []
    places: list[tuple[Place, Named]] = [(("policy", "name"), policies.default)]
    places += [(("policies", n, "name"), rule.chosen) for n, rule in enumerate(policies.rules)]
    return [
        source.finding(
            place,
            f"the policy `{named.name}` prefers spot capacity, but no backend has any",
            "give a price row `purchase: spot`, or choose another policy",
        )
        for place, named in places
        if "spot" in getattr(named.policy, "needs", frozenset())
    ]
