"""What `jeton check` says of routing: which policy decides on whose requests, and where these and their data may go.

Lines for people, each under a word of its own; what is not restricted is not told.
"""

from collections.abc import Iterator

from pydantic import BaseModel

from router.config.routing import PolicyRuleConfig
from router.config.tenants import TenantConfig
from router.config_file import LoadedConfig
from router.deployment import tenancies
from router.selection.tenancy import why_not_for
from router.selection.timetable import Named


def policy_lines(loaded: LoadedConfig) -> Iterator[str]:
    """The rules, in the order in which they are looked at, then the policy of all other requests."""
    config, policies = loaded.config, loaded.policies
    for number, (rule, built) in enumerate(zip(config.policies, policies.rules, strict=True), start=1):
        yield f"rule {number:<4} {_told(built.chosen)}, {_covered(rule)}"
    otherwise = ", where no rule does" if config.policies else ""
    yield f"policy    {_told(policies.default)}{otherwise}, saving against {config.baseline}"


def deciding(loaded: LoadedConfig, tenant: TenantConfig) -> str:
    """Which of the rules can decide on the tenant's requests, in words that follow its others; "" where there are no rules."""
    if not loaded.config.policies:
        return ""
    default = loaded.config.policy.name
    found = []
    for number, rule in enumerate(loaded.config.policies, start=1):
        if (rule.tenants and tenant.name not in rule.tenants) or not _may_ask(tenant, rule):
            continue
        found.append(f"{rule.name} (rule {number})")
        covers_names = not rule.models or (tenant.models and set(tenant.models) <= set(rule.models))
        if covers_names and not rule.hours and len(set(rule.days)) in (0, 7):
            return f", decided by {', else '.join(found)}"
    return f", decided by {', else '.join([*found, default])}"


def place_lines(loaded: LoadedConfig) -> Iterator[str]:
    """Where the pools process data; and of each tenant that may not go everywhere, what keeps it and which backends are left."""
    places: dict[str, list[str]] = {}
    for backend in loaded.backends:
        pools = places.setdefault(backend.pool.residency, [])
        if backend.pool.name not in pools:
            pools.append(backend.pool.name)
    if places.keys() != {""}:
        for place, pools in places.items():
            yield f"data      {f'in {place}' if place else 'in an undeclared place'}: {_counted('pool', pools)}"
    kept = tenancies(loaded.config)
    for tenant in loaded.config.tenants:
        tenancy = kept.get(tenant.name)
        backends = [backend.name for backend in loaded.backends if not why_not_for(tenancy, backend)]
        terms = [
            *([_counted("pool", tenant.pools)] if tenant.pools else []),
            *([f"data in {' or '.join(tenant.residency)}"] if tenant.residency else []),
            *(["backends of its own"] if tenant.isolation == "dedicated" else []),
        ]
        if terms or len(backends) < len(loaded.backends):
            only = f"only {', '.join(terms)}" if terms else "all that is not dedicated to others"
            yield f"reach     {tenant.name}: {only} → {', '.join(backends) or 'no backend'}"


def _told(named: Named) -> str:
    """The policy with its parameters in force, those left out at their defaults; one that is None asks for nothing."""
    policy = named.policy
    parameters = policy.model_dump(mode="json") if isinstance(policy, BaseModel) else {}
    return f"{named.name}({', '.join(f'{name}={value}' for name, value in parameters.items() if value is not None)})"


def _covered(rule: PolicyRuleConfig) -> str:
    parts = [f"for {_counted('tenant', rule.tenants)}" if rule.tenants else "for all tenants"]
    if rule.models:
        parts.append(f"asking for {' or '.join(rule.models)}")
    if rule.hours:
        parts.append(f"{rule.hours} UTC")
    if rule.days:
        parts.append(f"on {', '.join(rule.days)}")
    return ", ".join(parts)


def _may_ask(tenant: TenantConfig, rule: PolicyRuleConfig) -> bool:
    return not tenant.models or not rule.models or not set(tenant.models).isdisjoint(rule.models)


def _counted(noun: str, names: tuple[str, ...] | list[str]) -> str:
    return f"{noun if len(names) == 1 else f'{noun}s'} {', '.join(names)}"
