"""Shape of router.yaml: model names of one's own, the policies that choose among backends, and who gives way in a rush."""

from typing import Any, Literal

from pydantic import Field

from router.config.section import Shape


class AliasConfig(Shape):
    """A model name of your own. Empty lists do not restrict: `auto: {}` may go anywhere."""

    tiers: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


class PolicyConfig(Shape):
    """name: a file in `policies/`, or a class of your own as `package.module:Class`. parameters: its own, checked by the policy
    itself; `jeton policy list` tells them."""

    name: str = "quality_floor"
    parameters: dict[str, Any] = Field(default={})


class PolicyRuleConfig(PolicyConfig):
    """Another policy for some requests; the first rule that covers a request decides, else `policy`.

    tenants, models: who asks, and for which name; empty means all. hours: `HH:MM-HH:MM` in UTC, over midnight where it ends
    before it starts. days: of `mon` to `sun`.
    """

    name: str
    tenants: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    hours: str = ""
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()


class SheddingConfig(Shape):
    """How long requests may be forecast to wait for others' work before they are refused with 503, by their
    `x-jeton-criticality`. Critical ones are never refused."""

    sheddable_wait_seconds: float = Field(default=2.0, gt=0)
    standard_wait_seconds: float = Field(default=60.0, gt=0)


class ShadowConfig(Shape):
    """Requests that are put to a second backend as well, once they are answered; what that answers is thrown away.

    ratio: share of the requests that have been answered. backends: where they may go; left out: wherever the request might have.
    """

    ratio: float = Field(default=0.0, ge=0, le=1)
    backends: tuple[str, ...] = ()
    at_once_max: int = Field(default=8, ge=1, description="of each worker; beyond them a request has no shadow")
