"""One try at one replica: what is known when it starts, how it ends, and the ledger row it becomes."""

from enum import StrEnum

from router.domain.immutable import immutable
from router.domain.usage import ToolCalls, Usage, UsageSource


class AttemptStatus(StrEnum):
    """ok: a real finish. cancelled: the client left, or got another's answer because this one was not good enough (a cascade's).
    failed: the backend did not deliver. lost: we died before knowing. shadow: nobody waited for it, however it ended."""

    OK = "ok"
    CANCELLED = "cancelled"
    FAILED = "failed"
    LOST = "lost"
    SHADOW = "shadow"


class Outcome(StrEnum):
    """What an attempt's money bought. A client that left got what it stayed for; one that we cut short did not: it ran into its
    deadline, was not accepted, or we shut down. What bought no answer is lost, and nothing else is."""

    SERVED = "served"
    CLIENT_GONE = "client_gone"
    FAILED = "failed"
    CUT_SHORT = "cut_short"
    ROUTER_DIED = "router_died"
    SHADOW = "shadow"

    @property
    def is_lost(self) -> bool:
        return self not in (Outcome.SERVED, Outcome.CLIENT_GONE)


# The tenant that shadows are booked to; no other may be called so.
SHADOW_TENANT = "shadow"
# Under which metrics count what they have no room for; no tenant may be called so.
OTHER = "other"
# The fault of an attempt whose client left.
CLIENT_GONE = "client_gone"


def outcome_of(status: AttemptStatus, fault: str) -> Outcome:
    match status:
        case AttemptStatus.OK:
            return Outcome.SERVED
        case AttemptStatus.FAILED:
            return Outcome.FAILED
        case AttemptStatus.LOST:
            return Outcome.ROUTER_DIED
        case AttemptStatus.SHADOW:
            return Outcome.SHADOW
        case AttemptStatus.CANCELLED:
            return Outcome.CLIENT_GONE if fault == CLIENT_GONE else Outcome.CUT_SHORT


class CostStatus(StrEnum):
    """unpriced: no price in force, or none of the service tier or of a hosted tool; the amount is unknown. It is never zero."""

    PRICED = "priced"
    UNPRICED = "unpriced"


@immutable
class AttemptFacts:
    """What is known at dispatch. `attempt_id` is `<request_id>.<number>`, number from 1. service_tier: asked for, "" where none
    is that a provider bills otherwise than its plain one. tool_calls_estimate: of the hosted tools that are asked for."""

    attempt_id: str
    request_id: str
    number: int
    tenant: str
    api_key_name: str
    endpoint: str
    asked_model: str
    pool: str
    backend: str
    replica: str
    model: str
    tier: str
    policy: str
    reason: str
    baseline: str
    category: str
    prompt_tokens_estimate: int
    completion_tokens_estimate: int
    service_tier: str = ""
    tool_calls_estimate: ToolCalls = ()


@immutable
class AttemptEnd:
    """How it ended. fault: a short machine word when it did not end well ("connect", "stall", "http_500", …), else ""."""

    status: AttemptStatus
    usage: Usage
    fault: str = ""
    http_status: int = 0


@immutable
class Charge:
    """One ledger row: an attempt that has ended, and what it cost.

    Times are wall-clock nanoseconds anchored to the monotonic clock. cost_nanousd is the share of the real bill on a leased
    replica (`allocated`), price × usage or the provider's own figure on a metered one; None when unpriced. standard_nanousd
    is the price at target utilization; equal to cost on a metered backend. price_id names the immutable price snapshot.
    baseline_nanousd: what the same usage would have cost at the baseline, decided with the cost; None when it is not known.
    cost_prompt, cost_cached: what of the cost the uncached and the cached part of the prompt made, the rest is the completion's
    (`pricing/classes.py`); standard_prompt and standard_cached likewise. None when it is not known.
    """

    facts: AttemptFacts
    billing: str
    price_id: str
    opened_ns: int
    first_token_ns: int | None
    ended_ns: int
    status: AttemptStatus
    fault: str
    http_status: int
    usage: Usage
    cost_status: CostStatus
    cost_nanousd: int | None
    standard_nanousd: int | None
    baseline_nanousd: int | None = None
    cost_prompt_nanousd: int | None = None
    cost_cached_nanousd: int | None = None
    standard_prompt_nanousd: int | None = None
    standard_cached_nanousd: int | None = None

    @property
    def usage_source(self) -> UsageSource:
        return self.usage.source

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.status, self.fault)
