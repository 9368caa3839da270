"""What an attempt in flight is to the accountant, and the charge that it becomes when it ends: values, no bookkeeping.

What it cost on a leased replica is its share of the lease and comes as an argument; all else follows from its usage and from
the prices and profiles that were in force when it was opened.
"""

from dataclasses import dataclass

from router.accounting.leases import RunningLease
from router.domain.attempt import AttemptEnd, AttemptFacts, AttemptStatus, Charge, CostStatus, outcome_of
from router.domain.fleet import Billing
from router.domain.totals import Account
from router.domain.usage import Usage
from router.ledger.store import Opening
from router.pricing.amounts import (
    Basis,
    baseline_amount,
    believable_usage,
    estimated_usage,
    metered_amount,
    standard_amount,
)
from router.pricing.classes import Parts, leased_parts, rated_parts
from router.pricing.cost import rates_for
from router.pricing.estimate import Share
from router.pricing.price import MeteredPrice

# The fault of an attempt whose router died before it could say how it ended.
ROUTER_DIED = "router_died"

# Looked up once, and not for every charge.
PRICED, UNPRICED = CostStatus.PRICED, CostStatus.UNPRICED


@dataclass(slots=True, eq=False)
class OpenAttempt:
    """An attempt in flight. seq: its place in the journal, None for one that is neither journalled nor metered. worker: who
    has told of it, "" where nobody had to. lease: the one whose meter has it; share: of an estimate, where there is no meter.
    prefill_nanousd: what it had run up at its first token."""

    facts: AttemptFacts
    billing: Billing
    basis: Basis
    baseline: Basis
    opened_ns: int
    worker: str = ""
    lease: RunningLease | None = None
    share: Share | None = None
    seq: int | None = None
    first_token_ns: int | None = None
    prefill_nanousd: int | None = None

    @property
    def account(self) -> Account:
        facts = self.facts
        return Account(facts.pool, facts.backend, self.billing.value, facts.model, facts.tier, facts.tenant)

    @property
    def price_id(self) -> str:
        return "" if self.basis.price is None else self.basis.price.price_id


def bare_charge(attempt: OpenAttempt, end: AttemptEnd, leased_nanousd: int | None, at_ns: int) -> Charge:
    """Only how it ended, its usage and its cost, which an answer says and a budget is settled at, where the books are kept
    elsewhere: the rest is decided there. leased_nanousd: as of `charge_of`."""
    usage = believable_usage(end, attempt.facts)
    cost, opened_ns = _cost(attempt, leased_nanousd, usage, end.status), attempt.opened_ns
    return Charge(  # for every answer, and so made in the quickest way
        attempt.facts,
        attempt.billing._value_,
        attempt.price_id,
        opened_ns,
        attempt.first_token_ns,
        at_ns if at_ns > opened_ns else opened_ns,
        end.status,
        end.fault,
        end.http_status,
        usage,
        UNPRICED if cost is None else PRICED,
        cost,
        None,
    )


def charge_of(attempt: OpenAttempt, end: AttemptEnd, leased_nanousd: int | None, at_ns: int) -> Charge:
    """leased_nanousd: its share of its lease; None without a lease."""
    facts = attempt.facts
    usage = believable_usage(end, facts)
    cost = _cost(attempt, leased_nanousd, usage, end.status)
    standard = baseline = cost_parts = standard_parts = None
    if cost is not None:
        standard = cost if leased_nanousd is None else standard_amount(attempt.basis, usage)
        baseline = baseline_amount(facts, outcome_of(end.status, end.fault), attempt.baseline, usage, cost)
        cost_parts, standard_parts = _parts(attempt, cost, standard, usage)
    return Charge(
        facts=facts,
        billing=attempt.billing._value_,
        price_id=attempt.price_id,
        opened_ns=attempt.opened_ns,
        first_token_ns=attempt.first_token_ns,
        ended_ns=max(at_ns, attempt.opened_ns),
        status=end.status,
        fault=end.fault,
        http_status=end.http_status,
        usage=usage,
        cost_status=UNPRICED if cost is None else PRICED,
        cost_nanousd=cost,
        standard_nanousd=standard,
        baseline_nanousd=baseline,
        cost_prompt_nanousd=cost_parts and cost_parts.prompt,
        cost_cached_nanousd=cost_parts and cost_parts.cached,
        standard_prompt_nanousd=standard_parts and standard_parts.prompt,
        standard_cached_nanousd=standard_parts and standard_parts.cached,
    )


def lost_charge(opening: Opening, opened_ns: int, leased_nanousd: int | None, at_ns: int) -> Charge:
    """Of an attempt whose router died: what it had run up by then, or on a metered backend the estimate made at its opening.
    Its usage is what was expected, and flagged."""
    cost = opening.estimate_nanousd if leased_nanousd is None else leased_nanousd
    return Charge(
        facts=opening.facts,
        billing=opening.billing,
        price_id=opening.price_id,
        opened_ns=opened_ns,
        first_token_ns=None,
        ended_ns=max(at_ns, opened_ns),
        status=AttemptStatus.LOST,
        fault=ROUTER_DIED,
        http_status=0,
        usage=estimated_usage(opening.facts),
        cost_status=UNPRICED if cost is None else PRICED,
        cost_nanousd=cost,
        standard_nanousd=opening.estimate_nanousd,
    )


def _cost(attempt: OpenAttempt, leased_nanousd: int | None, usage: Usage, status: AttemptStatus) -> int | None:
    if leased_nanousd is None and attempt.billing is Billing.METERED:
        price = attempt.basis.price
        if isinstance(price, MeteredPrice):
            return metered_amount(price, usage, status)
    return leased_nanousd


def _parts(attempt: OpenAttempt, cost: int, standard: int | None, usage: Usage) -> tuple[Parts | None, Parts | None]:
    """Cost and standard cost by class of token; None: not known."""
    basis = attempt.basis
    if isinstance(basis.price, MeteredPrice):
        tariff = basis.price.tariff(usage.service_tier)
        if tariff is None:  # the provider has told what it is, and nobody what it is made of
            return None, None
        parts = rated_parts(cost, rates_for(tariff, usage.prompt_tokens), usage)
        return parts, parts
    if basis.profile is None or basis.rates is None:
        return None, None
    return (
        leased_parts(cost, attempt.prefill_nanousd, basis.profile, usage),
        None if standard is None else rated_parts(standard, basis.rates, usage),
    )
