"""What must hold in router.yaml beyond its shape: names meet, money is known, secrets are where they belong.

Each check is a generator of findings on one subject; `mistakes` and `warnings` are the lists of them. Nothing is read or
loaded here: files, clock and environment come as values.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from router.config import (
    NAME,
    AliasConfig,
    ApiKeyConfig,
    BackendConfig,
    BudgetConfig,
    CacheStore,
    DegradeConfig,
    PoolConfig,
    ProfileConfig,
    RouterConfig,
)
from router.config_shape import nearest_name
from router.config_source import Finding, Place, Source
from router.domain.fleet import CACHE, Billing, EngineKind
from router.domain.request import ASSUMED, Capability
from router.fleet_config import KeyFile, build_profile, replica_id
from router.pricing.book import LeasedPrice, PriceBook
from router.pricing.freshness import PriceState, standing
from router.profiles import shipped

PRICE_ENDS_SOON = timedelta(days=30)

# Of libpq's, those that say where PostgreSQL is and how it is spoken to. No secret among them.
POSTGRES_PARAMETERS = (
    "host", "hostaddr", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "gssencmode", "channel_binding",
    "target_session_attrs", "load_balance_hosts", "passfile", "service", "connect_timeout",
)  # fmt: skip
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class Provided(NamedTuple):
    """What a backend's provider can do and wants."""

    capabilities: frozenset[Capability]
    needs_api_key: bool
    needs_completion_tokens_max: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """router.yaml once its shape is right, and what it is checked against. book is None when the prices cannot be used.

    key_files: by the path that the file gives. providers: of those backends that have one that is right, by name.
    """

    source: Source
    config: RouterConfig
    book: PriceBook | None
    environ: Mapping[str, str]
    day: date
    has_pepper: bool
    key_files: Mapping[Path, KeyFile]
    providers: Mapping[str, Provided]

    @property
    def now_seconds(self) -> float:
        """The day's beginning, since 1970."""
        return datetime.combine(self.day, time(), UTC).timestamp()

    def pools(self) -> Iterator[tuple[Place, PoolConfig]]:
        for position, pool in enumerate(self.config.pools):
            yield ("pools", position), pool

    def backends(self) -> Iterator[tuple[Place, PoolConfig, BackendConfig]]:
        for place, pool in self.pools():
            for position, backend in enumerate(pool.backends):
                yield (*place, "backends", position), pool, backend

    def backend_names(self) -> list[str]:
        return [backend.name for _, _, backend in self.backends()]

    def model_names(self) -> list[str]:
        return [backend.model for _, _, backend in self.backends()]


Check = Callable[[Reading], Iterator[Finding]]


def mistakes(reading: Reading) -> list[Finding]:
    """Everything for which the configuration is refused."""
    checks: tuple[Check, ...] = (
        _names, _replicas, _tiers, _aliases, _tenants, _tenancies, _policy_rules, _budgets, _baseline, _carbon, _prices,
        _profiles, _providers, _secrets, _cache, _ledger, _listening,
    )  # fmt: skip
    return [finding for check in checks for finding in check(reading)]


def warnings(reading: Reading) -> list[Finding]:
    """What is allowed and yet hardly meant."""
    checks: tuple[Check, ...] = (
        _nobody_may_ask,
        _keys_over_plain_http,
        _useless_profiles,
        _hidden_models,
        _prices_that_end,
        _stale_prices,
        _prices_over_plain_http,
        _budgets_never_reached,
    )
    return [finding for check in checks for finding in check(reading)]


