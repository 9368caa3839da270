"""Which series one attempt moved, and by how much: it alone is counted in a registry of its own.

So the same code that counts says what was counted. Labels that a running router has folded into `other`, for want of room, are
shown here as they are.
"""

from collections.abc import Iterator, Mapping

from router.domain.attempt import Charge, CostStatus
from router.domain.fleet import Load, Snapshot
from router.domain.totals import Account, Line, LineTotal, Totals
from router.telemetry.metrics import Metrics
from router.telemetry.money import POSITION


def series_moved(charge: Charge) -> Iterator[tuple[str, float]]:
    """Series as Prometheus writes them, and what the charge added to each; of histograms, that there was one more."""
    metrics = Metrics(_OneCharge(charge), NoFleet())
    metrics.attempt(charge, overhead_seconds=0.0)
    for family in metrics.registry.collect():
        if family.name == POSITION or (family.type == "gauge" and not family.name.endswith("_usd_total")):
            continue
        for sample in family.samples:
            if sample.value and not sample.name.endswith(("_bucket", "_sum")):
                labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                yield f"{sample.name}{{{labels}}}", sample.value


class _OneCharge:
    """Books with one line. A leased replica's bill runs by time, whoever uses it: no charge moves it."""

    unrecorded_attempts = 0
    is_accepting = True

    def __init__(self, charge: Charge) -> None:
        facts, usage = charge.facts, charge.usage
        account = Account(facts.pool, facts.backend, charge.billing, facts.model, facts.tier, facts.tenant)
        cost, baseline = charge.cost_nanousd, charge.baseline_nanousd
        total = LineTotal(
            attempts=1,
            unpriced=int(charge.cost_status is CostStatus.UNPRICED),
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_nanousd=cost or 0,
            standard_nanousd=charge.standard_nanousd or 0,
            saved_nanousd=0 if cost is None or baseline is None else baseline - cost,
            lost_nanousd=(cost or 0) if charge.outcome.is_lost else 0,
        )
        self._totals = Totals(0, {Line(account, charge.status, usage.source): total}, {}, {})

    def totals(self) -> Totals:
        return self._totals


class NoFleet:
    """Nothing is served."""

    snapshot = Snapshot({}, {}, {}, ())
    loads: Mapping[str, Load] = {}

    def clock(self) -> float:
        return 0.0

    def meter_drift_ratios(self) -> Mapping[str, float]:
        return {}
