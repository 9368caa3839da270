"""What must hold in router.yaml beyond its shape: names meet, money is known, secrets are where they belong.

Each check is a generator of findings on one subject, and stands with its like; they are told in the order they have here. Nothing
is read or loaded: files, clock and environment come as values.
"""

from collections.abc import Callable, Iterator

from router.config_checks.fleet import check_carbon, check_leaving, check_providers, check_replicas, check_tiers
from router.config_checks.names import check_name_of_the_cache, check_names, check_names_of_tenants, hidden_models
from router.config_checks.prices import check_prices, prices_over_plain_http, prices_that_end, stale_prices
from router.config_checks.profiles import check_profiles, useless_profiles
from router.config_checks.reading import Reading
from router.config_checks.routing import check_aliases, check_baseline, check_policy_rules, check_shadow
from router.config_checks.scale_to_zero import check_scale_to_zero
from router.config_checks.secrets import check_listening, check_secrets, keys_over_plain_http
from router.config_checks.stores import check_cache, check_ledger
from router.config_checks.tenants import (
    budgets_never_reached,
    check_budgets,
    check_models_of_tenants,
    check_tenancies,
    nobody_may_ask,
)
from router.config_source import Finding

Check = Callable[[Reading], Iterator[Finding]]

MISTAKES: tuple[Check, ...] = (
    check_names,
    check_replicas,
    check_tiers,
    check_aliases,
    check_models_of_tenants,
    check_tenancies,
    check_policy_rules,
    check_budgets,
    check_baseline,
    check_shadow,
    check_carbon,
    check_prices,
    check_profiles,
    check_providers,
    check_scale_to_zero,
    check_leaving,
    check_secrets,
    check_cache,
    check_name_of_the_cache,
    check_names_of_tenants,
    check_ledger,
    check_listening,
)
WARNINGS: tuple[Check, ...] = (
    nobody_may_ask,
    keys_over_plain_http,
    useless_profiles,
    hidden_models,
    prices_that_end,
    stale_prices,
    prices_over_plain_http,
    budgets_never_reached,
)


def find_mistakes(reading: Reading) -> list[Finding]:
    """Everything for which the configuration is refused."""
    return [finding for check in MISTAKES for finding in check(reading)]


def find_warnings(reading: Reading) -> list[Finding]:
    """What is allowed and yet hardly meant."""
    return [finding for check in WARNINGS for finding in check(reading)]