def _names(reading: Reading) -> Iterator[Finding]:
    tenants = [(("tenants", position), tenant) for position, tenant in enumerate(reading.config.tenants)]
    keys: list[tuple[Place, str, ApiKeyConfig]] = [
        ((*place, "api_keys", position), tenant.name, key)
        for place, tenant in tenants
        for position, key in enumerate(tenant.api_keys)
    ]
    yield from _twice(reading, "pool", ((pool.name, (*place, "name")) for place, pool in reading.pools()))
    yield from _twice(
        reading, "backend", ((backend.name, (*place, "name")) for place, _, backend in reading.backends())
    )
    yield from _twice(reading, "tenant", ((tenant.name, (*place, "name")) for place, tenant in tenants))
    yield from _twice(reading, "tier", ((tier, ("tiers", n)) for n, tier in enumerate(reading.config.tiers)))
    if reading.config.admin is not None:
        admin: Place = ("admin", "api_keys")
        keys += [((*admin, position), "", key) for position, key in enumerate(reading.config.admin.api_keys)]
    for tenant_name in {tenant for _, tenant, _ in keys}:
        own = ((key.name, (*place, "name")) for place, tenant, key in keys if tenant == tenant_name)
        whose = f"API key of tenant `{tenant_name}`" if tenant_name else "admin's API key"
        yield from _twice(reading, whose, own)
    seen: dict[str, str] = {}
    for place, tenant_name, key in keys:
        if key.hash in seen:
            what = f"the API key `{key.name}` has the hash of `{seen[key.hash]}`: it is the same key"
            yield reading.source.finding((*place, "hash"), what, "make a key of its own with `jeton key`")
        seen.setdefault(key.hash, f"{tenant_name or 'admin'}/{key.name}")


def _replicas(reading: Reading) -> Iterator[Finding]:
    ids: list[tuple[str, Place]] = []
    leased_at: dict[tuple[str, str, int, str], str] = {}
    for place, pool, backend in reading.backends():
        own: set[tuple[str, str, int, str]] = set()
        for position, replica in enumerate(backend.replicas):
            at = (*place, "replicas", position)
            ids.append((replica_id(backend, position), (*at, "name")))
            address = _address(replica.url)
            if isinstance(address, str):
                yield reading.source.finding(
                    (*at, "url"), f"`{replica.url}` {address}", "give the address of the engine"
                )
                continue
            if address[3].endswith("/v1"):
                what = f"`{replica.url}` ends in /v1, which jeton adds itself"
                yield reading.source.finding((*at, "url"), what, f"write {replica.url.rstrip('/')[:-3]}")
            elsewhere = leased_at.get(address) if pool.billing is Billing.LEASED else None
            if address in own or elsewhere:
                what = f"`{replica.url}` is a replica of `{elsewhere or backend.name}` already"
                yield reading.source.finding(
                    (*at, "url"), what, "remove one of them: it would be counted and paid twice"
                )
            own.add(address)
            if pool.billing is Billing.LEASED:
                leased_at.setdefault(address, backend.name)
    yield from _twice(reading, "replica", ids)


def _tiers(reading: Reading) -> Iterator[Finding]:
    for place, _, backend in reading.backends():
        yield from _unknown(reading, (*place, "tier"), "tier", backend.tier, reading.config.tiers)


def _aliases(reading: Reading) -> Iterator[Finding]:
    backends, models = reading.backend_names(), reading.model_names()
    pools = [pool.name for pool in reading.config.pools]
    for name, alias in reading.config.aliases.items():
        place: Place = ("aliases", name)
        if re.match(NAME, name) is None:
            what = f"the alias `{name}` is not a name"
            yield reading.source.finding(place, what, "use letters, digits and . _ / : @ -", at_member=True)
        for kind, names in (("backend", backends), ("model", models)):
            if name in names:
                what = f"the alias `{name}` hides the {kind} of that name"
                yield reading.source.finding(place, what, "give the alias another name", at_member=True)
        unknown = [
            finding
            for member, kind, wanted, known in (
                ("tiers", "tier", alias.tiers, reading.config.tiers),
                ("pools", "pool", alias.pools, pools),
                ("backends", "backend", alias.backends, backends),
                ("models", "model", alias.models, models),
            )
            for position, name_wanted in enumerate(wanted)
            for finding in _unknown(reading, (*place, member, position), kind, name_wanted, known)
        ]
        yield from unknown
        if not unknown and not any(_serves(alias, pool, backend) for _, pool, backend in reading.backends()):
            what = f"nothing can serve the alias `{name}`: no backend meets all that it asks for"
            yield reading.source.finding(place, what, "take out one of its restrictions", at_member=True)


