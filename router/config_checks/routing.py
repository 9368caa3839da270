"""Aliases, the rules of policies and the baseline name what is there, and can be served."""

import re
from collections.abc import Iterator

from router.config.fleet import BackendConfig, PoolConfig
from router.config.routing import AliasConfig
from router.config.section import NAME
from router.config_checks.reading import Reading, refuse_unknown
from router.config_source import Finding, Place


def check_aliases(reading: Reading) -> Iterator[Finding]:
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
            for finding in refuse_unknown(reading, (*place, member, position), kind, name_wanted, known)
        ]
        yield from unknown
        if not unknown and not any(serves(alias, pool, backend) for _, pool, backend in reading.backends()):
            what = f"nothing can serve the alias `{name}`: no backend meets all that it asks for"
            yield reading.source.finding(place, what, "take out one of its restrictions", at_member=True)


def check_policy_rules(reading: Reading) -> Iterator[Finding]:
    tenants = [tenant.name for tenant in reading.config.tenants]
    models = {*reading.config.aliases, *reading.backend_names(), *reading.model_names()}
    for number, rule in enumerate(reading.config.policies):
        for position, name in enumerate(rule.tenants):
            yield from refuse_unknown(reading, ("policies", number, "tenants", position), "tenant", name, tenants)
        for position, name in enumerate(rule.models):
            place: Place = ("policies", number, "models", position)
            yield from refuse_unknown(reading, place, "alias, backend or model", name, models)


def check_baseline(reading: Reading) -> Iterator[Finding]:
    yield from refuse_unknown(reading, ("baseline",), "backend", reading.config.baseline, reading.backend_names())


def serves(alias: AliasConfig, pool: PoolConfig, backend: BackendConfig) -> bool:
    return (
        (not alias.tiers or backend.tier in alias.tiers)
        and (not alias.pools or pool.name in alias.pools)
        and (not alias.backends or backend.name in alias.backends)
        and (not alias.models or backend.model in alias.models)
    )
