"""Shape of router.yaml: who asks and pays, with which API keys, within which budgets."""

import re
from decimal import Decimal
from typing import Literal

from pydantic import Field, field_validator

from router.config.section import NAME, Shape
from router.domain.budget import Period

API_KEY_HASH = re.compile(r"hmac-sha256:[0-9a-f]{64}")


class DegradeConfig(Shape):
    """From `at_ratio` of the budget on, requests go to these tiers and pools where one of them can serve them."""

    at_ratio: float = Field(default=0.8, gt=0, lt=1)
    tiers: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()


class BudgetConfig(Shape):
    """What may be spent in a calendar day or month (UTC), or in all. Reached, requests that cost anything are refused until it
    renews."""

    usd: Decimal = Field(gt=0, le=Decimal("9e9"), max_digits=19, decimal_places=9)
    per: Period
    degrade: DegradeConfig | None = None


class ApiKeyConfig(Shape):
    """hash: `hmac-sha256:` and 64 hex digits, as `jeton key` prints it. prefix: the first characters, for people."""

    name: str = Field(pattern=NAME)
    hash: str
    prefix: str = Field(default="", max_length=12)
    budgets: tuple[BudgetConfig, ...] = ()

    @field_validator("hash")
    @classmethod
    def _is_a_hash(cls, value: str) -> str:
        if API_KEY_HASH.fullmatch(value) is None:
            raise ValueError(
                "is not `hmac-sha256:` and 64 hex digits, so it may be a key in clear text; "
                "put the hash that `jeton key --hash` prints, and make a new key if this one was real"
            )
        return value


class TenantConfig(Shape):
    """Who pays. models: what it may ask for (empty: everything). budgets: of all its keys together.

    pools, residency: where its requests may go, and where its data may be; empty means everywhere. isolation: `dedicated` keeps
    it to backends that serve nobody else. region: where its clients are, for round trips.
    """

    name: str = Field(pattern=NAME)
    api_keys: tuple[ApiKeyConfig, ...] = ()
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = Field(default=None, gt=0)
    budgets: tuple[BudgetConfig, ...] = ()
    pools: tuple[str, ...] = ()
    residency: tuple[str, ...] = ()
    isolation: Literal["shared", "dedicated"] = "shared"
    region: str = ""