def _serves(alias: AliasConfig, pool: PoolConfig, backend: BackendConfig) -> bool:
    return (
        (not alias.tiers or backend.tier in alias.tiers)
        and (not alias.pools or pool.name in alias.pools)
        and (not alias.backends or backend.name in alias.backends)
        and (not alias.models or backend.model in alias.models)
    )


def _tenants(reading: Reading) -> Iterator[Finding]:
    known = {*reading.config.aliases, *reading.backend_names(), *reading.model_names()}
    for number, tenant in enumerate(reading.config.tenants):
        for position, model in enumerate(tenant.models):
            place: Place = ("tenants", number, "models", position)
            yield from _unknown(reading, place, "alias, backend or model", model, known)


def _tenancies(reading: Reading) -> Iterator[Finding]:
    """Where tenants may go: pools that are there, data where there is capacity, replicas that are dedicated to them."""
    tenants = [tenant.name for tenant in reading.config.tenants]
    pools = [pool.name for pool in reading.config.pools]
    residencies = {pool.region if pool.residency is None else pool.residency for pool in reading.config.pools} - {""}
    dedicated: set[str] = set()
    for place, _, backend in reading.backends():
        dedicated.update(backend.dedicated_to)
        for position, name in enumerate(backend.dedicated_to):
            yield from _unknown(reading, (*place, "dedicated_to", position), "tenant", name, tenants)
    for number, tenant in enumerate(reading.config.tenants):
        at: Place = ("tenants", number)
        for position, name in enumerate(tenant.pools):
            yield from _unknown(reading, (*at, "pools", position), "pool", name, pools)
        for position, name in enumerate(tenant.residency):
            if name not in residencies:
                what = f"no pool processes data in `{name}`"
                yield reading.source.finding((*at, "residency", position), what, nearest_name(name, residencies))
        if tenant.isolation == "dedicated" and tenant.name not in dedicated:
            what = f"the tenant `{tenant.name}` is isolated, but no backend is dedicated to it"
            remedy = f"say `dedicated_to: [{tenant.name}]` of a backend, or take the isolation out"
            yield reading.source.finding((*at, "isolation"), what, remedy)


def _policy_rules(reading: Reading) -> Iterator[Finding]:
    tenants = [tenant.name for tenant in reading.config.tenants]
    models = {*reading.config.aliases, *reading.backend_names(), *reading.model_names()}
    for number, rule in enumerate(reading.config.policies):
        for position, name in enumerate(rule.tenants):
            yield from _unknown(reading, ("policies", number, "tenants", position), "tenant", name, tenants)
        for position, name in enumerate(rule.models):
            place: Place = ("policies", number, "models", position)
            yield from _unknown(reading, place, "alias, backend or model", name, models)


def _budget_lists(reading: Reading) -> Iterator[tuple[Place, tuple[BudgetConfig, ...], tuple[BudgetConfig, ...]]]:
    """Every list of budgets: where it stands, its own, and those of the tenant around it (for a key's)."""
    for number, tenant in enumerate(reading.config.tenants):
        yield ("tenants", number, "budgets"), tenant.budgets, ()
        for position, api_key in enumerate(tenant.api_keys):
            yield ("tenants", number, "api_keys", position, "budgets"), api_key.budgets, tenant.budgets


