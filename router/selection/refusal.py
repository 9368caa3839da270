"""The right refusal when no replica may serve a request: what the client should change, or how long it should wait."""

from collections.abc import Iterable, Sequence

from router.domain.decision import Exclusion
from router.domain.fleet import UP, Backend, Health, HealthState, Snapshot
from router.domain.request import Endpoint, InferenceRequest
from router.errors import BadRequest, ContextTooLong, Forbidden, RateLimited, Refusal, Unavailable
from router.pricing.quote import Lease
from router.selection.eligibility import listed
from router.selection.site import Site
from router.selection.tenancy import Tenancy, why_not_for

# The member that holds the prompt, for the refusal's `param`.
PROMPT_MEMBERS = {Endpoint.COMPLETIONS: "prompt", Endpoint.RESPONSES: "input"}
# A replica that is down has no time of its own; its health is checked every few seconds.
DOWN_RETRY_SECONDS = 5.0


def refuse_unable(request: InferenceRequest, backends: Sequence[Backend], fleet: Iterable[Backend]) -> Refusal:
    """400: no backend in scope can do what the request needs; names who in the fleet can."""
    model, needs = request.model[:100], request.needs
    can = frozenset().union(*(backend.capabilities for backend in backends))
    missing = needs - can
    what = listed(missing) if missing else f"{listed(needs)} together"
    others = sorted({backend.model for backend in fleet if needs <= backend.capabilities})
    hint = f"Models that can: {', '.join(others)}." if others else "No model here can."
    return BadRequest(f"The model {model!r} cannot do {what}. {hint}", param="model")


def refuse_tenant(request: InferenceRequest, backends: Iterable[Backend], tenancy: Tenancy | None) -> Refusal:
    """403: what could serve the request, needs and all, is not open to its tenant; says why, backend by backend."""
    whys = "; ".join(f"{backend.name}: {why_not_for(tenancy, backend)}" for backend in backends)
    return Forbidden(
        f"Nothing that serves {request.model[:100]!r} and can do {listed(request.needs)} is open to this API key's tenant."
        f" {whys}.",
        param="model",
    )


def refuse_service_tier(request: InferenceRequest, sites: Iterable[Site]) -> Refusal:
    """400: nobody knows what the request would cost under the service tier that it asks for; names those that have rates.

    sites: metered, all of them.
    """
    prices = [site.price for site in sites if not isinstance(site.price, Lease)]
    known = sorted({tier.name for price in prices for tier in price.service_tiers})
    hint = f"Ask for {', '.join(known)}, or for none." if known else "Leave `service_tier` out."
    return BadRequest(
        f"What serves {request.model[:100]!r} has no price for the service tier {request.service_tier!r}. {hint}",
        param="service_tier",
    )


def refuse_hosted_tools(request: InferenceRequest, sites: Iterable[Site]) -> Refusal:
    """400: nobody knows what calls of the hosted tools would cost that a request asks for, and it has a budget or a ceiling.

    sites: metered, all of them.
    """
    tools = request.hosted_tools
    assert tools is not None
    unpriced = sorted({tool for site in sites for tool in site.unpriced_tools(tools)})
    return BadRequest(
        f"What serves {request.model[:100]!r} has no price for calls of {' and '.join(unpriced)}, which neither a budget nor a"
        " ceiling can do without. Leave them out, or have `tool_call_usd` of the price say what they cost.",
        param="web_search_options" if request.endpoint is Endpoint.CHAT else "tools",
    )


def refuse_too_long(request: InferenceRequest, backends: Sequence[Backend]) -> Refusal:
    """400: the request fits none of the context windows."""
    longest = max(backend.context_tokens for backend in backends)
    completion = f" with a completion of up to {tokens:,}" if (tokens := request.completion_tokens_max) else ""
    return ContextTooLong(
        f"The request is too long: a prompt of about {request.prompt.tokens_estimate:,} tokens{completion} does not fit"
        f" {request.model[:100]!r}, whose largest context is {longest:,} tokens.",
        param=PROMPT_MEMBERS.get(request.endpoint, "messages"),
    )


def refuse_for_now(
    request: InferenceRequest,
    backends: Iterable[Backend],
    snapshot: Snapshot,
    exclusions: Iterable[Exclusion],
    now_seconds: float,
) -> Refusal:
    """429 if some replica only asked us to wait, else 503; with the smallest wait after which it may go better."""
    healths = [snapshot.health.get(replica.id, UP) for backend in backends for replica in backend.replicas]
    limited = [health for health in healths if health.state is HealthState.LIMITED]
    detail = "; ".join(f"{exclusion.replica or exclusion.backend}: {exclusion.why}" for exclusion in exclusions)
    if limited:
        return RateLimited(
            f"All of {request.model[:100]!r} is rate limited at its backends.",
            retry_after_seconds=_smallest_wait(limited, now_seconds),
            detail=detail,
        )
    return Unavailable(
        f"Nothing that serves {request.model[:100]!r} is available now.",
        retry_after_seconds=_smallest_wait(healths, now_seconds),
        detail=detail,
    )


def _smallest_wait(healths: Iterable[Health], now_seconds: float) -> float:
    waits = (health.until_seconds - now_seconds for health in healths if health.until_seconds > now_seconds)
    return min(waits, default=DOWN_RETRY_SECONDS)
