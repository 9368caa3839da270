"""Reads router.yaml and the prices it names, proves that they can be used, and hands over all that follows from them.

The steps live beside: YAML with marks (`config_source.py`), shape (`config_shape.py`), what must hold beyond it
(`config_checks.py`), the fleet's nouns (`fleet_config.py`). It blocks on files: a running router calls it in a thread.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from pydantic import SecretStr, ValidationError

from router import config_checks
from router.config import RouterConfig, Secrets
from router.config_shape import check_shape, shape_mistakes
from router.config_source import ConfigRefused, Finding, Source, read_source
from router.domain.budget import Budget
from router.domain.decision import Policy
from router.domain.fleet import Backend
from router.fleet_config import (
    DiscoveryTerms,
    build_budgets,
    build_discoveries,
    build_fleet,
    build_prices,
    build_profiles,
)
from router.pricing.book import Price, PriceBook
from router.pricing.profile import EngineProfile
from router.selection.loader import load_policy, policy_class

PEPPER = "JETON_API_KEY_PEPPER"

# What a policy may declare in `needs`. A price and a forecast of the time to the first token are there for every candidate
# (a backend without price or profile is refused); a prediction of quality says something only between tiers.
POLICY_NEEDS = frozenset({"price", "quality", "ttft"})


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration that has passed every check, with what was built from it.

    backends: the fleet, in the file's order, without replicas where `discoveries` tells how they are found. prices: the price in
    force today, by backend; `fleet_config.build_prices` tells another day's. profiles: by name. paths: the files read,
    router.yaml first. warnings: allowed, hardly meant.
    """

    config: RouterConfig
    book: PriceBook
    policy: Policy
    secrets: Secrets
    backends: tuple[Backend, ...]
    prices: Mapping[str, Price]
    profiles: Mapping[str, EngineProfile]
    budgets: tuple[Budget, ...]
    discoveries: Mapping[str, DiscoveryTerms]
    paths: tuple[Path, ...]
    warnings: tuple[Finding, ...]


def load(path: Path, *, environ: Mapping[str, str] = os.environ, day: date | None = None) -> LoadedConfig:
    """Read and check the configuration. Raises ConfigRefused with every mistake that could be found.

    day: prices must be in force on it; today (UTC) unless told.
    """
    source = read_source(path)
    prices_path = _prices_path(source)
    try:
        return _load(source, prices_path, environ, day or datetime.now(UTC).date())
    except ConfigRefused as refusal:
        raise ConfigRefused(refusal.mistakes, (path, prices_path)) from None


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
    reading = config_checks.Reading(source, config, book, environ, day, has_pepper)
    mistakes += config_checks.mistakes(reading)
    try:
        policy = _policy(source, config)
    except ConfigRefused as refusal:
        raise ConfigRefused([*mistakes, *refusal.mistakes]) from None
    if mistakes or book is None:
        raise ConfigRefused(mistakes)
    return LoadedConfig(
        config=config,
        book=book,
        policy=policy,
        secrets=secrets,
        backends=build_fleet(config, environ),
        prices=build_prices(config, book, day),
        profiles=build_profiles(config),
        budgets=build_budgets(config),
        discoveries=build_discoveries(config, environ, source.path.absolute().parent),
        paths=(source.path, prices_path),
        warnings=tuple(sorted(config_checks.warnings(reading))),
    )


def read_secrets(environ: Mapping[str, str], config: RouterConfig | None = None) -> Secrets:
    """The secrets that are not a backend's own. A pepper that is not set is empty: fit for loopback only."""
    password_env = config.redis.password_env if config is not None and config.redis is not None else None
    password = environ.get(password_env, "") if password_env else ""
    return Secrets(pepper=SecretStr(environ.get(PEPPER, "")), redis_password=SecretStr(password))


def _prices_path(source: Source) -> Path:
    """Where the prices are: beside router.yaml unless it says otherwise. Its shape may not have been checked yet."""
    named = source.value.get("prices") if isinstance(source.value, dict) else None
    return source.path.parent / (named if isinstance(named, str) else RouterConfig.model_fields["prices"].default)


def _policy(source: Source, config: RouterConfig) -> Policy:
    """The policy with its parameters, and with all that it needs: one that lacks something would ignore it in silence."""
    name = config.policy.name
    try:
        policy = load_policy(name, config.policy.parameters)
    except ValidationError as error:
        raise ConfigRefused(shape_mistakes(source, policy_class(name), error, ("policy", "parameters"))) from None
    except LookupError as error:
        what, _, remedy = str(error.args[0]).partition("; ")
        raise ConfigRefused([source.finding(("policy", "name"), what, remedy)]) from None
    except Exception as error:  # a policy of the user's own may fail in any way when it is imported
        what = f"the policy `{name}` cannot be loaded: {type(error).__name__}: {error}"
        raise ConfigRefused([source.finding(("policy", "name"), what, "correct its file")]) from error
    needs: frozenset[str] = getattr(policy, "needs", frozenset())
    mistakes = [
        source.finding(
            ("policy", "name"), f"the policy `{name}` needs `{need}`, which jeton does not know", "choose another"
        )
        for need in sorted(needs - POLICY_NEEDS)
    ]
    if "quality" in needs and len(config.tiers) < 2:
        what = f"the policy `{name}` weighs quality, but there is only one tier"
        mistakes.append(
            source.finding(("policy", "name"), what, "list the tiers, weakest first, or choose another policy")
        )
    if mistakes:
        raise ConfigRefused(mistakes)
    return policy