def _budgets(reading: Reading) -> Iterator[Finding]:
    for place, budgets, _ in _budget_lists(reading):
        periods: set[str] = set()
        for position, budget in enumerate(budgets):
            at: Place = (*place, position)
            if budget.per in periods:
                what = (
                    f"there is another budget {'in total' if budget.per == 'total' else f'a {budget.per.value}'} here"
                )
                yield reading.source.finding((*at, "per"), what, "keep the smaller of them: it is the one that counts")
            periods.add(budget.per)
            if budget.degrade is not None:
                yield from _degrade(reading, (*at, "degrade"), budget.degrade)


def _degrade(reading: Reading, place: Place, degrade: DegradeConfig) -> Iterator[Finding]:
    if not degrade.tiers and not degrade.pools:
        remedy = "name the `tiers` or `pools` to which requests go, or take it out"
        yield reading.source.finding(place, "`degrade` restricts nothing", remedy, at_member=True)
        return
    pools = [pool.name for pool in reading.config.pools]
    unknown = [
        finding
        for member, kind, wanted, known in (
            ("tiers", "tier", degrade.tiers, reading.config.tiers),
            ("pools", "pool", degrade.pools, pools),
        )
        for position, name in enumerate(wanted)
        for finding in _unknown(reading, (*place, member, position), kind, name, known)
    ]
    yield from unknown
    target = AliasConfig(tiers=degrade.tiers, pools=degrade.pools)
    if not unknown and not any(_serves(target, pool, backend) for _, pool, backend in reading.backends()):
        what = "no backend is in the tiers and pools to which `degrade` restricts"
        yield reading.source.finding(place, what, "take out one of its restrictions", at_member=True)


def _budgets_never_reached(reading: Reading) -> Iterator[Finding]:
    for place, budgets, around in _budget_lists(reading):
        for position, budget in enumerate(budgets):
            if any(other.per == budget.per and other.usd <= budget.usd for other in around):
                what = "the key's budget is never reached: its tenant's own for the same period is not larger"
                yield reading.source.finding((*place, position, "usd"), what, "make it smaller, or take it out")


def _baseline(reading: Reading) -> Iterator[Finding]:
    yield from _unknown(reading, ("baseline",), "backend", reading.config.baseline, reading.backend_names())


def _carbon(reading: Reading) -> Iterator[Finding]:
    regions = [pool.region for _, pool in reading.pools() if pool.region]
    for region in reading.config.carbon_grams_per_kwh:
        if region not in regions:
            what = f"no pool is in the region `{region}`"
            yield reading.source.finding(
                ("carbon_grams_per_kwh", region), what, nearest_name(region, regions), at_member=True
            )


def _prices(reading: Reading) -> Iterator[Finding]:
    if reading.book is None:
        return
    for place, pool, backend in reading.backends():
        try:
            price = reading.book.in_force(backend.price, reading.day)
        except LookupError as error:
            what, _, remedy = str(error.args[0]).partition("; ")
            what = f"the backend `{backend.name}` has no price in force on {reading.day}: {what}"
            yield reading.source.finding((*place, "price"), what, remedy or f"add a row to {reading.config.prices}")
            continue
        is_leased = isinstance(price, LeasedPrice)
        if is_leased != (pool.billing is Billing.LEASED):
            price_kind, needed = ("by the hour", "by the token") if is_leased else ("by the token", "by the hour")
            what = f"the price `{backend.price}` is {price_kind}, but the pool `{pool.name}` is {pool.billing.value}"
            remedy = f"name a price {needed}, or move the backend to a pool that is billed so"
            yield reading.source.finding((*place, "price"), what, remedy)


