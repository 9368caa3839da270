"""Many small clusters against one large one: what each must keep ready for its busiest minutes. Pure; a seed decides everything.

A site's requests of a minute are gamma-distributed about the hour's mean, their variance the index of dispersion times that mean,
as counts of a bursty trace are. Sites are independent beyond the hour of the day; they may lie in different time zones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Minutes drawn of each hour, so that the thousandth busiest minute of a day is among them.
MINUTES_PER_HOUR = 120


@dataclass(frozen=True, slots=True)
class Sites:
    """requests_per_minute: a site's mean over the day. hours: relative load of the 24 hours. zones: how many time zones the sites
    lie in, evenly. dispersion_ratio: variance ÷ mean of a minute's requests. replica_per_minute: what one replica takes.
    covered_ratio: of the minutes, those whose load fits."""

    sites: int
    requests_per_minute: float
    hours: Sequence[float]
    zones: int
    dispersion_ratio: float
    replica_per_minute: float
    covered_ratio: float = 0.999


@dataclass(frozen=True, slots=True)
class Fleets:
    """Replicas of each way, all sites together, and of the paid capacity what the mean uses. hybrid_edge of the hybrid's replicas
    stand at the sites, which answer hybrid_edge_ratio of the requests themselves."""

    edge: int
    central: int
    hybrid: int
    hybrid_edge: int
    hybrid_edge_ratio: float
    edge_utilization_ratio: float
    central_utilization_ratio: float
    hybrid_utilization_ratio: float


def minutes(told: Sites, seed: int) -> NDArray[np.float64]:
    """Requests by site and minute of one day."""
    generator = np.random.default_rng(seed)
    hours = np.asarray(told.hours, dtype=float)
    relative = hours / hours.mean()
    shifts = np.arange(told.sites) * told.zones // told.sites * (24 // told.zones)
    means = told.requests_per_minute * relative[(np.arange(24)[None, :] + shifts[:, None]) % 24]
    means = np.repeat(means, MINUTES_PER_HOUR, axis=1)
    return generator.gamma(means / told.dispersion_ratio, told.dispersion_ratio)


def sized(told: Sites, edge_ratio_min: float, seed: int) -> Fleets:
    """What three ways of placing the same traffic take.

    edge_ratio_min: of the requests, those that the hybrid must answer at their site; what a site cannot take overflows to the
    centre.
    """
    load = minutes(told, seed)
    whole = load.sum(axis=0)
    mean = float(whole.mean())
    capacity = told.replica_per_minute
    edge_each = np.ceil(np.quantile(load, told.covered_ratio, axis=1) / capacity)
    central = _replicas(whole, told)
    hybrid_each = 0
    while True:
        taken = np.minimum(load, hybrid_each * capacity)
        ratio = float(taken.sum() / load.sum())
        if ratio >= edge_ratio_min:
            break
        hybrid_each += 1
    hybrid = hybrid_each * told.sites + _replicas((load - taken).sum(axis=0), told)
    edge = int(edge_each.sum())
    return Fleets(
        edge,
        central,
        hybrid,
        hybrid_each * told.sites,
        ratio,
        mean / (edge * capacity),
        mean / (central * capacity),
        mean / (hybrid * capacity),
    )


def _replicas(load: NDArray[np.float64], told: Sites) -> int:
    return int(np.ceil(np.quantile(load, told.covered_ratio) / told.replica_per_minute))
