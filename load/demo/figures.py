"""Figures for people out of the router's `/metrics`, and out of nothing else: the demo shows what Prometheus sees. Pure.

Amounts and counts are since the router began; rates, prices per token and times are over the span of the readings at hand, as
`rate()` and `histogram_quantile()` would have them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from load.demo.fleet import Place

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """One scrape. samples: by name as it stands in the text, then by labels."""

    at_seconds: float
    samples: Mapping[str, Mapping[Labels, float]]

    @classmethod
    def parse(cls, text: str, at_seconds: float) -> "Reading":
        samples: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        return cls(at_seconds, samples)

    def sum(self, name: str, **labels: str) -> float:
        """Over all samples of that name with these labels; 0 where there are none yet."""
        wanted = labels.items()
        return sum(value for found, value in self.samples.get(name, {}).items() if wanted <= found)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sums by the value of one label."""
        sums: dict[str, float] = {}
        for found, value in self.samples.get(name, {}).items():
            key = dict(found).get(label, "")
            sums[key] = sums.get(key, 0.0) + value
        return sums


class Row(NamedTuple):
    """A pool, or a backend in one. None: nothing to divide by yet.

    tokens_per_second: prompt and completion, of ended requests. usd_per_million: of those tokens, on either basis.
    """

    name: str
    is_pool: bool
    requests: int
    in_flight: int
    tokens_per_second: float
    bill_usd: float
    idle_ratio: float | None
    allocated_usd_per_million: float | None
    standard_usd_per_million: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """rows: each pool, then its backends. work_usd: what attempts cost (allocated); bill = work + idle. saved_usd: by method.

    The quantiles are None until something was observed. refusals: requests without an answer, by code.
    """

    rows: Sequence[Row]
    requests: int
    requests_per_second: float
    bill_usd: float
    bill_usd_per_hour: float
    work_usd: float
    idle_usd: float
    saved_usd: Mapping[str, float]
    overhead_seconds_p50: float | None
    overhead_seconds_p99: float | None
    ttft_seconds_p50: float | None
    refusals: Mapping[str, int]
    span_seconds: float


def figures(readings: Sequence[Reading], fleet: Sequence[Place]) -> Figures:
    """readings: at least one, oldest first; the last is the present."""
    first, last = readings[0], readings[-1]
    span_seconds = last.at_seconds - first.at_seconds

    def increase(name: str, **labels: str) -> float:
        return last.sum(name, **labels) - first.sum(name, **labels)

    def quantile(share: float, name: str) -> float | None:
        new = _difference(_buckets(last, name), _buckets(first, name))
        return histogram_quantile(share, new if any(new.values()) else _buckets(last, name))

    rows = []
    for pool in dict.fromkeys(place.pool for place in fleet):
        backends = [place.backend for place in fleet if place.pool == pool]
        rows.append(_row(pool, True, {"pool": pool}, backends, last, increase, span_seconds))
        for backend in backends:
            labels = {"pool": pool, "backend": backend}
            rows.append(_row(backend, False, labels, [backend], last, increase, span_seconds))
    return Figures(
        rows=rows,
        requests=round(last.sum("jeton_requests_total")),
        requests_per_second=_per(increase("jeton_requests_total"), span_seconds) or 0.0,
        bill_usd=last.sum("jeton_bill_usd_total"),
        bill_usd_per_hour=3600 * (_per(increase("jeton_bill_usd_total"), span_seconds) or 0.0),
        work_usd=last.sum("jeton_cost_usd_total", basis="allocated"),
        idle_usd=last.sum("jeton_idle_usd_total"),
        saved_usd=last.by("jeton_saved_usd_total", "method"),
        overhead_seconds_p50=quantile(0.5, "jeton_overhead_seconds"),
        overhead_seconds_p99=quantile(0.99, "jeton_overhead_seconds"),
        ttft_seconds_p50=quantile(0.5, "jeton_ttft_seconds"),
        refusals={code: round(count) for code, count in last.by("jeton_refusals_total", "code").items() if count},
        span_seconds=span_seconds,
    )


def histogram_quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """As PromQL's: linear inside a bucket, the highest finite bound when it lies beyond. None where nothing was observed.

    buckets: cumulative counts by upper bound, +Inf among them.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    rank = share * total
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return lower
            inside = buckets[bound] - below
            return lower + (bound - lower) * ((rank - below) / inside if inside else 1.0)
        lower, below = bound, buckets[bound]
    return lower


def _row(
    name: str,
    is_pool: bool,
    labels: Mapping[str, str],
    backends: Iterable[str],
    last: Reading,
    increase: Callable[..., float],
    span_seconds: float,
) -> Row:
    tokens = sum(increase("jeton_tokens_total", **labels, **{"class": kind}) for kind in ("prompt", "completion"))
    bill_usd = last.sum("jeton_bill_usd_total", **labels)
    has_lease = any(labels.items() <= found for found in last.samples.get("jeton_idle_usd_total", {}))
    return Row(
        name,
        is_pool,
        requests=round(last.sum("jeton_requests_total", **labels)),
        in_flight=round(sum(last.sum("jeton_in_flight", backend=backend) for backend in backends)),
        tokens_per_second=_per(tokens, span_seconds) or 0.0,
        bill_usd=bill_usd,
        idle_ratio=_per(last.sum("jeton_idle_usd_total", **labels), bill_usd) if has_lease else None,
        allocated_usd_per_million=_per(1e6 * increase("jeton_cost_usd_total", **labels, basis="allocated"), tokens),
        standard_usd_per_million=_per(1e6 * increase("jeton_cost_usd_total", **labels, basis="standard"), tokens),
    )


def _per(amount: float, divisor: float) -> float | None:
    return amount / divisor if divisor > 0 else None


def _buckets(reading: Reading, name: str) -> dict[float, float]:
    return {float(bound): count for bound, count in reading.by(f"{name}_bucket", "le").items()}


def _difference(later: Mapping[float, float], earlier: Mapping[float, float]) -> dict[float, float]:
    return {bound: count - earlier.get(bound, 0.0) for bound, count in later.items()}