def _profiles(reading: Reading) -> Iterator[Finding]:
    for name, profile in reading.config.profiles.items():
        try:
            build_profile(profile)
        except LookupError as error:
            what, _, remedy = str(error.args[0]).partition("; ")
            remedy = remedy or "spell out its figures (parameters_billion, layers, …)"
            yield reading.source.finding(("profiles", name), f"the profile `{name}`: {what}", remedy, at_member=True)
        except ValueError as error:
            remedy = "check quantization, gpu and gpus (of one replica)"
            if isinstance(profile, ProfileConfig):
                remedy = (
                    "check parameters_billion, weight_bytes_per_parameter and memory_gb"
                    " (of all GPUs of a replica together)"
                )
            yield reading.source.finding(("profiles", name), f"the profile `{name}`: {error}", remedy, at_member=True)
    own = reading.config.profiles
    for place, pool, backend in reading.backends():
        if backend.profile is not None and backend.profile not in own:
            measured = shipped().deployments
            if backend.profile not in measured:
                remedy = nearest_name(backend.profile, (*own, *measured))
                if remedy.startswith("there is"):  # not all that come with jeton: they are many
                    remedy = f"{nearest_name('', own)}, and `jeton profile list` tells those that come with jeton"
                what = f"there is no profile named `{backend.profile}`"
                yield reading.source.finding((*place, "profile"), what, remedy)
        elif backend.profile is None and pool.billing is Billing.LEASED:
            what = (
                f"the leased backend `{backend.name}` has no profile, by which its hours are shared out among requests"
            )
            remedy = "add `profile: …` with " + nearest_name("", own).removeprefix("there is ")
            yield reading.source.finding(place, what, remedy)


def _providers(reading: Reading) -> Iterator[Finding]:
    for place, pool, backend in reading.backends():
        if backend.provider is None:
            continue
        name = backend.provider.name
        if backend.engine is not EngineKind.OPENAI:
            what = f"`{backend.name}` has a provider, so it is not {backend.engine.value}"
            yield reading.source.finding((*place, "engine"), what, "remove `engine`")
        if pool.billing is not Billing.METERED:
            what = f"the provider `{name}` is paid by the token, but the pool `{pool.name}` is {pool.billing.value}"
            yield reading.source.finding((*place, "provider"), what, "move the backend to a metered pool")
        provided = reading.providers.get(backend.name)
        if provided is None:
            continue
        if "capabilities" in backend.model_fields_set:
            for position, capability in enumerate(backend.capabilities):
                if capability not in provided.capabilities:
                    what = f"the provider `{name}` cannot be asked for `{capability}`"
                    remedy = f"remove it; it can do {', '.join(sorted(provided.capabilities - ASSUMED))}"
                    yield reading.source.finding((*place, "capabilities", position), what, remedy)
        if provided.needs_completion_tokens_max and backend.completion_tokens_max is None:
            what = f"the provider `{name}` wants a bound for every completion, and clients need not give one"
            remedy = "add `completion_tokens_max: …`, what the model can write at most"
            yield reading.source.finding(place, what, remedy)
        for position, replica in enumerate(backend.replicas):
            if provided.needs_api_key and replica.api_key_env is None and replica.api_key_file is None:
                what = f"the provider `{name}` wants an API key, and this replica of `{backend.name}` has none"
                remedy = "add `api_key_env: …` or `api_key_file: …`"
                yield reading.source.finding((*place, "replicas", position), what, remedy)


def _secrets(reading: Reading) -> Iterator[Finding]:
    for place, _, backend in reading.backends():
        for position, replica in enumerate(backend.replicas):
            name = replica.api_key_env
            if name is not None and not reading.environ.get(name):
                what = f"the environment variable {name}, the API key of backend `{backend.name}`, is not set"
                remedy = f"export {name}=…, or remove `api_key_env` if the backend needs no key"
                yield reading.source.finding((*place, "replicas", position, "api_key_env"), what, remedy)
            path = replica.api_key_file
            if path is not None and name is not None:
                what = f"`{backend.name}` has its API key from a file and from the environment"
                yield reading.source.finding((*place, "replicas", position, "api_key_file"), what, "keep one of them")
            elif path is not None and reading.key_files[path].problem:
                remedy = "put the key there, in one line, or remove `api_key_file` if the backend needs no key"
                yield reading.source.finding(
                    (*place, "replicas", position, "api_key_file"), reading.key_files[path].problem, remedy
                )
        name = backend.discovery.api_key_env if backend.discovery is not None else None
        if name is not None and not reading.environ.get(name):
            what = f"the environment variable {name}, the API key of what `{backend.name}` discovers, is not set"
            remedy = f"export {name}=…, or remove `api_key_env` if the backend needs no key"
            yield reading.source.finding((*place, "discovery", "api_key_env"), what, remedy)

    redis = reading.config.redis
    if redis is not None and redis.password_env is not None and not reading.environ.get(redis.password_env):
        what = f"the environment variable {redis.password_env}, the password of Redis, is not set"
        remedy = f"export {redis.password_env}=…, or remove `password_env` if Redis needs none"
        yield reading.source.finding(("redis", "password_env"), what, remedy)

    password_env = reading.config.ledger.password_env
    if password_env is not None and not reading.environ.get(password_env):
        what = f"the environment variable {password_env}, the password of the ledger's PostgreSQL, is not set"
        remedy = f"export {password_env}=…, or remove `password_env` if PostgreSQL needs none"
        yield reading.source.finding(("ledger", "password_env"), what, remedy)


def _ledger(reading: Reading) -> Iterator[Finding]:
    ledger, place = reading.config.ledger, ("ledger", "url")
    if ledger.url is None:
        return
    if "path" in ledger.model_fields_set:
        what = "`ledger` has a `path` and a `url`: it is in a file or in PostgreSQL"
        yield reading.source.finding(("ledger", "path"), what, "remove one of them", at_member=True)
    members = dict(parse_qsl(urlsplit(ledger.url).query, keep_blank_values=True))
    for name in members:
        if name not in POSTGRES_PARAMETERS:
            what = f"`{name}` is not a parameter that may stand in the ledger's url"
            remedy = nearest_name(name, POSTGRES_PARAMETERS)
            if name == "password":
                remedy = "put the password into the environment, and the variable's name into `password_env`"
            yield reading.source.finding(place, what, remedy)
    mode = members.get("sslmode", "")
    if mode and mode not in SSL_MODES:
        what = f"`sslmode={mode}` in the ledger's url is none that there is"
        yield reading.source.finding(place, what, nearest_name(mode, SSL_MODES))


def _listening(reading: Reading) -> Iterator[Finding]:
    sections = {"server": reading.config.server.host}
    if reading.config.admin is not None:
        sections["admin"] = reading.config.admin.host
    for section, host in sections.items():
        if not reading.has_pepper and is_public(host):
            what = f"listening on `{host}` is public, and JETON_API_KEY_PEPPER is not set"
            remedy = "set it to a random text and hash the keys with it (`jeton key`), or listen on 127.0.0.1"
            yield reading.source.finding((section, "host"), what, remedy)


def _cache(reading: Reading) -> Iterator[Finding]:
    config = reading.config
    if config.cache is not None and config.cache.store is CacheStore.REDIS and config.redis is None:
        yield reading.source.finding(
            ("cache", "store"), "there is no `redis` to keep answers in", "add it, or use memory"
        )
    for place, kind, name in (
        *(((*place, "name"), "pool", pool.name) for place, pool in reading.pools()),
        *(((*place, "name"), "backend", backend.name) for place, _, backend in reading.backends()),
    ):
        if name == CACHE:
            what = f"the {kind} `{CACHE}` has the name under which answers from the response cache are booked"
            yield reading.source.finding(place, what, "give it another name")


def _nobody_may_ask(reading: Reading) -> Iterator[Finding]:
    if not any(tenant.api_keys for tenant in reading.config.tenants):
        what = "no tenant has an API key: every request will be refused with 401"
        yield reading.source.finding(("tenants",), what, "make one with `jeton key`", at_member=True)


def _keys_over_plain_http(reading: Reading) -> Iterator[Finding]:
    for place, _, backend in reading.backends():
        for position, replica in enumerate(backend.replicas):
            if (
                (replica.api_key_env or replica.api_key_file)
                and replica.url.startswith("http:")
                and not _is_private(replica.url)
            ):
                what = f"the API key of `{backend.name}` goes to {replica.url} in clear text"
                yield reading.source.finding((*place, "replicas", position, "url"), what, "use https://")


def _useless_profiles(reading: Reading) -> Iterator[Finding]:
    used = {backend.profile for _, pool, backend in reading.backends() if pool.billing is Billing.LEASED}
    for name in reading.config.profiles:
        if name not in used:
            what = f"no leased backend uses the profile `{name}`"
            yield reading.source.finding(("profiles", name), what, "remove it, or name it in a backend", at_member=True)


def _hidden_models(reading: Reading) -> Iterator[Finding]:
    for place, _, backend in reading.backends():
        others = [
            other.name for _, _, other in reading.backends() if other is not backend and other.model == backend.name
        ]
        if others:
            what = f"who asks for the model `{backend.name}` gets the backend of that name, never {', '.join(others)}"
            yield reading.source.finding((*place, "name"), what, "give the backend a name that no model has")


def _prices_that_end(reading: Reading) -> Iterator[Finding]:
    if reading.book is None:
        return
    soon = reading.day + PRICE_ENDS_SOON
    for place, _, backend in reading.backends():
        try:
            reading.book.in_force(backend.price, soon)
        except LookupError:
            what = f"the price `{backend.price}` ends before {soon}; jeton will not start without one"
            yield reading.source.finding((*place, "price"), what, f"add its successor to {reading.config.prices}")


def _stale_prices(reading: Reading) -> Iterator[Finding]:
    if reading.book is None:
        return
    for place, _, backend in reading.backends():
        if reading.book.feed_of(backend.price) is None:
            one = standing(reading.book, backend.price, reading.now_seconds)
            if one.state is PriceState.STALE:
                what, _, remedy = one.why.partition("; ")
                yield reading.source.finding(
                    (*place, "price"), f"the price `{backend.price}` is stale: it {what}", remedy
                )


def _prices_over_plain_http(reading: Reading) -> Iterator[Finding]:
    for feed, terms in reading.book.feeds.items() if reading.book is not None else ():
        if terms.url is not None and terms.url.startswith("http:") and not _is_private(terms.url):
            what = f"the price feed `{feed}` is read from {terms.url} in clear text: whoever is on the way sets prices"
            yield reading.source.finding(("prices",), what, "use https://")


def _twice(reading: Reading, kind: str, named: Iterable[tuple[str, Place]]) -> Iterator[Finding]:
    """Every name after the first of its like."""
    counts: Counter[str] = Counter()
    for name, place in named:
        counts[name] += 1
        if counts[name] > 1:
            yield reading.source.finding(
                place, f"there is another {kind} named `{name}`", "give each a name of its own"
            )


def _unknown(reading: Reading, place: Place, kind: str, name: str, known: Iterable[str]) -> Iterator[Finding]:
    if name not in set(known):
        yield reading.source.finding(place, f"there is no {kind} named `{name}`", nearest_name(name, known))


def _address(url: str) -> tuple[str, str, int, str] | str:
    """Scheme, host, port and path, so that two spellings of one address are equal; or why nothing can be there."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "is not an address (is the port between 1 and 65535?)"
    if port == 0 or not host:
        return "has no port that can be connected to" if host else "has no host"
    try:
        ip = ip_address(host)
    except ValueError:
        pass  # a name; whether it resolves is the network's business, and may change
    else:
        if ip.is_unspecified or ip.is_multicast or ip.is_link_local:
            return "is not the address of a server"
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/")


def is_public(host: str) -> bool:
    """Whether others than this machine can reach what listens there."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _is_private(url: str) -> bool:
    """Inside a private network, as far as the address tells: a name without dots, or one of a cluster, counts as inside."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".svc", ".localhost"))
